package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// BudgetKind is what a provider limits together: one number of requests for each kind of model, whoever of us asks.
type BudgetKind string

// The kinds of models.
const (
	EmbedBudget     BudgetKind = "embed"
	ChatBudget      BudgetKind = "chat"
	TranslateBudget BudgetKind = "translate"
	SpeechBudget    BudgetKind = "speech"
	ImageBudget     BudgetKind = "image"
)

// BudgetConfig configures one bucket.
type BudgetConfig struct {
	Provider  string // base URL and account
	Kind      BudgetKind
	PerMinute int // 0: no limit
}

// Budget is a provider's rate limit shared by all processes on one database: a token bucket per (provider, kind) row in
// Postgres. Urgent callers (questions) are served before others. Without a configured limit Wait only honours pauses.
//
// In every window of 60 seconds at most PerMinute callers return from Wait, and 97 % of them do while callers wait: the
// bucket holds PerMinute/100 requests and one more, and a token takes 3 % longer to come than 60 s / PerMinute. What is left
// of the 3 % lets requests of a window arrive up to 1.2 s early or late.
type Budget struct {
	store *Store
	cfg   BudgetConfig
	*waiting
}

// waiting is what the callers of this process share for one bucket.
type waiting struct {
	urgent, other chan struct{} // turns: one caller of each class asks the database at a time

	mu          sync.Mutex
	pausedUntil time.Time
	checkedAt   time.Time // when pausedUntil was last read
	checking    chan struct{}
}

const (
	budgetSlowdown = 1.03
	budgetBurst    = 0.01 // of PerMinute, over the one token that every bucket holds

	// urgentGrace is how long others still keep back after an urgent caller was due: it must come and take its token.
	urgentGrace = 50 * time.Millisecond

	// pauseCheckEvery is how soon a process without a limit notices another's pause.
	pauseCheckEvery = 500 * time.Millisecond

	// budgetAskEvery bounds a sleep, should an operator shorten a pause in the table.
	budgetAskEvery = time.Minute
)

// Budget returns the shared bucket.
func (s *Store) Budget(cfg BudgetConfig) *Budget {
	key := [2]string{cfg.Provider, string(cfg.Kind)}
	w, _ := s.budgets.LoadOrStore(key, &waiting{urgent: make(chan struct{}, 1), other: make(chan struct{}, 1), checking: make(chan struct{}, 1)})
	return &Budget{s, cfg, w.(*waiting)}
}

// Wait takes one request from the bucket, waiting for it; ends with ctx. ErrUnavailable.
func (b *Budget) Wait(ctx context.Context, urgent bool) error {
	err := b.wait(ctx, urgent)
	if err != nil && ctx.Err() != nil { // the caller's own deadline does not tell of a database in trouble
		return fmt.Errorf("wait for the %s budget: %w", b.cfg.Kind, ctx.Err())
	}
	return mapped(fmt.Sprintf("wait for the %s budget", b.cfg.Kind), err)
}

func (b *Budget) wait(ctx context.Context, urgent bool) error {
	if b.cfg.PerMinute <= 0 {
		return b.waitForPause(ctx)
	}
	turn := b.other
	if urgent {
		turn = b.urgent
	}
	if err := enter(ctx, turn); err != nil {
		return err
	}
	defer func() { <-turn }()
	for {
		wait := time.Until(b.pause())
		if wait <= 0 {
			var err error
			if wait, err = b.take(ctx, urgent); err != nil || wait == 0 {
				return err
			}
		}
		if err := sleep(ctx, min(wait, budgetAskEvery)); err != nil {
			return err
		}
	}
}

