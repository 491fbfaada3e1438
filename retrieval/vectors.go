package retrieval

import (
	"context"
	"fmt"

	"github.com/footnote-rag/footnote/workersai"
)

// closeness compares a claim with the plausible sentences of the passages by their vectors: at most one call of the
// embedding model, for those that are not known yet. nil: nothing is plausible.
func (s *Service) closeness(ctx context.Context, c *Checker, cl claim, sentence string, sc scale) (closeness, error) {
	at := c.plausible(cl)
	if len(at) == 0 {
		return nil, nil
	}
	texts := []string{sentence}
	for _, i := range at {
		texts = append(texts, c.sentence(i))
	}
	vectors, err := s.sentenceVectors(ctx, texts)
	if err != nil {
		return nil, err
	}
	near := closeness{}
	for k, i := range at {
		near[i] = sc.closenessOf(cosineOf(vectors[0], vectors[k+1]))
	}
	return near, nil
}

// sentenceVectors of texts, in their order. Sentences are alike, so that none gets the prefix of questions.
func (s *Service) sentenceVectors(ctx context.Context, texts []string) ([][]float32, error) {
	out, missing := make([][]float32, len(texts)), []string(nil)
	for i, text := range texts {
		if out[i] = s.sentences.peek(text); out[i] == nil {
			missing = append(missing, text)
		}
	}
	if len(missing) == 0 {
		return out, nil
	}
	got, err := s.embedSentences(ctx, missing)
	if err != nil {
		return nil, err
	}
	for i := range out {
		if out[i] == nil {
			out[i] = got[0]
			s.sentences.keep(texts[i], got[0])
			got = got[1:]
		}
	}
	return out, nil
}

func (s *Service) embedSentences(ctx context.Context, texts []string) ([][]float32, error) {
	if err := s.embedBudget.Wait(ctx, true); err != nil {
		return nil, fmt.Errorf("wait for the embedding model's rate limit: %w", err)
	}
	got, err := s.models.Embed(ctx, workersai.EmbedRequest{Model: s.cfg.EmbedModel, Texts: texts, Pooling: s.cfg.Pooling, TruncateInputs: true})
	if err != nil {
		s.obey(ctx, s.embedBudget, err)
		return nil, fmt.Errorf("embed sentences: %w", err)
	}
	if len(got.Vectors) != len(texts) {
		return nil, fmt.Errorf("%d vectors for %d sentences: %w", len(got.Vectors), len(texts), workersai.ErrBadReply)
	}
	return got.Vectors, nil
}

// peek returns what is known, nil if nothing.
func (c *vectorCache) peek(key string) []float32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, hit := c.entries[key]
	if !hit {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached).vector
}

// keep remembers a vector that was computed elsewhere.
func (c *vectorCache) keep(key string, vector []float32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.entries[key]; !known {
		c.put(key, vector)
	}
}
