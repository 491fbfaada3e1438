package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"hash/fnv"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"go.uber.org/goleak"

	"github.com/footnote-rag/footnote/api"
	"github.com/footnote-rag/footnote/ingest"
	"github.com/footnote-rag/footnote/retrieval"
	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/store/storetest"
	"github.com/footnote-rag/footnote/web"
	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

// Where storetest starts the shared private Postgres, its two watchers live as long as the test process.
func TestMain(m *testing.M) {
	const postgres = "github.com/footnote-rag/footnote/embedded.(*Postgres)."
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(postgres+"launch.func1"), goleak.IgnoreAnyFunction(postgres+"watch.func1"))
}

// world is a whole service on real HTTP and Postgres, with scripted models.
type world struct {
	*testing.T
	url     string
	models  *workersaitest.Server
	store   *store.Store
	api     *api.Server
	cfg     api.Config
	server  *http.Server
	log     *logBuffer
	client  *http.Client
	headers http.Header // sent with every request
}

type option func(*api.Config, *[]workersaitest.Option)

func setup(t *testing.T, opts ...option) *world {
	t.Helper()
	w := &world{T: t, log: &logBuffer{}, headers: http.Header{}}
	logger := slog.New(slog.NewTextHandler(w.log, nil))
	cfg := api.Config{Web: web.Files(), Logger: logger}
	modelOptions := []workersaitest.Option{workersaitest.Embed(bagOfWords)}
	for _, o := range opts {
		o(&cfg, &modelOptions)
	}
	w.store = storetest.Open(t)
	w.models = workersaitest.New(t, modelOptions...)
	client := w.models.Client(t, func(c *workersai.Config) { c.MaxRetries = -1 }) // as the program has it
	in, err := ingest.New(t.Context(), ingest.Config{Store: w.store, Models: client, Logger: logger, MaxBytes: cfg.MaxDocumentBytes})
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, in.Stop) })
	cfg.Store, cfg.Ingest, cfg.Media.Models = w.store, in, client
	if cfg.Retrieval == nil {
		cfg.Retrieval, err = retrieval.New(retrieval.Config{Store: w.store, Models: client, Logger: logger, Threshold: 0.05})
		if err != nil {
			t.Fatal(err)
		}
	}
	w.cfg = cfg
	if w.api, err = api.New(cfg); err != nil {
		t.Fatal(err)
	}
	w.listen()
	return w
}

// another server on the same database.
func (w *world) another() *world {
	w.Helper()
	other := &world{T: w.T, store: w.store, models: w.models, log: w.log, cfg: w.cfg, headers: http.Header{}}
	var err error
	if other.api, err = api.New(w.cfg); err != nil {
		w.Fatal(err)
	}
	other.listen()
	return other
}

func stop(t *testing.T, f func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := f(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
}

func (w *world) listen() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.Fatal(err)
	}
	w.url = "http://" + l.Addr().String()
	w.server = api.NewHTTPServer(w.url, w.api)
	w.client = &http.Client{Transport: &http.Transport{}}
	served := make(chan error, 1)
	go func() { served <- w.server.Serve(l) }()
	w.Cleanup(func() {
		w.client.CloseIdleConnections()
		stop(w.T, func(ctx context.Context) error { return w.api.Shutdown(ctx, w.server) })
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			w.Errorf("Serve = %v", err)
		}
	})
}

// bagOfWords makes texts near that share words, as a real model does.
func bagOfWords(text string, dims int) []float32 {
	v := make([]float32, dims)
	v[0] = 0.1 // no text is zero
	for word := range strings.FieldsFuncSeq(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		h := fnv.New32a()
		_, _ = h.Write([]byte(word))
		v[h.Sum32()%uint32(dims)]++
	}
	return v
}

// logBuffer collects the log of concurrent writers.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// reply is a response read whole.
type reply struct {
	*http.Response
	body []byte
}

func (w *world) send(method, path, contentType string, body io.Reader) reply {
	w.Helper()
	r, err := http.NewRequestWithContext(w.Context(), method, w.url+path, body)
	if err != nil {
		w.Fatal(err)
	}
	for k, v := range w.headers {
		r.Header[k] = v
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	resp, err := w.client.Do(r)
	if err != nil {
		w.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Fatalf("%s %s: read: %v", method, path, err)
	}
	return reply{resp, b}
}

func (w *world) get(path string) reply { w.Helper(); return w.send("GET", path, "", nil) }

func (w *world) post(path, body string) reply {
	w.Helper()
	return w.send("POST", path, "application/json", strings.NewReader(body))
}

// into checks the status and decodes the body.
func (w *world) into(r reply, status int, v any) {
	w.Helper()
	if r.StatusCode != status {
		w.Fatalf("%s %s: status %d, want %d: %s", r.Request.Method, r.Request.URL, r.StatusCode, status, r.body)
	}
	if v == nil {
		return
	}
	if err := json.Unmarshal(r.body, v); err != nil {
		w.Fatalf("%s %s: %v in %s", r.Request.Method, r.Request.URL, err, r.body)
	}
}

type errorReply struct {
	Error struct {
		Code         string `json:"code"`
		Message      string `json:"message"`
		RequestID    string `json:"request_id"`
		UpstreamCode int    `json:"upstream_code"`
	} `json:"error"`
}

// refused checks that a reply is the error with this status and code, with a message and the request's id.
func (w *world) refused(r reply, status int, code string) errorReply {
	w.Helper()
	var e errorReply
	w.into(r, status, &e)
	if e.Error.Code != code {
		w.Errorf("%s %s: code %q, want %q (%s)", r.Request.Method, r.Request.URL, e.Error.Code, code, e.Error.Message)
	}
	if e.Error.Message == "" || e.Error.RequestID == "" || e.Error.RequestID != r.Header.Get("X-Request-Id") {
		w.Errorf("%s %s: incomplete error %s, X-Request-Id %q", r.Request.Method, r.Request.URL, r.body, r.Header.Get("X-Request-Id"))
	}
	return e
}

type putReply struct {
	ID, Collection, URI, Status, Outcome string
	Line                                 int
	Error                                *struct{ Code, Message string }
}

// add puts a document and waits until it is searchable.
func (w *world) add(uri, text string) putReply {
	w.Helper()
	body, _ := json.Marshal(map[string]any{"uri": uri, "text": text, "title": "Title of " + uri, "media_type": "text/markdown"})
	var p putReply
	w.into(w.post("/v1/documents?wait=60s", string(body)), 200, &p)
	if p.Status != "completed" {
		w.Fatalf("document %s ended %+v %+v", uri, p, p.Error)
	}
	return p
}

const handbook = `# Travel

## Visa

A visa for Japan takes five working days. The consulate asks for two photographs — naïve façade 😀 and a letter.

## Refunds

Expenses are refunded within thirty days after the receipt arrives. Receipts are kept for seven years.
`
