package retrieval_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/footnote-rag/footnote/retrieval"
)

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

// TestCheckerFusion compares the checker, words and vectors together, with plain scores on all pairs of scifact-claims, each
// judged out of sample by two-fold cross-fitting: the vectors' share and every method's threshold are chosen on one fold (the
// share with the corrupted sentences, too) for the pairs of the other. Folds and resampling go by groups: claims that share an
// abstract are never parted. The pooled scores of the two folds are comparable although each may have its share, because each
// is standardised: less the mean of the fold it was fitted on, divided by its deviation. Baselines, in whose scores nothing is
// chosen, are left as they are.
func TestCheckerFusion(t *testing.T) {
	if !retrieval.EvalFull() {
		t.Skip("set FOOTNOTE_EVAL=1 to embed some thousand sentences")
	}
	pairs, wrong := readCheckables(t), corrupted(t)
	var texts []string
	for _, k := range wrong {
		texts = append(texts, retrieval.TextsToCompare(k.checker, k.sentence)...)
	}
	for _, k := range pairs {
		texts = append(append(texts, k.sentence), retrieval.AllSentences(k.checker)...)
	}
	f := newFitting(pairs, wrong, retrieval.EvalVectors(t, texts))
	f.shares(t)
	methods := []method{
		{"words and vectors", f.fit},
		unfitted("words", func(k checkable) float64 { return k.checker.Check(k.sentence).Score }),
		unfitted(bestCosine, func(k checkable) float64 { return retrieval.BestCosine(k.checker, k.sentence, f.vectors) }),
		unfitted(tfIDF, func(k checkable) float64 { return k.plain[0] }),
		unfitted(wordOverlap, func(k checkable) float64 { return k.plain[1] }),
	}
	t.Log("")
	t.Logf("| scifact-claims, all %d pairs, each out of sample | AUC | p | right | p |", len(pairs))
	t.Log("|---|---|---|---|---|")
	compareMethods(t, pairs, methods, bestCosine, tfIDF, wordOverlap)
}

const (
	bestCosine  = "cosine of the best sentence"
	tfIDF       = "tf-idf cosine"
	wordOverlap = "word overlap"
)

// candidateShares of vectors, one of which is chosen.
var candidateShares = []float64{0, 0.1, 0.2, 0.3, retrieval.NearShare, 0.4, 0.5, 0.6, 0.8}

// fitting chooses what vectors count.
type fitting struct {
	pairs   []checkable
	vectors map[string][]float32
	wrong   map[float64]float64                        // by share: the area on corrupted sentences
	scores  map[float64]map[*retrieval.Checker]float64 // by share: of each pair
}

func newFitting(pairs, wrong []checkable, vectors map[string][]float32) *fitting {
	f := &fitting{pairs, vectors, map[float64]float64{}, map[float64]map[*retrieval.Checker]float64{}}
	for _, share := range candidateShares {
		score := func(k checkable) float64 {
			return retrieval.CheckByVectors(k.checker, k.sentence, vectors, share).Score
		}
		f.wrong[share] = areaOf(scoresOf(wrong, score), wrong)
		f.scores[share] = map[*retrieval.Checker]float64{}
		for _, k := range pairs {
			f.scores[share][k.checker] = score(k)
		}
	}
	return f
}

// fused scores a pair.
func (f *fitting) fused(share float64) func(checkable) float64 {
	return func(k checkable) float64 { return f.scores[share][k.checker] }
}

// fit takes the share with the best mean area on the pairs and on corrupted sentences.
func (f *fitting) fit(on []checkable) (func(checkable) float64, string) {
	best, chosen := 0.0, 0.0
	for _, share := range candidateShares {
		if a := areaOf(scoresOf(on, f.fused(share)), on) + f.wrong[share]; a > best {
			best, chosen = a, share
		}
	}
	score := f.fused(chosen)
	mean, deviation := meanAndDeviation(scoresOf(on, score))
	return func(k checkable) float64 { return (score(k) - mean) / deviation }, fmt.Sprintf("share %.2f", chosen)
}

func meanAndDeviation(v []float64) (mean, deviation float64) {
	for _, x := range v {
		mean += x / float64(len(v))
	}
	for _, x := range v {
		deviation += (x - mean) * (x - mean) / float64(len(v))
	}
	return mean, math.Sqrt(deviation)
}

// shares prints the areas by share and fails if another one than the one in use is better by 0.01.
func (f *fitting) shares(t *testing.T) {
	best, used := 0.0, 0.0
	t.Log("| vectors' share | AUC on the claims | on corrupted sentences |")
	t.Log("|---|---|---|")
	for _, share := range candidateShares {
		a := areaOf(scoresOf(f.pairs, f.fused(share)), f.pairs)
		t.Logf("| %.2f | %.3f | %.3f |", share, a, f.wrong[share])
		if best = max(best, (a+f.wrong[share])/2); share == retrieval.NearShare {
			used = (a + f.wrong[share]) / 2
		}
	}
	if used < best-0.01 {
		t.Errorf("mean area %.3f with the share in use, %.3f with another: take that", used, best)
	}
}
