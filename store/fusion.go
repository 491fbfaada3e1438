package store

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
)

// Fusion says how the legs' scores become one. The zero value is the default, which was the best simple rule on the collections
// of docs/search.md.
type Fusion struct {
	Method        string // FusionMax (default), FusionMinMax, FusionZScore or FusionRRF
	VectorWeight  float64
	LexicalWeight float64 // both 0: 0.55 and 0.45; they are scaled to a sum of 1
	Candidates    int     // of each leg; default 50 or, if that is more, twice Limit; never less than Limit
	// Smoothing is how much of a score comes from the candidates most like it (see smooth), from 0, nothing, to less than 1; nil is the
	// default, 0.3.
	Smoothing *float64
}

// Methods of fusion. All but FusionRRF give every candidate of one leg its exact score in the other.
const (
	FusionMax    = "max"    // score / the leg's best
	FusionMinMax = "minmax" // (score - the leg's last candidate) / (best - last)
	FusionZScore = "zscore" // standard deviations over the leg's mean, -3 to 3 made 0 to 1
	FusionRRF    = "rrf"    // 1 / (60 + rank), as a share of the first rank's
)

const (
	defaultCandidates   = 50
	defaultVectorWeight = 0.55
	rrfK                = 60
	zRange              = 3
)

func (f Fusion) withDefaults(limit int) (Fusion, error) {
	f.Method = cmp.Or(f.Method, FusionMax)
	if !slices.Contains([]string{FusionMax, FusionMinMax, FusionZScore, FusionRRF}, f.Method) {
		return f, fmt.Errorf("%w: method %q: it is one of max, minmax, zscore, rrf", ErrInvalidFusion, f.Method)
	}
	if f.Candidates < 0 || f.Candidates > maxLimit {
		return f, fmt.Errorf("%w: %d candidates: give a number from 1 to %d", ErrInvalidFusion, f.Candidates, maxLimit)
	}
	f.Candidates = max(cmp.Or(f.Candidates, Candidates(limit)), limit)
	if f.VectorWeight == 0 && f.LexicalWeight == 0 {
		f.VectorWeight, f.LexicalWeight = defaultVectorWeight, 1-defaultVectorWeight
	}
	if share := f.smoothing(); !(share >= 0 && share < 1) {
		return f, fmt.Errorf("%w: smoothing %v: give a number from 0, none, to less than 1", ErrInvalidFusion, share)
	}
	sum := f.VectorWeight + f.LexicalWeight
	if f.VectorWeight < 0 || f.LexicalWeight < 0 || math.IsInf(sum, 0) || math.IsNaN(sum) {
		return f, fmt.Errorf("%w: weights %v and %v: give finite numbers of at least 0", ErrInvalidFusion, f.VectorWeight, f.LexicalWeight)
	}
	f.VectorWeight, f.LexicalWeight = f.VectorWeight/sum, f.LexicalWeight/sum
	return f, nil
}

func (f Fusion) smoothing() float64 {
	if f.Smoothing == nil {
		return defaultSmoothing
	}
	return *f.Smoothing
}

// Candidates is how many a leg has by default when so many passages are asked for.
func Candidates(limit int) int { return min(max(defaultCandidates, 2*limit), maxLimit) }

// name describes the score of a mode, for those who read why a passage was found.
func (f Fusion) name(mode Mode, smoothed bool) string {
	if mode == Lexical {
		return "lexical/max"
	}
	share := func(w float64) string { return strconv.FormatFloat(w, 'g', 3, 64) }
	how := map[string]string{FusionMax: "/max", FusionMinMax: " min-max", FusionZScore: " z-score", FusionRRF: " reciprocal rank"}[f.Method]
	name := share(f.VectorWeight) + " vector" + how + " + " + share(f.LexicalWeight) + " lexical" + how
	if smoothed {
		name = share(1-f.smoothing()) + " (" + name + ") + " + share(f.smoothing()) + " neighbors"
	}
	return name
}

// legScale turns a leg's scores into 0 to 1; a score that is not known is 0.
type legScale struct {
	method      string
	best, last  float64
	mean, sigma float64
	some        bool
}

// scaleOf measures a leg's candidates, best first.
func scaleOf(method string, leg []scored) legScale {
	s := legScale{method: method, some: len(leg) > 0}
	if !s.some {
		return s
	}
	s.best, s.last = leg[0].score, leg[len(leg)-1].score
	for _, c := range leg {
		s.mean += c.score / float64(len(leg))
	}
	for _, c := range leg {
		s.sigma += (c.score - s.mean) * (c.score - s.mean) / float64(len(leg))
	}
	s.sigma = math.Sqrt(s.sigma)
	return s
}

