// Package ingest turns sources into searchable chunks: source → text → chunks → vectors → store, through a durable queue.
package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"

	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/workersai"
)

// Errors of Put and Fetch.
var (
	ErrTooLarge      = errors.New("document is too large")
	ErrInvalidInput  = errors.New("invalid document")
	ErrURLNotAllowed = errors.New("url not allowed")
	ErrMediaType     = errors.New("media type not supported")
)

// Config wires the service. Zero fields mean the documented default.
type Config struct {
	Store          *store.Store      // required
	Models         *workersai.Client // required
	EmbedModel     string            // default @cf/baai/bge-base-en-v1.5
	Pooling        string            // default "cls" for bge, else "mean"
	Dimensions     int               // default: asked of the model once, by embedding one text
	Workers        int               // documents in flight; default 16
	Concurrency    int               // embedding requests in flight; default 2
	EmbedPerMinute int               // provider budget; 0: none
	MaxBytes       int64             // per document; default 64 MiB
	ExtractCommand []string          // child that extracts; default: in this process (tests); cmd/footnote passes itself
	Logger         *slog.Logger
}

// Service is safe for concurrent use.
type Service struct{}

// New checks the config and prepares queue and batcher; nothing runs before Start.
func New(ctx context.Context, cfg Config) (*Service, error) { return nil, errors.New("ingest: not built yet") }

// Start begins working the queue, until Stop.
func (s *Service) Start(ctx context.Context) error { return nil }

// Stop finishes or releases the jobs in flight; a released job loses no attempt.
func (s *Service) Stop(ctx context.Context) error { return nil }

// Document is one source to ingest.
type Document struct {
	Collection string // "" means "default"; created if absent
	URI        string // identity within the collection; required
	Title      string
	MediaType  string // "" is detected from URI and content
	Language   string
	Metadata   json.RawMessage // a JSON object or nil
	Source     []byte
}

// Put stores the document and enqueues its processing in one transaction. When it returns nil the document will end in
// completed or error, whatever crashes. ErrInvalidInput, ErrTooLarge, ErrMediaType and store errors.
func (s *Service) Put(ctx context.Context, d Document) (store.Document, store.PutOutcome, error) {
	return store.Document{}, "", nil
}

// Fetch downloads a public http(s) URL (never a private address) as a Document with that URL as URI. ErrURLNotAllowed, ErrTooLarge.
func (s *Service) Fetch(ctx context.Context, url string) (Document, error) { return Document{}, nil }

// Wait returns when the document's revision ended (completed or error) or ctx is done, with the newest state.
func (s *Service) Wait(ctx context.Context, documentID string) (store.Document, error) {
	return store.Document{}, nil
}

// EnsureCollection creates the collection in the service's embedding space with the given (or default) chunking.
func (s *Service) EnsureCollection(ctx context.Context, name string, chunking store.Chunking) (store.Collection, bool, error) {
	return store.Collection{}, false, nil
}

// Plan tells for each (uri, sha256 of the bytes) whether Put would be created, changed or unchanged.
func (s *Service) Plan(ctx context.Context, collection string, sources map[string][]byte) (map[string]store.PutOutcome, error) {
	return nil, nil
}

// Stats for /metrics and progress.
type Stats struct {
	Queued, Running            int64
	TextsEmbedded, EmbedCalls  int64
	DocumentsDone, DocumentsFailed int64
	PausedUntil                string // RFC 3339 while the provider asked us to wait
}

// Stats of this process and queue.
func (s *Service) Stats(ctx context.Context) (Stats, error) { return Stats{}, nil }
