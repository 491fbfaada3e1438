package eval

import (
	"cmp"
	"slices"
	"strings"
	"unicode"
)

// citationScores tells whether an answer's footnotes point to what was expected: precision is the share of its citations that
// lie in an expected quote (or, where only documents are expected, in an expected document), recall the share of the expected
// quotes (or whether any expected document) that a citation touches. ok is false if nothing was expected or nothing is cited.
func citationScores(q Question, cited []Citation) (precision, recall float64, ok bool) {
	cited = slices.DeleteFunc(slices.Clone(cited), func(c Citation) bool { return c.Document == "" })
	if len(q.Quotes) == 0 && !hasRelevant(q.Grades) || len(cited) == 0 {
		return 0, 0, false
	}
	right := 0
	for _, c := range cited {
		if expected(q, c) {
			right++
		}
	}
	precision = float64(right) / float64(len(cited))
	if len(q.Quotes) == 0 {
		return precision, boolScore(right > 0), true
	}
	for _, quote := range q.Quotes {
		if slices.ContainsFunc(cited, func(c Citation) bool { return touches(quote, c) }) {
			recall += 1 / float64(len(q.Quotes))
		}
	}
	return precision, recall, true
}

func expected(q Question, c Citation) bool {
	if len(q.Quotes) == 0 {
		return q.Grades[c.Document] > 0
	}
	return slices.ContainsFunc(q.Quotes, func(quote Quote) bool { return touches(quote, c) })
}

func touches(q Quote, c Citation) bool {
	return q.Document == c.Document && min(q.End, c.End) > max(q.Start, c.Start)
}

func hasRelevant(grades map[string]int) bool {
	for _, g := range grades {
		if g > 0 {
			return true
		}
	}
	return false
}

func boolScore(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// ExactMatch is 1 if the answer equals a reference after SQuAD's normalisation: lower case, no punctuation, no articles.
func ExactMatch(answer string, references []string) float64 {
	words := strings.Join(normalWords(answer), " ")
	for _, r := range references {
		if strings.Join(normalWords(r), " ") == words {
			return 1
		}
	}
	return 0
}

// F1 is the best harmonic mean, over the references, of the shares of words that answer and reference have in common, as in
// SQuAD's evaluation.
func F1(answer string, references []string) (best float64) {
	got := normalWords(answer)
	for _, r := range references {
		best = max(best, wordF1(got, normalWords(r)))
	}
	return best
}

func wordF1(got, want []string) float64 {
	if len(got) == 0 || len(want) == 0 {
		return boolScore(len(got) == len(want))
	}
	left := map[string]int{}
	for _, w := range want {
		left[w]++
	}
	same := 0.0
	for _, w := range got {
		if left[w] > 0 {
			left[w]--
			same++
		}
	}
	if same == 0 {
		return 0
	}
	precision, recall := same/float64(len(got)), same/float64(len(want))
	return 2 * precision * recall / (precision + recall)
}

// normalWords follows SQuAD's evaluation script (Rajpurkar et al., 2016).
func normalWords(s string) []string {
	s = strings.Map(func(r rune) rune {
		if r < unicode.MaxASCII && (unicode.IsPunct(r) || unicode.IsSymbol(r)) {
			return -1
		}
		return unicode.ToLower(r)
	}, s)
	return slices.DeleteFunc(strings.Fields(s), func(w string) bool { return w == "a" || w == "an" || w == "the" })
}

// refusal is what one answer adds to the scores of refusals.
type refusal struct {
	refused, unanswerable bool
	evidence              float64
}

// refusalScores: precision is the share of the refusals that were right, recall the share of the unanswerable questions that
// were refused, auc how well the evidence score tells answerable from unanswerable questions at any threshold.
func refusalScores(all []refusal) map[string]float64 {
	var refused, right, none float64
	for _, r := range all {
		refused += boolScore(r.refused)
		none += boolScore(r.unanswerable)
		right += boolScore(r.refused && r.unanswerable)
	}
	scores := map[string]float64{}
	if refused > 0 {
		scores["refusal_precision"] = right / refused
	}
	if none > 0 {
		scores["refusal_recall"] = right / none
	}
	if none > 0 && none < float64(len(all)) {
		scores["refusal_auc"] = auc(all)
	}
	return scores
}

// auc is the chance that an answerable question has more evidence than an unanswerable one, ties counting half
// (Mann and Whitney's U).
func auc(all []refusal) float64 {
	all = slices.SortedFunc(slices.Values(all), func(a, b refusal) int { return cmp.Compare(a.evidence, b.evidence) })
	var won, below, yes, no float64
	for i := 0; i < len(all); {
		var tiedYes, tiedNo float64
		for j := i; i < len(all) && all[i].evidence == all[j].evidence; i++ {
			tiedNo += boolScore(all[i].unanswerable)
			tiedYes += boolScore(!all[i].unanswerable)
		}
		won += tiedYes * (below + tiedNo/2)
		below += tiedNo
		yes, no = yes+tiedYes, no+tiedNo
	}
	return won / (yes * no)
}
