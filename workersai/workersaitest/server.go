package workersaitest

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/footnote-rag/footnote/workersai"
)

// AccountID is the account of Config.
const AccountID = "test-account"

// maxBody is what one request may send; a batch of the real API ends at 10 MB, a picture as a number array at about 17.
const maxBody = 32 << 20

// waitLimit ends a test whose awaited calls never come.
const waitLimit = 20 * time.Second

// Server speaks the Workers AI REST API. It is an http.Handler and safe for concurrent use.
type Server struct {
	URL string // such as http://127.0.0.1:41234, once it listens

	mux     *http.ServeMux
	http    *http.Server
	token   string
	dims    int
	embed   func(text string, dims int) []float32
	answer  func(workersai.TextInput) workersai.TextOutput
	poison  func(text string) int
	tokens  func(model, text string) (tokens, limit int)
	rankers func(query, text string) float64
	hear    func(audio []byte) workersai.SpeechOutput
	speak   func(in workersai.TranslationInput) string
	models  []workersai.ModelInfo
	dial    func(ctx context.Context, network, addr string) (net.Conn, error)

	mu       sync.Mutex
	script   []Step
	requests []*Request
	texts    map[string]int
	aborts   int
	changed  chan struct{} // closed and replaced when a call arrives or is aborted
	jobs     map[string][]byte
}

// New starts a server on a loopback port; the test's end closes it.
func New(t testing.TB, opts ...Option) *Server {
	t.Helper()
	s := NewServer(opts...)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("workersaitest: listen: %v", err)
	}
	s.start(t, l)
	return s
}

// NewInMemory starts a server that only the clients of Config reach, without a network: such a connection works inside
// a testing/synctest bubble, where waits between tries take no time.
func NewInMemory(t testing.TB, opts ...Option) *Server {
	t.Helper()
	s := NewServer(opts...)
	l := newPipeListener()
	s.dial = l.dial
	s.start(t, l)
	return s
}

func (s *Server) start(t testing.TB, l net.Listener) {
	t.Helper()
	s.URL = "http://" + l.Addr().String()
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("workersaitest: serve: %v", err)
		}
	})
}

// NewServer makes a server that does not listen yet: serve it as a handler, or with Serve.
func NewServer(opts ...Option) *Server {
	s := &Server{embed: Vector, answer: extract, hear: hear, speak: speak, texts: map[string]int{}, changed: make(chan struct{}), jobs: map[string][]byte{}}
	for _, o := range opts {
		o(s)
	}
	if len(s.models) == 0 {
		s.models = defaultModels()
	}
	s.mux = s.routes()
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: waitLimit, TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}}
	return s
}

// Serve answers on l until Close, and then returns http.ErrServerClosed.
func (s *Server) Serve(l net.Listener) error { return s.http.Serve(l) }

// Close ends all connections at once.
func (s *Server) Close() { _ = s.http.Close() } // only the listener's own error, of no use to anyone

// BaseURL is the BaseURL of a workersai.Config.
func (s *Server) BaseURL() string { return s.URL + "/client/v4" }

// Config addresses this server. Retries are on, with their real waits: set MaxRetries to -1 to have none.
func (s *Server) Config() workersai.Config {
	cfg := workersai.Config{BaseURL: s.BaseURL(), AccountID: AccountID, Token: cmp.Or(s.token, "test-token")}
	t := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true, DialContext: s.dial}
	cfg.HTTPClient = &http.Client{Transport: t}
	return cfg
}

// Client is a client of this server, closed by the test's end. mend may change its configuration.
func (s *Server) Client(t testing.TB, mend ...func(*workersai.Config)) *workersai.Client {
	t.Helper()
	cfg := s.Config()
	for _, f := range mend {
		f(&cfg)
	}
	c, err := workersai.New(cfg)
	if err != nil {
		t.Fatalf("workersaitest: %v", err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// Option configures a Server.
type Option func(*Server)

// Token makes the server refuse other tokens with 401 and code 10000. Default: any token, or none.
func Token(token string) Option { return func(s *Server) { s.token = token } }

// Dims is the length of all vectors. Default: by the model's name, 768 for one that says nothing.
func Dims(n int) Option { return func(s *Server) { s.dims = n } }

// Embed makes the vectors. Default: Vector.
func Embed(f func(text string, dims int) []float32) Option { return func(s *Server) { s.embed = f } }

// Chat makes the answers. Default: the sentence of the last user message that shares most words with its question.
func Chat(f func(workersai.TextInput) string) Option {
	return ChatOutput(func(in workersai.TextInput) workersai.TextOutput { return Text(f(in)) })
}

// ChatOutput makes whole answers: tool calls, JSON, usage. A nil Usage is filled in.
func ChatOutput(f func(workersai.TextInput) workersai.TextOutput) Option {
	return func(s *Server) { s.answer = f }
}

// Text is an answer of text alone.
func Text(text string) workersai.TextOutput {
	return workersai.TextOutput{Response: []byte(jsonString(text))}
}

// Poison fails every embedding request with a text for which f returns an error code; 0 lets it pass.
func Poison(f func(text string) int) Option { return func(s *Server) { s.poison = f } }

// Limit makes the server refuse with 7506 a text to embed of more tokens than its limit, and a chat whose text and
// max_tokens together are more. A limit of 0 is none.
func Limit(f func(model, text string) (tokens, limit int)) Option {
	return func(s *Server) { s.tokens = f }
}

// Rank scores a text for a query. Default: the share of the query's words in it.
func Rank(f func(query, text string) float64) Option { return func(s *Server) { s.rankers = f } }

// Hear transcribes recordings. Default: their bytes are the words that were spoken.
func Hear(f func(audio []byte) workersai.SpeechOutput) Option {
	return func(s *Server) { s.hear = f }
}

// Translate translates. Default: the text behind the target language and a colon.
func Translate(f func(in workersai.TranslationInput) string) Option {
	return func(s *Server) { s.speak = f }
}

// Models is the catalogue. Default: the models of the API reference.
func Models(list ...workersai.ModelInfo) Option { return func(s *Server) { s.models = list } }
