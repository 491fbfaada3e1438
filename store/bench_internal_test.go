package store

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"html"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/footnote-rag/footnote/store/storetest/testdb"
)

const benchDims = 384

// million adds the largest size, which takes about half an hour to load and index.
var million = flag.Bool("million", false, "benchmark a collection of a million chunks, too")

// efSearch is Config.EFSearch.
var efSearch = flag.Int("ef-search", 0, "hnsw.ef_search; 0: the default")

// kept names a database that stays: loading takes most of a benchmark's time.
var kept = flag.String("kept", "", "URL of a database that keeps the benchmark's collections for the next run")

func benchSizes() []int {
	switch {
	case testing.Short():
		return []int{10_000}
	case *million:
		return []int{10_000, 100_000, 1_000_000}
	}
	return []int{10_000, 100_000}
}

// corpus makes clustered vectors and texts of the sentences of real pages, so that words are as common and as rare, and stand
// together, as in documents that people have; a few sentences in a hundred get a word of their own.
type corpus struct {
	r         *rand.Rand
	centres   [][]float32
	sentences []string
}

var (
	htmlCode    = regexp.MustCompile(`(?s)<(script|style).*?</(script|style)>|<[^>]*>`)
	sentenceEnd = regexp.MustCompile(`[.:;]\s+`)
)

