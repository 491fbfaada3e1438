package store

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"
)

// wordy is a collection whose documents the test knows, with scores computed from these.
type wordy struct {
	*Store
	collection Collection
	texts      map[string][]string // uri → its chunks
	ids        map[string]string   // uri → document
}

func newWordy(t testing.TB, s *Store, name string) *wordy {
	t.Helper()
	c, _, err := s.EnsureCollection(t.Context(), name, Space{Model: "m", Pooling: "mean", Dimensions: 2}, Chunking{})
	if err != nil {
		t.Fatal(err)
	}
	return &wordy{Store: s, collection: c, texts: map[string][]string{}, ids: map[string]string{}}
}

func (w *wordy) put(ctx context.Context, uri string, chunks []string) error {
	d, _, err := w.PutDocument(ctx, NewDocument{Collection: w.collection, URI: uri, Source: []byte(uri), SHA256: []byte(strings.Join(chunks, "|")), MediaType: "text/plain"},
		func(context.Context, pgx.Tx, Document) error { return nil })
	if err != nil {
		return err
	}
	done := Completion{DocumentID: d.ID, Revision: d.Revision, Text: "x", Language: "de", Total: len(chunks)} // German: not stemmed
	for i, text := range chunks {
		done.Chunks = append(done.Chunks, Chunk{Ordinal: i, Text: text, Embedding: []float32{1, 1}})
	}
	w.ids[uri], w.texts[uri] = d.ID, chunks
	return w.Complete(ctx, done)
}

func (w *wordy) remove(ctx context.Context, uri string) error {
	id := w.ids[uri]
	delete(w.ids, uri)
	delete(w.texts, uri)
	return w.DeleteDocument(ctx, id)
}

// scores is BM25 by its definition: chunk text → score.
func (w *wordy) scores(query []string) map[string]float64 {
	var chunks, words float64
	df := map[string]float64{}
	for _, list := range w.texts {
		for _, text := range list {
			chunks++
			words += float64(len(strings.Fields(text)))
			for _, q := range query {
				if slices.Contains(strings.Fields(text), q) {
					df[q]++
				}
			}
		}
	}
	scores := map[string]float64{}
	for _, list := range w.texts {
		for _, text := range list {
			fields := strings.Fields(text)
			for _, q := range query {
				tf := 0.0
				for _, f := range fields {
					if f == q {
						tf++
					}
				}
				if tf > 0 {
					scores[text] += math.Log(1+(chunks-df[q]+.5)/(df[q]+.5)) * tf / (tf + 1.2*(.25+.75*float64(len(fields))/(words/chunks)))
				}
			}
		}
	}
	return scores
}

// check compares a lexical search with the definition.
func (w *wordy) check(t interface {
	Helper()
	Fatalf(string, ...any)
}, ctx context.Context, query ...string) {
	t.Helper()
	c, err := w.Collection(ctx, w.collection.Name) // with its languages
	if err != nil {
		t.Fatalf("Collection: %v", err)
	}
	got, err := w.Search(ctx, SearchQuery{Collection: c, Text: strings.Join(query, " "), Mode: Lexical, Limit: 1000})
	if err != nil {
		t.Fatalf("Search: %v", err)
	}
	want := w.scores(query)
	if len(got) != len(want) {
		t.Fatalf("Search(%q) found %d chunks, want %d", query, len(got), len(want))
	}
	for i, p := range got {
		if math.Abs(p.Lexical.Score-want[p.Text]) > 1e-4 {
			t.Fatalf("Search(%q): %q has the score %.5f, want %.5f", query, p.Text, p.Lexical.Score, want[p.Text])
		}
		if i > 0 && p.Score > got[i-1].Score {
			t.Fatalf("Search(%q) is not in order at %d", query, i)
		}
	}
}

