package store_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/store/storetest"
)

const testDims = 8

// vectorOf is a unit vector made from the text, so that a mix-up shows.
func vectorOf(text string) []float32 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(text))
	r := rand.New(rand.NewPCG(h.Sum64(), 1))
	v := make([]float32, testDims)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}

func setup(t *testing.T) (*store.Store, store.Collection) {
	t.Helper()
	s := storetest.Open(t)
	c, created, err := s.EnsureCollection(t.Context(), "default", store.Space{Model: "m", Pooling: "mean", Dimensions: testDims}, store.Chunking{MaxTokens: 256})
	if err != nil || !created {
		t.Fatalf("EnsureCollection = %v, %v", created, err)
	}
	return s, c
}

func noQueue(context.Context, pgx.Tx, store.Document) error { return nil }

func newDocument(c store.Collection, uri, text string) store.NewDocument {
	sum := sha256.Sum256([]byte(text))
	return store.NewDocument{Collection: c, URI: uri, Title: "Title of " + uri, MediaType: "text/plain", Source: []byte(text), SHA256: sum[:], Settings: "v1"}
}

// chunksOf makes a chunk a line.
func chunksOf(text string) []store.Chunk {
	var chunks []store.Chunk
	at := 0
	for i, line := range strings.Split(text, "\n") {
		n := len([]rune(line))
		chunks = append(chunks, store.Chunk{Ordinal: i, Start: at, End: at + n, Text: line, Tokens: len(strings.Fields(line)) + 2, Embedding: vectorOf(line)})
		at += n + 1
	}
	return chunks
}

// load puts and completes a document, a chunk a line.
func load(t *testing.T, s *store.Store, c store.Collection, uri, text string) store.Document {
	t.Helper()
	return loadChunks(t, s, c, uri, text, chunksOf(text))
}

// loadChunks puts a document and completes it with these chunks.
func loadChunks(t *testing.T, s *store.Store, c store.Collection, uri, text string, chunks []store.Chunk) store.Document {
	t.Helper()
	d, _, err := s.PutDocument(t.Context(), newDocument(c, uri, text), noQueue)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.BeginWork(t.Context(), d.ID, d.Revision); err != nil {
		t.Fatal(err)
	}
	if err := s.Complete(t.Context(), store.Completion{DocumentID: d.ID, Revision: d.Revision, Text: text, Chunks: chunks, Total: len(chunks)}); err != nil {
		t.Fatal(err)
	}
	d, err = s.Document(t.Context(), d.ID)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func fresh(t *testing.T, s *store.Store) store.Collection {
	t.Helper()
	c, err := s.Collection(t.Context(), "default")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func texts(ps []store.Passage) []string {
	var out []string
	for _, p := range ps {
		out = append(out, p.Text)
	}
	return out
}

func TestPutOutcomes(t *testing.T) {
	t.Parallel()
	s, c := setup(t)
	calls := 0
	count := func(context.Context, pgx.Tx, store.Document) error { calls++; return nil }
	put := func(d store.NewDocument) (store.Document, store.PutOutcome) {
		t.Helper()
		doc, outcome, err := s.PutDocument(t.Context(), d, count)
		if err != nil {
			t.Fatal(err)
		}
		return doc, outcome
	}
	d := newDocument(c, "a.txt", "one")
	first, outcome := put(d)
	if outcome != store.Created || first.Status != store.StatusQueued || first.Revision != 1 {
		t.Errorf("first put = %v, %+v", outcome, first)
	}
	if _, outcome := put(d); outcome != store.Unchanged {
		t.Errorf("the same again = %v, want unchanged", outcome)
	}
	retitled := d
	retitled.Title = "Another"
	if doc, outcome := put(retitled); outcome != store.Changed || doc.Revision != 2 {
		t.Errorf("another title = %v, revision %d, want changed, 2", outcome, doc.Revision)
	}
	if err := s.Fail(t.Context(), first.ID, 2, "malformed", "cannot be read"); err != nil {
		t.Fatal(err)
	}
	if doc, outcome := put(retitled); outcome != store.Changed || doc.Status != store.StatusQueued || doc.ErrorCode != "" {
		t.Errorf("a failed document again = %v, %+v, want changed and queued", outcome, doc)
	}
	if calls != 3 {
		t.Errorf("enqueued %d times, want 3", calls)
	}
	if got := fresh(t, s).Documents; got != 1 {
		t.Errorf("documents = %d, want 1", got)
	}
}

func TestPutRollsBackWithItsJob(t *testing.T) {
	t.Parallel()
	s, c := setup(t)
	broken := errors.New("no queue")
	_, _, err := s.PutDocument(t.Context(), newDocument(c, "a.txt", "one"), func(context.Context, pgx.Tx, store.Document) error { return broken })
	if !errors.Is(err, broken) {
		t.Errorf("PutDocument = %v, want the queue's error", err)
	}
	if _, err := s.DocumentByURI(t.Context(), c.ID, "a.txt"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the document is there without its job: %v", err)
	}
}

func TestReplaceIsAtomic(t *testing.T) {
	t.Parallel()
	s, c := setup(t)
	load(t, s, c, "a.txt", "alpha one\nalpha two\nalpha three")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			ps, err := s.Search(t.Context(), store.SearchQuery{Collection: c, Mode: store.Lexical, Text: "alpha", Limit: 100})
			if err != nil {
				t.Error(err)
				return
			}
			if n := len(ps); n != 3 && n != 5 && n != 0 {
				t.Errorf("a reader saw %d of 3 or 5 chunks", n)
			}
		}
	})
	for i := range 20 {
		lines := []string{"alpha one", "alpha two", "alpha three", "alpha four", "alpha five"}[:3+2*(i%2)]
		load(t, s, c, "a.txt", strings.Join(lines, "\n")+fmt.Sprintf(" %d", i))
	}
	close(stop)
	wg.Wait()
	storetest.Invariants(t, s)
}

