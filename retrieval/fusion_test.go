package retrieval_test

import (
	"crypto/sha256"
	"math"
	"math/rand/v2"
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
}

// readCheckables of scifact-claims: the half to fit on and the half to report, by the first bit of the claim's SHA-256.
func readCheckables(t *testing.T) (halves [2][]checkable) {
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
	for _, j := range readClaims(t, filepath.Join(dir, "claims.csv")) {
		if a, known := texts[j.doc]; known {
			k := checkable{sentence: j.claim, true: j.support,
				checker: retrieval.NewChecker("", []store.Passage{{Title: a.Title, Text: strings.Join(a.Sentences, "\n\n")}})}
			k.plain[0], k.plain[1] = plainBaselines(j.claim, a.Sentences)
			half := sha256.Sum256([]byte(j.claim))[0] % 2
			halves[half] = append(halves[half], k)
		}
	}
	return halves
}

// corrupted sentences of the collections that the rules were made on, reworded, with true ones.
func corrupted(t *testing.T) (out []checkable) {
	for _, name := range []string{"squad2", "cranfield"} {
		docs := retrieval.ReadLines[beirDoc](t, filepath.Join(retrieval.EvalData(t), name, "corpus.jsonl"))
		rng := rand.New(rand.NewPCG(7, 2))
		for range 90 {
			doc, s, checker, ok := drawSentence(docs, rng)
			if !ok {
				continue
			}
			out = append(out, checkable{checker: checker, sentence: reword(s), true: true})
			for _, kind := range []string{"number", "date", "name", "negated", "denied", "exchanged", "contrary", "unit", "subject"} {
				if c := corruptions[kind](s, doc.Text, rng); c != "" && reword(c) != reword(s) {
					out = append(out, checkable{checker: checker, sentence: reword(c)})
				}
			}
			foreign := docs[rng.IntN(len(docs))]
			if other := retrieval.Sentences(foreign.Text); len(other) > 0 && foreign.ID != doc.ID {
				out = append(out, checkable{checker: checker, sentence: reword(other[rng.IntN(len(other))].Text)})
			}
		}
	}
	return out
}

// TestCheckerFusion fits what vectors count on one half of the claims and on corrupted sentences, and reports the other half
// against plain thresholds: areas by a paired bootstrap over pairs, right answers at thresholds fitted on the first half by
// McNemar's exact test.
func TestCheckerFusion(t *testing.T) {
	if !retrieval.EvalFull() {
		t.Skip("set FOOTNOTE_EVAL=1 to embed some thousand sentences")
	}
	halves, wrong := readCheckables(t), corrupted(t)
	var texts []string
	for _, k := range wrong {
		texts = append(texts, retrieval.TextsToCompare(k.checker, k.sentence)...)
	}
	for _, half := range halves {
		for _, k := range half {
			texts = append(append(texts, k.sentence), retrieval.AllSentences(k.checker)...)
		}
	}
	vectors := retrieval.EvalVectors(t, texts)
	fused := func(share float64) func(checkable) float64 {
		return func(k checkable) float64 {
			return retrieval.CheckByVectors(k.checker, k.sentence, vectors, share).Score
		}
	}
	fitShare(t, halves[0], wrong, fused)
	methods := []method{
		{"words and vectors", fused(-1)},
		{"words", func(k checkable) float64 { return k.checker.Check(k.sentence).Score }},
		{"cosine of the best sentence", func(k checkable) float64 { return retrieval.BestCosine(k.checker, k.sentence, vectors) }},
		{"tf-idf cosine", func(k checkable) float64 { return k.plain[0] }},
		{"word overlap", func(k checkable) float64 { return k.plain[1] }},
	}
	t.Logf("| scifact-claims, %d pairs held out | AUC | p | right | p |", len(halves[1]))
	t.Log("|---|---|---|---|---|")
	compareMethods(t, measure(halves, methods[0].score), methods, func(m method) measured { return measure(halves, m.score) })
	crossed := [2][]checkable{halves[1], halves[0]}
	both := func(m method) measured { return measure(halves, m.score).and(measure(crossed, m.score)) }
	t.Log("")
	t.Logf("| scifact-claims, all %d pairs, thresholds of the other half | AUC | p | right | p |", len(halves[0])+len(halves[1]))
	t.Log("|---|---|---|---|---|")
	compareMethods(t, both(methods[0]), methods, both)
}