// TestSegmentsAgreeWithModel puts, replaces and removes documents while their words move from fresh rows into segments, and
// compares every search with BM25 computed by its definition.
func TestSegmentsAgreeWithModel(t *testing.T) {
	t.Parallel()
	s := inside(t, Config{})
	serial := 0
	rapid.Check(t, func(rt *rapid.T) {
		ctx := t.Context()
		serial++
		w := newWordy(t, s, fmt.Sprint("c", serial))
		words := []string{"eins", "zwei", "drei", "vier", "seltenwort"}
		chunk := 0
		rt.Repeat(map[string]func(*rapid.T){
			"put": func(rt *rapid.T) {
				uri := fmt.Sprint(rapid.IntRange(0, 12).Draw(rt, "uri"))
				var chunks []string
				for range rapid.IntRange(1, 4).Draw(rt, "chunks") {
					chunk++ // every text differs
					text := rapid.SliceOfN(rapid.SampledFrom(words), 1, 6).Draw(rt, "words")
					chunks = append(chunks, strings.Join(text, " ")+fmt.Sprint(" n", chunk))
				}
				if err := w.put(ctx, uri, chunks); err != nil {
					rt.Fatal(err)
				}
			},
			"remove": func(rt *rapid.T) {
				if len(w.ids) == 0 {
					return
				}
				uris := make([]string, 0, len(w.ids))
				for u := range w.ids {
					uris = append(uris, u)
				}
				slices.Sort(uris)
				if err := w.remove(ctx, rapid.SampledFrom(uris).Draw(rt, "uri")); err != nil {
					rt.Fatal(err)
				}
			},
			"flush": func(rt *rapid.T) {
				if _, err := w.flush(ctx, w.collection.ID, false); err != nil {
					rt.Fatal(err)
				}
			},
			"merge": func(rt *rapid.T) {
				if _, err := w.mergeSome(ctx, w.collection.ID); err != nil {
					rt.Fatal(err)
				}
			},
			"clean": func(rt *rapid.T) {
				if err := w.clean(ctx, w.collection.ID); err != nil {
					rt.Fatal(err)
				}
			},
			"": func(rt *rapid.T) {
				w.check(rt, ctx, "eins")
				w.check(rt, ctx, "seltenwort", "zwei", "nirgends")
			},
		})
	})
}

