package retrieval

import (
	"math"

	"github.com/footnote-rag/footnote/store"
)

// Reasons of a Done that is not grounded.
const (
	ReasonNoEvidence      = "no_evidence"      // the best passages are not about the question; no model was called
	ReasonEmptyCollection = "empty_collection" // there is nothing to search; no model was called
	ReasonNotInPassages   = "not_in_passages"  // the model found no answer in the passages
	ReasonUnsupported     = "unsupported"      // strict: no sentence of the answer was supported
	ReasonEmptyAnswer     = "empty_answer"     // the model said nothing
	ReasonModelless       = "extractive"       // not a refusal: quoted, because no model was asked or nothing that a small one said was supported
)

const (
	// defaultThreshold of the evidence score; see TestRefusals.
	defaultThreshold = 0.40
	// evidencePassages are looked at together: an answer may lie in any of the first few.
	evidencePassages = 5
	// coverageWindow: question words must stand together in one passage; this share comes from the best single one.
	coverageWindow = 0.7
)

// evidenceOf scores from 0 to 1 how likely the passages speak about the question: the best cosine, and the share of the
// question's words (names and numbers double, rare words by the checker's weights) that the best passage and the best few
// together hold. It is a function of its arguments alone, so that a refusal is the same each time.
func evidenceOf(question string, passages []store.Passage) (score float64, best struct{ Vector, Lexical float64 }) {
	for _, p := range passages {
		if p.Vector != nil {
			best.Vector = max(best.Vector, p.Vector.Score)
		}
		if p.Lexical != nil {
			best.Lexical = max(best.Lexical, p.Lexical.Score)
		}
	}
	if len(passages) == 0 {
		return 0, best
	}
	coverage := questionCoverage(question, passages[:min(len(passages), evidencePassages)])
	if best.Vector == 0 {
		return coverage, best // words only
	}
	// Chosen by hand; TestRefusals measures it on questions asked of their own collection and of another.
	return 1 / (1 + math.Exp(-(9*(best.Vector-0.45) + 4*(coverage-0.55)))), best
}

func questionCoverage(question string, passages []store.Passage) float64 {
	union := map[string]bool{}
	var texts []map[string]bool
	for _, p := range passages {
		keys := keysOf(tokenize(p.Title + " . " + p.Text))
		for _, h := range p.Heading {
			for k := range keysOf(tokenize(h)) {
				keys[k] = true
			}
		}
		for k := range keys {
			union[k] = true
		}
		texts = append(texts, keys)
	}
	words := contentOf(tokenize(question))
	if len(words) == 0 {
		return 1 // "what is this?": only vectors can tell
	}
	weigh := func(have map[string]bool) (got, all float64) {
		for _, w := range words {
			weight := 1.0
			if w.name && !w.first || w.number {
				weight = 2
			}
			all += weight
			if have[w.key] || related(w, have) {
				got += weight
			}
		}
		return got, all
	}
	together, all := weigh(union)
	single := 0.0
	for _, t := range texts {
		got, _ := weigh(t)
		single = max(single, got)
	}
	return (coverageWindow*single + (1-coverageWindow)*together) / all
}
