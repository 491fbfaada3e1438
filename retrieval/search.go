package retrieval

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/workersai"
)

const (
	// cachedQueries: a vector of 768 dimensions takes 3 KiB, so the cache takes at most 12 MiB.
	cachedQueries = 4096
	// mergedTokens: passages are merged until they hold this many tokens; longer ones crowd out others.
	mergedTokens = 1024
	// mergedGap: two chunks further apart than this many code points are two passages.
	mergedGap = 64
)

// Search understands the query as far as it is asked to, embeds it and returns the best passages. If the embedding provider is down, lexical results with
// Degraded set. ErrInvalidQuestion, store.ErrNotFound, store.ErrSpaceMismatch.
func (s *Service) Search(ctx context.Context, r SearchRequest) (SearchResult, error) {
	if err := checkQuestion(r.Query); err != nil {
		return SearchResult{}, err
	}
	collection, err := s.collection(ctx, r.Collection)
	if err != nil {
		return SearchResult{}, err
	}
	window, limit := collection.Chunking.Window, cmp.Or(max(r.Limit, 0), defaultLimit)
	if r.Window != nil {
		window = *r.Window
	}
	if r.Limit = limit; window > 0 {
		// A wide passage shows as many chunks as fit into its window, some of which were found, too.
		shown := 1 + window/max(collection.Chunking.MaxTokens, 1)
		candidates := cmp.Or(r.Ranking.Fusion.Candidates, store.Candidates(limit))
		r.Limit, r.Ranking.Fusion.Candidates = max(limit, min(shown*limit, candidates)), candidates
	}
	found, err := s.searchInSteps(ctx, collection, r)
	if err != nil {
		return found, err
	}
	start := time.Now()
	found.Passages, err = s.store.Widen(ctx, found.Passages, window, limit)
	found.Timings.SearchMS += milliseconds(start)
	return found, err
}

func (s *Service) collection(ctx context.Context, name string) (store.Collection, error) {
	if name == "" {
		name = "default"
	}
	c, err := s.store.Collection(ctx, name)
	if err != nil {
		return c, fmt.Errorf("collection %q: %w", name, err)
	}
	return c, nil
}

func (s *Service) search(ctx context.Context, c store.Collection, r SearchRequest) (SearchResult, error) {
	if r.Limit <= 0 {
		r.Limit = defaultLimit
	}
	if r.Mode == "" {
		r.Mode = store.Hybrid
	}
	var result SearchResult
	if err := r.Ranking.check(); err != nil {
		return result, err
	}
	q := store.SearchQuery{Collection: c, Text: r.Query, Mode: r.Mode, Limit: r.Ranking.pool(r.Limit), Filter: r.Filter, Fusion: r.Ranking.Fusion}
	if r.Mode != store.Lexical {
		if c.Space.Model != "" && c.Space.Model != s.cfg.EmbedModel {
			return result, fmt.Errorf("collection %q was embedded with %s, questions with %s: %w", c.Name, c.Space.Model, s.cfg.EmbedModel, store.ErrSpaceMismatch)
		}
		start := time.Now()
		vector, err := s.embedQuery(ctx, r.Query, c.Space.Dimensions)
		result.Timings.EmbedMS = milliseconds(start)
		switch {
		case err == nil:
			q.Vector = vector
		case ctx.Err() != nil || r.Mode == store.Vector:
			return result, fmt.Errorf("embed the question: %w", err)
		default:
			s.cfg.Logger.WarnContext(ctx, "question not embedded, searching words only", "error", err)
			q.Mode, result.Degraded = store.Lexical, true
		}
	}
	start := time.Now()
	passages, err := s.store.Search(ctx, q)
	if err != nil {
		return result, fmt.Errorf("search %q: %w", c.Name, err)
	}
	if result.Passages, result.Reranked, err = s.rank(ctx, c, r, passages); err != nil {
		return result, fmt.Errorf("rank passages of %q: %w", c.Name, err)
	}
	result.Timings.SearchMS = milliseconds(start)
	return result, nil
}

func milliseconds(since time.Time) float64 { return float64(time.Since(since).Microseconds()) / 1000 }

// embedQuery returns the query's vector from the cache, from an equal query in flight, or from the model.
func (s *Service) embedQuery(ctx context.Context, query string, dimensions int) ([]float32, error) {
	return s.vectors.get(ctx, fmt.Sprintf("%d %s", dimensions, query), func(ctx context.Context) ([]float32, error) {
		if err := s.embedBudget.Wait(ctx, true); err != nil {
			return nil, err
		}
		got, err := s.models.Embed(ctx, workersai.EmbedRequest{Model: s.cfg.EmbedModel, Texts: []string{s.cfg.QueryPrefix + query},
			Pooling: s.cfg.Pooling, TruncateInputs: true, Dimensions: dimensions})
		if err != nil {
			s.obey(ctx, s.embedBudget, err)
			return nil, err
		}
		if len(got.Vectors) != 1 {
			return nil, fmt.Errorf("%d vectors for one text: %w", len(got.Vectors), workersai.ErrBadReply)
		}
		return got.Vectors[0], nil
	})
}

// obey makes all processes wait as long as the provider asked.
func (s *Service) obey(ctx context.Context, b budget, err error) {
	var e *workersai.Error
	if errors.As(err, &e) && e.RetryAfter > 0 && errors.Is(err, workersai.ErrRateLimited) {
		if err := b.Pause(ctx, time.Now().Add(e.RetryAfter)); err != nil {
			s.cfg.Logger.WarnContext(ctx, "provider's pause not recorded", "error", err)
		}
	}
}

