package retrieval_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/footnote-rag/footnote/retrieval"
	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/store/storetest"
	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

// putChunks completes a document of these chunks, a line each.
func putChunks(t *testing.T, db *store.Store, c store.Collection, uri, metadata string, chunks ...store.Chunk) {
	t.Helper()
	var lines []string
	at := 0
	for i := range chunks {
		ch := &chunks[i]
		ch.Ordinal, ch.Start, ch.End, ch.Tokens, ch.Embedding = i, at, at+len(ch.Text), 10, bagOfWords(ch.Text, dims)
		at = ch.End + 1
		lines = append(lines, ch.Text)
	}
	text := strings.Join(lines, "\n")
	sum := sha256.Sum256([]byte(text))
	d, _, err := db.PutDocument(t.Context(), store.NewDocument{Collection: c, URI: uri, MediaType: "text/plain", Metadata: json.RawMessage(metadata), Source: []byte(text), SHA256: sum[:]},
		func(context.Context, pgx.Tx, store.Document) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Complete(t.Context(), store.Completion{DocumentID: d.ID, Revision: d.Revision, Text: text, Chunks: chunks, Total: len(chunks)}); err != nil {
		t.Fatal(err)
	}
}

// shelf is a collection of one-chunk documents with metadata, and one of two sections.
func shelf(t *testing.T, options ...workersaitest.Option) *retrieval.Service {
	t.Helper()
	db := storetest.Open(t)
	models := workersaitest.New(t, append([]workersaitest.Option{workersaitest.Dims(dims), workersaitest.Embed(bagOfWords)}, options...)...)
	c, _, err := db.EnsureCollection(t.Context(), "default", store.Space{Model: embedModel, Pooling: "cls", Dimensions: dims}, store.Chunking{})
	if err != nil {
		t.Fatal(err)
	}
	put := func(uri, metadata string, chunks ...store.Chunk) { putChunks(t, db, c, uri, metadata, chunks...) }
	put("old", `{"date":"2001-05-01","kind":"guide","tags":["x","y"]}`, store.Chunk{Text: "Ferry tickets cost twelve euros in the harbour office."})
	put("new", `{"date":"2999-05-01","kind":"note"}`, store.Chunk{Text: "Ferry tickets cost twelve euros in the harbour shop."})
	put("other", `{}`, store.Chunk{Text: "Ferry tickets are checked by dogs wearing yellow jackets."})
	put("long", `{}`, store.Chunk{Heading: []string{"Bread"}, Text: "Flour comes first."}, store.Chunk{Heading: []string{"Bread"}, Text: "Sourdough rises slowly."},
		store.Chunk{Heading: []string{"Bread"}, Text: "Bake it hot."}, store.Chunk{Heading: []string{"Cake"}, Text: "Sugar comes first."})
	s, err := retrieval.New(retrieval.Config{Store: db, Models: models.Client(t, func(c *workersai.Config) { c.MaxRetries = -1 }), QueryPrefix: retrieval.NoPrefix, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func find(t *testing.T, s *retrieval.Service, query string, limit int, r retrieval.Ranking) retrieval.SearchResult {
	t.Helper()
	got, err := s.Search(t.Context(), retrieval.SearchRequest{Query: query, Limit: limit, Ranking: r})
	if err != nil {
		t.Fatalf("Search(%+v): %v", r, err)
	}
	return got
}

func uris(r retrieval.SearchResult) (uris []string) {
	for _, p := range r.Passages {
		uris = append(uris, p.URI)
	}
	return uris
}

func TestBoostsReorder(t *testing.T) {
	t.Parallel()
	s := shelf(t)
	const query = "ferry tickets twelve euros harbour"
	recency := &retrieval.Recency{Field: "date", HalfLife: 30 * 24 * time.Hour}
	for name, tt := range map[string]struct {
		boost retrieval.Boost
		first string
	}{
		"recency":         {retrieval.Boost{Recency: recency}, "new"},
		"field":           {retrieval.Boost{Fields: map[string]map[string]float64{"kind": {"guide": 3}}}, "old"},
		"other value":     {retrieval.Boost{Fields: map[string]map[string]float64{"kind": {"note": 3}}}, "new"},
		"array's element": {retrieval.Boost{Fields: map[string]map[string]float64{"tags": {"y": 3}}}, "old"},
		"both":            {retrieval.Boost{Recency: recency, Fields: map[string]map[string]float64{"kind": {"guide": 9}}}, "old"},
	} {
		got := find(t, s, query, 3, retrieval.Ranking{Boost: tt.boost})
		if got.Passages[0].URI != tt.first || got.Passages[0].Boost == nil {
			t.Errorf("%s: first of %v is not %s, or is not explained", name, uris(got), tt.first)
		}
	}
}

func TestRerankerOrders(t *testing.T) {
	t.Parallel()
	dogs := func(_, text string) float64 { return float64(strings.Count(text, "dogs")) }
	s := shelf(t, workersaitest.Rank(dogs))
	rerank := retrieval.Ranking{Rerank: retrieval.Rerank{Model: "@cf/baai/bge-reranker-base"}}
	got := find(t, s, "ferry tickets twelve euros", 2, rerank)
	if !got.Reranked || got.Passages[0].URI != "other" || got.Passages[0].Rerank == nil || got.Passages[0].Rerank.Rank != 1 {
		t.Errorf("reranked %v: %v", got.Reranked, uris(got))
	}
	plain := find(t, s, "ferry tickets twelve euros", 2, retrieval.Ranking{})
	absent := find(t, s, "ferry tickets twelve euros", 2, retrieval.Ranking{Rerank: retrieval.Rerank{Model: "@cf/nobody/nothing"}})
	if absent.Reranked || !slices.Equal(uris(absent), uris(plain)) {
		t.Errorf("without a reranker: %v, want %v", uris(absent), uris(plain))
	}
}

func TestChatModelOrders(t *testing.T) {
	t.Parallel()
	reply := `{"order": [0, 99, 3, 3, 1]}`
	var prompts []workersai.TextInput
	s := shelf(t, workersaitest.ChatOutput(func(in workersai.TextInput) workersai.TextOutput {
		prompts = append(prompts, in)
		return workersaitest.Text(reply)
	}))
	rerank := retrieval.Ranking{Rerank: retrieval.Rerank{Model: retrieval.RerankByChat, Candidates: 4}}
	const query = "ferry tickets twelve euros"
	plain := uris(find(t, s, query, 6, retrieval.Ranking{}))
	got := find(t, s, query, 6, rerank)
	if want := []string{plain[2], plain[0], plain[1], plain[3], plain[4], plain[5]}; !got.Reranked || !slices.Equal(uris(got), want) {
		t.Errorf("reranked %v: %v, want %v", got.Reranked, uris(got), want)
	}
	for i, p := range got.Passages {
		if p.Score < 0 || p.Score > 1 || i > 0 && p.Score > got.Passages[i-1].Score || (p.Rerank != nil) != (i < 4) {
			t.Errorf("passage %d: score %v, rerank %v", i, p.Score, p.Rerank)
		}
	}
	if len(prompts) != 1 || prompts[0].ResponseFormat == nil || !strings.Contains(string(prompts[0].Messages[1].Content), "4: ") ||
		strings.Contains(string(prompts[0].Messages[1].Content), "5: ") || !strings.Contains(string(prompts[0].Messages[1].Content), query) {
		t.Errorf("asked %+v", prompts)
	}
	for _, bad := range []string{"I would rather not.", `{"order": []}`, `{"order": [7, -1]}`, `{"order": "1"}`} {
		reply = bad
		if got := find(t, s, query, 6, rerank); got.Reranked || !slices.Equal(uris(got), plain) {
			t.Errorf("after the reply %s: reranked %v: %v, want %v", bad, got.Reranked, uris(got), plain)
		}
	}
}

func TestVarietyTakesTheOtherDocument(t *testing.T) {
	t.Parallel()
	s := shelf(t)
	const query = "ferry tickets cost twelve euros in the harbour"
	alike := uris(find(t, s, query, 2, retrieval.Ranking{}))
	slices.Sort(alike)
	if !slices.Equal(alike, []string{"new", "old"}) {
		t.Fatalf("the two alike are %v", alike)
	}
	varied := find(t, s, query, 2, retrieval.Ranking{MMR: 0.7})
	if !slices.Contains(uris(varied), "other") && !slices.Contains(uris(varied), "long") {
		t.Errorf("with variety: %v, want one of the others", uris(varied))
	}
	if varied.Passages[1].Similarity == nil {
		t.Error("the similarity is not explained")
	}
}

func TestPassagesExpandOverTheirSection(t *testing.T) {
	t.Parallel()
	got := find(t, shelf(t), "sourdough", 1, retrieval.Ranking{Expand: retrieval.ExpandSection})
	if want := "Flour comes first.\nSourdough rises slowly.\nBake it hot."; len(got.Passages) != 1 || got.Passages[0].Text != want || got.Passages[0].Start != 0 || got.Passages[0].End != len(want) {
		t.Errorf("got %+v, want %q", got.Passages, want)
	}
}

func TestFusionsRun(t *testing.T) {
	t.Parallel()
	s := shelf(t)
	for _, method := range []string{store.FusionMax, store.FusionMinMax, store.FusionZScore, store.FusionRRF} {
		got := find(t, s, "ferry tickets twelve euros", 10, retrieval.Ranking{Fusion: store.Fusion{Method: method, VectorWeight: 1, LexicalWeight: 2, Candidates: 20}})
		if len(got.Passages) != 7 || !strings.Contains(got.Passages[0].Fusion, "0.667 lexical") {
			t.Errorf("%s: %d passages, %q", method, len(got.Passages), got.Passages[0].Fusion)
		}
		for i, p := range got.Passages {
			if p.Score < 0 || p.Score > 1 || p.Vector == nil || i > 0 && p.Score > got.Passages[i-1].Score {
				t.Errorf("%s: passage %d has the score %v", method, i, p.Score)
			}
		}
	}
}

func TestWrongRankingIsRefused(t *testing.T) {
	t.Parallel()
	s := shelf(t)
	for name, r := range map[string]retrieval.Ranking{
		"mmr":        {MMR: 1.5},
		"expand":     {Expand: "page"},
		"candidates": {Rerank: retrieval.Rerank{Model: "m", Candidates: 1000}},
		"half-life":  {Boost: retrieval.Boost{Recency: &retrieval.Recency{Field: "date"}}},
		"factor":     {Boost: retrieval.Boost{Fields: map[string]map[string]float64{"a": {"b": -1}}}},
		"method":     {Fusion: store.Fusion{Method: "best"}},
		"weights":    {Fusion: store.Fusion{VectorWeight: -1}},
	} {
		_, err := s.Search(t.Context(), retrieval.SearchRequest{Query: "ferry", Ranking: r})
		if !errors.Is(err, retrieval.ErrInvalidRanking) && !errors.Is(err, store.ErrInvalidFusion) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseHalfLife(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{"30d": 30 * day, "36h": 36 * time.Hour, "2w": 14 * day, "1y": 365 * day, "0.5d": 12 * time.Hour,
		"": 0, "d": 0, "-3d": 0, "soon": 0, "0h": 0, "NaNd": 0, "1e300y": 0} {
		got, err := retrieval.ParseHalfLife(text)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("ParseHalfLife(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
}

func FuzzParseHalfLife(f *testing.F) {
	f.Add("30d")
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := retrieval.ParseHalfLife(s); err == nil && d <= 0 {
			t.Errorf("ParseHalfLife(%q) = %v", s, d)
		}
	})
}

// Chunks of one place are one passage with a window around them; it leaves room for other places.
func TestWindowsLeaveAsManyPassages(t *testing.T) {
	db := storetest.Open(t)
	models := workersaitest.New(t, workersaitest.Dims(dims), workersaitest.Embed(bagOfWords))
	c, _, err := db.EnsureCollection(t.Context(), "default", store.Space{Model: embedModel, Pooling: "cls", Dimensions: dims}, store.Chunking{MaxTokens: 10})
	if err != nil {
		t.Fatal(err)
	}
	var timetable []store.Chunk
	for i := range 9 {
		timetable = append(timetable, store.Chunk{Text: fmt.Sprintf("ferry to the island leaves at %d", 8+i)})
	}
	putChunks(t, db, c, "timetable", "{}", timetable...)
	putChunks(t, db, c, "prices", "{}", store.Chunk{Text: "a ticket for the ferry is sold on board of it, for children also at the school and in the shop by the church"})
	putChunks(t, db, c, "dogs", "{}", store.Chunk{Text: "dogs travel on the ferry with a lead and their owner, cats in a basket, horses in a box and birds in a cage"})
	s, err := retrieval.New(retrieval.Config{Store: db, Models: models.Client(t, func(c *workersai.Config) { c.MaxRetries = -1 }), QueryPrefix: retrieval.NoPrefix, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	window := 90
	got, err := s.Search(t.Context(), retrieval.SearchRequest{Query: "ferry to the island leaves", Limit: 3, Window: &window})
	if err != nil || len(got.Passages) != 3 {
		t.Fatalf("Search for 3 = %q, %v", uris(got), err)
	}
	if p := got.Passages[0]; p.URI != "timetable" || strings.Count(p.Text, "\n") != len(timetable)-1 {
		t.Errorf("the first passage is of %s: %q, want the whole timetable", p.URI, p.Text)
	}
}
