package retrieval

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/workersai"
)

// ErrInvalidRanking: a control of the ranking has a value that it cannot have; the message says which.
var ErrInvalidRanking = errors.New("invalid ranking")

// Ranking controls the order of passages. The zero value is the default: the legs' fused scores alone.
type Ranking struct {
	Fusion store.Fusion
	Boost  Boost
	Rerank Rerank
	// MMR is how much variety counts against relevance, 0 (default: not at all) to 1: maximal marginal relevance (Carbonell
	// and Goldstein 1998) over the cosine of passages.
	MMR float64
	// Expand "section" gives a passage the rest of its section, as far as a passage may be long.
	Expand string
}

// ExpandSection is a value of Ranking.Expand.
const ExpandSection = "section"

// Boost multiplies scores by what a document's metadata says.
type Boost struct {
	Recency *Recency
	Fields  map[string]map[string]float64 // metadata field, with dots → value → factor
}

// Recency lets older documents count less: a score is multiplied by 1-Weight+Weight·2^(-age/HalfLife). A document without a
// date is taken for infinitely old.
type Recency struct {
	Field    string // of the metadata: RFC 3339, a date, or seconds since 1970
	HalfLife time.Duration
	Weight   float64 // 0 means the default, 0.5
}

// Rerank has a cross-encoder read question and passage together, which is more exact and slower than comparing vectors. If it
// fails, the order is as without it.
type Rerank struct {
	Model      string // e.g. @cf/baai/bge-reranker-base; RerankByChat; "": none
	Candidates int    // read by it; default 30, at most 100
}

const (
	defaultRecencyWeight = 0.5
	defaultReranked      = 30
	maxReranked          = 100
	// pooled passages are looked at where their order changes after the fusion, pooledFactor times the limit and no fewer than this.
	pooled, pooledFactor, maxPooled = 50, 4, 400
	maxBoost                        = 1000
)

func (r Ranking) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrInvalidRanking, fmt.Sprintf(format, args...))
	}
	if !(r.MMR >= 0 && r.MMR <= 1) {
		return bad("mmr is %v: give a number from 0, relevance alone, to 1, variety alone", r.MMR)
	}
	if r.Expand != "" && r.Expand != ExpandSection {
		return bad("expand is %q: it is section or nothing", r.Expand)
	}
	if r.Rerank.Candidates < 0 || r.Rerank.Candidates > maxReranked {
		return bad("rerank.candidates is %d: give a number from 1 to %d", r.Rerank.Candidates, maxReranked)
	}
	if recency := r.Boost.Recency; recency != nil {
		switch {
		case recency.Field == "":
			return bad("boost.recency.field is empty: name the metadata field with the date")
		case recency.HalfLife <= 0:
			return bad("boost.recency.half_life must be more than nothing, such as 30d")
		case !(recency.Weight >= 0 && recency.Weight <= 1):
			return bad("boost.recency.weight is %v: give a number from 0 to 1", recency.Weight)
		}
	}
	for field, factors := range r.Boost.Fields {
		for value, factor := range factors {
			if !(factor >= 0 && factor <= maxBoost) {
				return bad("boost.fields.%s.%s is %v: give a factor from 0 to %d", field, value, factor, maxBoost)
			}
		}
	}
	return nil
}

func (r Ranking) boosts() bool   { return r.Boost.Recency != nil || len(r.Boost.Fields) > 0 }
func (r Ranking) reorders() bool { return r.boosts() || r.Rerank.Model != "" || r.MMR > 0 }

// pool is how many passages the store has to find for a limit.
func (r Ranking) pool(limit int) int {
	if !r.reorders() {
		return limit
	}
	return max(limit, min(max(pooled, pooledFactor*limit), maxPooled))
}

// rank applies boosts, the reranker and variety, in this order, and expands what remains.
func (s *Service) rank(ctx context.Context, c store.Collection, r SearchRequest, passages []store.Passage) (ranked []store.Passage, reranked bool, err error) {
	if r.Ranking.boosts() {
		for i := range passages {
			r.Ranking.Boost.apply(&passages[i], time.Now())
		}
		orderByScore(passages)
	}
	if r.Ranking.Rerank.Model != "" {
		if passages, reranked, err = s.rerank(ctx, r, passages); err != nil {
			return nil, false, err
		}
	}
	if r.Ranking.MMR > 0 {
		vectors, err := s.cfg.Store.Vectors(ctx, c, passages)
		if err != nil {
			return nil, reranked, fmt.Errorf("read vectors of passages: %w", err)
		}
		passages = diverse(passages, vectors, r.Ranking.MMR, r.Limit)
	}
	passages = passages[:min(r.Limit, len(passages))]
	if r.Ranking.Expand == ExpandSection {
		passages, err = s.sections(ctx, passages)
	}
	return passages, reranked, err
}

