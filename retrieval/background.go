package retrieval

import (
	"context"
	"math"
	"sync"

	"github.com/footnote-rag/footnote/store"
)

const (
	// backgroundChunks of a collection are sampled: enough for the frequency of common words; a word that none of them holds is
	// rare.
	backgroundChunks = 256
	// backgroundsKept bounds the memory: the words of a sample take about 1 MB.
	backgroundsKept = 64
	// backgroundGrowth: a collection that has grown or shrunk by this factor is sampled again.
	backgroundGrowth = 1.25
)

// background is how common words are in a collection, by a sample. A rare word of the question that no passage holds tells
// that they speak of something else; a common one tells nothing.
type background struct {
	chunks int64              // in the collection when it was sampled
	df     map[string]float64 // sampled chunks with a word
	n      float64            // sampled chunks
}

func newBackground(c store.Collection, sample []string) *background {
	b := &background{chunks: c.Chunks, df: map[string]float64{}, n: float64(len(sample))}
	for _, k := range sample {
		for key := range keysOf(tokenize(k)) {
			b.df[key]++
		}
	}
	return b
}

// stale: the collection is no longer the one that was sampled.
func (b *background) stale(c store.Collection) bool {
	now, then := float64(c.Chunks+1), float64(b.chunks+1)
	return now > then*backgroundGrowth || now < then/backgroundGrowth
}

// size of the collection.
func (b *background) size() int64 {
	if b == nil {
		return 0
	}
	return b.chunks
}

// rarity weighs a word by how few chunks hold it.
func (b *background) rarity(key string) float64 {
	if b == nil || b.n == 0 {
		return 1
	}
	return math.Log((b.n+1)/(b.df[key]+0.5)) / math.Log((b.n+1)/0.5)
}

// sampler is what backgrounds are drawn from.
type sampler interface {
	SampleTexts(ctx context.Context, c store.Collection, n int) ([]string, error)
}

// backgrounds keeps one per collection.
type backgrounds struct {
	mu   sync.Mutex
	byID map[int64]*background
}

// background of a collection, sampled when it is first asked for and when the collection has changed much. nil if it
// cannot be had: then every word counts the same.
func (s *Service) background(ctx context.Context, c store.Collection) *background {
	if s.sample == nil {
		return nil
	}
	s.backgrounds.mu.Lock()
	b := s.backgrounds.byID[c.ID]
	s.backgrounds.mu.Unlock()
	if b != nil && !b.stale(c) {
		return b
	}
	sample, err := s.sample.SampleTexts(ctx, c, backgroundChunks)
	if err != nil {
		s.cfg.Logger.WarnContext(ctx, "collection not sampled, all words of the question count the same", "collection", c.Name, "error", err)
		return b
	}
	b = newBackground(c, sample)
	s.backgrounds.mu.Lock()
	defer s.backgrounds.mu.Unlock()
	if s.backgrounds.byID == nil || len(s.backgrounds.byID) >= backgroundsKept {
		s.backgrounds.byID = map[int64]*background{}
	}
	s.backgrounds.byID[c.ID] = b
	return b
}
