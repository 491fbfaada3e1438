-- Spaces, collections, documents, chunks and words. The vectors of a space live in a table of their own, embeddings_<space>,
-- made when the space is first used, because its column has the space's dimensions.
CREATE EXTENSION IF NOT EXISTS vector;

CREATE TABLE spaces (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model      text NOT NULL,
    pooling    text NOT NULL,
    dimensions integer NOT NULL CHECK (dimensions BETWEEN 1 AND 4000),
    UNIQUE (model, pooling, dimensions)
);

CREATE TABLE collections (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text COLLATE "C" NOT NULL UNIQUE,
    space_id   bigint NOT NULL REFERENCES spaces,
    chunking   jsonb NOT NULL,
    languages  text[] NOT NULL DEFAULT '{}', -- languages of its documents, for the analysis of questions
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Totals of a collection, in shards so that writers do not wait for each other; readers sum them.
CREATE TABLE collection_counters (
    collection_id bigint NOT NULL REFERENCES collections ON DELETE CASCADE,
    shard         smallint NOT NULL,
    documents     bigint NOT NULL DEFAULT 0, -- in all states
    chunks        bigint NOT NULL DEFAULT 0, -- visible
    words         bigint NOT NULL DEFAULT 0, -- terms in visible chunks, for the mean chunk length of BM25
    PRIMARY KEY (collection_id, shard)
) WITH (fillfactor = 50);

-- title, media_type, language, metadata, generation, chunk_count and token_count describe the visible version once there is
-- one; what the newest put said is in document_sources until it is complete.
CREATE TABLE documents (
    id             uuid PRIMARY KEY,
    collection_id  bigint NOT NULL REFERENCES collections,
    uri            text COLLATE "C" NOT NULL CHECK (octet_length(uri) BETWEEN 1 AND 2048),
    title          text NOT NULL,
    media_type     text NOT NULL,
    language       text NOT NULL,
    metadata       jsonb NOT NULL CHECK (jsonb_typeof(metadata) = 'object'),
    content_sha256 bytea NOT NULL,
    settings       text NOT NULL,
    status         text NOT NULL CHECK (status IN ('queued', 'running', 'completed', 'error')),
    error_code     text,
    error_text     text,
    chunk_count    integer NOT NULL DEFAULT 0,
    token_count    integer NOT NULL DEFAULT 0,
    word_count     bigint NOT NULL DEFAULT 0,
    first_chunk    bigint NOT NULL DEFAULT 0, -- chunks of a document have the ids first_chunk .. first_chunk + chunk_count - 1
    generation     bigint NOT NULL DEFAULT 0, -- revision that is visible; 0: none yet
    revision       bigint NOT NULL DEFAULT 1, -- newest acknowledged put
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    UNIQUE (collection_id, uri),
    CHECK (status <> 'error' OR (error_code IS NOT NULL AND error_text IS NOT NULL))
);
CREATE INDEX documents_by_collection ON documents (collection_id, id);
CREATE INDEX documents_unfinished ON documents (collection_id, status) WHERE status <> 'completed';
CREATE INDEX documents_metadata ON documents USING gin (metadata jsonb_path_ops) WITH (fastupdate = off);

CREATE TABLE document_sources (
    document_id   uuid PRIMARY KEY REFERENCES documents ON DELETE CASCADE,
    collection_id bigint NOT NULL,
    title         text NOT NULL,
    media_type    text NOT NULL,
    language      text NOT NULL,
    metadata      jsonb NOT NULL,
    source        bytea NOT NULL
);

CREATE TABLE document_texts (
    document_id   uuid PRIMARY KEY REFERENCES documents ON DELETE CASCADE,
    collection_id bigint NOT NULL,
    text          text NOT NULL
);

-- Chunk ids are handed out in blocks; a document takes consecutive ones.
CREATE TABLE chunk_ids (next bigint NOT NULL);
INSERT INTO chunk_ids VALUES (1);

-- Visible chunks only.
CREATE TABLE chunks (
    id            bigint PRIMARY KEY,
    collection_id bigint NOT NULL,
    document_id   uuid NOT NULL,
    generation    bigint NOT NULL,
    ordinal       integer NOT NULL,
    heading       text[] NOT NULL,
    start_char    integer NOT NULL,
    end_char      integer NOT NULL,
    token_count   integer NOT NULL,
    text          text NOT NULL,
    UNIQUE (document_id, ordinal)
);
CREATE INDEX chunks_by_collection ON chunks (collection_id);

-- Embedded chunks of revisions that are not complete.
CREATE TABLE staged_chunks (
    document_id   uuid NOT NULL REFERENCES documents ON DELETE CASCADE,
    revision      bigint NOT NULL,
    ordinal       integer NOT NULL,
    heading       text[] NOT NULL,
    start_char    integer NOT NULL,
    end_char      integer NOT NULL,
    token_count   integer NOT NULL,
    text          text NOT NULL,
    embedding     halfvec NOT NULL CHECK (l2_norm(embedding) > 0),
    PRIMARY KEY (document_id, revision, ordinal)
);
ALTER TABLE staged_chunks ALTER COLUMN embedding SET STORAGE EXTERNAL;

-- The inverted index of visible chunks: for a term and a run of a document's chunks, which of them hold it, how often, and how
-- long they are, packed as store/words.go says. A document's rows are found again by its chunk ids.
CREATE TABLE postings (
    collection_id bigint NOT NULL,
    term          text COLLATE "C" NOT NULL,
    first_chunk   bigint NOT NULL, -- id of the run's first chunk
    packed        bytea NOT NULL,
    PRIMARY KEY (collection_id, term, first_chunk) INCLUDE (packed)
);
ALTER TABLE postings ALTER COLUMN packed SET STORAGE PLAIN;
CREATE INDEX postings_by_chunk ON postings (first_chunk);

-- Token buckets of model providers.
CREATE TABLE budgets (
    provider      text NOT NULL,
    kind          text NOT NULL,
    tokens        double precision NOT NULL,
    refilled_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    paused_until  timestamptz NOT NULL DEFAULT '-infinity',
    urgent_at     timestamptz NOT NULL DEFAULT '-infinity', -- when an urgent caller last waited
    PRIMARY KEY (provider, kind)
);
