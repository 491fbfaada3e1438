package store_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/store"
)

// loadVectors completes documents of a chunk a line with these vectors.
func loadVectors(t *testing.T, s *store.Store, c store.Collection, uri string, texts []string, vectors [][]float32) {
	t.Helper()
	whole := strings.Join(texts, "\n")
	chunks := chunksOf(whole)
	for i := range chunks {
		chunks[i].Embedding = vectors[i]
	}
	loadChunks(t, s, c, uri, whole, chunks)
}

// near has the first signs of the topic, and those of the number elsewhere.
func near(topic, number int) []float32 {
	v := make([]float32, testDims)
	for i := range v {
		v[i] = 0.1
		if number>>i&1 == 1 {
			v[i] = -0.1
		}
	}
	for i := range 5 {
		v[i] = 1
		if topic>>i&1 == 1 {
			v[i] = -1
		}
	}
	return v
}

func unsmoothed() *float64 { return new(float64) }

// Of two chunks that match the question alike, the one whose neighbours match it, too, comes first.
func TestSmoothingPrefersCompany(t *testing.T) {
	s, c := setup(t)
	// Topics 0 and 31 are opposite; the question lies between them. Words say that topic 0 is meant.
	for i := range 8 {
		loadVectors(t, s, c, fmt.Sprint("a/", i), []string{fmt.Sprintf("tides follow the moon %d", i)}, [][]float32{near(0, i<<5)})
		loadVectors(t, s, c, fmt.Sprint("b/", i), []string{fmt.Sprintf("bread rises slowly here %d", i)}, [][]float32{near(31, i<<5)})
	}
	loadVectors(t, s, c, "a/plain", []string{"water comes and goes at night"}, [][]float32{near(0, 0)})
	loadVectors(t, s, c, "b/plain", []string{"water comes and goes at noon"}, [][]float32{near(31, 0)})
	question := store.SearchQuery{Collection: fresh(t, s), Text: "tides of the moon and water", Vector: []float32{0, 0, 0, 0, 0, 1, 1, 1}, Limit: 18}
	ranks := func(q store.SearchQuery) (tides, bread store.Passage, at [2]int) {
		t.Helper()
		got, err := s.Search(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range got {
			switch p.URI {
			case "a/plain":
				tides, at[0] = p, i
			case "b/plain":
				bread, at[1] = p, i
			}
		}
		return tides, bread, at
	}

	q := question
	q.Fusion.Smoothing = unsmoothed()
	tides, bread, _ := ranks(q)
	if math.Abs(tides.Score-bread.Score) > 1e-6 || tides.Neighbors != nil {
		t.Fatalf("without smoothing the two have %v and %v, neighbours %v: want the same, and none", tides.Score, bread.Score, tides.Neighbors)
	}
	own := tides.Score
	tides, bread, at := ranks(question)
	if at[0] >= at[1] || tides.Score <= bread.Score {
		t.Errorf("smoothed, the one among the tides is at %d with %v, the other at %d with %v: want it before", at[0], tides.Score, at[1], bread.Score)
	}
	for _, p := range []store.Passage{tides, bread} {
		if p.Neighbors == nil || math.Abs(p.Score-(0.7*own+0.3**p.Neighbors)) > 1e-6 {
			t.Errorf("%s: score %v, neighbours %v: want 0.7·%v + 0.3·neighbours", p.URI, p.Score, p.Neighbors, own)
		}
		if want := "0.7 (0.55 vector/max + 0.45 lexical/max) + 0.3 neighbors"; p.Fusion != want {
			t.Errorf("fusion %q, want %q", p.Fusion, want)
		}
	}
}

// Chunks of one document do not vouch for each other.
func TestSmoothingLooksAtOtherDocuments(t *testing.T) {
	s, c := setup(t)
	var texts []string
	var vectors [][]float32
	for i := range 20 {
		texts, vectors = append(texts, fmt.Sprintf("tides follow the moon %d", i)), append(vectors, near(0, i<<5))
	}
	loadVectors(t, s, c, "tides", texts, vectors)
	got, err := s.Search(t.Context(), store.SearchQuery{Collection: fresh(t, s), Text: "moon", Vector: near(0, 0), Limit: 20})
	if err != nil || len(got) != 20 {
		t.Fatalf("%d passages, %v", len(got), err)
	}
	for _, p := range got {
		if p.Neighbors == nil || math.Abs(*p.Neighbors-p.Score) > 1e-9 {
			t.Errorf("chunk %d: score %v, neighbours %v: want them equal", p.Ordinal, p.Score, p.Neighbors)
		}
	}
}

// How many are asked for changes how many come, not their order; each comes once, best first.
func TestSmoothingKeepsTheOrder(t *testing.T) {
	s, c := setup(t)
	for i := range 150 {
		load(t, s, c, fmt.Sprint(i), fmt.Sprintf("the sea at %d", i*i%37))
	}
	q := store.SearchQuery{Collection: fresh(t, s), Text: "sea at 12", Vector: vectorOf("sea"), Limit: 150, Fusion: store.Fusion{Candidates: 150}}
	all, err := s.Search(t.Context(), q)
	if err != nil || len(all) != 150 {
		t.Fatalf("%d passages, %v", len(all), err)
	}
	if !slices.IsSortedFunc(all, func(a, b store.Passage) int {
		if a.Score > b.Score {
			return -1
		}
		return 0
	}) {
		t.Error("not best first")
	}
	q.Limit = 5
	few, err := s.Search(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range few {
		if p.Score != all[i].Score {
			t.Errorf("place %d: score %v of 5 passages, %v of 150", i, p.Score, all[i].Score)
		}
	}
	seen := map[string]bool{}
	for i, p := range all {
		if seen[p.DocumentID] {
			t.Errorf("%s comes twice", p.URI)
		}
		seen[p.DocumentID] = true
		if p.Neighbors != nil != (i < 64) {
			t.Errorf("place %d: neighbours %v; of the best 64 they count", i, p.Neighbors)
		}
	}
}

func TestBadSmoothingIsRefused(t *testing.T) {
	s, c := setup(t)
	for _, share := range []float64{-0.1, 1, math.NaN(), math.Inf(1)} {
		_, err := s.Search(t.Context(), store.SearchQuery{Collection: c, Text: "sea", Vector: vectorOf("sea"), Fusion: store.Fusion{Smoothing: &share}})
		if !errors.Is(err, store.ErrInvalidFusion) {
			t.Errorf("smoothing %v: %v, want %v", share, err, store.ErrInvalidFusion)
		}
	}
}
