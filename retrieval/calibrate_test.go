package retrieval

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"testing"
	"time"

	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/workersai"
)

// TestNearnessIsTheModelsOwn: a model whose cosines lie between 0.5 and 0.9 refuses the same questions as one whose cosines
// lie between 0 and 0.8.
func TestNearnessIsTheModelsOwn(t *testing.T) {
	t.Parallel()
	squeezed := func(c float64) float64 { return 0.5 + 0.45*c }
	other := scale{mean: squeezed(plainScale.mean), deviation: 0.45 * plainScale.deviation, together: squeezed(plainScale.together)}
	for _, n := range []int64{0, 100, 10_000, 1_000_000} {
		for c := -0.1; c < 0.9; c += 0.05 {
			a, ok := plainScale.nearness(c, n)
			b, also := other.nearness(squeezed(c), n)
			if math.Abs(a-b) > 1e-9 || !ok || !also {
				t.Errorf("cosine %.2f of %d chunks: %.3f (%v), squeezed %.3f (%v)", c, n, a, ok, b, also)
			}
		}
	}
}

func TestLargeCollectionsNeedBetterHits(t *testing.T) {
	t.Parallel()
	before := math.Inf(1)
	for _, n := range []int64{1_000, 100_000, 10_000_000} {
		near, _ := plainScale.nearness(0.45, n)
		if near >= before {
			t.Errorf("a cosine of 0.45 is %.3f near among %d chunks, %.3f among fewer", near, n, before)
		}
		before = near
	}
}

// TestModelThatTellsNothing: if answers are no nearer than chance, words alone decide.
func TestModelThatTellsNothing(t *testing.T) {
	t.Parallel()
	if _, ok := (scale{mean: 0.6, deviation: 0.1, together: 0.7}).nearness(0.9, 1000); ok {
		t.Error("nearness is told by a model that does not tell answers from chance")
	}
	if _, err := scaleFrom(make([][]float32, 3)); err == nil {
		t.Error("three vectors are taken for 32 probes")
	}
}

// embedder counts its calls, which end with their context.
type embedder struct {
	models
	calls int
}

func (e *embedder) Embed(ctx context.Context, _ workersai.EmbedRequest) (*workersai.EmbedResponse, error) {
	e.calls++
	return nil, errors.Join(ctx.Err(), workersai.ErrUnreachable)
}

// unlimited is a budget that nobody waits for.
type unlimited struct{}

func (unlimited) Wait(context.Context, bool) error       { return nil }
func (unlimited) Pause(context.Context, time.Time) error { return nil }

// TestAskerWhoLeavesIsNotTheProvidersFault: the next question calibrates again at once; a provider that is down is spared.
func TestAskerWhoLeavesIsNotTheProvidersFault(t *testing.T) {
	t.Parallel()
	model := &embedder{}
	s := &Service{cfg: Config{Logger: slog.New(slog.DiscardHandler)}, models: model, embedBudget: unlimited{}}
	found := []store.Passage{{Vector: &store.LegScore{Score: 0.5}}}
	left, leave := context.WithCancel(t.Context())
	leave()
	for i, c := range []struct {
		ctx   context.Context
		calls int
	}{{left, 1}, {t.Context(), 2}, {t.Context(), 2}} {
		if got := s.scaleOf(c.ctx, found); got != plainScale || model.calls != c.calls {
			t.Errorf("question %d: scale %+v after %d calls, want the plain one after %d", i+1, got, model.calls, c.calls)
		}
	}
}