func TestSupersededWorkChangesNothing(t *testing.T) {
	t.Parallel()
	s, c := setup(t)
	d, _, err := s.PutDocument(t.Context(), newDocument(c, "a.txt", "old"), noQueue)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.BeginWork(t.Context(), d.ID, 1); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.PutDocument(t.Context(), newDocument(c, "a.txt", "new"), noQueue); err != nil {
		t.Fatal(err)
	}
	old := chunksOf("old")
	for what, err := range map[string]error{
		"begin":    func() error { _, err := s.BeginWork(t.Context(), d.ID, 1); return err }(),
		"stage":    s.StageChunks(t.Context(), d.ID, 1, old),
		"complete": s.Complete(t.Context(), store.Completion{DocumentID: d.ID, Revision: 1, Text: "old", Chunks: old, Total: 1}),
		"fail":     s.Fail(t.Context(), d.ID, 1, "x", "y"),
	} {
		if !errors.Is(err, store.ErrSuperseded) {
			t.Errorf("%s of revision 1 = %v, want ErrSuperseded", what, err)
		}
	}
	if got := load(t, s, c, "a.txt", "new"); got.Generation != 2 || got.Chunks != 1 {
		t.Errorf("after the newer revision: %+v", got)
	}
}

func TestStagedChunksAreCompleted(t *testing.T) {
	t.Parallel()
	s, c := setup(t)
	text := "first line\nsecond line\nthird line\nfourth line"
	d, _, err := s.PutDocument(t.Context(), newDocument(c, "a.txt", text), noQueue)
	if err != nil {
		t.Fatal(err)
	}
	chunks := chunksOf(text)
	chunks[2].Summary, chunks[2].SummaryInput = "Of the handbook.", []byte("input")
	for range 2 { // twice: a restart stages again what it had
		if err := s.StageChunks(t.Context(), d.ID, 1, chunks[1:3]); err != nil {
			t.Fatal(err)
		}
	}
	staged, err := s.StagedOrdinals(t.Context(), d.ID, 1)
	if err != nil {
		t.Fatal(err)
	}
	want := map[int][32]byte{1: store.SumOf(chunks[1]), 2: store.SumOf(chunks[2])}
	if store.SumOf(store.Chunk{Text: "third line"}) == want[2] {
		t.Error("a summary does not change the sum")
	}
	if diff := cmp.Diff(want, staged); diff != "" {
		t.Errorf("staged (-want +got):\n%s", diff)
	}
	if ps, err := s.Search(t.Context(), store.SearchQuery{Collection: c, Mode: store.Lexical, Text: "line"}); err != nil || len(ps) != 0 {
		t.Errorf("staged chunks are found: %v, %v", texts(ps), err)
	}
	incomplete := store.Completion{DocumentID: d.ID, Revision: 1, Text: text, Chunks: chunks[:1], Total: 4}
	if err := s.Complete(t.Context(), incomplete); err == nil {
		t.Error("Complete with a chunk missing = nil, want an error")
	}
	incomplete.Chunks = []store.Chunk{chunks[0], chunks[3]}
	if err := s.Complete(t.Context(), incomplete); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []store.Mode{store.Lexical, store.Vector, store.Hybrid} {
		ps, err := s.Search(t.Context(), store.SearchQuery{Collection: fresh(t, s), Mode: mode, Text: "third line", Vector: vectorOf("third line")})
		if err != nil || len(ps) != 4 || ps[0].Text != "third line" {
			t.Errorf("%s = %q, %v, want 4 lines, the third first", mode, texts(ps), err)
		}
	}
	ps, err := s.Search(t.Context(), store.SearchQuery{Collection: fresh(t, s), Mode: store.Lexical, Text: "handbook"})
	if err != nil || len(ps) != 1 || ps[0].Text != "third line" || ps[0].Summary != "Of the handbook." {
		t.Errorf("a word of the summary finds %+v, %v, want the third line", ps, err)
	}
	summaries := []store.Summary{{Input: []byte("input"), Text: "Of the handbook."}}
	if got, err := s.Summaries(t.Context(), d.ID); err != nil || !cmp.Equal(got, summaries) {
		t.Errorf("Summaries = %v, %v, want %v", got, err, summaries)
	}
	storetest.Invariants(t, s)
}

