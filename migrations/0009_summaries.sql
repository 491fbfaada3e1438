-- A sentence that the chat model wrote to situate a chunk within its document, where the collection asks for it: embedded and found
-- with the chunk's text, never quoted. summary_input is the hash of what it was written from; NULL where none was asked for.
ALTER TABLE chunks ADD COLUMN summary text NOT NULL DEFAULT '', ADD COLUMN summary_input bytea;
ALTER TABLE staged_chunks ADD COLUMN summary text NOT NULL DEFAULT '', ADD COLUMN summary_input bytea;
