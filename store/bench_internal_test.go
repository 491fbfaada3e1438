package store

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/footnote-rag/footnote/store/storetest/testdb"
)

const benchDims = 384

// corpus makes clustered vectors and text in which few words are common and many are rare, as in real collections.
type corpus struct {
	r       *rand.Rand
	centres [][]float32
	zipf    *rand.Zipf
}

func newCorpus() *corpus {
	r := rand.New(rand.NewPCG(1, 2))
	c := &corpus{r: r, zipf: rand.NewZipf(r, 1.1, 8, 50_000)}
	for range 200 {
		c.centres = append(c.centres, c.gauss(1))
	}
	return c
}

func (c *corpus) gauss(scale float64) []float32 {
	v := make([]float32, benchDims)
	for i := range v {
		v[i] = float32(c.r.NormFloat64() * scale)
	}
	return v
}

func (c *corpus) vector() []float32 {
	v := c.gauss(0.7)
	for i, x := range c.centres[c.r.IntN(len(c.centres))] {
		v[i] += x
	}
	return v
}

func (c *corpus) text(words int) string {
	w := make([]string, words)
	for i := range w {
		w[i] = fmt.Sprintf("w%d", c.zipf.Uint64())
	}
	return strings.Join(w, " ")
}

// benchStore holds n chunks in documents of 50 and has its index built.
func benchStore(b *testing.B, n int) (*Store, Collection, *corpus) {
	b.Helper()
	ctx := b.Context()
	s, err := Open(ctx, Config{URL: testdb.Empty(b), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Close)
	k, _, err := s.EnsureCollection(ctx, "bench", Space{Model: "m", Pooling: "mean", Dimensions: benchDims}, Chunking{MaxTokens: 256})
	if err != nil {
		b.Fatal(err)
	}
	c := newCorpus()
	const perDocument = 50
	for d := range n / perDocument {
		var chunks []Chunk
		for i := range perDocument {
			text := c.text(90)
			chunks = append(chunks, Chunk{Ordinal: i, Start: i, End: i + len(text), Text: text, Tokens: 120, Embedding: c.vector()})
		}
		sum := sha256.Sum256([]byte(fmt.Sprint(d)))
		doc, _, err := s.PutDocument(ctx, NewDocument{Collection: k, URI: fmt.Sprint(d), MediaType: "text/plain", Source: []byte("x"), SHA256: sum[:], Settings: "1"},
			func(context.Context, pgx.Tx, Document) error { return nil })
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Complete(ctx, Completion{DocumentID: doc.ID, Revision: 1, Text: "x", Language: "de", Chunks: chunks, Total: perDocument}); err != nil {
			b.Fatal(err)
		}
	}
	for range 3 { // the first pass sees the table grow, the second one builds
		if err := s.Maintain(ctx); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := s.pool.Exec(ctx, "VACUUM ANALYZE"); err != nil {
		b.Fatal(err)
	}
	if k, err = s.Collection(ctx, "bench"); err != nil {
		b.Fatal(err)
	}
	return s, k, c
}

// BenchmarkSearch compares Search with a bare pgx loop that runs the same statements, interleaved: ratio is the service's
// queries a second over the loop's, the median of five pairs. It also reports recall@10 against an exact scan, and the
// latency of a hybrid search over that of a vector search.
func BenchmarkSearch(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		if testing.Short() && n > 10_000 {
			continue
		}
		b.Run(fmt.Sprintf("chunks=%d", n), func(b *testing.B) {
			s, k, c := benchStore(b, n)
			for _, clients := range []int{1, 4} {
				b.Run(fmt.Sprintf("vector/clients=%d", clients), func(b *testing.B) { compareSearch(b, s, k, c, clients) })
			}
			b.Run("recall", func(b *testing.B) { reportRecall(b, s, k, c) })
			b.Run("hybrid", func(b *testing.B) { compareHybrid(b, s, k, c) })
		})
	}
}

const (
	benchPairs  = 5
	benchSlice  = 700 * time.Millisecond
	benchWarmUp = 200
)

func compareSearch(b *testing.B, s *Store, k Collection, c *corpus, clients int) {
	queries := make([]SearchQuery, 500)
	for i := range queries {
		queries[i] = SearchQuery{Collection: k, Vector: c.vector(), Mode: Vector, Limit: 10}
	}
	service := func(q SearchQuery) error { _, err := s.Search(b.Context(), q); return err }
	bare := func(q SearchQuery) error { return bareSearch(b.Context(), s, q) }
	for i := range benchWarmUp {
		if err := service(queries[i%len(queries)]); err != nil {
			b.Fatal(err)
		}
		if err := bare(queries[i%len(queries)]); err != nil {
			b.Fatal(err)
		}
	}
	var ratios, rates []float64
	for range b.N {
		ratios, rates = ratios[:0], rates[:0]
		for range benchPairs {
			own, loop := rate(b, clients, queries, service), rate(b, clients, queries, bare)
			ratios, rates = append(ratios, own/loop), append(rates, own)
		}
	}
	b.ReportMetric(median(ratios), "ratio")
	b.ReportMetric(median(rates), "queries/s")
	b.ReportMetric(0, "ns/op")
}

// rate runs f for a slice of time from several clients and returns calls a second.
func rate(b *testing.B, clients int, queries []SearchQuery, f func(SearchQuery) error) float64 {
	var wg sync.WaitGroup
	counts := make([]int, clients)
	start := time.Now()
	for client := range clients {
		wg.Go(func() {
			for i := client; time.Since(start) < benchSlice; i++ {
				if err := f(queries[i%len(queries)]); err != nil {
					b.Error(err)
					return
				}
				counts[client]++
			}
		})
	}
	wg.Wait()
	total := 0
	for _, n := range counts {
		total += n
	}
	return float64(total) / time.Since(start).Seconds()
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}

// bareSearch is what a programmer would write by hand: the statement of the vector leg, then that of the texts, on a pool.
func bareSearch(ctx context.Context, s *Store, q SearchQuery) error {
	table := q.Collection.Space.table()
	v, err := unitVector(q.Vector, benchDims)
	if err != nil {
		return err
	}
	rows, err := s.pool.Query(ctx, "SELECT e.chunk_id, -(e.embedding <#> $2) FROM "+table+" e  WHERE e.collection_id = $1 AND true ORDER BY e.embedding <#> $2 LIMIT 10", q.Collection.ID, v)
	if err != nil {
		return err
	}
	near, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c scored, err error) {
		err = row.Scan(&c.chunk, &c.score)
		return c, err
	})
	if err != nil {
		return err
	}
	run := &search{SearchQuery: q, store: s, vector: v, near: near}
	passages, err := run.fuse(ctx)
	if err == nil && len(passages) != 10 {
		err = fmt.Errorf("%d passages", len(passages))
	}
	return err
}

