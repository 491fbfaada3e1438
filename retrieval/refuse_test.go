package retrieval

import (
	"bufio"
	"encoding/json"
	"os"
	"sort"
	"testing"

	"github.com/footnote-rag/footnote/store"
)

// TestRefusals measures the evidence score on recorded searches: lines of {"c": collection, "kind": "own", "foreign" or
// "adversarial", "q": question, "hits": [{"title", "text", "cos"}]}.
func TestRefusals(t *testing.T) {
	path := os.Getenv("FOOTNOTE_EVAL_HITS")
	if path == "" {
		t.Skip("set FOOTNOTE_EVAL_HITS to a file of recorded searches to measure refusals")
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	scores := map[[2]string][]float64{}
	cosines := map[[2]string][]float64{}
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<24)
	for sc.Scan() {
		var line struct {
			C, Kind, Q string
			Hits       []struct {
				Title, Text string
				Cos         float64
			}
		}
		if err := json.Unmarshal(sc.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		var passages []store.Passage
		for i, h := range line.Hits {
			passages = append(passages, store.Passage{Title: h.Title, Text: h.Text, Vector: &store.LegScore{Score: h.Cos, Rank: i + 1}})
		}
		score, best := evidenceOf(line.Q, passages)
		for _, c := range []string{line.C, "all"} {
			key := [2]string{c, line.Kind}
			scores[key] = append(scores[key], score)
			cosines[key] = append(cosines[key], best.Vector)
		}
	}
	for key, own := range scores {
		if key[1] != "own" {
			continue
		}
		for _, kind := range []string{"foreign", "adversarial"} {
			other := scores[[2]string{key[0], kind}]
			if key[0] == "all" && kind == "adversarial" || len(other) == 0 {
				continue
			}
			area := rankArea(own, other)
			t.Logf("%-20s %-12s AUC %.3f, cosine alone %.3f; at %.2f answered %.3f of %d own, %.3f of %d %s", key[0], kind, area,
				rankArea(cosines[key], cosines[[2]string{key[0], kind}]), defaultThreshold, above(own), len(own), above(other), len(other), kind)
			if kind == "foreign" && area < 0.97 {
				t.Errorf("%s: AUC %.3f, want at least 0.97", key[0], area)
			}
		}
	}
}

func above(scores []float64) float64 {
	n := 0
	for _, s := range scores {
		if s >= defaultThreshold {
			n++
		}
	}
	return float64(n) / float64(len(scores))
}

// rankArea is the chance that one of a is above one of b.
func rankArea(a, b []float64) float64 {
	b = append([]float64(nil), b...)
	sort.Float64s(b)
	sum := 0.0
	for _, v := range a {
		below := sort.SearchFloat64s(b, v)
		upTo := sort.Search(len(b), func(i int) bool { return b[i] > v })
		sum += float64(below+upTo) / 2
	}
	return sum / float64(len(a)*len(b))
}