// method scores a sentence.
type method struct {
	name  string
	score func(checkable) float64
}

// compareMethods prints a row each; the first method is ours.
func compareMethods(t *testing.T, ours measured, methods []method, on func(method) measured) {
	for i, m := range methods {
		other := on(m)
		if i == 0 {
			t.Logf("| %s | %.3f | | %.3f | |", m.name, other.area(), other.share())
			continue
		}
		area, right := ours.bootstrap(other), ours.mcNemar(other)
		t.Logf("| %s | %.3f | %.4f | %.3f | %.4f |", m.name, other.area(), area, other.share(), right)
		if ours.area() <= other.area() {
			t.Errorf("area %.3f, that of %s %.3f", ours.area(), m.name, other.area())
		}
	}
}

// fitShare prints the areas by share and fails if another one is better by 0.01.
func fitShare(t *testing.T, claims, wrong []checkable, fused func(float64) func(checkable) float64) {
	best, used := 0.0, 0.0
	t.Log("| vectors' share | AUC on the claims to fit on | on corrupted sentences |")
	t.Log("|---|---|---|")
	for _, share := range []float64{0, 0.1, 0.2, 0.3, retrieval.NearShare, 0.4, 0.5, 0.6, 0.8} {
		a, b := areaOf(scoresOf(claims, fused(share)), claims), areaOf(scoresOf(wrong, fused(share)), wrong)
		t.Logf("| %.2f | %.3f | %.3f |", share, a, b)
		if best = max(best, (a+b)/2); share == retrieval.NearShare {
			used = (a + b) / 2
		}
	}
	if used < best-0.01 {
		t.Errorf("mean area %.3f with the share in use, %.3f with another: take that", used, best)
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

// measured is a method on the half that is reported, with whether it is right at the threshold of the other half.
type measured struct {
	all    []checkable
	scores []float64
	right  []bool
}

func measure(halves [2][]checkable, score func(checkable) float64) measured {
	m := measured{all: halves[1], scores: scoresOf(halves[1], score)}
	threshold := bestThreshold(scoresOf(halves[0], score), halves[0])
	for i, k := range m.all {
		m.right = append(m.right, (m.scores[i] >= threshold) == k.true)
	}
	return m
}

// and joins the measurements of two parts.
func (m measured) and(o measured) measured {
	return measured{slices.Concat(m.all, o.all), slices.Concat(m.scores, o.scores), slices.Concat(m.right, o.right)}
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

// bootstrap is the share of 1,000 samples of the pairs in which the other's area is not smaller.
func (m measured) bootstrap(o measured) float64 {
	rng, worse := rand.New(rand.NewPCG(3, 4)), 0
	const rounds = 1000
	for range rounds {
		all, a, b := make([]checkable, len(m.all)), make([]float64, len(m.all)), make([]float64, len(m.all))
		for i := range all {
			k := rng.IntN(len(m.all))
			all[i], a[i], b[i] = m.all[k], m.scores[k], o.scores[k]
		}
		if areaOf(a, all) <= areaOf(b, all) {
			worse++
		}
	}
	return float64(worse) / rounds
}

// mcNemar is the exact two-sided p of as unequal a number of pairs that only one of the two gets right.
func (m measured) mcNemar(o measured) float64 {
	mine, its := 0, 0
	for i := range m.right {
		switch {
		case m.right[i] && !o.right[i]:
			mine++
		case o.right[i] && !m.right[i]:
			its++
		}
	}
	n, p := mine+its, 0.0
	for k := 0; k <= min(mine, its); k++ {
		a, _ := math.Lgamma(float64(n + 1))
		b, _ := math.Lgamma(float64(k + 1))
		c, _ := math.Lgamma(float64(n - k + 1))
		p += math.Exp(a - b - c - float64(n)*math.Ln2)
	}
	return math.Min(1, 2*p)
}
