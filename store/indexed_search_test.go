package store

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// bigSpace is a collection that is too large for an exact scan, with an index, and a small one in the same space.
type bigSpace struct {
	*Store
	big, small Collection
	vectors    map[string][]float32 // chunk text → vector, of the big collection
	documents  []string
}

const (
	bigDocuments, bigChunks = 56, 100 // a little over exactRows
	bigDims                 = 24
)

func anyVector(r *rand.Rand) []float32 {
	v := make([]float32, bigDims)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}

func indexedSpace(t *testing.T) *bigSpace {
	t.Helper()
	b := &bigSpace{Store: inside(t, Config{IndexAfter: 1000}), vectors: map[string][]float32{}}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range bigDocuments {
		b.documents = append(b.documents, b.put(t, r, "big", fmt.Sprint("d", i), bigChunks))
	}
	b.put(t, r, "small", "s", 3)
	if err := b.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.refresh(t)
	if !b.indexed(t.Context(), b.big.Space.ID) || b.big.Chunks <= exactRows {
		t.Fatalf("the big collection has %d chunks and indexed = %v", b.big.Chunks, b.indexed(t.Context(), b.big.Space.ID))
	}
	return b
}

func (b *bigSpace) refresh(t *testing.T) {
	t.Helper()
	for name, c := range map[string]*Collection{"big": &b.big, "small": &b.small} {
		var err error
		if *c, err = b.Collection(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
}

func (b *bigSpace) put(t *testing.T, r *rand.Rand, collection, uri string, chunks int) string {
	t.Helper()
	c, _, err := b.EnsureCollection(t.Context(), collection, Space{Model: "m", Pooling: "mean", Dimensions: bigDims}, Chunking{})
	if err != nil {
		t.Fatal(err)
	}
	d, _, err := b.PutDocument(t.Context(), NewDocument{Collection: c, URI: uri, Source: []byte(uri), SHA256: []byte(uri), MediaType: "text/plain",
		Metadata: json.RawMessage(fmt.Sprintf(`{"name":%q}`, uri))}, func(context.Context, pgx.Tx, Document) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	done := Completion{DocumentID: d.ID, Revision: d.Revision, Text: "x", Total: chunks}
	for i := range chunks {
		ch := Chunk{Ordinal: i, Text: fmt.Sprintf("%s/%d", uri, i), Embedding: anyVector(r)}
		if collection == "big" {
			b.vectors[ch.Text] = ch.Embedding
		}
		done.Chunks = append(done.Chunks, ch)
	}
	if err := b.Complete(t.Context(), done); err != nil {
		t.Fatal(err)
	}
	return d.ID
}

func (b *bigSpace) find(t *testing.T, q SearchQuery) []Passage {
	t.Helper()
	q.Mode = Vector
	found, err := b.Search(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// nearest are the exact best k of the big collection.
func (b *bigSpace) nearest(q []float32, k int) []string {
	type scoredText struct {
		text  string
		score float64
	}
	var all []scoredText
	for text, v := range b.vectors {
		var dot, norm float64
		for i := range v {
			dot += float64(v[i]) * float64(q[i])
			norm += float64(v[i]) * float64(v[i])
		}
		all = append(all, scoredText{text, dot * dot / norm * sign(dot)})
	}
	slices.SortFunc(all, func(x, y scoredText) int { return int(sign(y.score - x.score)) })
	var texts []string
	for _, s := range all[:k] {
		texts = append(texts, s.text)
	}
	return texts
}

// plan is Postgres's for the statement of the vector leg.
func (b *bigSpace) plan(t *testing.T, k int, exact, likened bool) string {
	t.Helper()
	run, err := b.newSearch(SearchQuery{Collection: b.big, Vector: anyVector(rand.New(rand.NewPCG(7, 8))), Mode: Vector, Limit: k})
	if err != nil {
		t.Fatal(err)
	}
	run.exact = exact
	sql, args := run.vectorSQL(k, likened)
	rows, err := b.pool.Query(t.Context(), "EXPLAIN (VERBOSE) "+sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

func sign(x float64) float64 {
	switch {
	case x < 0:
		return -1
	case x > 0:
		return 1
	}
	return 0
}

func TestIndexedSearchFindsTheNearest(t *testing.T) {
	t.Parallel()
	b := indexedSpace(t)
	r := rand.New(rand.NewPCG(3, 4))
	const queries, k = 100, 10
	if plan := b.plan(t, k, false, false); !strings.Contains(plan, "embeddings_1_hnsw") {
		t.Errorf("the search's plan does not use the index:\n%s", plan)
	}
	hits := 0
	for range queries {
		q := anyVector(r)
		want := b.nearest(q, k)
		for _, p := range b.find(t, SearchQuery{Collection: b.big, Vector: q, Limit: k}) {
			if slices.Contains(want, p.Text) {
				hits++
			}
		}
	}
	if recall := float64(hits) / (queries * k); recall < 0.95 {
		t.Errorf("recall@%d = %.3f, want at least 0.95", k, recall)
	} else {
		t.Logf("recall@%d = %.3f", k, recall)
	}
}

// A plan that takes the signs below its limit takes them of every row that it looks at, ten thousands where it sorts.
func TestSignsAreTakenOfTheNearest(t *testing.T) {
	t.Parallel()
	b := indexedSpace(t)
	for _, exact := range []bool{false, true} {
		plan := b.plan(t, 50, exact, true)
		above, below, limited := strings.Cut(plan, "Limit ")
		if !limited || !strings.Contains(above, "binary_quantize") || strings.Contains(below, "binary_quantize") {
			t.Errorf("exact %v: the signs are not taken above the limit:\n%s", exact, plan)
		}
		if !exact && !strings.Contains(plan, "embeddings_1_hnsw") {
			t.Errorf("the plan does not use the index:\n%s", plan)
		}
	}
}

// TestIndexedSearchReturnsAllItShould wants min(limit, matching chunks) rows, also right after many were deleted.
func TestIndexedSearchReturnsAllItShould(t *testing.T) {
	t.Parallel()
	b := indexedSpace(t)
	q := anyVector(rand.New(rand.NewPCG(5, 6)))
	one, err := ParseFilter(json.RawMessage(`{"name":"d7"}`))
	if err != nil {
		t.Fatal(err)
	}
	none, err := ParseFilter(json.RawMessage(`{"name":"nobody"}`))
	if err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		for _, limit := range []int{1, 40, 41, 100, 1000} {
			for _, tt := range []struct {
				name     string
				query    SearchQuery
				matching int
			}{
				{"big", SearchQuery{Collection: b.big}, int(b.big.Chunks)},
				{"small", SearchQuery{Collection: b.small}, 3},
				{"one document", SearchQuery{Collection: b.big, Filter: one}, bigChunks},
				{"nothing", SearchQuery{Collection: b.big, Filter: none}, 0},
			} {
				tt.query.Vector, tt.query.Limit = q, limit
				if got, want := len(b.find(t, tt.query)), min(limit, tt.matching); got != want {
					t.Errorf("%s: %s, limit %d: %d passages, want %d", when, tt.name, limit, got, want)
				}
			}
		}
	}
	check("after loading")
	// The deleted rows stay in the graph until VACUUM. The collection that the caller holds is as before, so the index is used.
	for i, id := range b.documents {
		if i != 7 && i%10 != 0 {
			if err := b.DeleteDocument(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
	}
	held := b.big
	b.refresh(t)
	left := b.big.Chunks
	b.big = held
	b.big.Chunks = exactRows + 1
	if got := len(b.find(t, SearchQuery{Collection: b.big, Vector: q, Limit: 1000})); got != int(min(1000, left)) {
		t.Errorf("after deleting: limit 1000: %d passages, want %d", got, min(1000, left))
	}
	b.big.Chunks = left
	check("after deleting")
}
