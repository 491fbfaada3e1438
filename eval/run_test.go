package eval_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/footnote-rag/footnote/eval"
)

// scripted answers from maps. The real server is measured in cmd/footnote's tests; here replies must be known exactly.
type scripted struct {
	hits    map[string][]eval.Hit
	answers map[string]eval.Answer
	texts   map[string]string
}

func (s scripted) Search(_ context.Context, q string, limit int) (eval.Results, error) {
	hits, ok := s.hits[q]
	if !ok {
		return eval.Results{}, errors.New("the server is on fire")
	}
	return eval.Results{Hits: hits[:min(limit, len(hits))], SearchMS: 1}, nil
}

func (s scripted) Answer(_ context.Context, q string) (eval.Answer, error) { return s.answers[q], nil }

func (s scripted) Text(_ context.Context, uri string) (string, error) {
	text, ok := s.texts[uri]
	if !ok {
		return "", fmt.Errorf("no document %q", uri)
	}
	return text, nil
}

const manual = "Größe zählt. VACUUM removes dead rows. It runs nightly."

func questions(t *testing.T, jsonl string) eval.Collection {
	t.Helper()
	path := filepath.Join(t.TempDir(), "asked.jsonl")
	if err := os.WriteFile(path, []byte(jsonl), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := eval.Open(path, "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func measured(t *testing.T) *eval.Run {
	t.Helper()
	c := questions(t, `{"id":"vacuum","question":"What does VACUUM remove?","document":"m","quote":"VACUUM removes dead rows.","answers":["dead rows"]}
{"id":"night","question":"When?","document":"m","answers":["nightly"]}
{"id":"mars","question":"Who went to Mars?","answerable":false}
{"id":"lost","question":"Where is <b>it</b>?","document":"n"}
`)
	s := scripted{
		hits: map[string][]eval.Hit{
			"What does VACUUM remove?": {{Document: "m", DocumentID: "id-m", Title: `<script>alert("x")</script>`, Start: 13, End: 38, Text: "VACUUM removes dead rows.", Score: 1}},
			"When?":                    {{Document: "x", Score: 1}, {Document: "m", Start: 39, End: 55, Score: 0.5}},
		},
		answers: map[string]eval.Answer{
			"What does VACUUM remove?": {Text: "Dead rows.", Evidence: 0.9, TotalMS: 5, Citations: []eval.Citation{
				{Sentence: "Dead rows.", Verdict: "supported", Document: "m", DocumentID: "id-m", Start: 13, End: 38, Quote: "VACUUM removes dead rows."},
				{Sentence: "More.", Verdict: "unsupported"}}},
			"When?":               {Text: "nightly", Evidence: 0.2, Citations: []eval.Citation{{Sentence: "nightly", Verdict: "partly", Document: "m", Start: 0, End: 5, Quote: "Groesse"}}},
			"Who went to Mars?":   {Text: "The documents do not tell.", Refused: true, Reason: "no_evidence", Evidence: 0.1},
			"Where is <b>it</b>?": {Text: "no", Refused: true, Reason: "no_evidence", Evidence: 0.1},
		},
		texts: map[string]string{"m": manual},
	}
	run, err := eval.Collect(t.Context(), s, c, eval.Options{Answers: true, Concurrency: 2})
	if err != nil {
		t.Fatal(err)
	}
	run.Server, run.Collection = "http://127.0.0.1:8080", "manual"
	return run
}

func TestCollect(t *testing.T) {
	t.Parallel()
	run := measured(t)
	want := map[string]float64{
		"ndcg@10":  (1 + 1/math.Log2(3) + 0) / 3,
		"mrr@10":   (1 + 0.5 + 0) / 3,
		"recall@5": 2.0 / 3, "recall@10": 2.0 / 3, "recall@100": 2.0 / 3,
		"span_recall@5": 1, "span_precision@5": 1, "span_iou@5": 1,
		"em": 1, "f1": 1,
		"supported":          0.25, // one of two sentences, none of one
		"citation_precision": 1, "citation_recall": 1,
		"quotes_exact":      0.5, // the second quote is not what stands at its offsets
		"refusal_precision": 0.5, "refusal_recall": 1,
		"refusal_auc": 2.5 / 3, // 0.9 and 0.2 are above 0.1, one tie
	}
	for name, w := range want {
		if got, ok := run.Means[name]; !ok || math.Abs(got-w) > 1e-12 {
			t.Errorf("mean %s = %v (measured: %v), want %v", name, got, ok, w)
		}
	}
	if len(run.Means) != len(want) {
		t.Errorf("means %v, want only %v", run.Means, want)
	}
	if run.Failed != 1 || !strings.Contains(run.Results[3].Error, "on fire") {
		t.Errorf("failed %d, the last question's error %q; want the failed search counted and told", run.Failed, run.Results[3].Error)
	}
	if run.Latency["answer"].P50 != 5 {
		t.Errorf("latency %v, want the answer's 5 ms", run.Latency)
	}
}

func TestCollectRefusesAWrongQuote(t *testing.T) {
	t.Parallel()
	c := questions(t, `{"question":"q","document":"m","quote":"words that are not there"}`)
	_, err := eval.Collect(t.Context(), scripted{texts: map[string]string{"m": manual}}, c, eval.Options{})
	if !errors.Is(err, eval.ErrCollection) {
		t.Errorf("Collect = %v, want ErrCollection: a quote that is nowhere can never be found", err)
	}
}

func TestRunIsSavedAndRead(t *testing.T) {
	t.Parallel()
	run := measured(t)
	var b bytes.Buffer
	if err := run.Save(&b); err != nil {
		t.Fatal(err)
	}
	got, err := eval.ReadRun(&b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(run, got); diff != "" {
		t.Errorf("the run read back (-want +got):\n%s", diff)
	}
	if _, err := eval.ReadRun(strings.NewReader(`{"version":99}`)); err == nil {
		t.Error("ReadRun took a version that it does not know")
	}
}

func runOf(scores ...float64) *eval.Run {
	r := &eval.Run{Name: "t"}
	for i, s := range scores {
		r.Results = append(r.Results, eval.Result{Question: eval.Question{ID: fmt.Sprint(i)}, Metrics: map[string]float64{"ndcg@10": s}})
	}
	return r
}

func TestCompare(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before, after []float64
		p             float64
		tolerance     float64
	}{
		"equal runs":            {[]float64{0.5, 0.7}, []float64{0.5, 0.7}, 1, 0},
		"five of five better":   {[]float64{0, 0, 0, 0, 0}, []float64{1, 1, 1, 1, 1}, 2.0 / 32, 0},
		"two better, one worse": {[]float64{0, 0, 0.5}, []float64{0.4, 0.3, 0.4}, 0.5, 0}, // 0.4+0.3-0.1: of 8 signs ±0.6, ±0.8 reach it
		// scipy.stats.permutation_test(…, permutation_type="samples", n_resamples=inf) of the same 16 differences: 0.01251220703125
		"sixteen pairs": {make([]float64, 16), []float64{.1, .2, -.05, .3, .15, -.1, .25, .05, .12, -.02, .2, .1, -.15, .3, .05, .08}, 0.01251220703125, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := eval.Compare(runOf(c.before...), runOf(c.after...))
			if err != nil {
				t.Fatal(err)
			}
			if d := got[0]; math.Abs(d.P-c.p) > c.tolerance+1e-12 {
				t.Errorf("p = %v of %+v, want %v", d.P, d, c.p)
			}
		})
	}
	if _, err := eval.Compare(&eval.Run{}, runOf(1)); err == nil {
		t.Error("Compare took runs that have no question in common")
	}
}

func TestMinimum(t *testing.T) {
	t.Parallel()
	run := &eval.Run{Means: map[string]float64{"ndcg@10": 0.7}}
	for s, fails := range map[string]bool{"ndcg@10=0.70": false, "ndcg@10=0.71": true, "recall@5=0.1": true} {
		m, err := eval.ParseMinimum(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Check(run); (got != "") != fails {
			t.Errorf("Check(%s) = %q, want a failure: %v", s, got, fails)
		}
	}
	for _, s := range []string{"", "ndcg@10", "ndcg@10=", "ndcg@10=NaN", "nonsense=1", "=1"} {
		if m, err := eval.ParseMinimum(s); err == nil {
			t.Errorf("ParseMinimum(%q) = %v, want an error", s, m)
		}
	}
}
