package retrieval

import (
	"context"
	"crypto/sha256"
	"path/filepath"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/footnote-rag/footnote/eval"
	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/store/storetest"
)

// TestHalfPrecisionAndIndexKeepQuality compares searches of halfvec by the HNSW index with an exact scan of the float32 vectors
// that the model gave.
func TestHalfPrecisionAndIndexKeepQuality(t *testing.T) {
	if !EvalFull() {
		t.Skip("set FOOTNOTE_EVAL=1 to embed five thousand documents")
	}
	dir := filepath.Join(EvalData(t), "scifact")
	docs, queries := ReadLines[evalDoc](t, filepath.Join(dir, "corpus.jsonl")), ReadLines[evalDoc](t, filepath.Join(dir, "queries.jsonl"))
	qrels := readQrels(t, filepath.Join(dir, "qrels", "test.tsv"))
	var texts []string
	for _, d := range append(slices.Clone(docs), queries...) {
		texts = append(texts, d.chunk())
	}
	vectors := EvalVectors(t, texts)
	s := storetest.OpenConfig(t, store.Config{URL: storetest.EmptyURL(t), IndexAfter: 1000})
	k := shelveVectors(t, s, docs, vectors)
	for range 3 { // the first pass sees the table grow
		if err := s.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var indexes int
	if err := s.Pool().QueryRow(t.Context(), "SELECT count(*) FROM pg_indexes WHERE indexdef LIKE '%USING hnsw%'").Scan(&indexes); err != nil || indexes != 1 {
		t.Fatalf("%d HNSW indexes, %v", indexes, err)
	}
	var exact, ours, asked float64
	for _, q := range queries {
		if len(qrels[q.ID]) == 0 {
			continue
		}
		grades := map[string]int{}
		for _, id := range qrels[q.ID] {
			grades[id] = 1
		}
		v := vectors[q.chunk()]
		var best []eval.Hit
		for _, d := range docs {
			best = append(best, eval.Hit{Document: d.ID, Score: cosineOf(v, vectors[d.chunk()])})
		}
		found, err := s.Search(t.Context(), store.SearchQuery{Collection: k, Vector: v, Mode: store.Vector, Limit: 10})
		if err != nil || len(found) != 10 {
			t.Fatalf("%d passages, %v", len(found), err)
		}
		var hits []eval.Hit
		for _, p := range found {
			hits = append(hits, eval.Hit{Document: p.URI, Score: p.Vector.Score})
		}
		exact += eval.NDCG(eval.RankDocuments(best), grades, 10)
		ours += eval.NDCG(eval.RankDocuments(hits), grades, 10)
		asked++
	}
	t.Log("| collection | questions | exact float32, nDCG@10 | halfvec and HNSW | share |")
	t.Log("|---|---|---|---|---|")
	t.Logf("| scifact | %.0f | %.4f | %.4f | %.4f |", asked, exact/asked, ours/asked, ours/exact)
	if ours < 0.995*exact {
		t.Errorf("halfvec and HNSW keep %.4f of nDCG@10, want 0.995", ours/exact)
	}
}

// shelveVectors stores each document as one chunk.
func shelveVectors(t *testing.T, s *store.Store, docs []evalDoc, vectors map[string][]float32) store.Collection {
	t.Helper()
	k, _, err := s.EnsureCollection(t.Context(), "precision", store.Space{Model: "m", Pooling: "mean", Dimensions: vectorDims}, store.Chunking{MaxTokens: 256})
	if err != nil {
		t.Fatal(err)
	}
	const together = 8
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(together)
	for _, d := range docs {
		g.Go(func() error {
			text := d.chunk()
			sum := sha256.Sum256([]byte(text))
			doc, _, err := s.PutDocument(ctx, store.NewDocument{Collection: k, URI: d.ID, MediaType: "text/plain", Source: []byte(text), SHA256: sum[:], Settings: "1"},
				func(context.Context, pgx.Tx, store.Document) error { return nil })
			if err != nil {
				return err
			}
			return s.Complete(ctx, store.Completion{DocumentID: doc.ID, Revision: doc.Revision, Text: text, Total: 1,
				Chunks: []store.Chunk{{End: len([]rune(text)), Text: text, Tokens: 1, Embedding: vectors[text]}}})
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if k, err = s.Collection(t.Context(), "precision"); err != nil {
		t.Fatal(err)
	}
	return k
}
