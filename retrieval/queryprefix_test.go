package retrieval_test

import (
	"encoding/json"
	"log/slog"
	"testing"

	"github.com/footnote-rag/footnote/retrieval"
	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/store/storetest"
	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

// What is put before a question, and how it is pooled, is the embedding model's, unless the config says otherwise.
func TestQueryPrefix(t *testing.T) {
	t.Parallel()
	const bge = "Represent this sentence for searching relevant passages: " // from the model card of BAAI/bge-base-en-v1.5
	const minilm = "@local/all-minilm-l6-v2"
	db := storetest.Open(t)
	for name, c := range map[string]struct{ model, set, prefix, pooling string }{
		"bge base":           {embedModel, "", bge, "cls"},
		"bge small":          {"@cf/baai/bge-small-en-v1.5", "", bge, "cls"},
		"bge large":          {"@cf/baai/bge-large-en-v1.5", "", bge, "cls"},
		"bge without prefix": {embedModel, retrieval.NoPrefix, "", "cls"},
		"bge, another":       {embedModel, "query: ", "query: ", "cls"},
		"bge-m3":             {"@cf/baai/bge-m3", "", "", ""},
		"MiniLM":             {minilm, "", "", "mean"},
		"MiniLM, with one":   {minilm, "query: ", "query: ", "mean"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			models := workersaitest.New(t, workersaitest.Dims(dims))
			s, err := retrieval.New(retrieval.Config{Store: db, EmbedModel: c.model, QueryPrefix: c.set, Logger: slog.New(slog.DiscardHandler),
				Models: models.Client(t, func(c *workersai.Config) { c.MaxRetries = -1 })})
			if err != nil {
				t.Fatal(err)
			}
			space := store.Space{Model: c.model, Pooling: c.pooling, Dimensions: dims}
			if _, _, err := db.EnsureCollection(t.Context(), name, space, store.Chunking{MaxTokens: 256}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Search(t.Context(), retrieval.SearchRequest{Collection: name, Query: ferryQuestion}); err != nil {
				t.Fatal(err)
			}
			sent := models.Requests()
			if len(sent) != 1 {
				t.Fatalf("%d requests for one question", len(sent))
			}
			var in workersai.EmbeddingInput
			if err := json.Unmarshal(sent[0].Body, &in); err != nil {
				t.Fatal(err)
			}
			if len(in.Text) != 1 || in.Text[0] != c.prefix+ferryQuestion || in.Pooling != c.pooling {
				t.Errorf("embedded %q with pooling %q, want %q with %q", in.Text, in.Pooling, c.prefix+ferryQuestion, c.pooling)
			}
		})
	}
}
