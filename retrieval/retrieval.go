// Package retrieval turns a question into passages and into a grounded, streamed, verified answer.
package retrieval

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/prompt"
)

// ErrInvalidQuestion: empty or too long; the message says which.
var ErrInvalidQuestion = errors.New("invalid question")

// Config wires the service. Zero fields mean the documented default.
type Config struct {
	Store      *store.Store      // required
	Models     *workersai.Client // required
	EmbedModel string            // default @cf/baai/bge-base-en-v1.5; must be the collection's
	Pooling    string            // default "cls" for the bge family, else the client's
	ChatModel  string            // default @cf/meta/llama-3.1-8b-instruct
	// ChatStrength is Small or Capable; default Capable. A small model sees the few best sentences, says three at most, and
	// only supported ones are shown; if there are none, the best sentence of the documents is quoted (reason "extractive").
	ChatStrength   string
	ContextWindow  int     // tokens; default 7968
	MaxTokens      int     // of an answer; default 512, for a small model 120
	Threshold      float64 // of the evidence score, 0..1; negative refuses nothing; default 0.50, by measurement
	QueryPrefix    string  // prepended to questions before embedding; default by model; NoPrefix for none
	TranslateModel string  // default @cf/meta/m2m100-1.2b; NoTranslation for none
	EmbedPerMinute int     // provider budget; 0: none
	ChatPerMinute  int     // provider budget; 0: none

	TranslatePerMinute int // provider budget; 0: none

	Provider   string // names the budget shared with ingest; default "workersai"
	Extractive bool   // answer with quoted sentences, without a chat model
	// CheckTimeout of the vectors that a sentence is checked with; without them words alone decide. Default 2 s; negative
	// compares no vectors.
	CheckTimeout time.Duration
	// Word tells that a word, in lower case, is spelt right whether the documents have it or not; nil: only theirs are. Without it
	// a question about whales becomes one about "while" where there are none.
	Word   func(word string) bool
	Judge  bool         // a capable chat model judges what the checker does not find supported
	Logger *slog.Logger // default slog.Default()
}

// NoPrefix as QueryPrefix embeds questions as they are.
const NoPrefix = "\x00none"

const (
	defaultLimit    = 10
	defaultPassages = 8
	// maxQuestionBytes: a longer question is a document; models and Postgres would refuse it later and less clearly.
	maxQuestionBytes = 8 << 10
	// bgePrefix is what the English bge models were trained to see before a query (model card of BAAI/bge-base-en-v1.5).
	bgePrefix = "Represent this sentence for searching relevant passages: "
)

// Service is safe for concurrent use.
type Service struct {
	cfg         Config
	store       library
	shelf       shelf
	sample      sampler
	backgrounds backgrounds
	calibration calibration
	models      models
	thinker     thinker // nil: none
	speller     speller // nil: none
	embedBudget budget
	chatBudget  budget

	translateBudget budget

	vectors   *vectorCache // of questions
	sentences *vectorCache // of passages and answers
}

// library is what retrieval needs of the store.
type library interface {
	Collection(ctx context.Context, name string) (store.Collection, error)
	Search(ctx context.Context, q store.SearchQuery) ([]store.Passage, error)
	Widen(ctx context.Context, passages []store.Passage, window, limit int) ([]store.Passage, error)
	DocumentText(ctx context.Context, id string) (string, error)
}

// models is what retrieval needs of the model service.
type models interface {
	Embed(ctx context.Context, r workersai.EmbedRequest) (*workersai.EmbedResponse, error)
	ChatStream(ctx context.Context, r workersai.ChatRequest) iter.Seq2[workersai.ChatEvent, error]
}

// budget is a provider's rate limit.
type budget interface {
	Wait(ctx context.Context, urgent bool) error
	Pause(ctx context.Context, until time.Time) error
}

// New checks the config.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Models == nil {
		return nil, errors.New("retrieval: Config.Store and Config.Models are required")
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Service{cfg: cfg, store: cfg.Store, shelf: cfg.Store, sample: cfg.Store, models: cfg.Models, thinker: cfg.Models, speller: cfg.Store, vectors: newVectorCache(), sentences: newVectorCache(),
		embedBudget:     cfg.Store.Budget(store.BudgetConfig{Provider: cfg.Provider, Kind: store.EmbedBudget, PerMinute: cfg.EmbedPerMinute}),
		chatBudget:      cfg.Store.Budget(store.BudgetConfig{Provider: cfg.Provider, Kind: store.ChatBudget, PerMinute: cfg.ChatPerMinute}),
		translateBudget: cfg.Store.Budget(store.BudgetConfig{Provider: cfg.Provider, Kind: store.TranslateBudget, PerMinute: cfg.TranslatePerMinute}),
	}, nil
}

