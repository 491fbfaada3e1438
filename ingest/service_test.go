package ingest_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/footnote-rag/footnote/ingest"
	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/store/storetest"
	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

const (
	// soon is how long a test waits for what takes milliseconds on an idle machine.
	soon = time.Minute
)

// world is a database, a model server and the services that a test starts on them.
type world struct {
	store  *store.Store
	models *workersaitest.Server
}

func newWorld(t *testing.T, opts ...workersaitest.Option) world {
	t.Helper()
	return world{store: storetest.Open(t), models: workersaitest.New(t, opts...)}
}

// service makes a service that is not started; the test's end stops it.
func (w world) service(t *testing.T, mend ...func(*ingest.Config)) *ingest.Service {
	t.Helper()
	cfg := ingest.Config{
		Store:  w.store,
		Models: w.models.Client(t, func(c *workersai.Config) { c.MaxRetries = -1 }),
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	for _, f := range mend {
		f(&cfg)
	}
	s, err := ingest.New(t.Context(), cfg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	s.ShortenPauses(10 * time.Millisecond)
	t.Cleanup(func() { stop(t, s) })
	return s
}

// start makes a service that works.
func (w world) start(t *testing.T, mend ...func(*ingest.Config)) *ingest.Service {
	t.Helper()
	s := w.service(t, mend...)
	begin(t, s)
	return s
}

func begin(t *testing.T, s *ingest.Service) {
	t.Helper()
	if err := s.Start(t.Context()); err != nil {
		t.Fatalf("Start: %v", err)
	}
}

func stop(t *testing.T, s *ingest.Service) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Errorf("Stop: %v", err)
	}
}

// put puts a document and wants an outcome.
func put(t *testing.T, s *ingest.Service, d ingest.Document, want store.PutOutcome) store.Document {
	t.Helper()
	got, outcome, err := s.Put(t.Context(), d)
	if err != nil || outcome != want {
		t.Fatalf("Put(%q) = %v, %v, want %v", d.URI, outcome, err, want)
	}
	return got
}

// wait waits for a document's end and wants a status.
func wait(t *testing.T, s *ingest.Service, id string, want store.Status) store.Document {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	d, err := s.Wait(ctx, id)
	if err != nil || d.Status != want {
		st, _ := s.Stats(t.Context())
		t.Fatalf("Wait(%s) = %s %s %q, %v, want %s; %+v", d.URI, d.Status, d.ErrorCode, d.ErrorText, err, want, st)
	}
	return d
}

// text is a one-chunk document.
func text(uri, content string) ingest.Document {
	return ingest.Document{URI: uri, MediaType: "text/plain", Source: []byte(content)}
}

// long is a text whose words are all its own, of about n chunks.
func long(name string, n int) string {
	var b strings.Builder
	for i := range n * 20 {
		fmt.Fprintf(&b, "Paragraph %d of %s tells of thing %d and of its neighbour.\n\n", i, name, i*7)
	}
	return b.String()
}

// checkWhole wants the document's visible chunks, and the vector of each, to be those of its source.
func (w world) checkWhole(t *testing.T, d ingest.Document, got store.Document) []store.Chunk {
	t.Helper()
	e, err := ingest.Extract(got.MediaType, d.Source)
	if err != nil {
		t.Fatal(err)
	}
	c, err := w.store.Collection(t.Context(), got.Collection)
	if err != nil {
		t.Fatal(err)
	}
	want := ingest.Chunk(e, c.Chunking)
	have, err := w.store.Chunks(t.Context(), got.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, have, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(store.Chunk{}, "Context")); diff != "" {
		t.Errorf("chunks of %s (-want +got):\n%s", got.URI, diff)
	}
	for _, ch := range want {
		v := workersaitest.Vector(ingest.EmbedText(ch), c.Space.Dimensions)
		ps, err := w.store.Search(t.Context(), store.SearchQuery{Collection: c, Vector: v, Mode: store.Vector, Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(ps, func(p store.Passage) bool { return p.DocumentID == got.ID && p.Ordinal == ch.Ordinal })
		if i < 0 || math.Abs(ps[i].Vector.Score-1) > 0.001 {
			t.Errorf("chunk %d of %s is not found by its vector: %d passages, place %d", ch.Ordinal, got.URI, len(ps), i)
		}
	}
	return want
}

func TestPutStoresChunksWithTheirVectors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.start(t)
	d := ingest.Document{URI: "notes/tower.md", MediaType: "text/markdown", Metadata: json.RawMessage(`{"team":"x"}`),
		Source: []byte("# The tower\n\nIt leans.\n\n## Why\n\n" + long("soil", 5))}
	first := put(t, s, d, store.Created)
	if first.Status != store.StatusQueued {
		t.Errorf("Put says %s, want queued", first.Status)
	}
	done := wait(t, s, first.ID, store.StatusCompleted)
	if chunks := w.checkWhole(t, d, done); len(chunks) < 5 || done.Chunks != len(chunks) {
		t.Errorf("%d chunks, the document says %d, want at least 5", len(chunks), done.Chunks)
	}
	if done.Title != "The tower" || string(done.Metadata) != `{"team": "x"}` && string(done.Metadata) != `{"team":"x"}` {
		t.Errorf("title %q, metadata %s", done.Title, done.Metadata)
	}
	storetest.Invariants(t, w.store)
}

func TestPutAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.start(t)
	d := text("a", "The sea is blue.")
	id := put(t, s, d, store.Created).ID
	wait(t, s, id, store.StatusCompleted)
	calls := w.models.Calls("")

	put(t, s, d, store.Unchanged)
	wait(t, s, id, store.StatusCompleted)
	if got := w.models.Calls(""); got != calls {
		t.Errorf("an unchanged document made %d model calls, want 0", got-calls)
	}

	d.Metadata = json.RawMessage(`{"team":"y"}`)
	put(t, s, d, store.Changed)
	if got := wait(t, s, id, store.StatusCompleted); !strings.Contains(string(got.Metadata), `"y"`) || got.Generation != 2 {
		t.Errorf("after new metadata: %s, generation %d, want y, 2", got.Metadata, got.Generation)
	}

	d.Source = []byte("The sea is green.")
	if again := put(t, s, d, store.Changed); again.ID != id {
		t.Errorf("the replaced document has id %s, want %s", again.ID, id)
	}
	w.checkWhole(t, d, wait(t, s, id, store.StatusCompleted))
	storetest.Invariants(t, w.store)
}