func newCorpus(b *testing.B) *corpus {
	b.Helper()
	c := &corpus{r: rand.New(rand.NewPCG(1, 2))}
	for range 200 {
		c.centres = append(c.centres, c.gauss(1))
	}
	pages, err := filepath.Glob("../cmd/footnote/manual/*.html")
	if err != nil || len(pages) == 0 {
		b.Fatalf("the manual's pages are missing: %v", err)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			b.Fatal(err)
		}
		plain := html.UnescapeString(htmlCode.ReplaceAllString(string(text), " "))
		for _, s := range sentenceEnd.Split(plain, -1) {
			if s = strings.Join(strings.Fields(s), " "); len(s) > 40 {
				c.sentences = append(c.sentences, s)
			}
		}
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

// text has about so many words.
func (c *corpus) text(words int) string {
	var b strings.Builder
	for n := 0; n < words; {
		s := c.sentences[c.r.IntN(len(c.sentences))]
		b.WriteString(s)
		if c.r.IntN(30) == 0 {
			fmt.Fprintf(&b, " id%d", c.r.IntN(200_000))
		}
		b.WriteString(". ")
		n += strings.Count(s, " ") + 1
	}
	return b.String()
}

// question is eight words that stand together somewhere.
func (c *corpus) question() string {
	words := strings.Fields(c.sentences[c.r.IntN(len(c.sentences))])
	at := c.r.IntN(max(len(words)-7, 1))
	return strings.Join(words[at:min(at+8, len(words))], " ")
}

// benchStore holds n chunks in documents of 50 and has its index built.
func benchStore(b *testing.B, n int) (*Store, Collection, *corpus) {
	b.Helper()
	ctx := b.Context()
	url := *kept
	if url == "" {
		url = testdb.Empty(b)
	}
	s, err := Open(ctx, Config{URL: url, EFSearch: *efSearch, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Close)
	// A space of its own keeps collections of several sizes in one database apart.
	k, _, err := s.EnsureCollection(ctx, fmt.Sprint("bench", n), Space{Model: fmt.Sprint("m", n), Pooling: "mean", Dimensions: benchDims}, Chunking{MaxTokens: 256})
	if err != nil {
		b.Fatal(err)
	}
	c := newCorpus(b)
	if k.Chunks == int64(n) {
		c.r = rand.New(rand.NewPCG(3, 4)) // questions that are not the documents
		return s, k, c
	}
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
		if err := s.Complete(ctx, Completion{DocumentID: doc.ID, Revision: 1, Text: "x", Language: "en", Chunks: chunks, Total: perDocument}); err != nil {
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
	if k, err = s.Collection(ctx, k.Name); err != nil {
		b.Fatal(err)
	}
	return s, k, c
}

// BenchmarkSearch compares Search with a bare pgx loop that runs the same statement, interleaved: ratio is the service's
// queries a second over the loop's, the median of five pairs. It also reports recall@10 against an exact scan, the latency of
// a hybrid search over that of a plain vector query as pgbench would send it, and that of a lexical search below Postgres's own
// full text (words joined by OR, ts_rank).
func BenchmarkSearch(b *testing.B) {
	for _, n := range benchSizes() {
		b.Run(fmt.Sprintf("chunks=%d", n), func(b *testing.B) {
			s, k, c := benchStore(b, n)
			for _, clients := range []int{1, 4} {
				b.Run(fmt.Sprintf("vector/clients=%d", clients), func(b *testing.B) { compareSearch(b, s, k, c, clients) })
			}
			b.Run("recall", func(b *testing.B) { reportRecall(b, s, k, c) })
			b.Run("hybrid", func(b *testing.B) { compareHybrid(b, s, k, c) })
			b.Run("lexical", func(b *testing.B) { compareFullText(b, s, k, c) })
			b.Run("designs", func(b *testing.B) { compareDesigns(b, s, k, c) })
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

// bareSearch is what a programmer would write by hand: the same statement, on a pool.
func bareSearch(ctx context.Context, s *Store, q SearchQuery) error {
	v, err := unitVector(q.Vector, benchDims)
	if err != nil {
		return err
	}
	rows, err := s.pool.Query(ctx, "SELECT "+passageColumns+`, n.score
		FROM (SELECT e.chunk_id, -(e.embedding <#> $2) AS score FROM `+q.Collection.Space.table()+` e WHERE e.collection_id = $1 ORDER BY e.embedding <#> $2 LIMIT 10) n
		JOIN chunks k ON k.id = n.chunk_id JOIN documents d ON d.id = k.document_id`, q.Collection.ID, v)
	if err != nil {
		return err
	}
	passages, err := pgx.CollectRows(rows, scanFound)
	if err == nil && len(passages) != 10 {
		err = fmt.Errorf("%d passages", len(passages))
	}
	return err
}

func reportRecall(b *testing.B, s *Store, k Collection, c *corpus) {
	found := 0
	const questions = 500
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
		want, err := run.nearest(b.Context())
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

// compareHybrid interleaves hybrid searches, Search's vector mode and the plain query. Each asks with a vector of its own: the
// second to ask with one would find its part of the index in the processor's cache.
func compareHybrid(b *testing.B, s *Store, k Collection, c *corpus) {
	var hybrid, vector, plain []float64
	for range 600 {
		ask := func(mode Mode) SearchQuery {
			return SearchQuery{Collection: k, Vector: c.vector(), Text: c.question(), Limit: 10, Mode: mode}
		}
		h, v, p := ask(Hybrid), ask(Vector), ask(Vector)
		hybrid = append(hybrid, timed(b, func() error { _, err := s.Search(b.Context(), h); return err }))
		vector = append(vector, timed(b, func() error { _, err := s.Search(b.Context(), v); return err }))
		plain = append(plain, timed(b, func() error { return plainVector(b.Context(), s, p) }))
	}
	b.ReportMetric(median(hybrid)/median(plain), "hybrid/plain")
	b.ReportMetric(median(vector)/median(plain), "vector/plain")
	b.ReportMetric(median(hybrid), "hybrid-ms-p50")
	b.ReportMetric(median(plain), "plain-ms-p50")
	b.ReportMetric(0, "ns/op")
}

// plainVector is the query that everybody's first script sends: ids and distances, no texts.
func plainVector(ctx context.Context, s *Store, q SearchQuery) error {
	v, err := unitVector(q.Vector, benchDims)
	if err != nil {
		return err
	}
	rows, err := s.pool.Query(ctx, "SELECT chunk_id, embedding <#> $2 FROM "+q.Collection.Space.table()+" WHERE collection_id = $1 ORDER BY embedding <#> $2 LIMIT 10", q.Collection.ID, v)
	if err != nil {
		return err
	}
	_, err = pgx.CollectRows(rows, pgx.RowToStructByPos[struct {
		ID       int64
		Distance float64
	}])
	return err
}

func timed(b *testing.B, f func() error) (ms float64) {
	b.Helper()
	start := time.Now()
	if err := f(); err != nil {
		b.Fatal(err)
	}
	return float64(time.Since(start).Microseconds()) / 1000
}

func compareFullText(b *testing.B, s *Store, k Collection, c *corpus) {
	_, err := s.pool.Exec(b.Context(), fmt.Sprintf(`
		DROP TABLE IF EXISTS full_text; CREATE TABLE full_text AS SELECT id, to_tsvector('english', text) AS words FROM chunks WHERE collection_id = %d`, k.ID))
	if err == nil {
		_, err = s.pool.Exec(b.Context(), "CREATE INDEX ON full_text USING gin (words)")
	}
	if err == nil {
		_, err = s.pool.Exec(b.Context(), "VACUUM ANALYZE full_text")
	}
	if err != nil {
		b.Fatal(err)
	}
	var own, full []float64
	for i := range 60 { // each question once: a repeated one would find its words' postings read
		q := SearchQuery{Collection: k, Text: c.question(), Limit: 10, Mode: Lexical}
		own = append(own, timed(b, func() error { _, err := s.Search(b.Context(), q); return err }))
		if i%3 == 0 {
			full = append(full, timed(b, func() error {
				rows, err := s.pool.Query(b.Context(), `
					SELECT f.id, ts_rank(f.words, q, 1) AS score FROM full_text f,
						(SELECT replace(plainto_tsquery('english', $1)::text, '&', '|')::tsquery AS q) q
					WHERE f.words @@ q ORDER BY score DESC LIMIT 10`, q.Text)
				if err != nil {
					return err
				}
				rows.Close()
				return rows.Err()
			}))
		}
	}
	b.ReportMetric(median(full)/median(own), "ts_rank/lexical")
	b.ReportMetric(median(own), "lexical-ms-p50")
	b.ReportMetric(median(full), "ts_rank-ms-p50")
	b.ReportMetric(0, "ns/op")
}