func (cfg Config) withDefaults() (Config, error) {
	cfg.EmbedModel = cmp.Or(cfg.EmbedModel, "@cf/baai/bge-base-en-v1.5")
	cfg.ChatModel = cmp.Or(cfg.ChatModel, "@cf/meta/llama-3.1-8b-instruct")
	cfg.TranslateModel = cmp.Or(cfg.TranslateModel, "@cf/meta/m2m100-1.2b")
	cfg.ChatStrength = cmp.Or(cfg.ChatStrength, Capable)
	cfg.ContextWindow = cmp.Or(cfg.ContextWindow, prompt.DefaultContextWindow)
	cfg.Threshold = cmp.Or(cfg.Threshold, defaultThreshold)
	cfg.Provider = cmp.Or(cfg.Provider, "workersai")
	cfg.CheckTimeout = cmp.Or(cfg.CheckTimeout, defaultCheckTimeout)
	if cfg.MaxTokens == 0 {
		cfg.MaxTokens = 512
		if cfg.ChatStrength == Small {
			cfg.MaxTokens = smallTokens
		}
	}
	bge := strings.Contains(cfg.EmbedModel, "bge-") && strings.Contains(cfg.EmbedModel, "-en")
	if cfg.QueryPrefix == "" && bge {
		cfg.QueryPrefix = bgePrefix
	}
	if cfg.QueryPrefix == NoPrefix {
		cfg.QueryPrefix = ""
	}
	if cfg.Pooling == "" && bge {
		cfg.Pooling = "cls"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.ChatStrength != Small && cfg.ChatStrength != Capable {
		return cfg, fmt.Errorf("retrieval: chat strength %q: must be %q or %q", cfg.ChatStrength, Small, Capable)
	}
	if cfg.MaxTokens < 1 || cfg.ContextWindow-cfg.MaxTokens < 256 {
		return cfg, fmt.Errorf("retrieval: context window %d with answers of %d tokens leaves no room for passages", cfg.ContextWindow, cfg.MaxTokens)
	}
	return cfg, nil
}

// CheckQuestion says what Answer would refuse, ErrInvalidQuestion, before it is asked.
func CheckQuestion(q string) error { return checkQuestion(q) }

// checkQuestion refuses what no part behind could handle.
func checkQuestion(q string) error {
	switch {
	case strings.TrimSpace(q) == "":
		return fmt.Errorf("%w: it is empty", ErrInvalidQuestion)
	case len(q) > maxQuestionBytes:
		return fmt.Errorf("%w: it has %d bytes, at most %d are allowed", ErrInvalidQuestion, len(q), maxQuestionBytes)
	case !utf8.ValidString(q):
		return fmt.Errorf("%w: it is not valid UTF-8", ErrInvalidQuestion)
	case strings.ContainsRune(q, 0):
		return fmt.Errorf("%w: it contains a NUL character", ErrInvalidQuestion)
	}
	return nil
}

// SearchRequest asks for passages.
type SearchRequest struct {
	Collection string // "" means "default"
	Query      string
	Limit      int // default 10, at most 100 at the API
	// Window is how many tokens of its section are returned around each chunk that is found; nil: the collection's setting.
	Window  *int
	Filter  store.Filter
	Mode    store.Mode
	Ranking Ranking

	Messages []workersai.Message // earlier turns, oldest first: what a follow-up is completed from
	Steps    SearchSteps
}

// SearchTimings in milliseconds. Of several queries, which are searched for at once, those of the slowest.
type SearchTimings struct {
	UnderstandMS float64 `json:"understand_ms"`
	EmbedMS      float64 `json:"embed_ms"`
	SearchMS     float64 `json:"search_ms"`
}

// SearchResult is what Search found.
type SearchResult struct {
	Passages []store.Passage
	Timings  SearchTimings
	Degraded bool // the embedding provider is down: these were found by words alone
	Reranked bool // false, too, where the reranker failed

	Query   string   // as it was understood
	Queries []string // what was searched for: the query, or its parts and it
	Steps   []Step   // that were taken
}

// Question asks for an answer.
type Question struct {
	Collection string
	Question   string
	Messages   []workersai.Message // earlier turns, oldest first
	Filter     store.Filter
	Limit      int  // passages; default 8
	Strict     bool // drop unsupported sentences
	Mode       store.Mode
	Ranking    Ranking
	Extractive bool // answer with quoted sentences, without a chat model
	Judge      bool // a capable chat model judges what the checker does not find supported
	Agentic    bool // the model may search again and read on, a few times, before it answers; each call is a Step
	Understand Understanding
	Steps      []Step  // taken before, such as hearing the question; yielded first
	Threshold  float64 // of the evidence score; 0: the service's; negative refuses nothing
}

// Event is one of the types below, in this order: Sources, then Delta and Citation mixed, then Done (a Citation follows its
// sentence, at once or some Deltas later; Citations are in the order of their sentences); Steps may stand
// anywhere before Done. A failure is the sequence's error, last. A refusal is Sources, Delta (the refusal text), Done with Grounded false and a Reason.
type Event interface{ event() }

// Sources comes before the model is asked for an answer.
type Sources struct {
	Passages []store.Passage // numbered from 1 in this order
	Degraded bool            // found by words alone: the embedding provider is down
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
	Score    float64        // 0..1
	Source   int            // number in Sources, from 1; 0 if none supports it
	Passage  *store.Passage // that source; nil if none
	Span     Span           // in the document's extracted text
	Quote    string         // exactly the document's text[Span]
	Judged   bool           // the verdict is a chat model's (Question.Judge)
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
	Answer    string                            // the whole text
	Grounded  bool                              // no unsupported sentence, and not a refusal
	Reason    string                            // "" or "no_evidence", "empty_collection", …
	Best      struct{ Vector, Lexical float64 } // best scores found, for a refusal
	Evidence  float64                           // how likely the passages speak about the question, 0..1
	Threshold float64                           // of Evidence; below it the model is not called
	Degraded  bool                              // searched by words alone
	Cut       bool                              // the model stopped at max_tokens
	Usage     Usage
	Timings   AnswerTimings
}

func (Sources) event()  {}
func (Delta) event()    {}
func (Citation) event() {}
func (Done) event()     {}
