package retrieval_test

import (
	"crypto/sha256"
	"encoding/csv"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/retrieval"
	"github.com/footnote-rag/footnote/store"
)

// checkable is a sentence with what it is to be checked against.
type checkable struct {
	checker  *retrieval.Checker
	sentence string
	true     bool
	plain    [2]float64 // tf-idf cosine, word overlap
	group    string     // what depends on each other has the same: claims that share an abstract, and a claim's abstracts
}

// fold is the half of the pairs that a group belongs to, by the first bit of its name's SHA-256.
func (k checkable) fold() int { return int(sha256.Sum256([]byte(k.group))[0] % 2) }

// readCheckables of scifact-claims.
func readCheckables(t *testing.T) (all []checkable) {
	dir := filepath.Join(retrieval.EvalData(t), "scifact-claims")
	type abstract struct {
		DocID     string   `json:"doc_id"`
		Title     string   `json:"title"`
		Sentences []string `json:"sentences"`
	}
	texts := map[string]abstract{}
	for _, a := range retrieval.ReadLines[abstract](t, filepath.Join(dir, "abstracts.jsonl")) {
		texts[a.DocID] = a
	}
	pairs := readClaims(t, filepath.Join(dir, "claims.csv"))
	pairs = slices.DeleteFunc(pairs, func(j judged) bool { return texts[j.doc].DocID == "" })
	groups := groupsOf(pairs)
	for _, j := range pairs {
		a := texts[j.doc]
		k := checkable{sentence: j.claim, true: j.support, group: groups[j.doc],
			checker: retrieval.NewChecker("", []store.Passage{{Title: a.Title, Text: strings.Join(a.Sentences, "\n\n")}})}
		k.plain[0], k.plain[1] = plainBaselines(j.claim, a.Sentences)
		all = append(all, k)
	}
	return all
}

type judged struct {
	claim, doc string
	support    bool
}

func readClaims(t testing.TB, path string) (out []judged) {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, r := range rows[1:] {
		docs := []string{r[2]}
		if r[2] == "" {
			docs = strings.Fields(strings.Trim(r[5], "[]"))
		}
		for _, d := range docs {
			if key := r[0] + "/" + d; !seen[key] {
				seen[key] = true
				out = append(out, judged{r[1], d, r[3] == "SUPPORT"})
			}
		}
	}
	return out
}

// groupsOf names the group of each abstract by the least of the abstracts that claims connect with it.
func groupsOf(pairs []judged) map[string]string {
	group, ofClaim := map[string]string{}, map[string]string{}
	for _, j := range pairs {
		group[j.doc] = j.doc
	}
	for changed := true; changed; {
		changed = false
		for _, j := range pairs {
			least := group[j.doc]
			if g, known := ofClaim[j.claim]; known {
				least = min(least, g)
			}
			if group[j.doc] != least || ofClaim[j.claim] != least {
				group[j.doc], ofClaim[j.claim], changed = least, least, true
			}
		}
	}
	return group
}

// method scores a sentence; fit chooses on some pairs how. What it chose is named.
type method struct {
	name string
	fit  func(on []checkable) (score func(checkable) float64, chose string)
}

// unfitted is a method in which nothing is chosen.
func unfitted(name string, score func(checkable) float64) method {
	return method{name, func([]checkable) (func(checkable) float64, string) { return score, "" }}
}

// measured is a method on all pairs, each scored, and told right or wrong by a threshold, with what the other fold chose.
type measured struct {
	all    []checkable
	scores []float64
	right  []bool
	chose  []string // of the folds
}

func crossFit(all []checkable, m method) measured {
	out := measured{all: all, scores: make([]float64, len(all)), right: make([]bool, len(all))}
	for fold := range 2 {
		on := slices.DeleteFunc(slices.Clone(all), func(k checkable) bool { return k.fold() == fold })
		score, chose := m.fit(on)
		if chose != "" {
			out.chose = append(out.chose, chose)
		}
		threshold := bestThreshold(scoresOf(on, score), on)
		for i, k := range all {
			if k.fold() == fold {
				out.scores[i] = score(k)
				out.right[i] = (out.scores[i] >= threshold) == k.true
			}
		}
	}
	return out
}

