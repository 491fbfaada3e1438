package eval

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// Difference of one metric between two runs, over the questions that both have.
type Difference struct {
	Metric string  `json:"metric"`
	Before float64 `json:"before"`
	After  float64 `json:"after"`
	P      float64 `json:"p"` // of the paired randomisation test, two-sided
	Pairs  int     `json:"pairs"`
	Better int     `json:"better"` // questions that gained
	Worse  int     `json:"worse"`
}

// Significant at the level of 5 %.
func (d Difference) Significant() bool { return d.P < 0.05 }

const (
	randomisations  = 20_000 // p is then known to about ±0.003 near 0.05
	exhaustivePairs = 16     // 2^16 assignments are tried one by one instead of drawn
)

// Compare tests each metric of after against before, question by question, with the paired randomisation test (Fisher's; Smucker,
// Allan and Carterette, "A Comparison of Statistical Significance Tests for Information Retrieval Evaluation", 2007): were the
// two systems equal, each question's difference might as well have had the other sign; p is the share of such assignments of
// signs whose mean difference is at least as large. Few pairs are tried exhaustively, many by 20,000 draws from a fixed seed, so
// that the same two runs always give the same p.
func Compare(before, after *Run) ([]Difference, error) {
	old := make(map[string]map[string]float64, len(before.Results))
	for _, r := range before.Results {
		old[r.ID] = r.Metrics
	}
	pairs := map[string][][2]float64{}
	for _, r := range after.Results {
		for name, v := range r.Metrics {
			if was, ok := old[r.ID][name]; ok {
				pairs[name] = append(pairs[name], [2]float64{was, v})
			}
		}
	}
	if len(pairs) == 0 {
		return nil, fmt.Errorf("%w: the runs have no question and metric in common: %q has %d questions, %q %d", ErrCollection,
			before.Name, len(before.Results), after.Name, len(after.Results))
	}
	var all []Difference
	for _, name := range SortedMetrics(pairs) {
		all = append(all, difference(name, pairs[name]))
	}
	return all, nil
}

func difference(name string, pairs [][2]float64) Difference {
	d := Difference{Metric: name, Pairs: len(pairs)}
	diffs := make([]float64, len(pairs))
	for i, p := range pairs {
		d.Before += p[0] / float64(len(pairs))
		d.After += p[1] / float64(len(pairs))
		diffs[i] = p[1] - p[0]
		switch {
		case diffs[i] > 0:
			d.Better++
		case diffs[i] < 0:
			d.Worse++
		}
	}
	d.P = randomisationTest(diffs)
	return d
}

// randomisationTest returns the two-sided p of paired differences. Differences of 0 change nothing and are left out.
func randomisationTest(diffs []float64) float64 {
	diffs = slices.DeleteFunc(slices.Clone(diffs), func(d float64) bool { return d == 0 })
	if len(diffs) == 0 {
		return 1
	}
	observed := 0.0
	for _, d := range diffs {
		observed += d
	}
	observed = math.Abs(observed) - 1e-12 // sums in another order differ in the last bits
	extreme, tries := 0, 0
	try := func(flips func(i int) bool) {
		sum := 0.0
		for i, d := range diffs {
			if flips(i) {
				d = -d
			}
			sum += d
		}
		tries++
		if math.Abs(sum) >= observed {
			extreme++
		}
	}
	if len(diffs) <= exhaustivePairs {
		for signs := range 1 << len(diffs) {
			try(func(i int) bool { return signs>>i&1 == 1 })
		}
		return float64(extreme) / float64(tries)
	}
	draw := rand.New(rand.NewPCG(1, 2))
	for range randomisations {
		var bits uint64
		try(func(i int) bool {
			if i%64 == 0 {
				bits = draw.Uint64()
			}
			return bits>>(i%64)&1 == 1
		})
	}
	return float64(extreme+1) / float64(tries+1) // the observed assignment is one of them
}

// metricOrder is how metrics are listed; others follow by name.
var metricOrder = []string{"ndcg@10", "mrr@10", "recall@5", "recall@10", "recall@100", "span_recall@5", "span_precision@5", "span_iou@5",
	"em", "f1", "citation_precision", "citation_recall", "supported", "quotes_exact", "refusal_precision", "refusal_recall", "refusal_auc"}

// SortedMetrics are the names of metrics in the order in which reports list them.
func SortedMetrics[T any](metrics map[string]T) []string {
	var names []string
	for name := range metrics {
		names = append(names, name)
	}
	place := func(name string) int {
		if i := slices.Index(metricOrder, name); i >= 0 {
			return i
		}
		return len(metricOrder)
	}
	slices.SortFunc(names, func(a, b string) int {
		if d := place(a) - place(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return names
}

// Minimum is a metric that must reach a value.
type Minimum struct {
	Metric string
	Value  float64
}

// ParseMinimum reads a minimum such as ndcg@10=0.70.
func ParseMinimum(s string) (Minimum, error) {
	name, value, ok := strings.Cut(s, "=")
	v, err := strconv.ParseFloat(value, 64)
	if !ok || err != nil || math.IsNaN(v) || !slices.Contains(metricOrder, name) {
		return Minimum{}, fmt.Errorf("%q is no minimum: give a metric and a number, such as ndcg@10=0.70; metrics: %s", s, strings.Join(metricOrder, ", "))
	}
	return Minimum{name, v}, nil
}

// Check tells what is wrong with the run's mean, "" if it reaches the minimum. A metric that was not measured does not.
func (m Minimum) Check(r *Run) string {
	got, ok := r.Means[m.Metric]
	switch {
	case !ok:
		return fmt.Sprintf("%s was not measured: the collection or the options do not give it", m.Metric)
	case got < m.Value:
		return fmt.Sprintf("%s is %.4f, below the minimum of %v", m.Metric, got, m.Value)
	}
	return ""
}