func orderByScore(passages []store.Passage) {
	slices.SortStableFunc(passages, func(a, b store.Passage) int {
		return cmp.Compare(b.Score, a.Score)
	})
}

// apply multiplies the passage's score.
func (b Boost) apply(p *store.Passage, now time.Time) {
	var metadata map[string]any
	if json.Unmarshal(p.Metadata, &metadata) != nil {
		return // no object: nothing to go by
	}
	factor := 1.0
	if b.Recency != nil {
		factor *= b.Recency.factor(lookUp(metadata, b.Recency.Field), now)
	}
	for field, factors := range b.Fields {
		value := lookUp(metadata, field)
		several, ok := value.([]any)
		if !ok {
			several = []any{value}
		}
		for _, v := range several {
			if f, ok := factors[plain(v)]; ok && v != nil {
				factor *= f
				break
			}
		}
	}
	p.Boost = &factor
	p.Score *= factor
}

// lookUp follows a dotted path; nil if there is nothing.
func lookUp(metadata map[string]any, path string) any {
	var v any = metadata
	for _, key := range strings.Split(path, ".") {
		object, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = object[key]
	}
	return v
}

// plain is a scalar as people write it.
func plain(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	b, _ := json.Marshal(v)
	return string(b)
}

func (r *Recency) factor(value any, now time.Time) float64 {
	weight := r.Weight
	if weight == 0 {
		weight = defaultRecencyWeight
	}
	fresh := 0.0
	if date, ok := dateOf(value); ok {
		fresh = math.Exp2(-max(now.Sub(date).Hours(), 0) / r.HalfLife.Hours())
	}
	return 1 - weight + weight*fresh
}

func dateOf(value any) (time.Time, bool) {
	switch v := value.(type) {
	case float64:
		return time.Unix(int64(v), 0), true
	case string:
		for _, layout := range []string{time.RFC3339, time.DateTime, time.DateOnly, "2006-01", "2006"} {
			if t, err := time.Parse(layout, v); err == nil {
				return t, true
			}
		}
	}
	return time.Time{}, false
}

// ParseHalfLife reads 36h, 30d, 2w or 1y, besides what Go calls a duration.
func ParseHalfLife(s string) (time.Duration, error) {
	const day = 24 * time.Hour
	units := map[byte]time.Duration{'d': day, 'w': 7 * day, 'y': 365 * day}
	if n := len(s) - 1; n > 0 && units[s[n]] > 0 {
		number, err := strconv.ParseFloat(s[:n], 64)
		if length := number * float64(units[s[n]]); err == nil && length > 0 && length < math.MaxInt64 {
			return time.Duration(length), nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%w: a half-life of %.40q: write it like 36h, 30d, 2w or 1y", ErrInvalidRanking, s)
	}
	return d, nil
}

// rerankService is what ranking needs of the model service.
type rerankService interface {
	Rerank(ctx context.Context, model, query string, contexts []string, topK int) ([]workersai.RerankScore, error)
}

// rerank puts the first candidates into the reranker's order and leaves the others behind them. Scores stay in 0 to 1.
func (s *Service) rerank(ctx context.Context, r SearchRequest, passages []store.Passage) ([]store.Passage, bool, error) {
	n := r.Ranking.Rerank.Candidates
	if n == 0 {
		n = defaultReranked
	}
	n = min(n, len(passages))
	if r.Ranking.Rerank.Model == RerankByChat {
		n = min(n, s.listable())
	}
	if n == 0 {
		return passages, false, nil
	}
	scores, err := s.rerankScores(ctx, r, passages[:n])
	if ctx.Err() != nil {
		return nil, false, ctx.Err()
	}
	if err == nil {
		err = checkRerank(scores, n)
	}
	if err != nil {
		s.cfg.Logger.WarnContext(ctx, "passages not reranked, their order is the fusion's", "error", err)
		return passages, false, nil
	}
	slices.SortStableFunc(scores, func(a, b workersai.RerankScore) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), a.ID-b.ID)
	})
	ranked := make([]store.Passage, 0, len(passages))
	for i, score := range scores {
		p := passages[score.ID]
		p.Rerank = &store.LegScore{Score: score.Score, Rank: i + 1}
		p.Score = score.Score
		if r.Ranking.Rerank.Model != RerankByChat {
			p.Score = sigmoid(score.Score)
		}
		if p.Boost != nil {
			p.Score *= *p.Boost
		}
		ranked = append(ranked, p)
	}
	orderByScore(ranked)
	floor := ranked[len(ranked)-1].Score
	for _, p := range passages[n:] {
		p.Score = min(p.Score, floor)
		ranked = append(ranked, p)
	}
	return ranked, true, nil
}

