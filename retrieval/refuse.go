package retrieval

import "github.com/footnote-rag/footnote/store"

// Reasons of a Done that is not grounded.
const (
	ReasonNoEvidence      = "no_evidence"      // the best passages are not about the question; no model was called
	ReasonEmptyCollection = "empty_collection" // there is nothing to search; no model was called
	ReasonNotInPassages   = "not_in_passages"  // the model found no answer in the passages
	ReasonUnsupported     = "unsupported"      // strict: no sentence of the answer was supported
	ReasonEmptyAnswer     = "empty_answer"     // the model said nothing
	ReasonModelless       = "extractive"       // not a refusal: quoted, because no model was asked or nothing that a small one said was supported
)

// defaultThreshold of the evidence score; docs/grounding.md has its precision and recall.
const defaultThreshold = 0.50

// evidenceOf scores from 0 to 1 how likely the passages speak about the question.
func evidenceOf(question string, passages []store.Passage, sc scale, b *background) (score float64, best struct{ Vector, Lexical float64 }) {
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
	return featuresOf(question, passages, sc, b).score(), best
}
