-- Recordings: when the words of a transcript were spoken. Entry i covers the characters from start_char[i] to start_char[i+1].
CREATE TABLE document_times (
    document_id   uuid PRIMARY KEY REFERENCES documents ON DELETE CASCADE,
    collection_id bigint NOT NULL,
    start_char    integer[] NOT NULL,
    start_ms      integer[] NOT NULL,
    end_ms        integer[] NOT NULL
);

-- What speech and translation models answered for documents that are not complete, by the hash of model and input, so that
-- neither a restart nor a new try asks again.
CREATE TABLE staged_results (
    document_id uuid NOT NULL REFERENCES documents ON DELETE CASCADE,
    input       bytea NOT NULL,
    result      jsonb NOT NULL,
    PRIMARY KEY (document_id, input)
);

-- The language that other languages are embedded in; '': as they are written. A chunk's translation is what was embedded.
ALTER TABLE collections ADD COLUMN translate_to text NOT NULL DEFAULT '';
ALTER TABLE chunks ADD COLUMN translation text NOT NULL DEFAULT '';
ALTER TABLE staged_chunks ADD COLUMN translation text NOT NULL DEFAULT '';
