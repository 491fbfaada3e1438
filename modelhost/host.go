package modelhost

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/footnote-rag/footnote/workersai"
)

// Headers of ours.
const (
	HeaderServedBy = "Footnote-Served-By" // the weights' name where a stand-in served
)

// Tokenizer counts tokens exactly as an engine does, special tokens included. It is safe for concurrent use.
type Tokenizer interface{ Count(text string) int }

// Config says what a Host serves. Zero fields mean the defaults named here.
type Config struct {
	Catalogue  Catalogue            // default: DefaultCatalogue
	Engines    map[string]Engine    // by the names the catalogue uses
	Tokenizers map[string]Tokenizer // by engine name; default: the engine counts
	Tokens     []string             // bearer tokens; none: any token, and only from loopback
	Accounts   []string             // account ids; none: any
	Logger     *slog.Logger         // default: slog.Default
	Getenv     func(string) string  // for ${NAME} in the catalogue's keys; default: nothing is looked up

	Limits Limits // requests a minute by task and account; default: none
	// MemoryBudget is how many bytes the engines of this machine may take together. Starting one first stops those that
	// are idle, the one unused longest first, and waits where all are busy. Default: no limit.
	MemoryBudget int64

	Faults Faults           // injected on purpose, for tests of clients; default: none
	Now    func() time.Time // default time.Now

	MaxBody   int64         // bytes of a request; default 64 MiB
	Heartbeat time.Duration // comments in a silent stream; default 10 s
}

const (
	defaultMaxBody   = 64 << 20         // bytes: audio as a JSON array of numbers is about 4 times the file
	defaultHeartbeat = 10 * time.Second // below the idle timeout of common proxies, 30 to 60 s
)

// Host serves the API. It does not change after New and is safe for concurrent use.
type Host struct {
	cfg      Config
	log      *slog.Logger
	schemas  map[string]*taskSchema
	models   map[string]*backend // by name and alias, those that can be served
	known    map[string]Model    // by name and alias, all
	limits   *limiter
	metrics  *metrics
	memory   *memory
	queued   *batchQueue
	tokens   [][sha256.Size]byte
	client   *http.Client
	stopping context.Context
	stop     context.CancelFunc
}

