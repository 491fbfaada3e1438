// Package api is Footnote's HTTP face: routes, decoding, server-sent events, the OpenAPI description and the one place
// where errors become statuses.
package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"iter"
	"log/slog"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
	"golang.org/x/sync/semaphore"

	"github.com/footnote-rag/footnote/ingest"
	"github.com/footnote-rag/footnote/retrieval"
	"github.com/footnote-rag/footnote/store"
)

// Limits that are not settings.
const (
	// maxRequestBytes bounds every body that is not a document: questions and filters are small.
	maxRequestBytes = 1 << 20
	// documentOverheadBytes is what JSON quoting and multipart headers may add to a document.
	documentOverheadBytes = 1 << 20
	// maxPlanBytes bounds a load plan: 100,000 sources of about 300 bytes.
	maxPlanBytes = 32 << 20
	// maxUploadBytes bounds one multipart body of several files; each file is bounded by MaxDocumentBytes.
	maxUploadBytes = 1 << 30
	// defaultCollection is what a request without a collection means.
	defaultCollection = "default"
)

// Retriever answers questions; *retrieval.Service is one. Both methods end early with their context.
type Retriever interface {
	Search(ctx context.Context, r retrieval.SearchRequest) (retrieval.SearchResult, error)
	// Answer yields Steps, Sources, the answer and Done last; an error ends it instead of Done.
	Answer(ctx context.Context, q retrieval.Question) iter.Seq2[retrieval.Event, error]
}

// Config wires the server. Zero fields mean the documented default.
type Config struct {
	Store     *store.Store    // required
	Ingest    *ingest.Service // required
	Retrieval Retriever       // required

	Media     MediaConfig  // recordings as questions, and pictures
	ModelHost http.Handler // served under /client/v4 and /binding with its own authentication; nil: not served
	Web       fs.FS        // the page at / and its files; nil: no page
	APIKey    string       // Authorization: Bearer asked of all but /livez, /readyz and the page; "": open

	MaxDocumentBytes int64         // default 64 MiB, as in ingest
	MaxBufferedBytes int64         // request bodies of documents held in memory at once; default 4 × MaxDocumentBytes
	MaxQuestions     int           // searches and answers in flight; default 2048 (one stream costs some 40 KiB)
	MaxStream        time.Duration // total time of one answer; default 10 min
	Heartbeat        time.Duration // between comments on a silent stream; default 10 s, below the 15 s that proxies allow
	WriteTimeout     time.Duration // for one write to a client that does not read; default 10 s
	ResumeGrace      time.Duration // an answer that is kept goes on this long without a reader; default 30 s
	DrainTimeout     time.Duration // how long Shutdown lets streams finish; default 15 s

	Logger *slog.Logger // default slog.Default()
}

// Server is the HTTP handler. It does not change after New and is safe for concurrent use.
type Server struct {
	cfg     Config
	echo    *echo.Echo
	keyHash [sha256.Size]byte
	metrics *metrics
	streams streams
	buffers *semaphore.Weighted // bytes of documents being received
	slots   *semaphore.Weighted // questions in flight
	replays *replays
	live    liveAnswers // in the making, apart from any connection
}

// New checks the config, fills its defaults and builds the routes.
func New(cfg Config) (*Server, error) {
	if cfg.Store == nil || cfg.Ingest == nil || cfg.Retrieval == nil {
		return nil, errors.New("api: Store, Ingest and Retrieval are required")
	}
	cfg.fill()
	s := &Server{
		cfg:     cfg,
		keyHash: sha256.Sum256([]byte(cfg.APIKey)),
		buffers: semaphore.NewWeighted(cfg.MaxBufferedBytes),
		slots:   semaphore.NewWeighted(int64(cfg.MaxQuestions)),
		replays: newReplays(time.Now),
		live:    liveAnswers{byID: map[string]*liveAnswer{}},
	}
	s.metrics = newMetrics(cfg.Ingest, &s.streams)
	s.echo = echo.New()
	s.echo.HTTPErrorHandler = s.handleError
	s.echo.JSONSerializer = jsonSerializer{}
	s.echo.Use(s.observe, s.recover, s.guardOrigin, s.authenticate, s.limitBody)
	s.route()
	return s, nil
}

func (c *Config) fill() {
	setDefault(&c.MaxDocumentBytes, 64<<20)
	setDefault(&c.MaxBufferedBytes, 4*c.MaxDocumentBytes)
	setDefault(&c.MaxQuestions, 2048)
	setDefault(&c.MaxStream, 10*time.Minute)
	setDefault(&c.Heartbeat, 10*time.Second)
	setDefault(&c.WriteTimeout, 10*time.Second)
	setDefault(&c.ResumeGrace, 30*time.Second)
	c.Media.fill()
	setDefault(&c.DrainTimeout, 15*time.Second)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.echo.ServeHTTP(w, r) }

// route lists every route there is; openapi.yaml describes each, and a test compares the two.
func (s *Server) route() {
	e := s.echo
	e.GET("/livez", s.livez)
	e.GET("/readyz", s.readyz)
	e.GET("/metrics", s.metrics.handler)
	e.GET("/openapi.yaml", s.openAPI)

	e.POST("/v1/documents", s.putDocuments)
	e.GET("/v1/documents", s.listDocuments)
	e.GET("/v1/documents/:id", s.document)
	e.DELETE("/v1/documents/:id", s.deleteDocument)
	e.GET("/v1/documents/:id/text", s.documentText)
	e.GET("/v1/documents/:id/chunks", s.documentChunks)
	e.GET("/v1/documents/:id/source", s.documentSource)
	e.POST("/v1/documents/plan", s.plan)

	e.POST("/v1/collections", s.createCollection)
	e.GET("/v1/collections", s.listCollections)
	e.GET("/v1/collections/:name", s.collection)
	e.DELETE("/v1/collections/:name", s.deleteCollection)

	e.POST("/v1/search", s.search)
	e.POST("/v1/answer", s.answer)
	e.GET("/v1/answers/:id", s.storedAnswer)
	e.DELETE("/v1/answers/:id", s.deleteAnswer)
	e.GET("/v1/answers/:id/events", s.answerEvents)
	e.POST("/v1/threads", s.createThread)
	e.GET("/v1/threads", s.listThreads)
	e.GET("/v1/threads/:id", s.thread)
	e.DELETE("/v1/threads/:id", s.deleteThread)
	e.POST("/v1/transcribe", s.transcribe)
	e.POST("/v1/illustrate", s.illustrate)
	e.POST("/v1/chat/completions", s.chatCompletions)
	e.GET("/v1/models", s.models)

	if s.cfg.ModelHost != nil {
		e.Any("/client/v4/*", echo.WrapHandler(s.cfg.ModelHost))
		e.Any("/binding/*", echo.WrapHandler(s.cfg.ModelHost))
	}
	if s.cfg.Web != nil {
		s.routeWeb()
	}
}
