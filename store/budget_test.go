package store_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/store/storetest"
)

// twoStores are two processes' stores on one database.
func twoStores(t *testing.T) [2]*store.Store {
	t.Helper()
	url := storetest.URL(t)
	return [2]*store.Store{storetest.OpenConfig(t, store.Config{URL: url}), storetest.OpenConfig(t, store.Config{URL: url})}
}

func TestBudgetIsSharedAndUsed(t *testing.T) {
	t.Parallel()
	const (
		perMinute = 6000
		requests  = 400
		burst     = 1 + perMinute/100
		interval  = time.Minute * 103 / 100 / perMinute
	)
	start := time.Now()
	var mu sync.Mutex
	var at []time.Duration
	var group errgroup.Group
	var left atomic.Int64
	left.Store(requests)
	for _, s := range twoStores(t) {
		for range 8 {
			b := s.Budget(store.BudgetConfig{Provider: "p", Kind: store.EmbedBudget, PerMinute: perMinute})
			group.Go(func() error {
				for left.Add(-1) >= 0 {
					if err := b.Wait(t.Context(), false); err != nil {
						return err
					}
					mu.Lock()
					at = append(at, time.Since(start))
					mu.Unlock()
				}
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if len(at) != requests {
		t.Fatalf("%d requests were let through, want %d", len(at), requests)
	}
	for i, d := range at { // of the first i+1 requests the bucket held at most the burst
		if most := burst + float64(d)/float64(interval); float64(i+1) > most {
			t.Fatalf("%d requests after %s, want at most %.1f", i+1, d, most)
		}
	}
	// A bucket starts with one token. Waking up late costs nothing while the bucket holds more than one.
	took := at[requests-1] - at[0]
	if used := float64(requests-1) / (took.Minutes() * perMinute); used < 0.95 {
		t.Errorf("%.1f %% of the limit used (%s for %d requests), want 95 %%", 100*used, took, requests)
	} else {
		t.Logf("%.1f %% of the limit used", 100*used)
	}
}

func TestBudgetServesUrgentFirst(t *testing.T) {
	t.Parallel()
	stores := twoStores(t)
	cfg := store.BudgetConfig{Provider: "p", Kind: store.EmbedBudget, PerMinute: 600}
	ctx, stop := context.WithCancel(t.Context())
	var others atomic.Int64
	var group errgroup.Group
	for _, s := range stores {
		for range 8 {
			group.Go(func() error {
				for {
					if err := s.Budget(cfg).Wait(ctx, false); err != nil {
						return err
					}
					others.Add(1)
				}
			})
		}
	}
	const questions = 8
	var served int64
	for i := range questions {
		before := others.Load()
		if err := stores[i%2].Budget(cfg).Wait(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		served += others.Load() - before
	}
	// Those who had their token when the question came may be counted after it; taking turns would be one or two a question.
	if served > questions/2 {
		t.Errorf("%d others were served while %d questions waited, want at most %d", served, questions, questions/2)
	}
	// Each question kept the others back for a moment only.
	for before := others.Load(); others.Load() < before+3; {
		if err := stores[0].Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := group.Wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait = %v, want %v", err, context.Canceled)
	}
}

func TestBudgetPause(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		perMinute int
	}{{"without a limit", 0}, {"with a limit", 60_000}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			stores := twoStores(t)
			cfg := store.BudgetConfig{Provider: "p", Kind: store.ChatBudget, PerMinute: tt.perMinute}
			for _, s := range stores {
				if err := s.Budget(cfg).Wait(t.Context(), true); err != nil {
					t.Fatal(err)
				}
			}
			end := time.Now().Add(1500 * time.Millisecond)
			if err := stores[0].Budget(cfg).Pause(t.Context(), end); err != nil {
				t.Fatal(err)
			}
			if err := stores[0].Budget(cfg).Pause(t.Context(), end.Add(-time.Second)); err != nil { // shortens nothing
				t.Fatal(err)
			}
			if err := stores[0].Budget(cfg).Wait(t.Context(), true); err != nil || time.Now().Before(end) {
				t.Errorf("the process that paused waited until %s before the end, %v", time.Until(end), err)
			}
		})
	}
}

func TestBudgetPauseReachesOtherProcesses(t *testing.T) {
	t.Parallel()
	stores := twoStores(t)
	cfg := store.BudgetConfig{Provider: "p", Kind: store.ChatBudget}
	if err := stores[1].Budget(cfg).Wait(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(1500 * time.Millisecond)
	if err := stores[0].Budget(cfg).Pause(t.Context(), end); err != nil {
		t.Fatal(err)
	}
	// It still calls until it asks the database again, then waits.
	for {
		before := time.Now()
		if err := stores[1].Budget(cfg).Wait(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		if !time.Now().Before(end) {
			if late := end.Sub(before); late < 500*time.Millisecond {
				t.Errorf("the other process noticed the pause %s before its end, want sooner", late)
			}
			return
		}
	}
}

func TestBudgetWithoutLimitSparesTheDatabase(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	b := s.Budget(store.BudgetConfig{Provider: "p", Kind: store.ChatBudget})
	if err := b.Wait(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	before := s.Pool().Stat().AcquireCount()
	for range 100 {
		if err := b.Wait(t.Context(), true); err != nil {
			t.Fatal(err)
		}
	}
	if asked := s.Pool().Stat().AcquireCount() - before; asked > 5 {
		t.Errorf("100 requests asked the database %d times, want hardly ever", asked)
	}
}

func TestBudgetWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	for _, perMinute := range []int{0, 1} {
		b := s.Budget(store.BudgetConfig{Provider: "p", Kind: store.EmbedBudget, PerMinute: perMinute})
		if err := b.Pause(t.Context(), time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		for _, urgent := range []bool{true, false} {
			if err := b.Wait(ctx, urgent); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, store.ErrUnavailable) {
				t.Errorf("Wait = %v, want %v", err, context.DeadlineExceeded)
			}
		}
	}
}
