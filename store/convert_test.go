package store

import (
	"context"
	"io/fs"
	"log/slog"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"

	"github.com/footnote-rag/footnote/migrations"
	"github.com/footnote-rag/footnote/store/storetest/testdb"
)

// TestFirstSchemaIsConverted loads words as the first release stored them, migrates, and searches.
func TestFirstSchemaIsConverted(t *testing.T) {
	t.Parallel()
	url := testdb.Empty(t)
	first, err := fs.ReadFile(migrations.Files, "0001_initial.sql")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if err := migrate(t.Context(), conn, fstest.MapFS{"0001_initial.sql": {Data: first}}); err != nil {
		t.Fatal(err)
	}
	// Two documents: chunks 1 to 130, in runs of 128, and chunk 200. "wort" is in the chunks 1, 129 and 130, and in 200.
	_, err = conn.PgConn().Exec(t.Context(), `
		INSERT INTO spaces (model, pooling, dimensions) VALUES ('m', 'mean', 2);
		INSERT INTO collections (name, space_id, chunking, languages) VALUES ('c', 1, '{}', '{de}');
		INSERT INTO documents (id, collection_id, uri, title, media_type, language, metadata, content_sha256, settings, status, chunk_count, word_count, first_chunk, generation)
			VALUES ('00000000-0000-0000-0000-000000000001', 1, 'a', '', '', '', '{}', '', '', 'completed', 130, 131, 1, 1),
			       ('00000000-0000-0000-0000-000000000002', 1, 'b', '', '', '', '{}', '', '', 'completed', 1, 2, 200, 1);
		INSERT INTO chunks SELECT i, 1, '00000000-0000-0000-0000-000000000001', 1, i - 1, '{}', 0, 1, 1, 'a' || i FROM generate_series(1, 130) i;
		INSERT INTO chunks VALUES (200, 1, '00000000-0000-0000-0000-000000000002', 1, 0, '{}', 0, 1, 1, 'b');
		INSERT INTO postings VALUES (1, 'wort', 1, '\x000101'), (1, 'wort', 129, '\x000101010201'), (1, 'wort', 200, '\x000102'), (1, 'rest', 200, '\x000102');
		INSERT INTO collection_counters VALUES (1, 0, 2, 131, 133);
		CREATE TABLE embeddings_1 (chunk_id bigint, collection_id bigint, document_id uuid, embedding halfvec(2));`).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Config{URL: url, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	wantFound(t, s, "wort", 4)
	wantFound(t, s, "rest", 1)
	if err := s.DeleteDocument(t.Context(), "00000000-0000-0000-0000-000000000002"); err != nil {
		t.Fatal(err)
	}
	wantFound(t, s, "wort", 3)
	if err := s.clean(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	wantFound(t, s, "wort", 3)
}

func wantFound(t *testing.T, s *Store, word string, n int) {
	t.Helper()
	c, err := s.Collection(context.Background(), "c")
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Search(t.Context(), SearchQuery{Collection: c, Text: word, Mode: Lexical, Limit: 1000})
	if err != nil || len(got) != n {
		t.Fatalf("Search(%q) found %d, %v, want %d", word, len(got), err, n)
	}
}