func TestPutRefusesBadInput(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.service(t, func(c *ingest.Config) { c.MaxBytes = 100 })
	good := text("a", "text")
	for name, tt := range map[string]struct {
		change func(*ingest.Document)
		want   error
	}{
		"no uri":               {func(d *ingest.Document) { d.URI = "" }, ingest.ErrInvalidInput},
		"long uri":             {func(d *ingest.Document) { d.URI = strings.Repeat("u", 2049) }, ingest.ErrInvalidInput},
		"NUL in uri":           {func(d *ingest.Document) { d.URI = "a\x00" }, ingest.ErrInvalidInput},
		"uri not UTF-8":        {func(d *ingest.Document) { d.URI = "a\xff" }, ingest.ErrInvalidInput},
		"NUL in title":         {func(d *ingest.Document) { d.Title = "a\x00" }, ingest.ErrInvalidInput},
		"long title":           {func(d *ingest.Document) { d.Title = strings.Repeat("t", 1<<20) }, ingest.ErrInvalidInput},
		"NUL in language":      {func(d *ingest.Document) { d.Language = "e\x00" }, ingest.ErrInvalidInput},
		"slash in collection":  {func(d *ingest.Document) { d.Collection = "a/b" }, ingest.ErrInvalidInput},
		"long collection":      {func(d *ingest.Document) { d.Collection = strings.Repeat("c", 201) }, ingest.ErrInvalidInput},
		"metadata cut":         {func(d *ingest.Document) { d.Metadata = json.RawMessage(`{"a":`) }, ingest.ErrInvalidInput},
		"metadata an array":    {func(d *ingest.Document) { d.Metadata = json.RawMessage(`[]`) }, ingest.ErrInvalidInput},
		"metadata blank":       {func(d *ingest.Document) { d.Metadata = json.RawMessage(`  `) }, ingest.ErrInvalidInput},
		"metadata with NUL":    {func(d *ingest.Document) { d.Metadata = json.RawMessage(`{"a":"\u0000"}`) }, ingest.ErrInvalidInput},
		"metadata half a pair": {func(d *ingest.Document) { d.Metadata = json.RawMessage(`{"a":"\ud800"}`) }, ingest.ErrInvalidInput},
		"metadata not UTF-8":   {func(d *ingest.Document) { d.Metadata = json.RawMessage("{\"a\":\"\xff\"}") }, ingest.ErrInvalidInput},
		"metadata huge number": {func(d *ingest.Document) { d.Metadata = json.RawMessage(`{"a":1e999999}`) }, ingest.ErrInvalidInput},
		"metadata too large":   {func(d *ingest.Document) { d.Metadata = json.RawMessage(`{"a":"` + strings.Repeat("m", 1<<20) + `"}`) }, ingest.ErrInvalidInput},
		"metadata too deep": {func(d *ingest.Document) {
			d.Metadata = json.RawMessage(strings.Repeat(`{"a":`, 9000) + "1" + strings.Repeat("}", 9000))
		}, ingest.ErrInvalidInput},
		"no source":          {func(d *ingest.Document) { d.Source = nil }, ingest.ErrInvalidInput},
		"too large":          {func(d *ingest.Document) { d.Source = []byte(strings.Repeat("s", 101)) }, ingest.ErrTooLarge},
		"a picture":          {func(d *ingest.Document) { d.MediaType = "image/png" }, ingest.ErrMediaType},
		"media type unknown": {func(d *ingest.Document) { d.MediaType = "application/x-nothing" }, ingest.ErrMediaType},
		"media type no type": {func(d *ingest.Document) { d.MediaType = "a b c" }, ingest.ErrMediaType},
	} {
		t.Run(name, func(t *testing.T) {
			d := good
			tt.change(&d)
			if _, _, err := s.Put(t.Context(), d); !errors.Is(err, tt.want) {
				t.Errorf("Put: %v, want %v", err, tt.want)
			}
		})
	}
	if all, _, err := w.store.Documents(t.Context(), store.ListQuery{}); err != nil || len(all) != 0 {
		t.Errorf("refused documents left %d rows (%v)", len(all), err)
	}
	good.Metadata = json.RawMessage(`{"path":"C:\\u0000","n":[1,-2.5e3,{"deep":null}]}`)
	put(t, s, good, store.Created)
}