func enter(ctx context.Context, turn chan struct{}) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// takeToken refills the bucket and takes a token if there is one and nothing keeps the caller back. Only the database's
// clock counts. A clock that was set back adds no tokens, and hides an urgent caller no longer than a token takes to come.
const takeToken = `
	WITH b AS MATERIALIZED (
		SELECT provider, kind, paused_until, urgent_at, clock_timestamp() AS at,
			least($3::float8, tokens + greatest(0, extract(epoch FROM clock_timestamp() - refilled_at)::float8) / $4::float8) AS tokens
		FROM budgets WHERE provider = $1 AND kind = $2 FOR UPDATE
	), due AS (
		SELECT b.*, greatest(0, (1 - tokens) * $4) AS token_wait,
			extract(epoch FROM greatest(paused_until, at) - at)::float8 AS pause_wait,
			CASE WHEN $5::boolean OR urgent_at > at + make_interval(secs => $4 + $6::float8) THEN 0
				ELSE extract(epoch FROM greatest(urgent_at + make_interval(secs => $6), at) - at)::float8 END AS urgent_wait
		FROM b
	), w AS (SELECT due.*, greatest(token_wait, pause_wait, urgent_wait) AS wait FROM due)
	UPDATE budgets u SET tokens = w.tokens - (w.wait = 0)::int, refilled_at = w.at,
		urgent_at = CASE WHEN $5 AND w.wait > 0 THEN w.at + make_interval(secs => w.token_wait) ELSE w.urgent_at END
	FROM w WHERE u.provider = w.provider AND u.kind = w.kind
	RETURNING CASE WHEN w.wait = 0 THEN 0 ELSE greatest(w.wait, 0.001) END`

// take returns 0 with a token taken, or how long to wait before asking again.
func (b *Budget) take(ctx context.Context, urgent bool) (time.Duration, error) {
	perMinute := float64(b.cfg.PerMinute)
	burst, interval := 1+budgetBurst*perMinute, 60*budgetSlowdown/perMinute
	ask := func() (float64, error) {
		return one(ctx, b.store.pool, pgx.RowTo[float64], takeToken, b.cfg.Provider, b.cfg.Kind, burst, interval, urgent, urgentGrace.Seconds())
	}
	wait, err := ask()
	if errors.Is(err, pgx.ErrNoRows) {
		if err := b.create(ctx); err != nil {
			return 0, err
		}
		wait, err = ask()
	}
	return time.Duration(wait * float64(time.Second)), err
}

func (b *Budget) create(ctx context.Context) error {
	return b.store.write(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO budgets (provider, kind, tokens) VALUES ($1, $2, 1) ON CONFLICT DO NOTHING", b.cfg.Provider, b.cfg.Kind)
		return err
	})
}

// Pause makes every caller of every process wait until t (a Retry-After was received): those of this process at once,
// others when they next ask. It never shortens a pause. ErrUnavailable: then it holds in this process only.
func (b *Budget) Pause(ctx context.Context, t time.Time) error {
	left := time.Until(t)
	if left <= 0 {
		return nil
	}
	b.pauseUntil(t)
	// The duration is what counts: this machine's clock may differ from the database's.
	err := b.store.write(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO budgets AS b (provider, kind, tokens, paused_until) VALUES ($1, $2, 1, clock_timestamp() + make_interval(secs => $3))
			ON CONFLICT (provider, kind) DO UPDATE SET paused_until = greatest(b.paused_until, excluded.paused_until)`,
			b.cfg.Provider, b.cfg.Kind, left.Seconds())
		return err
	})
	return mapped(fmt.Sprintf("pause the %s budget", b.cfg.Kind), err)
}

func (w *waiting) pause() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pausedUntil
}

func (w *waiting) pauseUntil(t time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t.After(w.pausedUntil) {
		w.pausedUntil = t
	}
}

// waitForPause asks the database now and then, not for each request.
func (b *Budget) waitForPause(ctx context.Context) error {
	for {
		if err := b.checkPause(ctx); err != nil {
			return err
		}
		wait := time.Until(b.pause())
		if wait <= 0 {
			return ctx.Err()
		}
		if err := sleep(ctx, min(wait, budgetAskEvery)); err != nil {
			return err
		}
	}
}

// checkPause reads the pause that other processes may have set, if that was not done lately. Callers wait for the one who reads.
func (b *Budget) checkPause(ctx context.Context) error {
	if b.checkedLately() {
		return nil
	}
	if err := enter(ctx, b.checking); err != nil {
		return err
	}
	defer func() { <-b.checking }()
	if b.checkedLately() {
		return nil
	}
	left, err := many(ctx, b.store.pool, pgx.RowTo[float64], `
		SELECT extract(epoch FROM greatest(paused_until, at) - at)::float8 FROM budgets, clock_timestamp() AS at WHERE provider = $1 AND kind = $2`,
		b.cfg.Provider, b.cfg.Kind)
	if err != nil {
		return err
	}
	for _, seconds := range left {
		if seconds > 0 {
			b.pauseUntil(time.Now().Add(time.Duration(seconds * float64(time.Second))))
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.checkedAt = time.Now()
	return nil
}

func (w *waiting) checkedLately() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Since(w.checkedAt) < pauseCheckEvery
}