func reportRecall(b *testing.B, s *Store, k Collection, c *corpus) {
	found := 0
	const questions = 100
	for range questions {
		q := SearchQuery{Collection: k, Vector: c.vector(), Mode: Vector, Limit: 10}
		got, err := s.Search(b.Context(), q)
		if err != nil {
			b.Fatal(err)
		}
		run, err := s.newSearch(q)
		if err != nil {
			b.Fatal(err)
		}
		run.exact = true
		if err := run.legs(b.Context()); err != nil {
			b.Fatal(err)
		}
		want, err := run.fuse(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		for _, w := range want {
			if slices.ContainsFunc(got, func(g Passage) bool { return g.DocumentID == w.DocumentID && g.Ordinal == w.Ordinal }) {
				found++
			}
		}
	}
	b.ReportMetric(float64(found)/(10*questions), "recall@10")
	b.ReportMetric(0, "ns/op")
}

func compareHybrid(b *testing.B, s *Store, k Collection, c *corpus) {
	var hybrid, vector []float64
	for range 100 {
		q := SearchQuery{Collection: k, Vector: c.vector(), Text: c.text(8), Limit: 10}
		for _, mode := range []Mode{Hybrid, Vector} {
			q.Mode = mode
			start := time.Now()
			if _, err := s.Search(b.Context(), q); err != nil {
				b.Fatal(err)
			}
			if ms := float64(time.Since(start).Microseconds()) / 1000; mode == Hybrid {
				hybrid = append(hybrid, ms)
			} else {
				vector = append(vector, ms)
			}
		}
	}
	b.ReportMetric(median(hybrid)/median(vector), "hybrid/vector")
	b.ReportMetric(median(hybrid), "ms-p50")
	b.ReportMetric(0, "ns/op")
}
