package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"
)

// Status of a document.
type Status string

const (
	StatusQueued    Status = "queued"
	StatusRunning   Status = "running"
	StatusCompleted Status = "completed"
	StatusError     Status = "error"
)

// Document is unique by (collection, uri). Generation and Chunks describe the visible version; Revision counts
// acknowledged puts, so Revision > Generation means that a newer version is on its way.
type Document struct {
	ID           string // UUIDv7
	CollectionID int64
	Collection   string // name
	URI          string
	Title        string
	MediaType    string
	Language     string // BCP 47, "" if unknown
	Metadata     json.RawMessage
	SHA256       []byte // of the newest acknowledged source bytes
	Status       Status
	ErrorCode    string
	ErrorText    string
	Chunks       int // visible chunks
	Tokens       int // visible tokens
	Generation   int64
	Revision     int64
	CreatedAt    time.Time
	UpdatedAt    time.Time
}

// NewDocument is what a caller puts.
type NewDocument struct {
	Collection Collection
	URI        string
	Title      string
	MediaType  string
	Language   string
	Metadata   json.RawMessage
	Source     []byte
	SHA256     []byte // of Source
	Settings   string // fingerprint of whatever else decides the result (extractor and chunker version, chunking); a change re-ingests
}

// PutOutcome tells what a put did.
type PutOutcome string

const (
	Created   PutOutcome = "created"
	Changed   PutOutcome = "changed"
	Unchanged PutOutcome = "unchanged" // same bytes, settings, title, metadata and not in error: nothing stored, nothing enqueued
)

// PutDocument stores the source as the newest revision with status queued and calls enqueue in the same transaction
// (not for Unchanged). A document in status error is put again even if its bytes are the same.
func (s *Store) PutDocument(ctx context.Context, d NewDocument, enqueue func(ctx context.Context, tx pgx.Tx, d Document) error) (Document, PutOutcome, error) {
	return Document{}, "", nil
}

// Known is one answer of KnownSources.
type Known struct {
	URI      string
	SHA256   []byte
	Settings string
	Status   Status
}

// KnownSources tells for each of the uris that exists what is stored, for load plans.
func (s *Store) KnownSources(ctx context.Context, collectionID int64, uris []string) (map[string]Known, error) {
	return nil, nil
}

// Work is what a worker needs to process one revision.
type Work struct {
	Document   Document
	Collection Collection
	Source     []byte
	Settings   string
}

// BeginWork marks the revision running and returns its source. ErrSuperseded if a newer revision exists or it is
// already complete, ErrNotFound if the document is gone.
func (s *Store) BeginWork(ctx context.Context, documentID string, revision int64) (Work, error) {
	return Work{}, nil
}

// Chunk is one piece of a document's extracted text. Start and End count Unicode code points into that text.
type Chunk struct {
	Ordinal   int
	Heading   []string // path from the document's top heading down
	Start     int
	End       int
	Text      string // exactly text[Start:End]
	Tokens    int
	Embedding []float32
}

// StageChunks keeps embedded chunks of an unfinished revision, invisible to search, so that a restart need not embed
// them again. Idempotent per ordinal. ErrSuperseded, ErrInvalidVector.
func (s *Store) StageChunks(ctx context.Context, documentID string, revision int64, chunks []Chunk) error {
	return nil
}

// StagedOrdinals lists the ordinals staged for the revision with the SHA-256 of their texts.
func (s *Store) StagedOrdinals(ctx context.Context, documentID string, revision int64) (map[int][32]byte, error) {
	return nil, nil
}

// Completion is the result of processing one revision.
type Completion struct {
	DocumentID string
	Revision   int64
	Text       string  // the extracted text
	Title      string  // "" keeps the document's own
	Language   string  // "" keeps
	Chunks     []Chunk // those not staged; with staged ones they must cover ordinals 0..Total-1
	Total      int
}

// Complete makes the revision visible and removes the old generation, in one transaction: text, chunks, vectors, words,
// counts, status completed. ErrSuperseded (then nothing changes), ErrInvalidVector, ErrInvalidText.
func (s *Store) Complete(ctx context.Context, c Completion) error { return nil }

// Fail records the revision's permanent error; the old generation stays visible. ErrSuperseded.
func (s *Store) Fail(ctx context.Context, documentID string, revision int64, code, text string) error {
	return nil
}

// Document by id; ErrNotFound.
func (s *Store) Document(ctx context.Context, id string) (Document, error) {
	return Document{}, ErrNotFound
}

// DocumentByURI; ErrNotFound.
func (s *Store) DocumentByURI(ctx context.Context, collectionID int64, uri string) (Document, error) {
	return Document{}, ErrNotFound
}