// compareMethods prints a row each; the first method is ours, which must rank better than each; of those with beat it must be
// significantly so.
func compareMethods(t *testing.T, all []checkable, methods []method, beat ...string) {
	var ours measured
	for i, m := range methods {
		other := crossFit(all, m)
		name := m.name
		if len(other.chose) > 0 {
			name += " (" + strings.Join(other.chose, ", ") + ")"
		}
		if i == 0 {
			ours = other
			t.Logf("| %s | %.3f | | %.3f | |", name, other.area(), other.share())
			continue
		}
		area, right := ours.bootstrap(other), ours.signs(other)
		t.Logf("| %s | %.3f | %.4f | %.3f | %.4f |", name, other.area(), area, other.share(), right)
		if ours.area() <= other.area() || slices.Contains(beat, m.name) && area >= 0.05 {
			t.Errorf("area %.3f, that of %s %.3f (p = %.4f)", ours.area(), m.name, other.area(), area)
		}
	}
}

func scoresOf(all []checkable, score func(checkable) float64) []float64 {
	out := make([]float64, len(all))
	for i, k := range all {
		out[i] = score(k)
	}
	return out
}

func areaOf(scores []float64, all []checkable) float64 {
	var p, n []float64
	for i, k := range all {
		if k.true {
			p = append(p, scores[i])
		} else {
			n = append(n, scores[i])
		}
	}
	return auc(p, n)
}

// bestThreshold has most right answers.
func bestThreshold(scores []float64, all []checkable) (threshold float64) {
	most := -1
	for _, candidate := range scores {
		right := 0
		for i, k := range all {
			if (scores[i] >= candidate) == k.true {
				right++
			}
		}
		if right > most {
			most, threshold = right, candidate
		}
	}
	return threshold
}

func (m measured) area() float64 { return areaOf(m.scores, m.all) }

func (m measured) share() float64 {
	n := 0.0
	for _, r := range m.right {
		if r {
			n++
		}
	}
	return n / float64(len(m.right))
}

// resamplings: p is then known to about ±0.004 near 0.05.
const resamplings = 10_000

// groups are the places of the pairs that depend on each other.
func (m measured) groups() (out [][]int) {
	at := map[string]int{}
	for i, k := range m.all {
		g, known := at[k.group]
		if !known {
			g = len(out)
			at[k.group], out = g, append(out, nil)
		}
		out[g] = append(out[g], i)
	}
	return out
}

// bootstrap is the two-sided p of the areas' difference: twice the share of samples, drawn with replacement by group, in which
// it is not of the sign that it most often has.
func (m measured) bootstrap(o measured) float64 {
	rng, groups := rand.New(rand.NewPCG(3, 4)), m.groups()
	a, b := newRanked(m), newRanked(o)
	notMore, notLess := 0, 0
	for range resamplings {
		weights := make([]float64, len(m.all))
		for range groups {
			for _, i := range groups[rng.IntN(len(groups))] {
				weights[i]++
			}
		}
		d := a.area(weights) - b.area(weights)
		if d <= 0 {
			notMore++
		}
		if d >= 0 {
			notLess++
		}
	}
	return math.Min(1, 2*float64(min(notMore, notLess)+1)/(resamplings+1))
}

// ranked is a method's pairs in the order of their scores, for areas of many samples.
type ranked struct {
	m     measured
	order []int
}

func newRanked(m measured) ranked {
	r := ranked{m, make([]int, len(m.all))}
	for i := range r.order {
		r.order[i] = i
	}
	slices.SortFunc(r.order, func(i, j int) int {
		switch {
		case m.scores[i] < m.scores[j]:
			return -1
		case m.scores[i] > m.scores[j]:
			return 1
		}
		return 0
	})
	return r
}

// area of the sample in which pair i is weights[i] times.
func (r ranked) area(weights []float64) float64 {
	var won, below, positive, negative float64
	for i := 0; i < len(r.order); {
		var p, n float64
		for j := i; i < len(r.order) && r.m.scores[r.order[i]] == r.m.scores[r.order[j]]; i++ {
			if k := r.order[i]; r.m.all[k].true {
				p += weights[k]
			} else {
				n += weights[k]
			}
		}
		won += p * (below + n/2)
		below += n
		positive, negative = positive+p, negative+n
	}
	return won / (positive * negative)
}

// signs is the two-sided p of the difference in right answers: the share of ways to exchange the two methods, group by group,
// that make as large a one.
func (m measured) signs(o measured) float64 {
	var diffs []int
	observed := 0
	for _, group := range m.groups() {
		d := 0
		for _, i := range group {
			if m.right[i] && !o.right[i] {
				d++
			} else if o.right[i] && !m.right[i] {
				d--
			}
		}
		diffs, observed = append(diffs, d), observed+d
	}
	rng, extreme := rand.New(rand.NewPCG(5, 6)), 1
	for range resamplings {
		sum := 0
		for _, d := range diffs {
			if rng.IntN(2) == 0 {
				d = -d
			}
			sum += d
		}
		if max(sum, -sum) >= max(observed, -observed) {
			extreme++
		}
	}
	return float64(extreme) / (resamplings + 1)
}