// New checks the configuration and resolves every model to an engine. It starts nothing.
func New(cfg Config) (*Host, error) {
	if len(cfg.Catalogue.Models) == 0 {
		cfg.Catalogue = DefaultCatalogue()
	}
	if err := cfg.Catalogue.validate(); err != nil {
		return nil, fmt.Errorf("modelhost: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = defaultMaxBody
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = defaultHeartbeat
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if err := cfg.Limits.validate(); err != nil {
		return nil, fmt.Errorf("modelhost: %w", err)
	}
	schemas, err := loadSchemas()
	if err != nil {
		return nil, fmt.Errorf("modelhost: %w", err)
	}
	h := &Host{
		cfg: cfg, log: cfg.Logger, schemas: schemas, client: newEngineClient(),
		models: map[string]*backend{}, known: map[string]Model{}, limits: newLimiter(cfg.Limits, cfg.Now), metrics: newMetrics(),
	}
	h.memory = newMemory(cfg.MemoryBudget, h.metrics)
	h.queued = newBatchQueue(h)
	h.stopping, h.stop = context.WithCancel(context.Background())
	for _, t := range cfg.Tokens {
		h.tokens = append(h.tokens, sha256.Sum256([]byte(t)))
	}
	h.resolve()
	return h, nil
}

// resolve gives every model the first of its backends whose engine is there. Models that share an engine share its
// gate and its queue.
func (h *Host) resolve() {
	shared, engines := map[string]*backend{}, map[string]Engine{}
	for name, e := range h.cfg.Engines {
		engines[name] = h.memory.bind(name, e)
	}
	for _, m := range h.cfg.Catalogue.Models {
		b := h.pick(m, engines)
		if b != nil {
			key := b.Engine + "|" + b.URL + "|" + b.Weights + "|" + m.Task
			if first := shared[key]; first != nil {
				b.gate, b.embeds = first.gate, first.embeds
			} else {
				b.gate = newGate(b.Backend.Model, b.InFlight, b.Queue)
				b.embeds = newScheduler(b)
				shared[key] = b
			}
		}
		for _, name := range append([]string{m.Name}, m.Aliases...) {
			h.known[name] = m
			if b != nil {
				h.models[name] = b
			}
		}
	}
}

func (h *Host) pick(m Model, engines map[string]Engine) *backend {
	for _, s := range m.Backends {
		engine := engines[cmp.Or(s.Engine, s.Weights)]
		s = s.withDefaults(m, h.cfg.Getenv)
		if s.URL != "" {
			engine = URLEngine(s.URL, s.Key)
		}
		if engine != nil {
			return &backend{Model: m, Backend: s, engine: watchedEngine{engine, s.Model, h.metrics}, client: h.client, metrics: h.metrics}
		}
	}
	return nil
}

// Close ends running requests and queued batches, and lets go of connections. Engines stay: who made them stops them.
func (h *Host) Close() {
	h.stop()
	h.queued.close()
	h.client.CloseIdleConnections()
}

// Handler serves /client/v4/accounts/{account_id}/ai/… and BindingPath.
func (h *Host) Handler() http.Handler { return h.injectFaults(http.HandlerFunc(h.serve)) }

// call is one request on its way through the host.
type call struct {
	id      string
	path    string // below /ai/, slashes unescaped
	account string
	model   string   // the catalogue's name, once known
	bare    bool     // the binding's: a result without envelope, and its own error shape
	failed  *failure // also one that a stream has told already

	streamed map[string]json.RawMessage // inputs beside a body that is the stream, from the binding
	w        http.ResponseWriter
	r        *http.Request
}

func (h *Host) serve(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(h.stopping, cancel)()
	cold := &coldWriter{ResponseWriter: w}
	w = cold
	ctx = context.WithValue(ctx, coldKey{}, cold.note)
	c := &call{id: uuid.NewString(), w: w, r: r.WithContext(ctx)}
	began := time.Now()
	defer func() { h.metrics.finished(c.model, time.Since(began), c.failed) }()
	err := h.route(c)
	if err == nil {
		return
	}
	f := asFailure(err)
	c.failed = f
	h.logFailure(c, f)
	if f.status != statusClientGone {
		switch {
		case c.bare:
			writeBindingFailure(w, f)
		case strings.HasPrefix(c.path, "v1/"):
			writeOpenAIFailure(w, f, c.id)
		default:
			writeFailure(w, f, c.id)
		}
	}
}

func (h *Host) logFailure(c *call, f *failure) {
	level := slog.LevelDebug
	if f.status >= http.StatusInternalServerError {
		level = slog.LevelWarn
	}
	h.log.Log(c.r.Context(), level, "model request failed", "request_id", c.id, "path", c.path, "status", f.status, "code", f.code, "error", f.Error())
}

// route authenticates and calls the endpoint.
func (h *Host) route(c *call) error {
	if c.r.URL.Path == BindingPath {
		return h.binding(c)
	}
	rest, ok := strings.CutPrefix(c.r.URL.Path, "/client/v4/accounts/")
	account, path, found := strings.Cut(rest, "/ai/")
	if !ok || !found || account == "" || strings.Contains(account, "/") {
		return noRoute()
	}
	c.path, c.account = path, account
	if err := h.authenticate(c.r); err != nil {
		return err
	}
	if err := h.checkAccount(c); err != nil {
		return err
	}
	if model, ok := strings.CutPrefix(path, "run/"); ok && model != "" {
		return h.run(c, model)
	}
	for _, e := range h.endpoints() {
		if e.path == path {
			if e.method != c.r.Method {
				return wrongMethod(c.r.Method)
			}
			return e.serve(c)
		}
	}
	return noRoute()
}

// endpoint is a route below /ai/ other than run.
type endpoint struct {
	method, path string
	serve        func(*call) error
}

func (h *Host) endpoints() []endpoint {
	return []endpoint{
		{http.MethodPost, "v1/chat/completions", h.openAIChat},
		{http.MethodPost, "v1/embeddings", h.openAIEmbeddings},
		{http.MethodGet, "v1/models", h.openAIModels},
		{http.MethodGet, "models/search", h.searchModels},
		{http.MethodGet, "models/schema", h.modelSchema},
		{http.MethodPost, "tomarkdown", h.toMarkdown},
		{http.MethodGet, "tomarkdown/supported", h.markdownFormats},
	}
}

// authenticate checks the bearer token. Without configured tokens any will do, from this machine.
func (h *Host) authenticate(r *http.Request) error {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if token = strings.TrimSpace(token); !strings.EqualFold(scheme, "Bearer") || token == "" {
		return unauthorized("Authentication error: send the header Authorization: Bearer <token>")
	}
	return h.checkToken(r, token, "the token is not one of this model host's")
}

// checkToken compares with the configured tokens; remedy is for who has none of them. Without tokens, requests from this
// machine that name it locally are served: a web page cannot reach the host by a name of its own.
func (h *Host) checkToken(r *http.Request, token, remedy string) error {
	if len(h.tokens) == 0 {
		if !fromLoopback(r) || !localName(r.Host) {
			return unauthorized("Authentication error: this model host has no tokens configured and serves its own machine only")
		}
		return nil
	}
	sum, match := sha256.Sum256([]byte(token)), 0
	for _, t := range h.tokens {
		match |= subtle.ConstantTimeCompare(sum[:], t[:])
	}
	if match == 0 {
		return unauthorized("Authentication error: " + remedy)
	}
	return nil
}

// localName tells whether the request was sent to localhost or an address, not to a name that anybody can define.
func localName(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || net.ParseIP(host) != nil
}

func fromLoopback(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	ip := net.ParseIP(host)
	return err == nil && ip != nil && ip.IsLoopback()
}

// run serves POST /ai/run/{model}.
func (h *Host) run(c *call, model string) error {
	if c.r.Method != http.MethodPost {
		return wrongMethod(c.r.Method)
	}
	b, err := h.find(model)
	if err != nil {
		return err
	}
	h.announce(c, b)
	if err := h.limits.take(c.account, b.Task); err != nil {
		return err
	}
	body, err := h.readBody(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), b.Timeout)
	defer cancel()
	c.r = c.r.WithContext(ctx)
	if c.r.URL.Query().Get("queueRequest") == "true" {
		return h.queued.serve(c, b, body)
	}
	return h.runTask(c, b, model, body)
}

// runTask answers a request whose model and body are known.
func (h *Host) runTask(c *call, b *backend, model string, body []byte) error {
	switch b.Task {
	case TaskEmbeddings:
		return h.embed(c, b, body)
	case TaskTextGeneration:
		return h.generate(c, b, body)
	case TaskReranking:
		return h.rerank(c, b, body)
	case TaskTranslation:
		return h.translate(c, b, body)
	case TaskSpeech:
		return h.transcribe(c, b, body)
	case TaskImage:
		return h.draw(c, b, body)
	}
	return unknownModel(model, taskNames[b.Task]+" is not served by this version of the model host")
}

// find resolves a name, or says whether it is the name or the weights that are missing.
func (h *Host) find(model string) (*backend, error) {
	model = strings.TrimSuffix(model, "/")
	if b := h.models[model]; b != nil {
		return b, nil
	}
	m, ok := h.known[model]
	if !ok {
		return nil, unknownModel(model, fmt.Sprintf("no model %q in this host's catalogue: check the spelling; GET …/ai/models/search lists what is served", model))
	}
	why := fmt.Sprintf("%s is in the catalogue, but nothing here serves it", model)
	if m.Setup != "" {
		why += ": " + m.Setup
	}
	return nil, unknownModel(model, why)
}

// announce sets the headers of every answer that reached a model.
func (h *Host) announce(c *call, b *backend) {
	c.model = b.Name
	c.w.Header().Set(workersai.HeaderRequestID, c.id)
	if s := b.servedBy(); s != "" {
		c.w.Header().Set(HeaderServedBy, s)
	}
}

func (h *Host) readBody(c *call) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, h.cfg.MaxBody))
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return nil, tooLarge(h.cfg.MaxBody)
	case err != nil && c.r.Context().Err() != nil:
		return nil, c.r.Context().Err()
	case err != nil:
		return nil, invalid("Invalid JSON", "the body broke off: "+err.Error())
	}
	return body, nil
}

// answer writes a result in the envelope.
func answer(c *call, result any, messages ...workersai.Notice) {
	if c.bare {
		writeJSON(c.w, http.StatusOK, result)
		return
	}
	env := workersai.Success(result)
	env.Messages = append(env.Messages, messages...)
	writeJSON(c.w, http.StatusOK, env)
}
