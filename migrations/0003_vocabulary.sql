-- A segment's number is never used again, so that a process may keep postings it has read: the same number means the same postings.
ALTER TABLE posting_segments ADD COLUMN first_chunk bigint;
UPDATE posting_segments SET first_chunk = id;
ALTER TABLE posting_segments ALTER COLUMN first_chunk SET NOT NULL;

-- Words of a collection, for questions with a word that is nowhere. A word stays when its last document has gone: a correction is
-- made only to a word that has postings.
CREATE TABLE vocabulary (
    collection_id bigint NOT NULL,
    length        smallint NOT NULL, -- characters
    term          text COLLATE "C" NOT NULL,
    PRIMARY KEY (collection_id, length, term)
);
INSERT INTO vocabulary SELECT DISTINCT collection_id, char_length(term), term FROM postings WHERE term ~ '^[[:alpha:]]{4,24}$';