// TestSegmentsUnderConcurrentWriters loads, replaces, removes, merges and searches at once: a search always finds each document
// once, in the old or the new version, and in the end everything is as it should be.
func TestSegmentsUnderConcurrentWriters(t *testing.T) {
	t.Parallel()
	s := inside(t, Config{})
	const writers, documents, rounds = 4, 6, 8
	all := newWordy(t, s, "c")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg, tenders sync.WaitGroup
	var mu sync.Mutex
	for n := range writers {
		wg.Go(func() {
			own := &wordy{Store: s, collection: all.collection, texts: map[string][]string{}, ids: map[string]string{}}
			r := rand.New(rand.NewPCG(1, uint64(n)))
			for round := range rounds {
				for d := range documents {
					uri := fmt.Sprint(n, "/", d)
					var chunks []string
					for i := range 1 + r.IntN(3) {
						chunks = append(chunks, fmt.Sprintf("alle writer%d n%d_%d_%d_%d", n, n, d, round, i))
					}
					if err := own.put(ctx, uri, chunks); err != nil {
						t.Error(err)
						return
					}
				}
				if err := own.remove(ctx, fmt.Sprint(n, "/", r.IntN(documents))); err != nil {
					t.Error(err)
					return
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for uri, chunks := range own.texts {
				all.texts[uri] = chunks
			}
		})
	}
	tenders.Go(func() {
		for ctx.Err() == nil {
			if err := s.maintainCollection(ctx, all.collection.ID); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	})
	tenders.Go(func() {
		for ctx.Err() == nil {
			found, err := s.Search(ctx, SearchQuery{Collection: all.collection, Text: "alle", Mode: Lexical, Limit: 1000})
			if err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
			seen := map[string]bool{}
			for _, p := range found {
				if key := fmt.Sprint(p.URI, p.Ordinal); seen[key] {
					t.Errorf("%s is found twice", key)
				} else {
					seen[key] = true
				}
			}
		}
	})
	wg.Wait()
	stop()
	tenders.Wait()
	all.check(t, t.Context(), "alle")
	if err := s.maintainCollection(t.Context(), all.collection.ID); err != nil {
		t.Fatal(err)
	}
	all.check(t, t.Context(), "alle", "writer1")
	all.check(t, t.Context(), "writer2")
}

// TestSkippingChangesNoScore compares the best chunks with those by scores added up without MaxScore's shortcut.
func TestSkippingChangesNoScore(t *testing.T) {
	t.Parallel()
	skipped := 0
	rapid.Check(t, func(rt *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		const chunks, gap = 3000, 7
		l := &lexicalLeg{chunks: chunks, words: 50 * chunks}
		for i := range rapid.IntRange(1, 6).Draw(rt, "terms") {
			share := rapid.SampledFrom([]float64{0.001, 0.01, 0.1, 0.5, 0.9}).Draw(rt, "share")
			var lists [2][]posting
			for c := range int64(chunks) {
				if r.Float64() < share {
					n := r.IntN(20) / 19
					lists[n] = append(lists[n], posting{c * gap, uint32(1 + r.IntN(4)), uint32(10 + r.IntN(90))})
				}
			}
			l.terms, l.counts = append(l.terms, fmt.Sprint(i)), append(l.counts, 1+i%2)
			l.known = append(l.known, &termEntry{termPostings: newTermPostings(lists[0]).at(l.perWord())})
			l.fresh = append(l.fresh, lists[1])
		}
		if rapid.Bool().Draw(rt, "filtered") {
			l.allow = &ranges{}
			for first := int64(0); first < chunks*gap; first += int64(rapid.IntRange(300, 9000).Draw(rt, "step")) {
				l.allow.add(first, rapid.IntRange(1, 250).Draw(rt, "run"))
			}
		}
		k := rapid.SampledFrom([]int{1, 10, 100}).Draw(rt, "k")
		page := &scorePage{}
		got := l.scoreOn(page, k)
		allowed := l.allow.walk()
		pages := append([]int64{-1}, l.pages()...)
		var want []scored
		for c := range int64(chunks) {
			if score := l.scoreOf(c * gap); score > 0 && (l.allow == nil || allowed.has(c*gap)) {
				want = append(want, scored{c * gap, float64(score)})
			}
			if c*gap/chunkIDBlock == pages[len(pages)-1] && page.sums[c*gap%chunkIDBlock] < l.scoreOf(c*gap) {
				skipped++
			}
		}
		slices.SortFunc(want, betterFirst)
		want = want[:min(k, len(want))]
		if !slices.Equal(got, want) {
			rt.Fatalf("the best are %v, want %v", got, want)
		}
	})
	if skipped == 0 {
		t.Error("nothing was ever skipped")
	}
}

func TestPostingsSurviveTheirPacking(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		first := rapid.Int64Range(1, 1<<40).Draw(rt, "first")
		var want []posting
		var packed []byte
		id := first
		for range rapid.IntRange(0, 50).Draw(rt, "n") {
			before := id
			id += rapid.Int64Range(0, 1<<33).Draw(rt, "gap")
			p := posting{id, rapid.Uint32().Draw(rt, "tf"), rapid.Uint32().Draw(rt, "words")}
			packed = appendPosting(packed, before, p)
			want = append(want, p)
		}
		got, err := appendUnpacked(nil, first, packed)
		if err != nil || !slices.Equal(got, want) {
			rt.Fatalf("unpacked %v, %v, want %v", got, err, want)
		}
	})
}

func FuzzPostings(f *testing.F) {
	f.Add([]byte{1, 'a', 3, 0, 1, 9})
	f.Add([]byte{0x80})
	f.Fuzz(func(t *testing.T, packed []byte) {
		_ = eachTerm(packed, func(_, postings []byte) error {
			_, err := appendUnpacked(nil, 1, postings)
			return err
		})
	})
}
