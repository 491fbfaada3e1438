// Package ingest turns sources into searchable chunks: source → text → chunks → vectors → store, through a durable queue.
//
// Put stores a source and its job in one transaction. A worker extracts the text in a child process, cuts it into chunks and
// hands them to the batcher, which fills requests with the chunks of several documents. The store makes the result visible in
// one transaction. What the provider refuses for a while is waited for, by all workers together; what it refuses for good is
// the document's error.
package ingest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/prompt"
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
	Store              *store.Store      // required
	Models             *workersai.Client // required; with MaxRetries -1, because the queue repeats
	EmbedModel         string            // default @cf/baai/bge-base-en-v1.5
	SpeechModel        string            // transcribes recordings; default @cf/openai/whisper
	Pooling            string            // default what the client chooses: "cls" for bge, else "mean"
	Workers            int               // documents in flight; default 16
	Concurrency        int               // embedding requests in flight, and as many for summaries; default 2
	BatchTexts         int               // texts a request; default 100, the API's most
	EmbedPerMinute     int               // provider budget; 0: none
	EmbedQueued        bool              // large batches of texts as asynchronous ones, which the provider runs when it has capacity
	TranslateModel     string            // translates documents of a collection that asks for it; default @cf/meta/m2m100-1.2b
	TranslatePerMinute int               // provider budget; 0: none
	ChatModel          string            // summarizes chunks where a collection asks for it; "": such collections are refused
	ContextWindow      int               // of the chat model, tokens; default 7968
	ChatPerMinute      int               // provider budget; 0: none
	SpeechPerMinute    int               // provider budget; 0: none
	Provider           string            // names the provider whose budget is shared with retrieval; default "workersai"
	MaxBytes           int64             // per document; default 64 MiB
	ExtractCommand     []string          // child that extracts; default: in this process (tests); cmd/footnote passes itself
	Logger             *slog.Logger      // default slog.Default()
}

const (
	defaultModel          = "@cf/baai/bge-base-en-v1.5"
	defaultSpeechModel    = "@cf/openai/whisper"
	defaultTranslateModel = "@cf/meta/m2m100-1.2b"
	defaultCollection     = "default"
	defaultWorkers        = 16
	defaultConcurrency    = 2
	defaultMaxBytes       = 64 << 20

	maxURIBytes        = 2048 // a B-tree entry takes 2,704
	maxTitleBytes      = 8 << 10
	maxMetadataBytes   = 64 << 10
	maxMetadataDepth   = 32 // more is no description of a document
	maxCollectionBytes = 200
)

