-- Conversations: threads, and the answers in them. An answer without a thread was asked to be resumable and is forgotten
-- after a day. Events are kept as they were sent, so that a stream can be taken up again at any of them.
CREATE TABLE threads (
    id            uuid PRIMARY KEY,
    collection_id bigint NOT NULL REFERENCES collections ON DELETE CASCADE,
    title         text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX threads_by_collection ON threads (collection_id, updated_at DESC, id);

CREATE TABLE answers (
    id            uuid PRIMARY KEY, -- version 7: the order in which they were asked
    collection_id bigint NOT NULL REFERENCES collections ON DELETE CASCADE,
    thread_id     uuid REFERENCES threads ON DELETE CASCADE,
    previous_id   uuid REFERENCES answers ON DELETE SET NULL,
    question      text NOT NULL,
    answer        text NOT NULL DEFAULT '',
    reason        text NOT NULL DEFAULT '', -- why it is no answer
    status        text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'completed', 'error')),
    events        json, -- [{"event","data"}]; json, not jsonb: it keeps the text as it was sent
    created_at    timestamptz NOT NULL DEFAULT now(),
    ended_at      timestamptz
);
CREATE INDEX answers_by_thread ON answers (thread_id, id) WHERE thread_id IS NOT NULL;
CREATE INDEX answers_by_collection ON answers (collection_id);
CREATE INDEX answers_by_previous ON answers (previous_id) WHERE previous_id IS NOT NULL;
CREATE INDEX answers_alone ON answers (created_at) WHERE thread_id IS NULL;