func TestDeleteRemovesEverything(t *testing.T) {
	t.Parallel()
	s, c := setup(t)
	d := load(t, s, c, "a.txt", "alpha\nbeta")
	load(t, s, c, "b.txt", "alpha")
	if err := s.DeleteDocument(t.Context(), d.ID); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteDocument(t.Context(), d.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("delete again = %v, want ErrNotFound", err)
	}
	c = fresh(t, s)
	if c.Documents != 1 || c.Chunks != 1 {
		t.Errorf("documents %d, chunks %d, want 1 and 1", c.Documents, c.Chunks)
	}
	storetest.Invariants(t, s)
	if err := s.DeleteCollection(t.Context(), "default"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Collection(t.Context(), "default"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("collection after delete = %v, want ErrNotFound", err)
	}
	storetest.Invariants(t, s)
}

func TestBadVectorsAreRefused(t *testing.T) {
	t.Parallel()
	s, c := setup(t)
	d, _, err := s.PutDocument(t.Context(), newDocument(c, "a.txt", "x"), noQueue)
	if err != nil {
		t.Fatal(err)
	}
	nan := vectorOf("x")
	nan[3] = float32(math.NaN())
	for name, v := range map[string][]float32{"zero": make([]float32, testDims), "short": {1}, "none": nil, "NaN": nan} {
		ch := chunksOf("x")
		ch[0].Embedding = v
		err := s.Complete(t.Context(), store.Completion{DocumentID: d.ID, Revision: 1, Text: "x", Chunks: ch, Total: 1})
		if !errors.Is(err, store.ErrInvalidVector) {
			t.Errorf("%s vector: %v, want ErrInvalidVector", name, err)
		}
		if _, err := s.Search(t.Context(), store.SearchQuery{Collection: c, Vector: v, Text: "x"}); !errors.Is(err, store.ErrInvalidVector) {
			t.Errorf("search by a %s vector: %v, want ErrInvalidVector", name, err)
		}
	}
}

// bm25 is a plain second implementation: one pass over all chunks for each term.
func bm25(chunks []string, query string) map[string]float64 {
	words := func(s string) []string { return strings.Fields(s) }
	mean := 0.0
	for _, c := range chunks {
		mean += float64(len(words(c))) / float64(len(chunks))
	}
	scores := map[string]float64{}
	for _, q := range words(query) {
		n := 0.0
		for _, c := range chunks {
			if slices.Contains(words(c), q) {
				n++
			}
		}
		for _, c := range chunks {
			tf := 0.0
			for _, w := range words(c) {
				if w == q {
					tf++
				}
			}
			if tf > 0 {
				scores[c] += math.Log(1+(float64(len(chunks))-n+0.5)/(n+0.5)) * tf / (tf + 1.2*(1-0.75+0.75*float64(len(words(c)))/mean))
			}
		}
	}
	return scores
}

func TestLexicalIsBM25(t *testing.T) {
	t.Parallel()
	s, c := setup(t)
	r := rand.New(rand.NewPCG(7, 7))
	vocabulary := []string{"zug", "brot", "haus", "baum", "wald", "berg", "turm", "pfad", "kork", "glut"} // words that no stemmer changes
	var all []string
	for d := range 12 {
		var lines []string
		for range 1 + r.IntN(20) {
			var w []string
			for range 1 + r.IntN(15) {
				w = append(w, vocabulary[min(r.IntN(10), r.IntN(10))])
			}
			lines = append(lines, strings.Join(w, " ")+fmt.Sprintf(" %d", 100+len(all)+len(lines)))
		}
		all = append(all, lines...)
		doc := newDocument(c, fmt.Sprint(d), strings.Join(lines, "\n"))
		doc.Title, doc.Language = "", "de"
		put, _, err := s.PutDocument(t.Context(), doc, noQueue)
		if err != nil {
			t.Fatal(err)
		}
		chunks := chunksOf(strings.Join(lines, "\n"))
		if err := s.Complete(t.Context(), store.Completion{DocumentID: put.ID, Revision: 1, Text: strings.Join(lines, "\n"), Chunks: chunks, Total: len(chunks)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, query := range []string{"zug", "brot haus", "zug zug zug wald", "glut kork pfad berg"} {
		want := bm25(all, query)
		ps, err := s.Search(t.Context(), store.SearchQuery{Collection: fresh(t, s), Mode: store.Lexical, Text: query, Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		if len(ps) != len(want) {
			t.Errorf("%q: %d hits, want %d", query, len(ps), len(want))
		}
		for _, p := range ps {
			if math.Abs(p.Lexical.Score-want[p.Text]) > 1e-6 {
				t.Errorf("%q: score of %q = %v, want %v", query, p.Text, p.Lexical.Score, want[p.Text])
			}
		}
	}
}

func TestIdentifiersAreFoundWholeAndInParts(t *testing.T) {
	t.Parallel()
	s, c := setup(t)
	load(t, s, c, "a.txt", "the view pg_stat_activity shows sessions\ncall parseHTMLTree first\nerror ERR_4031 was raised\nPostgreSQL stores it\n全文検索の説明\nnaïve façade\nplain words only")
	for query, want := range map[string]string{
		"pg_stat_activity": "the view pg_stat_activity shows sessions", "activity": "the view pg_stat_activity shows sessions",
		"html tree": "call parseHTMLTree first", "parsehtmltree": "call parseHTMLTree first", "ERR_4031": "error ERR_4031 was raised",
		"4031": "error ERR_4031 was raised", "postgresql": "PostgreSQL stores it", "検索": "全文検索の説明", "naive facade": "naïve façade", "word": "plain words only",
	} {
		ps, err := s.Search(t.Context(), store.SearchQuery{Collection: c, Mode: store.Lexical, Text: query, Limit: 1})
		if err != nil || len(ps) != 1 || ps[0].Text != want {
			t.Errorf("Search(%q) = %q, %v, want %q", query, texts(ps), err, want)
		}
	}
}

func TestQuestionsOfAnySizeAreSearched(t *testing.T) {
	t.Parallel()
	s, c := setup(t)
	load(t, s, c, "a.txt", "alpha")
	for _, q := range []string{"", " ", "\x00", "%_\\", strings.Repeat("a ", 1<<20), strings.Repeat("ab", 1<<20), "alpha & !beta | (", "\xff\xfe", "👩‍👩‍👧"} {
		if _, err := s.Search(t.Context(), store.SearchQuery{Collection: c, Text: q, Vector: vectorOf("x")}); err != nil {
			t.Errorf("Search(%.20q…) = %v", q, err)
		}
	}
}

func TestLimitIsMinOfKAndMatches(t *testing.T) {
	t.Parallel()
	s, c := setup(t)
	var lines []string
	for i := range 120 {
		lines = append(lines, fmt.Sprintf("alpha line %d", i))
	}
	load(t, s, c, "a.txt", strings.Join(lines, "\n"))
	c = fresh(t, s)
	for _, k := range []int{1, 40, 41, 100, 120, 1000} {
		for _, mode := range []store.Mode{store.Vector, store.Lexical, store.Hybrid} {
			ps, err := s.Search(t.Context(), store.SearchQuery{Collection: c, Mode: mode, Text: "alpha", Vector: vectorOf("q"), Limit: k})
			if err != nil || len(ps) != min(k, 120) {
				t.Errorf("%s, k = %d: %d rows, %v, want %d", mode, k, len(ps), err, min(k, 120))
			}
		}
	}
}