// rerankScores asks the reranker, or the chat model.
func (s *Service) rerankScores(ctx context.Context, r SearchRequest, passages []store.Passage) ([]workersai.RerankScore, error) {
	if r.Ranking.Rerank.Model == RerankByChat {
		return s.listwise(ctx, r.Query, passages)
	}
	texts := make([]string, len(passages))
	for i, p := range passages {
		texts[i] = p.Text
		if title := strings.TrimSpace(p.Title); title != "" && !strings.Contains(p.Text, title) {
			texts[i] = title + "\n" + p.Text
		}
	}
	return rerankService(s.cfg.Models).Rerank(ctx, r.Ranking.Rerank.Model, r.Query, texts, 0)
}

// checkRerank wants each passage once.
func checkRerank(scores []workersai.RerankScore, n int) error {
	seen := make([]bool, n)
	for _, score := range scores {
		if score.ID < 0 || score.ID >= n || seen[score.ID] {
			return fmt.Errorf("the reranker speaks of passage %d of %d, or twice: %w", score.ID, n, workersai.ErrBadReply)
		}
		seen[score.ID] = true
	}
	if len(scores) != n {
		return fmt.Errorf("the reranker scored %d of %d passages: %w", len(scores), n, workersai.ErrBadReply)
	}
	return nil
}

// sigmoid makes a logit a share; what is one already stays in order.
func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// diverse chooses limit passages one by one, each the best by (1-mmr)·score - mmr·(its greatest cosine to one chosen before).
func diverse(passages []store.Passage, vectors [][]float32, mmr float64, limit int) []store.Passage {
	if len(passages) == 0 {
		return nil
	}
	top := max(passages[0].Score, 1e-9)
	near := make([]float64, len(passages)) // greatest cosine to one chosen
	taken := make([]bool, len(passages))
	var chosen []store.Passage
	for len(chosen) < min(limit, len(passages)) {
		best, value := -1, math.Inf(-1)
		for i, p := range passages {
			if v := (1-mmr)*p.Score/top - mmr*near[i]; !taken[i] && v > value {
				best, value = i, v
			}
		}
		taken[best] = true
		p := passages[best]
		similar := near[best]
		p.Similarity = &similar
		chosen = append(chosen, p)
		for i := range passages {
			near[i] = max(near[i], dotOf(vectors[i], vectors[best]))
		}
	}
	return chosen
}

// dotOf is the cosine of unit vectors; 0 where one is not known.
func dotOf(a, b []float32) (sum float64) {
	for i := range min(len(a), len(b)) {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

// expandReach is how many chunks to each side are looked at for the rest of a section.
const expandReach = 16

// sections extends each passage over its neighbours with the same heading path while it holds at most mergedTokens; two
// passages that become one are shown once, at the better one's place.
func (s *Service) sections(ctx context.Context, passages []store.Passage) ([]store.Passage, error) {
	type place struct {
		document   string
		start, end int
	}
	seen := map[place]bool{}
	var out []store.Passage
	for _, p := range passages {
		chunks, err := s.cfg.Store.Neighbours(ctx, p.DocumentID, p.Ordinal-expandReach, p.Ordinal+expandReach)
		if err != nil {
			return nil, fmt.Errorf("read the section: %w", err)
		}
		wide, err := s.widen(ctx, p, chunks)
		if err != nil {
			return nil, err
		}
		if at := (place{wide.DocumentID, wide.Start, wide.End}); !seen[at] {
			seen[at] = true
			out = append(out, wide)
		}
	}
	return out, nil
}

// widen takes neighbours in turn from both sides, so that the hit stays in the middle.
func (s *Service) widen(ctx context.Context, p store.Passage, chunks []store.Chunk) (store.Passage, error) {
	at := slices.IndexFunc(chunks, func(c store.Chunk) bool { return c.Ordinal == p.Ordinal && c.Text == p.Text })
	if at < 0 { // replaced since the search
		return p, nil
	}
	first, last, tokens := at, at, p.Tokens
	fits := func(i int) bool {
		return i >= 0 && i < len(chunks) && slices.Equal(chunks[i].Heading, p.Heading) && tokens+chunks[i].Tokens <= mergedTokens
	}
	for grown := true; grown; {
		grown = false
		if fits(last + 1) {
			last++
			tokens += chunks[last].Tokens
			grown = true
		}
		if fits(first - 1) {
			first--
			tokens += chunks[first].Tokens
			grown = true
		}
	}
	if first == last {
		return p, nil
	}
	whole, err := s.store.DocumentText(ctx, p.DocumentID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return p, fmt.Errorf("read document %s: %w", p.DocumentID, err)
	}
	text := []rune(whole)
	start, end := chunks[first].Start, chunks[last].End
	if end > len(text) || string(text[p.Start:p.End]) != p.Text {
		return p, nil
	}
	p.Ordinal, p.Start, p.End, p.Text, p.Tokens = chunks[first].Ordinal, start, end, string(text[start:end]), tokens
	return p, nil
}
