package store

import (
	"context"
	"fmt"
	"iter"
	"math"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/pgvector/pgvector-go"
)

// sparseIndexLimit is how many chunks are given an HNSW index of sparse vectors: it takes minutes for 100,000.
const sparseIndexLimit = 100_000

// designs are other ways to have BM25 in Postgres, which hold the same weights: a plain table of postings, a row a term and chunk, and
// pgvector's sparsevec, scanned and indexed.
type designs struct {
	s     *Store
	terms map[string]int32 // numbered from 1
}

// compareDesigns reports the other designs' latency over ours, medians of the same questions, and the sum of their ten best
// scores over the sum of ours: 1 is the same quality.
func compareDesigns(b *testing.B, s *Store, k Collection, c *corpus) {
	d := designs{s, map[string]int32{}}
	d.load(b, k)
	ways := map[string]func(ctx context.Context, text string) ([]float64, error){"rows": d.rows, "sparsevec": d.sparse}
	if k.Chunks <= sparseIndexLimit {
		b.Log("building the index of sparse vectors")
		d.exec(b, "SET LOCAL statement_timeout = 0; SET LOCAL maintenance_work_mem = '1GB'; CREATE INDEX bench_sparse_index ON bench_sparse USING hnsw (words sparsevec_ip_ops)")
		ways["sparsevec-hnsw"] = d.sparseIndex
	}
	var own []float64
	var best float64
	times, sums := map[string][]float64{}, map[string]float64{}
	for range 30 {
		q := SearchQuery{Collection: k, Text: c.question(), Limit: 10, Mode: Lexical}
		var found []Passage
		own = append(own, timed(b, func() (err error) { found, err = s.Search(b.Context(), q); return err }))
		for _, p := range found {
			best += p.Lexical.Score
		}
		for name, way := range ways {
			var scores []float64
			times[name] = append(times[name], timed(b, func() (err error) { scores, err = way(b.Context(), q.Text); return err }))
			for _, x := range scores {
				sums[name] += x
			}
		}
	}
	for name := range ways {
		b.ReportMetric(median(times[name])/median(own), name+"/lexical")
		b.ReportMetric(median(times[name]), name+"-ms-p50")
		b.ReportMetric(sums[name]/best, name+"-score")
	}
	b.ReportMetric(median(own), "lexical-ms-p50")
	b.ReportMetric(0, "ns/op")
}

func (d designs) exec(b *testing.B, statements ...string) {
	b.Helper()
	for _, sql := range statements {
		if _, err := d.s.pool.Exec(b.Context(), sql); err != nil {
			b.Fatalf("%s: %v", sql, err)
		}
	}
}

// load writes the collection's words into the other designs' tables, weighted as BM25 weighs them now.
func (d designs) load(b *testing.B, k Collection) {
	chunks := d.analyse(b, k)
	n, words := float64(len(chunks)), 0.0
	frequency := map[string]float64{}
	for _, c := range chunks {
		words += float64(c.length)
		for term := range c.counts {
			frequency[term]++
			if d.terms[term] == 0 {
				d.terms[term] = int32(len(d.terms) + 1)
			}
		}
	}
	weight := func(c chunkWords, term string) float64 {
		tf, df := float64(c.counts[term]), frequency[term]
		return math.Log(1+(n-df+0.5)/(df+0.5)) * tf / (tf + bm25K1*(1-bm25B+bm25B*float64(c.length)/(words/n)))
	}
	d.exec(b, "DROP TABLE IF EXISTS bench_rows, bench_sparse", "CREATE TABLE bench_rows (term int, chunk int, weight real)",
		fmt.Sprintf("CREATE TABLE bench_sparse (chunk int, words sparsevec(%d))", len(d.terms)))
	d.copy(b, "bench_sparse", []string{"chunk", "words"}, func(yield func([]any) bool) {
		for i, c := range chunks {
			if !yield([]any{int32(i), d.vector(c.counts, func(term string) float64 { return weight(c, term) })}) {
				return
			}
		}
	})
	d.copy(b, "bench_rows", []string{"term", "chunk", "weight"}, func(yield func([]any) bool) {
		for i, c := range chunks {
			for term := range c.counts {
				if !yield([]any{d.terms[term], int32(i), float32(weight(c, term))}) {
					return
				}
			}
		}
	})
	d.exec(b, "CREATE INDEX ON bench_rows (term) INCLUDE (chunk, weight)", "VACUUM ANALYZE bench_rows", "VACUUM ANALYZE bench_sparse")
}

// analyse counts the words of every chunk as ingest has done.
func (d designs) analyse(b *testing.B, k Collection) []chunkWords {
	rows, err := d.s.pool.Query(b.Context(), "SELECT text FROM chunks WHERE collection_id = $1", k.ID)
	if err != nil {
		b.Fatal(err)
	}
	a := newAnalyzer("en")
	chunks, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (chunkWords, error) {
		var text string
		err := row.Scan(&text)
		return a.wordsOf("", Chunk{Text: text}, a), err
	})
	if err != nil {
		b.Fatal(err)
	}
	return chunks
}

func (d designs) copy(b *testing.B, table string, columns []string, rows iter.Seq[[]any]) {
	next, stop := iter.Pull(rows)
	defer stop()
	_, err := d.s.pool.CopyFrom(b.Context(), pgx.Identifier{table}, columns, pgx.CopyFromFunc(func() ([]any, error) {
		row, _ := next()
		return row, nil
	}))
	if err != nil {
		b.Fatal(err)
	}
}

// vector is sparse, with the terms' numbers as dimensions; unknown terms are left out.
func (d designs) vector(counts map[string]int, weight func(term string) float64) pgvector.SparseVector {
	elements := map[int32]float32{}
	for term := range counts {
		if n := d.terms[term]; n > 0 {
			elements[n-1] = float32(weight(term))
		}
	}
	return pgvector.NewSparseVectorFromMap(elements, int32(len(d.terms)))
}

func (d designs) rows(ctx context.Context, text string) ([]float64, error) {
	terms, counts := queryTerms(text, []string{"en"})
	numbers := make([]int32, len(terms))
	for i, t := range terms {
		numbers[i] = d.terms[t]
	}
	return d.scores(ctx, `
		SELECT sum(r.weight * q.n)::float8 FROM unnest($1::int[], $2::int[]) q(term, n) JOIN bench_rows r USING (term)
		GROUP BY r.chunk ORDER BY 1 DESC LIMIT 10`, numbers, counts)
}

const bySparse = "SELECT -(words <#> $1) FROM bench_sparse ORDER BY (words <#> $1) LIMIT 10"

func (d designs) question(text string) pgvector.SparseVector {
	terms, counts := queryTerms(text, []string{"en"})
	of := map[string]int{}
	for i, t := range terms {
		of[t] = counts[i]
	}
	return d.vector(of, func(term string) float64 { return float64(of[term]) })
}

// sparse scans every vector.
func (d designs) sparse(ctx context.Context, text string) ([]float64, error) {
	return d.scores(ctx, strings.Replace(bySparse, "ORDER BY", "ORDER BY 0 +", 1), d.question(text))
}

func (d designs) sparseIndex(ctx context.Context, text string) ([]float64, error) {
	return d.scores(ctx, bySparse, d.question(text))
}

func (d designs) scores(ctx context.Context, sql string, args ...any) ([]float64, error) {
	rows, err := d.s.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[float64])
}