// DocumentText is the extracted text of the visible generation; ErrNotFound if there is none.
func (s *Store) DocumentText(ctx context.Context, id string) (string, error) { return "", ErrNotFound }

// DocumentSource is the newest acknowledged source and its media type.
func (s *Store) DocumentSource(ctx context.Context, id string) (source []byte, mediaType string, err error) {
	return nil, "", ErrNotFound
}

// ListQuery selects documents, ordered by id (creation). Zero fields select all.
type ListQuery struct {
	CollectionID int64
	Status       Status
	URIPrefix    string
	Limit        int // default 100, at most 1000
	Cursor       string
}

// Documents returns one page and the next cursor, "" at the end.
func (s *Store) Documents(ctx context.Context, q ListQuery) ([]Document, string, error) {
	return nil, "", nil
}

// StatusCounts counts a collection's documents by status.
func (s *Store) StatusCounts(ctx context.Context, collectionID int64) (map[Status]int64, error) {
	return nil, nil
}

// DeleteDocument removes it with everything of it; ErrNotFound.
func (s *Store) DeleteDocument(ctx context.Context, id string) error { return nil }

// Chunks lists the visible chunks of a document by ordinal (no vectors).
func (s *Store) Chunks(ctx context.Context, documentID string) ([]Chunk, error) { return nil, nil }

// Mode selects the legs of a search.
type Mode string

const (
	Hybrid  Mode = "hybrid"
	Vector  Mode = "vector"
	Lexical Mode = "lexical"
)

// SearchQuery asks for the best Limit chunks of a collection.
type SearchQuery struct {
	Collection Collection
	Text       string    // for the lexical leg
	Vector     []float32 // for the vector leg, of the collection's space
	Mode       Mode      // default Hybrid
	Limit      int       // default 10, 1..1000
	Filter     Filter
}

// Filter is a parsed Mongo-style metadata filter; the zero value matches everything.
type Filter struct {
	sql  string
	args []any
}

// ParseFilter reads {"team":{"$eq":"x"}}: $eq $ne $gt $gte $lt $lte $in $nin $exists $and $or $not, a bare value means $eq.
// Field names address document metadata with dots; "uri", "title", "media_type", "language" with a leading "$" the document's own ($uri …).
// ErrInvalidFilter says where it is wrong. Depth, width and count are bounded.
func ParseFilter(raw json.RawMessage) (Filter, error) { return Filter{}, nil }

// LegScore is a hit's score and 1-based rank within one leg.
type LegScore struct {
	Score float64 `json:"score"`
	Rank  int     `json:"rank"` // 0 if the leg did not return it and the score was computed for it afterwards
}

// Passage is a chunk found by a search (or several neighbours merged by retrieval).
type Passage struct {
	DocumentID string
	URI        string
	Title      string
	Metadata   json.RawMessage
	Ordinal    int
	Heading    []string
	Start, End int // code points in the document's extracted text
	Text       string
	Tokens     int
	Score      float64   // fused, 0..1
	Vector     *LegScore // cosine similarity; nil if the leg did not run
	Lexical    *LegScore // BM25; nil if the leg did not run or no word matched
	Fusion     string    // how Score was made
}

// Search runs the legs, fuses them and returns min(Limit, matching chunks) passages, best first, in one round trip.
func (s *Store) Search(ctx context.Context, q SearchQuery) ([]Passage, error) { return nil, nil }

// Neighbours returns the visible chunks of a document with ordinals in [from, to].
func (s *Store) Neighbours(ctx context.Context, documentID string, from, to int) ([]Chunk, error) {
	return nil, nil
}

// Budget is a provider's rate limit shared by all processes on one database: a token bucket per (provider, kind) row in
// Postgres. Urgent callers (questions) are served before others. Without a configured limit Wait returns at once.
type Budget struct{}

// BudgetConfig configures one bucket.
type BudgetConfig struct {
	Provider  string // base URL and account
	Kind      string // "embed", "chat"
	PerMinute int    // 0: no limit
}

// Budget returns the shared bucket.
func (s *Store) Budget(cfg BudgetConfig) *Budget { return &Budget{} }

// Wait takes one request from the bucket, waiting for it; ends with ctx.
func (b *Budget) Wait(ctx context.Context, urgent bool) error { return nil }

// Pause makes every caller of every process wait until t (a Retry-After was received).
func (b *Budget) Pause(ctx context.Context, t time.Time) error { return nil }

// maxLimit bounds SearchQuery.Limit: the most that hnsw.ef_search takes.
const maxLimit = 1000