func TestPlan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.start(t)
	sum := func(s string) []byte { h := sha256.Sum256([]byte(s)); return h[:] }
	sources := map[string][]byte{"same": sum("same text"), "other": sum("new text"), "new": sum("x"), "bad": sum("  ")}
	plan := func() map[string]store.PutOutcome {
		t.Helper()
		got, err := s.Plan(t.Context(), "", sources)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]store.PutOutcome{}
		for uri, p := range got {
			out[uri] = p.Outcome
		}
		return out
	}
	if diff := cmp.Diff(map[string]store.PutOutcome{"same": store.Created, "other": store.Created, "new": store.Created, "bad": store.Created}, plan()); diff != "" {
		t.Errorf("Plan without a collection (-want +got):\n%s", diff)
	}
	for uri, content := range map[string]string{"same": "same text", "other": "old text"} {
		wait(t, s, put(t, s, text(uri, content), store.Created).ID, store.StatusCompleted)
	}
	if got := wait(t, s, put(t, s, text("bad", "  "), store.Created).ID, store.StatusError); got.ErrorCode != ingest.CodeEmptyDocument {
		t.Errorf("a blank document: %s %q, want %s", got.ErrorCode, got.ErrorText, ingest.CodeEmptyDocument)
	}
	want := map[string]store.PutOutcome{"same": store.Unchanged, "other": store.Changed, "new": store.Created, "bad": store.Changed}
	if diff := cmp.Diff(want, plan()); diff != "" {
		t.Errorf("Plan (-want +got):\n%s", diff)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.service(t) // not started: nothing will happen
	id := put(t, s, text("a", "text"), store.Created).ID
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if d, err := s.Wait(ctx, id); err != nil || d.Status != store.StatusQueued {
		t.Errorf("Wait = %s, %v, want queued", d.Status, err)
	}
	if _, err := s.Wait(t.Context(), "0190a8f4-0000-7000-8000-000000000000"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Wait for nothing: %v, want not found", err)
	}
	begin(t, s)
	wait(t, s, id, store.StatusCompleted)
}

func TestDocumentsShareRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.service(t, func(c *ingest.Config) { c.Concurrency, c.Workers = 1, 30 })
	var ids []string
	var docs []ingest.Document
	for i := range 30 {
		d := text(fmt.Sprint(i), fmt.Sprintf("Fact number %d is that %d is %d.", i, i, i))
		docs, ids = append(docs, d), append(ids, put(t, s, d, store.Created).ID)
	}
	asked := w.models.Calls("") // for the dimensions
	release := make(chan struct{})
	w.models.Script(workersaitest.Hold(release))
	begin(t, s)
	w.models.WaitCalls(t, asked+1)
	sent := len(w.models.Requests()[asked].Texts)
	eventually(t, "the texts of all documents wait", func() bool { return sent+s.Pending() == 30 })
	close(release)
	for i, id := range ids {
		w.checkWhole(t, docs[i], wait(t, s, id, store.StatusCompleted))
	}
	if n := w.models.Calls("") - asked; n > 5 {
		t.Errorf("30 documents of one chunk took %d calls, want at most 5", n)
	}
	for _, r := range w.models.Requests() {
		if len(r.Texts) > workersai.MaxEmbedTexts {
			t.Errorf("a request has %d texts", len(r.Texts))
		}
	}
	storetest.Invariants(t, w.store)
}

// eventually returns when the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(soon); !holds(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", soon, what)
		}
	}
}

// expired is a context whose time is up: Stop with it gives jobs back at once.
func expired(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
