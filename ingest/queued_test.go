package ingest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/footnote-rag/footnote/ingest"
	"github.com/footnote-rag/footnote/modelhost"
	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

// queueHost is a model host over an engine that answers when it may; batches counts what was queued.
func queueHost(t *testing.T, open <-chan struct{}, batches *atomic.Int32) *workersai.Client {
	t.Helper()
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct{ Input []string }
		_ = json.NewDecoder(r.Body).Decode(&in) // the host writes JSON
		if len(in.Input) > 1 {                  // one text asks for the dimensions
			select {
			case <-open:
			case <-r.Context().Done():
				return
			}
		}
		rows := make([]any, len(in.Input))
		for i, text := range in.Input {
			rows[i] = map[string]any{"index": i, "embedding": workersaitest.Vector(text, 384)}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"data": rows, "usage": map[string]any{"prompt_tokens": len(rows)}})
	}))
	t.Cleanup(engine.Close)
	h, err := modelhost.New(modelhost.Config{Logger: slog.New(slog.DiscardHandler), Catalogue: modelhost.Catalogue{Models: []modelhost.Model{
		{Name: "@cf/baai/bge-base-en-v1.5", Task: modelhost.TaskEmbeddings, Backends: []modelhost.Backend{{URL: engine.URL}}}}}})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("queueRequest") == "true" && r.ContentLength > 500 { // the batch itself, not a question about it
			batches.Add(1)
		}
		h.Handler().ServeHTTP(w, r)
	}))
	t.Cleanup(func() { srv.Close(); h.Close() })
	c, err := workersai.New(workersai.Config{BaseURL: srv.URL + "/client/v4", Token: "any", MaxRetries: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// TestQueuedEmbeddingSurvivesAStop: a service that ends while its batch waits at the host loses nothing: the next one
// queues the texts again, and no chunk is missing.
func TestQueuedEmbeddingSurvivesAStop(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	open := make(chan struct{})
	var batches atomic.Int32
	client := queueHost(t, open, &batches)
	queued := func(c *ingest.Config) { c.Models, c.EmbedQueued = client, true }
	first := w.service(t, queued)
	var long strings.Builder
	for i := range 40 {
		fmt.Fprintf(&long, "# Part %d\n\n%s\n\n", i, strings.Repeat(fmt.Sprintf("Sentence %d of many words that fill a chunk. ", i), 40))
	}
	d := text("long", long.String())
	d.MediaType = "text/markdown"
	doc := put(t, first, d, store.Created)
	begin(t, first)
	eventually(t, "a batch is queued", func() bool { return batches.Load() > 0 })
	hurry, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond) // no time to wait for the batch
	defer cancel()
	if err := first.Stop(hurry); err != nil {
		t.Errorf("Stop: %v", err)
	}
	before := batches.Load()
	second := w.start(t, queued)
	eventually(t, "the texts are queued again", func() bool { return batches.Load() > before })
	close(open)
	got := wait(t, second, doc.ID, store.StatusCompleted)
	chunks, err := w.store.Chunks(t.Context(), doc.ID)
	if err != nil || len(chunks) != got.Chunks || len(chunks) < 40 {
		t.Fatalf("%d chunks of %d, %v", len(chunks), got.Chunks, err)
	}
	for i, c := range chunks {
		if c.Ordinal != i {
			t.Errorf("chunk %d has ordinal %d", i, c.Ordinal)
		}
	}
}
