package modelhost

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/footnote-rag/footnote/workersai"
)

// maxContexts is how many texts a reranking request may have: with 512 tokens each that is minutes on a CPU.
const maxContexts = 1000

// rerank serves a cross-encoder through the engine's rerank route. Scores are passed on as the engine gives them.
func (h *Host) rerank(c *call, b *backend, body []byte) error {
	var in struct {
		workersai.RerankInput
		Options workersai.RunOptions `json:"options"`
	}
	if err := decodeBody(body, h.schemas[b.Task].input, &in); err != nil {
		return err
	}
	if n := len(in.Contexts); n == 0 || n > maxContexts {
		return invalid("Length of '/contexts' must be >= 1 not met", fmt.Sprintf("%d contexts, want 1 to %d", n, maxContexts))
	}
	texts := make([]string, len(in.Contexts))
	for i, t := range in.Contexts {
		texts[i] = t.Text
	}
	leave, err := b.gate.enter(c.r.Context(), in.Options.RejectIfBusy)
	if err != nil {
		return err
	}
	defer leave()
	var out struct {
		Results []struct {
			Index int     `json:"index"`
			Score float64 `json:"relevance_score"`
		} `json:"results"`
		Usage workersai.Usage `json:"usage"`
	}
	q := map[string]any{"model": b.Backend.Model, "query": in.Query, "documents": texts}
	if err := b.call(c.r.Context(), "/v1/rerank", q, &out); err != nil {
		return err
	}
	b.metrics.used(b.Name, out.Usage)
	result := workersai.RerankOutput{Response: make([]workersai.RerankScore, 0, len(texts)), Usage: &out.Usage}
	for _, r := range out.Results {
		if r.Index < 0 || r.Index >= len(texts) {
			return engineFailed(fmt.Sprintf("the engine of %s scored a text %d that was not sent", b.Name, r.Index), nil)
		}
		result.Response = append(result.Response, workersai.RerankScore{ID: r.Index, Score: r.Score})
	}
	slices.SortStableFunc(result.Response, func(x, y workersai.RerankScore) int { return cmp.Compare(y.Score, x.Score) })
	if in.TopK > 0 {
		result.Response = result.Response[:min(in.TopK, len(result.Response))]
	}
	answer(c, result)
	return nil
}
