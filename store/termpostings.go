package store

import (
	"cmp"
	"math"
	"slices"
	"sort"
)

// termPostings are a term's postings laid out for adding up: page by page of the accumulator, in parallel arrays, the score of
// each computed beforehand but for the term's weight. That is 10 bytes and about a nanosecond a posting.
type termPostings struct {
	pages  []pageRun
	offset []uint16 // in the page, ascending
	tf     []uint16
	words  []uint16

	perWord float32   // that impact was computed with
	impact  []float32 // tf / (tf + k1·(1-b+b·length/mean))
	most    float32   // impact
}

// pageRun is the part of the arrays that is in one page: from..to.
type pageRun struct {
	page     int64
	from, to int
	most     float32 // impact
}

func (r pageRun) size() int { return r.to - r.from }

// BM25's constants: Lucene's defaults, which beat 0.9/0.4 by 1.3 points of nDCG@10 on the mean of 16 collections.
const (
	bm25K1 = 1.2
	bm25B  = 0.75
)

// newTermPostings sorts the list.
func newTermPostings(list []posting) *termPostings {
	byChunk := func(a, b posting) int { return cmp.Compare(a.chunk, b.chunk) }
	if !slices.IsSortedFunc(list, byChunk) {
		slices.SortFunc(list, byChunk)
	}
	t := &termPostings{offset: make([]uint16, len(list)), tf: make([]uint16, len(list)), words: make([]uint16, len(list))}
	for i, p := range list {
		if page := p.chunk / chunkIDBlock; i == 0 || page != t.pages[len(t.pages)-1].page {
			t.pages = append(t.pages, pageRun{page: page, from: i})
		}
		t.pages[len(t.pages)-1].to = i + 1
		t.offset[i] = uint16(p.chunk % chunkIDBlock)
		t.tf[i] = uint16(min(p.tf, math.MaxUint16))
		t.words[i] = uint16(min(p.words, math.MaxUint16))
	}
	return t
}

// list is the opposite of newTermPostings.
func (t *termPostings) list() []posting {
	list := make([]posting, 0, len(t.offset))
	for _, run := range t.pages {
		for i := run.from; i < run.to; i++ {
			list = append(list, posting{run.page*chunkIDBlock + int64(t.offset[i]), uint32(t.tf[i]), uint32(t.words[i])})
		}
	}
	return list
}

func (t *termPostings) size() int { return len(t.offset) }

// meanSlack is how much the mean length may have changed since impacts were computed: a new document changes it a little.
const meanSlack = 1e-5

// at returns the postings with impacts for a mean length, given as k1·b/mean: t itself if they are so already.
func (t *termPostings) at(perWord float32) *termPostings {
	if t.impact != nil && math.Abs(float64(perWord-t.perWord)) <= meanSlack*float64(perWord) {
		return t
	}
	u := *t
	u.perWord, u.impact, u.pages, u.most = perWord, make([]float32, len(t.offset)), slices.Clone(t.pages), 0
	for r := range u.pages {
		run := &u.pages[r]
		run.most = 0
		for i := run.from; i < run.to; i++ {
			tf := float32(t.tf[i])
			u.impact[i] = tf / (tf + bm25K1*(1-bm25B) + perWord*float32(t.words[i]))
			run.most = max(run.most, u.impact[i])
		}
		u.most = max(u.most, run.most)
	}
	return &u
}

// find returns the impact of a chunk; ok if the term is in it.
func (t *termPostings) find(chunk int64) (impact float32, ok bool) {
	page := chunk / chunkIDBlock
	r := sort.Search(len(t.pages), func(i int) bool { return t.pages[i].page >= page })
	if r == len(t.pages) || t.pages[r].page != page {
		return 0, false
	}
	run := t.pages[r]
	i, ok := slices.BinarySearch(t.offset[run.from:run.to], uint16(chunk%chunkIDBlock))
	if !ok {
		return 0, false
	}
	return t.impact[run.from+i], true
}
