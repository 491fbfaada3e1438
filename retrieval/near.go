package retrieval

import (
	"math"
	"sort"
)

// plausibleSentences of the passages are compared with a sentence by their vectors: those that share most words with it.
const plausibleSentences = 8

// closeness tells how near the plausible sentences are to a sentence, by index in Checker.evidence, 0..1. nil: not known.
type closeness map[int]float64

// plausible lists the sentences of the passages that share most with a claim, by index in evidence, the best first.
func (c *Checker) plausible(cl claim) []int {
	seeds := c.seeds(cl)
	out := make([]int, 0, plausibleSentences)
	for _, s := range seeds[:min(plausibleSentences, len(seeds))] {
		out = append(out, s.at)
	}
	return out
}

// seed is a sentence that shares words with a claim.
type seed struct {
	at    int // in evidence
	value float64
}

// seeds ranks the sentences by the weight of the claim's words that they hold.
func (c *Checker) seeds(cl claim) []seed {
	out := make([]seed, 0, len(c.evidence))
	for i, e := range c.evidence {
		var v float64
		for j, t := range cl.content {
			if e.keys[t.key] || related(t, e.keys) {
				v += cl.weights[j]
			}
		}
		if v > 0 {
			out = append(out, seed{i, v})
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].value > out[j].value })
	return out
}

// nearShare is what vectors count against words: fitted by TestCheckerFusion.
const nearShare = 0.35

// fuse adds what vectors tell to the score of the words. Vectors hardly see a wrong number, a name or a "not": a sentence
// with a conflict gets no better verdict by them, and one that lacks a number or a name is not supported by them.
func (s Signals) fuse(words, penalty, share float64) float64 {
	score := (1-share)*words + share*s.Near*(1+penalty)/2
	switch {
	case s.conflicts():
		score = math.Min(score, math.Max(words, partlyScore-0.01))
	case s.MissingNumbers > 0 || s.MissingNames > 0:
		score = math.Min(score, math.Max(words, supportedScore-0.01))
	}
	return score
}

// of is the closeness of the nearest sentence of a window.
func (n closeness) of(w window) float64 {
	best := 0.0
	for i := w.first; i <= w.last; i++ {
		best = max(best, n[i])
	}
	return best
}

// closenessOf brings a cosine of two sentences to 0..1: 0 is what unrelated texts have with this model, 1 the same text.
// Three decimals: more would depend on the batch that a text was embedded in.
func (s scale) closenessOf(cosine float64) float64 {
	near := (cosine - s.mean) / (1 - s.mean)
	return math.Round(1000*math.Max(0, math.Min(1, near))) / 1000
}
