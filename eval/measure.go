package eval

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// Ranked is a document with its score; a document stands in a ranking once.
type Ranked struct {
	Document string
	Score    float64
}

// RankDocuments scores each document by its best passage.
func RankDocuments(hits []Hit) []Ranked {
	var all []Ranked
	at := map[string]int{}
	for _, h := range hits {
		i, seen := at[h.Document]
		if !seen {
			at[h.Document] = len(all)
			all = append(all, Ranked{h.Document, h.Score})
		} else if h.Score > all[i].Score {
			all[i].Score = h.Score
		}
	}
	return all
}

// trecOrder sorts as trec_eval does, which holds scores in 32 bits: the higher score first, of equal ones the later name.
func trecOrder(a, b Ranked) int {
	if c := cmp.Compare(float32(b.Score), float32(a.Score)); c != 0 {
		return c
	}
	return strings.Compare(b.Document, a.Document)
}

// msmarcoOrder sorts as MS MARCO's evaluation does: the higher score first, of equal ones the earlier name.
func msmarcoOrder(a, b Ranked) int {
	if c := cmp.Compare(b.Score, a.Score); c != 0 {
		return c
	}
	return strings.Compare(a.Document, b.Document)
}

// NDCG is the normalised discounted cumulative gain of the first k: gains are the grades, discounted by log2(rank + 1)
// (Järvelin and Kekäläinen, 2002), as trec_eval's ndcg_cut and ir-measures' nDCG@k. With no relevant document it is 0.
func NDCG(ranking []Ranked, grades map[string]int, k int) float64 {
	ranking = slices.SortedFunc(slices.Values(ranking), trecOrder)
	var gains, ideal []int
	for _, r := range ranking[:min(k, len(ranking))] {
		gains = append(gains, grades[r.Document])
	}
	for _, g := range grades {
		ideal = append(ideal, g)
	}
	slices.SortFunc(ideal, func(a, b int) int { return b - a })
	best := dcg(ideal[:min(k, len(ideal))])
	if best == 0 {
		return 0
	}
	return dcg(gains) / best
}

func dcg(grades []int) (sum float64) {
	for i, g := range grades {
		sum += float64(max(g, 0)) / math.Log2(float64(i+2))
	}
	return sum
}

// Recall is the share of the relevant documents that are among the first k, as trec_eval's recall and ir-measures' R@k.
func Recall(ranking []Ranked, grades map[string]int, k int) float64 {
	ranking = slices.SortedFunc(slices.Values(ranking), trecOrder)
	var found, relevant float64
	for _, r := range ranking[:min(k, len(ranking))] {
		if grades[r.Document] > 0 {
			found++
		}
	}
	for _, g := range grades {
		if g > 0 {
			relevant++
		}
	}
	if relevant == 0 {
		return 0
	}
	return found / relevant
}

// ReciprocalRank is 1 divided by the rank of the first relevant document, 0 if none is among the first k, as ir-measures'
// RR@k, which is MS MARCO's.
func ReciprocalRank(ranking []Ranked, grades map[string]int, k int) float64 {
	ranking = slices.SortedFunc(slices.Values(ranking), msmarcoOrder)
	for i, r := range ranking[:min(k, len(ranking))] {
		if grades[r.Document] > 0 {
			return 1 / float64(i+1)
		}
	}
	return 0
}

// span is a stretch of a document, end exclusive.
type span struct{ start, end int }

// SpanScores of the first k passages against the quotes that they should hold.
type SpanScores struct{ Recall, Precision, IoU float64 }

// Spans scores passages by characters, as Chroma's chunking evaluation does: recall is the share of the quotes' characters
// that the passages hold, precision the share of the passages' characters that are quotes', IoU both at once. What two
// passages both hold is found once, but returned twice.
func Spans(hits []Hit, quotes []Quote, k int) SpanScores {
	wanted := map[string][]span{}
	for _, q := range quotes {
		wanted[q.Document] = append(wanted[q.Document], span{q.Start, q.End})
	}
	var total, returned, found float64
	shown := map[string][]span{}
	for _, h := range hits[:min(k, len(hits))] {
		returned += float64(h.End - h.Start)
		shown[h.Document] = append(shown[h.Document], span{h.Start, h.End})
	}
	for document, spans := range wanted {
		spans = union(spans)
		total += length(spans)
		found += common(spans, union(shown[document]))
	}
	var s SpanScores
	if total > 0 {
		s.Recall = found / total
	}
	if returned > 0 {
		s.Precision = found / returned
	}
	if all := returned + total - found; all > 0 {
		s.IoU = found / all
	}
	return s
}

// union merges spans that touch, in order.
func union(spans []span) []span {
	spans = slices.SortedFunc(slices.Values(spans), func(a, b span) int { return cmp.Compare(a.start, b.start) })
	var out []span
	for _, s := range spans {
		if n := len(out); n > 0 && s.start <= out[n-1].end {
			out[n-1].end = max(out[n-1].end, s.end)
		} else {
			out = append(out, s)
		}
	}
	return out
}

func length(spans []span) (n float64) {
	for _, s := range spans {
		n += float64(s.end - s.start)
	}
	return n
}

// common counts the characters that are in both; each side's spans are apart from each other.
func common(a, b []span) (n float64) {
	for _, x := range a {
		for _, y := range b {
			n += float64(max(0, min(x.end, y.end)-max(x.start, y.start)))
		}
	}
	return n
}
