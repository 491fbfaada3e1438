package storetest_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/store/storetest"
)

// load stores documents of two chunks each.
func load(t *testing.T, s *store.Store, documents int) {
	t.Helper()
	c, _, err := s.EnsureCollection(t.Context(), "default", store.Space{Model: "m", Pooling: "mean", Dimensions: 3}, store.Chunking{MaxTokens: 256})
	if err != nil {
		t.Fatal(err)
	}
	for i := range documents {
		text := fmt.Sprintf("öne %d two", i)
		sum := sha256.Sum256([]byte(text))
		put := store.NewDocument{Collection: c, URI: fmt.Sprint(i), Title: "T", MediaType: "text/plain", Source: []byte(text), SHA256: sum[:], Settings: "v1"}
		d, _, err := s.PutDocument(t.Context(), put, func(context.Context, pgx.Tx, store.Document) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		runes := []rune(text)
		done := store.Completion{DocumentID: d.ID, Revision: d.Revision, Text: text, Total: 2, Chunks: []store.Chunk{
			{Ordinal: 0, Start: 0, End: 5, Text: string(runes[:5]), Tokens: 4, Embedding: []float32{1, 2, 3}},
			{Ordinal: 1, Start: 6, End: len(runes), Text: string(runes[6:]), Tokens: 3, Embedding: []float32{3, 2, 1}},
		}}
		if err := s.Complete(t.Context(), done); err != nil {
			t.Fatal(err)
		}
	}
}

func TestInvariantsHoldAfterLoading(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	load(t, s, 3)
	storetest.Invariants(t, s)
}

func TestInvariantsFindDamage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ damage, finds string }{
		{"DELETE FROM chunks WHERE ordinal = 1", "whole, in order, once"},
		{"UPDATE chunks SET ordinal = 5 WHERE ordinal = 1", "whole, in order, once"},
		{"UPDATE documents SET token_count = 1", "whole, in order, once"},
		{"UPDATE documents SET revision = 2", "newest revision"},
		{"DELETE FROM document_texts", "has its text"},
		{"UPDATE chunks SET start_char = start_char + 1", "piece of the text"},
		{"DELETE FROM document_sources", "has its source"},
		{"UPDATE document_sources SET source = 'other'", "has its source"},
		{"ALTER TABLE documents DROP CONSTRAINT documents_check; UPDATE documents SET status = 'error'", "error is explained"},
		{"UPDATE chunks SET collection_id = 99", "collections agree"},
		{"UPDATE document_texts SET collection_id = 99", "collections agree"},
		{"UPDATE chunks SET generation = 0", "outlives"},
		{"DELETE FROM documents", "outlives"},
		{"INSERT INTO staged_chunks SELECT document_id, generation, 7, '{}', 0, 1, 1, 'x', '[1,0,0]' FROM chunks WHERE ordinal = 0", "staged"},
		{"UPDATE fresh_postings SET collection_id = 99", "fresh words belong"},
		{"DELETE FROM fresh_postings", "fresh or in a segment"},
		{"INSERT INTO postings VALUES (1, 'x', 1, 1, '')", "words belong to a segment"},
		{"DELETE FROM fresh_postings; INSERT INTO posting_segments VALUES (1, 1, 9, 9, 1)", "a segment has postings"},
		{"INSERT INTO removed_chunks VALUES (1, 1, 1)", "removed chunks are not visible"},
		{"UPDATE collection_counters SET words = words + 1 WHERE words > 0", "counters"},
		{"DELETE FROM collection_counters", "counters"},
		{"DELETE FROM embeddings_1 WHERE chunk_id = 1", "vectors of space 1"},
		{"UPDATE embeddings_1 SET embedding = '[2,0,0]'", "vectors of space 1"},
		{"DELETE FROM chunks", "vectors of space 1"},
		{"CREATE TABLE river_job (args jsonb, state text, attempted_at timestamptz); UPDATE documents SET status = 'queued', revision = 2", "live job"},
	} {
		t.Run(tt.damage, func(t *testing.T) {
			t.Parallel()
			s := storetest.Open(t)
			load(t, s, 2)
			conn, err := s.Pool().Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, err = conn.Conn().PgConn().Exec(t.Context(), tt.damage).ReadAll()
			conn.Release()
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(storetest.Violations(t, s), "\n"); !strings.Contains(got, tt.finds) {
				t.Errorf("after %s the violations are %q, want one with %q", tt.damage, got, tt.finds)
			}
		})
	}
}
