package store

import (
	"context"
	"time"
)

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

func (s *Store) indexed(ctx context.Context, spaceID int64) bool { return false }

// Maintain is about to be built.
func (s *Store) Maintain(ctx context.Context) error { return nil }