func (c Config) withDefaults() (Config, error) {
	if c.Store == nil || c.Models == nil {
		return c, errors.New("ingest: Store and Models are required")
	}
	c.EmbedModel = cmp.Or(c.EmbedModel, defaultModel)
	c.SpeechModel = cmp.Or(c.SpeechModel, defaultSpeechModel)
	c.TranslateModel = cmp.Or(c.TranslateModel, defaultTranslateModel)
	c.Workers = cmp.Or(c.Workers, defaultWorkers)
	c.Concurrency = cmp.Or(c.Concurrency, defaultConcurrency)
	c.BatchTexts = cmp.Or(c.BatchTexts, workersai.MaxEmbedTexts)
	c.MaxBytes = cmp.Or(c.MaxBytes, defaultMaxBytes)
	c.Provider = cmp.Or(c.Provider, "workersai")
	c.ContextWindow = max(cmp.Or(c.ContextWindow, prompt.DefaultContextWindow), minContextWindow)
	if c.BatchTexts < 1 || c.BatchTexts > workersai.MaxEmbedTexts {
		return c, fmt.Errorf("ingest: BatchTexts is %d: the API takes 1 to %d", c.BatchTexts, workersai.MaxEmbedTexts)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

// Service is safe for concurrent use.
type Service struct {
	cfg        Config
	id         string // of this process in the queue
	lease      time.Duration
	queue      *river.Client[pgx.Tx]
	batches    *batcher
	speech     *asker
	translator *asker
	summaries  *summarizer
	extract    *extractor
	ends       ends
	done       atomic.Int64
	failed     atomic.Int64

	spaceMu sync.Mutex
	space   store.Space // of the embedding model, once asked

	stop context.CancelFunc
	idle sync.WaitGroup
}

// New checks the config and prepares queue and batcher; nothing runs before Start.
func New(ctx context.Context, cfg Config) (*Service, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := migrateQueue(ctx, cfg.Store.Pool()); err != nil {
		return nil, fmt.Errorf("prepare the queue: %w", err)
	}
	s := &Service{cfg: cfg, id: uuid.NewString(), lease: defaultLease}
	s.extract = newExtractor(cfg.ExtractCommand, cfg.Logger)
	s.batches = newBatcher(cfg)
	s.speech = newAsker(cfg, store.SpeechBudget, cfg.SpeechPerMinute)
	s.translator = newAsker(cfg, store.TranslateBudget, cfg.TranslatePerMinute)
	s.summaries = newSummarizer(cfg)
	if s.queue, err = s.newQueue(); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the queue: %w", err), s.extract.Close())
	}
	return s, nil
}

// Start begins working the queue, until Stop.
func (s *Service) Start(ctx context.Context) error {
	alive, err := s.announce(ctx)
	if err != nil {
		return fmt.Errorf("start the queue: %w", err)
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.batches.start(run, &s.idle)
	s.idle.Go(func() { s.rescueLoop(run, alive) })
	s.idle.Go(func() { s.maintainLoop(run) })
	if err := s.queue.Start(run); err != nil {
		stop()
		s.idle.Wait()
		return fmt.Errorf("start the queue: %w", err)
	}
	return nil
}

// Stop finishes or releases the jobs in flight; a released job loses no attempt.
func (s *Service) Stop(ctx context.Context) error {
	if s.stop == nil {
		return s.extract.Close()
	}
	err := s.queue.Stop(ctx)
	if err != nil { // time is up: cancel the jobs, which give themselves back
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
		defer cancel()
		err = s.queue.StopAndCancel(last)
	}
	s.stop()
	s.idle.Wait()
	return errors.Join(err, s.extract.Close())
}

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

// Fetch downloads a public http(s) URL (never a private address) as a Document with that URL as URI. ErrURLNotAllowed, ErrTooLarge.
func (s *Service) Fetch(ctx context.Context, url string) (Document, error) { return fetch(ctx, url) }

// space asks the model once for the dimensions and pooling of its vectors.
func (s *Service) embeddingSpace(ctx context.Context) (store.Space, error) {
	s.spaceMu.Lock()
	defer s.spaceMu.Unlock()
	if s.space.Dimensions > 0 {
		return s.space, nil
	}
	r, err := s.cfg.Models.Embed(ctx, workersai.EmbedRequest{Model: s.cfg.EmbedModel, Pooling: s.cfg.Pooling, Texts: []string{"dimensions"}})
	if err != nil {
		return store.Space{}, fmt.Errorf("ask %s for its dimensions: %w", s.cfg.EmbedModel, err)
	}
	s.space = store.Space{Model: s.cfg.EmbedModel, Pooling: cmp.Or(r.Pooling, s.cfg.Pooling, "mean"), Dimensions: len(r.Vectors[0])}
	s.batches.dimensions.Store(int64(s.space.Dimensions))
	return s.space, nil
}

// EnsureCollection creates the collection in the service's embedding space with the given (or default) chunking.
// ErrInvalidInput, store.ErrSpaceMismatch.
func (s *Service) EnsureCollection(ctx context.Context, name string, chunking store.Chunking) (store.Collection, bool, error) {
	name = cmp.Or(name, defaultCollection)
	if err := cmp.Or(checkCollection(name, &chunking), s.checkSummaries(chunking)); err != nil {
		return store.Collection{}, false, err
	}
	c, err := s.cfg.Store.Collection(ctx, name)
	if err == nil {
		return c, false, cmp.Or(s.sameModel(c), s.checkSummaries(c.Chunking))
	}
	if !errors.Is(err, store.ErrNotFound) {
		return c, false, err
	}
	space, err := s.embeddingSpace(ctx)
	if err != nil {
		return store.Collection{}, false, err
	}
	return s.cfg.Store.EnsureCollection(ctx, name, space, chunking)
}

// sameModel tells whether this service's vectors belong into the collection.
func (s *Service) sameModel(c store.Collection) error {
	if c.Space.Model != s.cfg.EmbedModel {
		return fmt.Errorf("collection %q was made with %s, this server embeds with %s: use another collection, or set FOOTNOTE_EMBED_MODEL: %w",
			c.Name, c.Space.Model, s.cfg.EmbedModel, store.ErrSpaceMismatch)
	}
	if s.cfg.Pooling != "" && c.Space.Pooling != s.cfg.Pooling {
		return fmt.Errorf("collection %q was made with %s pooling, this server asks for %s: use another collection: %w",
			c.Name, c.Space.Pooling, s.cfg.Pooling, store.ErrSpaceMismatch)
	}
	return nil
}

// Bounds of a collection's chunking: the models take 512 tokens; below 32 a chunk is no passage.
const minChunkTokens, maxChunkTokens = 32, 512

// minSummarizedTokens: a quarter of it is a short sentence.
const minSummarizedTokens = 64

func checkCollection(name string, chunking *store.Chunking) error {
	if len(name) > maxCollectionBytes || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == '/' || r == 0x7f }) {
		return fmt.Errorf("%w: the collection's name has at most %d bytes and neither slashes nor control characters", ErrInvalidInput, maxCollectionBytes)
	}
	if chunking.MaxTokens == 0 {
		chunking.MaxTokens = DefaultChunking.MaxTokens
		chunking.Overlap = cmp.Or(chunking.Overlap, DefaultChunking.Overlap)
		chunking.Window = cmp.Or(chunking.Window, DefaultChunking.Window)
	}
	if chunking.MaxTokens < minChunkTokens || chunking.MaxTokens > maxChunkTokens {
		return fmt.Errorf("%w: chunks have %d to %d tokens, not %d", ErrInvalidInput, minChunkTokens, maxChunkTokens, chunking.MaxTokens)
	}
	if chunking.Overlap < 0 || chunking.Overlap > chunking.MaxTokens/2 {
		return fmt.Errorf("%w: the overlap is 0 to half of the chunk's %d tokens, not %d", ErrInvalidInput, chunking.MaxTokens, chunking.Overlap)
	}
	if !slices.Contains([]string{"", store.SplitStructure, store.SplitFixed}, chunking.Split) {
		return fmt.Errorf("%w: the split is %s or %s, not %q", ErrInvalidInput, store.SplitStructure, store.SplitFixed, chunking.Split)
	}
	if !slices.Contains([]string{"", store.ContextHeadings, store.ContextNone, store.ContextSummary}, chunking.Context) {
		return fmt.Errorf("%w: the context is %s, %s or %s, not %q", ErrInvalidInput, store.ContextHeadings, store.ContextNone, store.ContextSummary, chunking.Context)
	}
	if chunking.Context == store.ContextSummary && chunking.MaxTokens < minSummarizedTokens {
		return fmt.Errorf("%w: chunks with a summary have at least %d tokens, not %d", ErrInvalidInput, minSummarizedTokens, chunking.MaxTokens)
	}
	if chunking.Window < 0 || chunking.Window > maxWindowTokens {
		return fmt.Errorf("%w: the window is 0 to %d tokens, not %d", ErrInvalidInput, maxWindowTokens, chunking.Window)
	}
	return nil
}

// maxWindowTokens: ten passages of this size fill a small model's context twice.
const maxWindowTokens = 2048

// Stats for /metrics and progress.
type Stats struct {
	Queued, Running                int64 // jobs of all processes
	TextsEmbedded, EmbedCalls      int64 // of this process
	DocumentsDone, DocumentsFailed int64
	PausedUntil                    string // RFC 3339 while the provider is waited for
	PauseReason                    string
}

// Stats of this process and the queue.
func (s *Service) Stats(ctx context.Context) (Stats, error) {
	st := Stats{TextsEmbedded: s.batches.texts.Load(), EmbedCalls: s.batches.calls.Load(), DocumentsDone: s.done.Load(), DocumentsFailed: s.failed.Load()}
	if all := s.Pauses(); len(all) > 0 {
		st.PausedUntil, st.PauseReason = all[0].Until.Format(time.RFC3339), all[0].Reason
	}
	var err error
	st.Queued, st.Running, err = countJobs(ctx, s.cfg.Store.Pool())
	return st, err
}
