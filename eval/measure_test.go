package eval_test

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/eval"
)

// evalData is the folder with the evaluation collections, which are not part of the project: a fresh machine does not have them,
// and the suite is whole without them.
func evalData(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("FOOTNOTE_EVAL_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "data")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("%v: set FOOTNOTE_EVAL_DATA to the folder with the evaluation collections", err)
	}
	return dir
}

func readTREC(t *testing.T, path string) map[string][]eval.Ranked {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	run := map[string][]eval.Ranked{}
	for sc := bufio.NewScanner(r); sc.Scan(); {
		f := strings.Fields(sc.Text())
		score, err := strconv.ParseFloat(f[4], 64)
		if err != nil {
			t.Fatal(err)
		}
		run[f[0]] = append(run[f[0]], eval.Ranked{Document: f[2], Score: score})
	}
	return run
}

// golden.json is what ir-measures says of the same runs; testdata/golden.py made it.
func TestMeasuresEqualIRMeasures(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden map[string]map[string]map[string]float64
	if err := json.Unmarshal(b, &golden); err != nil {
		t.Fatal(err)
	}
	for name, queries := range golden {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run, qrels := filepath.Join("testdata", name+".run"), filepath.Join("testdata", name+".qrels.tsv")
			switch name {
			case "edge":
			case "drawn": // judgements drawn by lot for a real run, which need no data folder
				run = filepath.Join("testdata", "med.run.gz")
			default:
				run, qrels = run+".gz", filepath.Join(evalData(t), name, "qrels", "test.tsv")
			}
			f, err := os.Open(qrels)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			grades, err := eval.ParseQrels(f)
			if err != nil {
				t.Fatal(err)
			}
			rankings := readTREC(t, run)
			for id, want := range queries {
				r, g := rankings[id], grades[id]
				got := map[string]float64{"ndcg@10": eval.NDCG(r, g, 10), "mrr@10": eval.ReciprocalRank(r, g, 10),
					"recall@5": eval.Recall(r, g, 5), "recall@10": eval.Recall(r, g, 10), "recall@100": eval.Recall(r, g, 100)}
				for metric, w := range want {
					if math.Abs(got[metric]-w) > 1e-9 {
						t.Errorf("%s of query %s = %v, ir-measures says %v", metric, id, got[metric], w)
					}
				}
			}
		})
	}
}

func TestRankDocuments(t *testing.T) {
	t.Parallel()
	got := eval.RankDocuments([]eval.Hit{{Document: "a", Score: 0.9}, {Document: "b", Score: 0.8}, {Document: "a", Score: 0.95}, {Document: "b", Score: 0.1}})
	want := []eval.Ranked{{Document: "a", Score: 0.95}, {Document: "b", Score: 0.8}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("RankDocuments = %v, want each document once with its best passage: %v", got, want)
	}
}

func TestSpans(t *testing.T) {
	t.Parallel()
	hit := func(document string, start, end int) eval.Hit {
		return eval.Hit{Document: document, Start: start, End: end}
	}
	quotes := []eval.Quote{{Document: "a", Start: 10, End: 20}, {Document: "a", Start: 50, End: 60}}
	for name, c := range map[string]struct {
		hits []eval.Hit
		want eval.SpanScores
	}{
		"nothing found":          {nil, eval.SpanScores{}},
		"both, exactly":          {[]eval.Hit{hit("a", 10, 20), hit("a", 50, 60)}, eval.SpanScores{Recall: 1, Precision: 1, IoU: 1}},
		"one of two":             {[]eval.Hit{hit("a", 0, 40)}, eval.SpanScores{Recall: 0.5, Precision: 10.0 / 40, IoU: 10.0 / 50}},
		"half of one":            {[]eval.Hit{hit("a", 15, 35)}, eval.SpanScores{Recall: 0.25, Precision: 5.0 / 20, IoU: 5.0 / 35}},
		"the same twice":         {[]eval.Hit{hit("a", 10, 20), hit("a", 10, 20)}, eval.SpanScores{Recall: 0.5, Precision: 0.5, IoU: 10.0 / 30}},
		"another document":       {[]eval.Hit{hit("b", 10, 20)}, eval.SpanScores{}},
		"the sixth is too late":  {[]eval.Hit{hit("b", 0, 1), hit("b", 0, 1), hit("b", 0, 1), hit("b", 0, 1), hit("b", 0, 1), hit("a", 0, 99)}, eval.SpanScores{}},
		"overlapping, both used": {[]eval.Hit{hit("a", 5, 15), hit("a", 12, 25)}, eval.SpanScores{Recall: 0.5, Precision: 10.0 / 23, IoU: 10.0 / 33}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := eval.Spans(c.hits, quotes, 5)
			for _, v := range [][2]float64{{got.Recall, c.want.Recall}, {got.Precision, c.want.Precision}, {got.IoU, c.want.IoU}} {
				if math.Abs(v[0]-v[1]) > 1e-12 {
					t.Errorf("Spans = %+v, want %+v", got, c.want)
				}
			}
		})
	}
}

func TestAnswersAgainstReferences(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		answer     string
		references []string
		em, f1     float64
	}{
		{"The Normans.", []string{"normans"}, 1, 1},
		{"in 1066", []string{"1066", "in the year 1066"}, 0, 0.8},
		{"a cat", []string{"dog"}, 0, 0},
		{"", []string{"dog"}, 0, 0},
		{"", []string{""}, 1, 1},
		{"red red", []string{"red"}, 0, 2.0 / 3},
	} {
		if got := eval.ExactMatch(c.answer, c.references); got != c.em {
			t.Errorf("ExactMatch(%q, %q) = %v, want %v", c.answer, c.references, got, c.em)
		}
		if got := eval.F1(c.answer, c.references); math.Abs(got-c.f1) > 1e-12 {
			t.Errorf("F1(%q, %q) = %v, want %v", c.answer, c.references, got, c.f1)
		}
	}
}
