-- The inverted index in segments, as Lucene keeps it: a document's words are written as one row, many such rows are turned into
-- rows by term, and small segments are merged into large ones, so that a common term is read in few large rows. What exists
-- becomes one small segment a document run; maintenance merges them.
ALTER TABLE collection_counters ADD COLUMN removals bigint NOT NULL DEFAULT 0; -- ever made; tells readers that removed_chunks has grown

-- Words of documents that no segment holds yet, packed as store/words.go says.
CREATE TABLE fresh_postings (
    first_chunk   bigint PRIMARY KEY,
    collection_id bigint NOT NULL,
    chunks        integer NOT NULL,
    packed        bytea NOT NULL
);
ALTER TABLE fresh_postings ALTER COLUMN packed SET STORAGE EXTERNAL;
CREATE INDEX fresh_postings_by_collection ON fresh_postings (collection_id, first_chunk) INCLUDE (chunks);

-- A segment is named after the first chunk of the documents it was made of.
CREATE TABLE posting_segments (
    id            bigint PRIMARY KEY,
    collection_id bigint NOT NULL,
    last_chunk    bigint NOT NULL, -- ids of its chunks are in id .. last_chunk, mixed with those of other segments
    chunks        integer NOT NULL
);
CREATE INDEX posting_segments_by_collection ON posting_segments (collection_id);

-- Chunks that are gone while segments still hold their words. Searches skip them; maintenance rewrites the segments.
CREATE TABLE removed_chunks (
    collection_id bigint NOT NULL,
    first_chunk   bigint NOT NULL,
    chunks        integer NOT NULL,
    PRIMARY KEY (collection_id, first_chunk) INCLUDE (chunks)
);

CREATE TABLE segment_postings (
    collection_id bigint NOT NULL,
    term          text COLLATE "C" NOT NULL,
    first_chunk   bigint NOT NULL, -- where the packed distances begin
    segment       bigint NOT NULL,
    packed        bytea NOT NULL
);
ALTER TABLE segment_postings ALTER COLUMN packed SET STORAGE PLAIN;

INSERT INTO segment_postings (collection_id, term, first_chunk, segment, packed)
    SELECT collection_id, term, first_chunk, first_chunk, packed FROM postings ORDER BY collection_id, term, first_chunk;
INSERT INTO posting_segments (id, collection_id, last_chunk, chunks)
    SELECT r.first_chunk, r.collection_id, r.first_chunk + n.chunks - 1, n.chunks
    FROM (SELECT DISTINCT collection_id, first_chunk FROM postings) r
    JOIN chunks k ON k.id = r.first_chunk JOIN documents d ON d.id = k.document_id
    CROSS JOIN LATERAL (SELECT least(128, d.first_chunk + d.chunk_count - r.first_chunk)::integer AS chunks) n;

DROP TABLE postings;
ALTER TABLE segment_postings RENAME TO postings;
ALTER TABLE postings ADD CONSTRAINT postings_pkey PRIMARY KEY (collection_id, term, first_chunk);
CREATE INDEX postings_by_segment ON postings (segment);
