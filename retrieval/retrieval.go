// Package retrieval turns a question into passages and into a grounded, streamed, verified answer.
package retrieval

import (
	"context"
	"errors"
	"iter"
	"log/slog"

	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/workersai"
)

// ErrInvalidQuestion: empty or too long; the message says which.
var ErrInvalidQuestion = errors.New("invalid question")

// Config wires the service. Zero fields mean the documented default.
type Config struct {
	Store      *store.Store
	Models     *workersai.Client
	EmbedModel string // default @cf/baai/bge-base-en-v1.5; must be the collection's
	Pooling    string
	ChatModel  string // default @cf/meta/llama-3.1-8b-instruct
	ChatStrength string // "small" (asked for 1-3 plain sentences, no marks) or "capable" (asked to cite); default capable
	ContextWindow int  // tokens; default 7968
	MaxTokens  int    // of an answer; default 512
	Threshold  float64 // default chosen by measurement
	QueryPrefix string // prepended to questions before embedding (bge family); default by model
	EmbedPerMinute, ChatPerMinute int
	Logger     *slog.Logger
}

// Service is safe for concurrent use.
type Service struct{}

// New checks the config.
func New(cfg Config) (*Service, error) { return nil, errors.New("retrieval: not built yet") }

// SearchRequest asks for passages.
type SearchRequest struct {
	Collection string // "" means "default"
	Query      string
	Limit      int // default 10, at most 100 at the API
	Filter     store.Filter
	Mode       store.Mode
}

// SearchTimings in milliseconds.
type SearchTimings struct {
	EmbedMS  float64 `json:"embed_ms"`
	SearchMS float64 `json:"search_ms"`
}

// SearchResult is what Search found.
type SearchResult struct {
	Passages []store.Passage
	Timings  SearchTimings
}

// Search embeds the query and returns the best passages. If the embedding provider is down, lexical results with Degraded set.
func (s *Service) Search(ctx context.Context, r SearchRequest) (SearchResult, error) {
	return SearchResult{}, nil
}

// Question asks for an answer.
type Question struct {
	Collection string
	Question   string
	Messages   []workersai.Message // earlier turns, oldest first
	Filter     store.Filter
	Limit      int // passages; default 8
	Strict     bool // drop unsupported sentences
	Mode       store.Mode
}

// Event is one of the types below, in this order: Sources, then Delta and Citation mixed, then Done. A failure is the
// sequence's error, last. A refusal is Sources, Delta (the refusal text), Done with Grounded false and a Reason.
type Event interface{ event() }

// Sources comes first, before the model is called.
type Sources struct {
	Passages []store.Passage // numbered from 1 in this order
}

// Delta is a piece of the answer's text.
type Delta struct {
	Text string `json:"text"`
}

// Verdict of the checker about one sentence.
type Verdict string

const (
	Supported   Verdict = "supported"
	Partly      Verdict = "partly"
	Unsupported Verdict = "unsupported"
)

// Span counts Unicode code points, end exclusive.
type Span struct {
	Start int `json:"start"`
	End   int `json:"end"`
}

// Citation ties one sentence of the answer to the characters of a document that support it best.
type Citation struct {
	Sentence Span // in the answer's text
	Verdict  Verdict
	Score    float64 // 0..1
	Source   int     // number in Sources, from 1; 0 if none supports it
	Passage  *store.Passage // that source; nil if none
	Span     Span    // in the document's extracted text
	Quote    string  // exactly the document's text[Span]
}

// Usage in tokens.
type Usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
}

// AnswerTimings in milliseconds.
type AnswerTimings struct {
	SearchMS     float64 `json:"search_ms"`
	FirstTokenMS float64 `json:"first_token_ms"`
	TotalMS      float64 `json:"total_ms"`
}

// Done ends an answer.
type Done struct {
	Answer    string  // the whole text
	Grounded  bool    // no unsupported sentence, and not a refusal
	Reason    string  // "" or "no_evidence", "empty_collection", …
	Best      struct{ Vector, Lexical float64 } // best scores found, for a refusal
	Threshold float64
	Cut       bool // the model stopped at max_tokens
	Usage     Usage
	Timings   AnswerTimings
}

func (Sources) event()  {}
func (Delta) event()    {}
func (Citation) event() {}
func (Done) event()     {}

// Answer streams a grounded answer. Breaking out of the loop cancels the work behind it.
func (s *Service) Answer(ctx context.Context, q Question) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) { yield(nil, errors.New("retrieval: not built yet")) }
}