// of is the scaled score; rank 0 means that the leg did not return the chunk.
func (s legScale) of(score float64, rank int) float64 {
	if !s.some {
		return 0
	}
	var v float64
	switch s.method {
	case FusionMax:
		if s.best > 0 {
			v = score / s.best
		}
	case FusionMinMax:
		v = 1
		if s.best > s.last {
			v = (score - s.last) / (s.best - s.last)
		}
	case FusionZScore:
		v = 0.5
		if s.sigma > 0 {
			v = ((score-s.mean)/s.sigma + zRange) / (2 * zRange)
		}
	case FusionRRF:
		if rank > 0 {
			v = (rrfK + 1) / float64(rrfK+rank)
		}
	}
	return min(max(v, 0), 1)
}

// candidate is a chunk that a leg has returned.
type candidate struct {
	chunk             int64
	cosine            float64
	known             bool // cosine
	lexical           float64
	nearRank, lexRank int
	score             float64
	phrases           *int
	likeness
	neighbors *float64 // mean score of those most like it; nil where that does not count
}

// fused is a search by words, or by words and vectors.
func (r *search) fused(ctx context.Context) ([]Passage, error) {
	r.changed = false
	if err := r.legs(ctx); err != nil {
		return nil, err
	}
	all := r.candidates()
	if len(r.phrases) > 0 {
		if err := r.raisePhrases(ctx, all); err != nil {
			return nil, err
		}
	}
	all = all[:min(r.Limit, len(all))]
	if len(all) == 0 {
		return nil, nil
	}
	read, err := r.texts(ctx, all)
	if err != nil {
		return nil, err
	}
	r.changed = len(read) < len(all)
	passages := make([]Passage, len(read))
	for i, f := range read {
		c := all[slices.IndexFunc(all, func(c candidate) bool { return c.chunk == f.chunk })]
		passages[i] = r.passage(f.Passage, c)
	}
	slices.SortFunc(passages, func(a, b Passage) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.DocumentID, b.DocumentID), a.Ordinal-b.Ordinal)
	})
	return passages, nil
}

func (r *search) passage(p Passage, c candidate) Passage {
	p.Score, p.Fusion, p.Phrases = c.score, r.Fusion.name(r.Mode, c.neighbors != nil), c.phrases
	if c.known {
		p.Vector = &LegScore{c.cosine, c.nearRank}
	}
	p.Neighbors = c.neighbors
	if c.lexical > 0 {
		p.Lexical = &LegScore{c.lexical, c.lexRank}
	}
	return p
}

// candidates is the union of the legs' best, by their fused scores.
func (r *search) candidates() []candidate {
	all := make([]candidate, 0, len(r.near)+len(r.words))
	at := make(map[int64]int, len(r.near))
	for i, n := range r.near {
		at[n.chunk] = i
		all = append(all, candidate{chunk: n.chunk, cosine: n.score, known: true, nearRank: i + 1,
			lexical: float64(r.lexical.scoreOf(n.chunk)), likeness: r.nearLike[i]})
	}
	add := func(w scored, rank int) {
		place, ok := at[w.chunk]
		if !ok {
			place = len(all)
			at[w.chunk] = place
			c, known := r.compared[w.chunk]
			all = append(all, candidate{chunk: w.chunk, cosine: c.score, known: known, lexical: w.score, likeness: c.likeness})
		}
		all[place].lexRank = max(all[place].lexRank, rank)
	}
	for i, w := range r.words {
		add(w, i+1)
	}
	for _, w := range r.holders {
		add(w, 0)
	}
	vector, lexical := scaleOf(r.Fusion.Method, r.near), scaleOf(r.Fusion.Method, r.words)
	weights := r.Fusion
	if r.Mode == Lexical {
		vector.some, lexical.method, weights.LexicalWeight = false, FusionMax, 1
	}
	for i := range all {
		c := &all[i]
		c.score = weights.VectorWeight*vector.of(c.cosine, c.nearRank) + weights.LexicalWeight*lexical.of(c.lexical, c.lexRank)
	}
	sortCandidates(all)
	if r.Mode == Hybrid {
		r.smooth(all)
	}
	return all
}

// sortCandidates puts the best first.
func sortCandidates(all []candidate) {
	slices.SortFunc(all, func(a, b candidate) int {
		switch {
		case a.score > b.score:
			return -1
		case a.score < b.score:
			return 1
		}
		return cmp.Compare(a.chunk, b.chunk)
	})
}

// texts reads the candidates' passages.
func (r *search) texts(ctx context.Context, all []candidate) ([]found, error) {
	ids := make([]int64, len(all))
	for i, c := range all {
		ids[i] = c.chunk
	}
	return many(ctx, r.store.read, scanFound, "SELECT "+passageColumns+`, NULL::float8
		FROM chunks k JOIN documents d ON d.id = k.document_id WHERE k.id = ANY($1)`, ids)
}