// vectorCache keeps the newest results and joins equal calls in flight. A call ends when its last waiter leaves.
type vectorCache struct {
	mu      sync.Mutex
	order   *list.List // of *cached, newest first
	entries map[string]*list.Element
	flights map[string]*flight
}

type cached struct {
	key    string
	vector []float32
}

type flight struct {
	done    chan struct{}
	cancel  context.CancelFunc
	waiters int
	vector  []float32
	err     error
}

func newVectorCache() *vectorCache {
	return &vectorCache{order: list.New(), entries: map[string]*list.Element{}, flights: map[string]*flight{}}
}

func (c *vectorCache) get(ctx context.Context, key string, call func(context.Context) ([]float32, error)) ([]float32, error) {
	c.mu.Lock()
	if e, hit := c.entries[key]; hit {
		c.order.MoveToFront(e)
		c.mu.Unlock()
		return e.Value.(*cached).vector, nil
	}
	f := c.flights[key]
	if f == nil {
		f = c.start(ctx, key, call)
	}
	f.waiters++
	c.mu.Unlock()

	select {
	case <-f.done:
		return f.vector, f.err
	case <-ctx.Done():
		c.leave(key, f)
		return nil, ctx.Err()
	}
}

// start runs the call for all who wait; the caller holds the lock.
func (c *vectorCache) start(ctx context.Context, key string, call func(context.Context) ([]float32, error)) *flight {
	shared, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &flight{done: make(chan struct{}), cancel: cancel}
	c.flights[key] = f
	go func() {
		defer cancel()
		vector, err := call(shared)
		c.mu.Lock()
		defer c.mu.Unlock()
		f.vector, f.err = vector, err
		if c.flights[key] == f {
			delete(c.flights, key)
		}
		if err == nil {
			c.put(key, vector)
		}
		close(f.done)
	}()
	return f
}

func (c *vectorCache) leave(key string, f *flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.waiters--; f.waiters == 0 {
		f.cancel()
		if c.flights[key] == f {
			delete(c.flights, key)
		}
	}
}

func (c *vectorCache) put(key string, vector []float32) {
	c.entries[key] = c.order.PushFront(&cached{key, vector})
	for c.order.Len() > cachedQueries {
		oldest := c.order.Back()
		c.order.Remove(oldest)
		delete(c.entries, oldest.Value.(*cached).key)
	}
}

// merge joins neighbouring chunks of one document into passages, in the order of the best hit of each. Offsets stay
// exact: where chunks do not touch, the text between them is read from the document.
func (s *Service) merge(ctx context.Context, hits []store.Passage) ([]store.Passage, error) {
	byPlace := make([]int, len(hits))
	for i := range byPlace {
		byPlace[i] = i
	}
	sort.SliceStable(byPlace, func(a, b int) bool {
		x, y := hits[byPlace[a]], hits[byPlace[b]]
		return x.DocumentID < y.DocumentID || x.DocumentID == y.DocumentID && x.Ordinal < y.Ordinal
	})
	texts := map[string][]rune{}
	type merged struct {
		passage store.Passage
		best    int // rank of its best hit
		last    int // ordinal of its last chunk
	}
	var runs []merged
	for _, i := range byPlace {
		h := hits[i]
		if n := len(runs); n > 0 {
			r := &runs[n-1]
			if r.passage.DocumentID == h.DocumentID && h.Ordinal == r.last+1 && r.passage.Tokens+h.Tokens <= mergedTokens && h.Start <= r.passage.End+mergedGap {
				joined, err := s.join(ctx, r.passage, h, texts)
				if err != nil {
					return nil, err
				}
				if joined != "" {
					r.passage = takeBest(r.passage, h, r.best < i, joined)
					r.best, r.last = min(r.best, i), h.Ordinal
					continue
				}
			}
		}
		runs = append(runs, merged{h, i, h.Ordinal})
	}
	sort.SliceStable(runs, func(a, b int) bool { return runs[a].best < runs[b].best })
	out := make([]store.Passage, len(runs))
	for i, r := range runs {
		out[i] = r.passage
	}
	return out, nil
}

// join returns the text from a's start to b's end, or "" if it cannot be had exactly.
func (s *Service) join(ctx context.Context, a, b store.Passage, texts map[string][]rune) (string, error) {
	if overlap := a.End - b.Start; overlap >= 0 {
		tail := []rune(b.Text)
		if overlap > len(tail) {
			return "", nil
		}
		return a.Text + string(tail[overlap:]), nil
	}
	text, read := texts[a.DocumentID]
	if !read {
		whole, err := s.store.DocumentText(ctx, a.DocumentID)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return "", fmt.Errorf("read document %s: %w", a.DocumentID, err)
		}
		text = []rune(whole)
		texts[a.DocumentID] = text
	}
	// The document may have been replaced since the search: then its offsets are of another text.
	if b.End > len(text) || string(text[a.Start:a.End]) != a.Text || string(text[b.Start:b.End]) != b.Text {
		return "", nil
	}
	return string(text[a.Start:b.End]), nil
}

// takeBest extends a by b; scores are those of the better hit.
func takeBest(a, b store.Passage, aIsBetter bool, text string) store.Passage {
	out := b
	if aIsBetter {
		out = a
	}
	out.Ordinal, out.Heading, out.Start, out.End, out.Text, out.Tokens = a.Ordinal, a.Heading, a.Start, max(a.End, b.End), text, a.Tokens+b.Tokens
	out.Translation = strings.TrimSpace(a.Translation + "\n\n" + b.Translation)
	return out
}
