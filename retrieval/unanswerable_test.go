package retrieval

import (
	"path/filepath"
	"slices"
	"testing"
)

// TestUnanswerable asks SQuAD 2.0's questions of the paragraph that answers them, or is made to look as if, and of others:
// the evidence score against the cosine alone. Those that the weights were fitted on are left out.
func TestUnanswerable(t *testing.T) {
	const questions, size = 1300, 1216 // the whole collection
	if !EvalFull() {
		t.Skip("set FOOTNOTE_EVAL=1 to embed four thousand texts")
	}
	dir := filepath.Join(EvalData(t), "squad2")
	s := readSample(t, "squad2", questions, size)
	s.unanswered = unanswerable(t, filepath.Join(dir, "unanswerable.jsonl"), s.docs, questions)
	// The weights were chosen with the first half in view.
	fitted := readSample(t, "squad2", 30, 60)
	s.own, s.unanswered = without(s.own[len(s.own)/2:], fitted.own), without(s.unanswered[len(s.unanswered)/2:], fitted.unanswered)
	vectors := EvalVectors(t, append(append([]string{}, s.own...), s.unanswered...))
	m, sc := newMemory(t, s.docs), miniLMScale(t)
	var all []asked
	for kind, questions := range map[string][]string{"own": s.own, "adversarial": s.unanswered} {
		for _, q := range questions {
			all = append(all, asked{"squad2", kind, q, featuresOf(q, m.search(q, vectors[q], 8), sc, m.ground)})
		}
	}
	t.Log("| collection | answered by their paragraph / not | AUC | cosine alone | the first answered | the others answered |")
	t.Log("|---|---|---|---|---|---|")
	adversarial(t, all)
}

func without(all, some []string) []string {
	return slices.DeleteFunc(all, func(q string) bool { return slices.Contains(some, q) })
}
