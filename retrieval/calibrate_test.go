package retrieval

import (
	"math"
	"testing"
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
