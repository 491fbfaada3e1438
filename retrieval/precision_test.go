package retrieval

import (
	"context"
	"crypto/sha256"
	"path/filepath"
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
	// As many of squad2's questions as TestUnanswerable embeds.
	const questions = 1300
	names := []string{"scifact", "squad2"}
	var docs []evalDoc
	asked := map[string][]evalDoc{}
	grades := map[string]map[string]int{}
	var texts []string
	for _, name := range names {
		dir := filepath.Join(EvalData(t), name)
		qrels := readQrels(t, filepath.Join(dir, "qrels", "test.tsv"))
		for _, d := range ReadLines[evalDoc](t, filepath.Join(dir, "corpus.jsonl")) {
			d.ID = name + " " + d.ID
			docs, texts = append(docs, d), append(texts, d.chunk())
		}
		for _, q := range byHash(ReadLines[evalDoc](t, filepath.Join(dir, "queries.jsonl")), func(d evalDoc) string { return d.ID }) {
			if len(qrels[q.ID]) == 0 || len(asked[name]) == questions {
				continue
			}
			right := map[string]int{}
			for _, id := range qrels[q.ID] {
				right[name+" "+id] = 1
			}
			asked[name], grades[q.Text], texts = append(asked[name], q), right, append(texts, q.chunk())
		}
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
	t.Log("| questions of | number | exact float32, nDCG@10 | halfvec and HNSW | share |")
	t.Log("|---|---|---|---|---|")
	var exact, ours float64 // of all
	for _, name := range names {
		var own, best float64
		for _, q := range asked[name] {
			v := vectors[q.chunk()]
			best += eval.NDCG(eval.RankDocuments(byScan(v, docs, vectors)), grades[q.Text], 10)
			own += eval.NDCG(eval.RankDocuments(byIndex(t, s, k, v)), grades[q.Text], 10)
		}
		n := float64(len(asked[name]))
		t.Logf("| %s | %.0f | %.4f | %.4f | %.4f |", name, n, best/n, own/n, own/best)
		exact, ours = exact+best/n, ours+own/n
	}
	if ours < 0.995*exact {
		t.Errorf("halfvec and HNSW keep %.4f of nDCG@10, want 0.995", ours/exact)
	}
}

func byScan(v []float32, docs []evalDoc, vectors map[string][]float32) (hits []eval.Hit) {
	for _, d := range docs {
		hits = append(hits, eval.Hit{Document: d.ID, Score: cosineOf(v, vectors[d.chunk()])})
	}
	return hits
}

func byIndex(t *testing.T, s *store.Store, k store.Collection, v []float32) (hits []eval.Hit) {
	t.Helper()
	found, err := s.Search(t.Context(), store.SearchQuery{Collection: k, Vector: v, Mode: store.Vector, Limit: 10})
	if err != nil || len(found) != 10 {
		t.Fatalf("%d passages, %v", len(found), err)
	}
	for _, p := range found {
		hits = append(hits, eval.Hit{Document: p.URI, Score: p.Vector.Score})
	}
	return hits
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
