package store

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"sync"
)

// weightedTerm is a term's part in BM25 in Lucene's form (Robertson and Zaragoza 2009, without the constant factor k1+1):
// count · ln(1 + (N-n+½)/(n+½)) · tf / (tf + k1·(1-b+b·length/mean)).
type weightedTerm struct {
	term   string
	parts  [2]termWalk // in segments, and fresh
	weight float32
	most   float32 // no chunk's score is higher
}

func (t *weightedTerm) size() int { return t.parts[0].size() + t.parts[1].size() }

// termWalk goes through postings page by page.
type termWalk struct {
	*termPostings
	next int     // of the pages
	run  pageRun // on the page that the walk is at; empty if none is there
}

// to moves the walk on to a page and returns the highest impact there.
func (w *termWalk) to(page int64) (most float32) {
	for w.next < len(w.pages) && w.pages[w.next].page < page {
		w.next++
	}
	w.run = pageRun{}
	if w.next < len(w.pages) && w.pages[w.next].page == page {
		w.run = w.pages[w.next]
	}
	return w.run.most
}

// weigh makes the question's terms ready, those first that can give the most. Every chunk's score is a sum in this order, so that
// equal chunks have equal scores.
func (l *lexicalLeg) weigh() {
	l.weighted = make([]weightedTerm, 0, len(l.terms))
	for i := range l.terms {
		t := weightedTerm{term: l.terms[i], parts: [2]termWalk{{termPostings: l.known[i].termPostings}, {termPostings: newTermPostings(l.fresh[i]).at(l.perWord())}}}
		n := float64(t.size())
		if n == 0 {
			continue
		}
		t.weight = float32(float64(l.counts[i]) * math.Log(1+(max(l.chunks, n)-n+0.5)/(n+0.5)))
		t.most = t.weight * max(t.parts[0].most, t.parts[1].most)
		l.weighted = append(l.weighted, t)
	}
	slices.SortStableFunc(l.weighted, func(a, b weightedTerm) int { return cmp.Compare(b.most, a.most) })
}

// pages are those that any of the terms is on, in order.
func (l *lexicalLeg) pages() (pages []int64) {
	for _, t := range l.weighted {
		for _, part := range t.parts {
			for _, run := range part.pages {
				pages = append(pages, run.page)
			}
		}
	}
	slices.Sort(pages)
	return slices.Compact(pages)
}

// score returns the k best chunks by BM25. It is MaxScore (Turtle and Flood 1995) with the bounds of blocks (Ding and Suel 2011),
// as in Lucene's bulk scorer: page after page, terms are added up only while a chunk that has none of them could still be among
// the k best; the others are looked up for the chunks that still can.
func (l *lexicalLeg) score(k int) []scored {
	page := scorePages.Get().(*scorePage)
	defer scorePages.Put(page)
	return l.scoreOn(page, k)
}

func (l *lexicalLeg) scoreOn(page *scorePage, k int) []scored {
	l.weigh()
	best := best{k: k, heap: make([]scored, 0, k)}
	for _, number := range l.pages() {
		if first := number * chunkIDBlock; l.allow == nil || l.allow.overlap(first, first+chunkIDBlock-1) > 0 {
			page.score(number, l.weighted, l.allow, &best)
		}
	}
	return best.inOrder()
}

// scoreOf is the score of a chunk, as score computes it.
func (l *lexicalLeg) scoreOf(chunk int64) (sum float32) {
	for i := range l.weighted {
		t := &l.weighted[i]
		for _, part := range t.parts {
			if impact, ok := part.find(chunk); ok {
				sum += t.weight * impact
			}
		}
	}
	return sum
}

// scorePage is scratch space for the chunks of a page: ids of a collection come in blocks of chunkIDBlock.
type scorePage struct {
	sums    [chunkIDBlock]float32
	touched [chunkIDBlock / 64]uint64
	rest    []float32 // the most that terms from here on can add on this page
	some    []uint16  // chunks that can be among the best
}

var scorePages = sync.Pool{New: func() any { return new(scorePage) }}

const (
	// probeCost is how much dearer it is to look up a posting than to add up one in a row.
	probeCost = 16

	// roundingSlack keeps sums of float32 in different order from leaving out a chunk.
	roundingSlack = 1.0001
)

func (p *scorePage) score(number int64, terms []weightedTerm, allow *ranges, best *best) {
	floor := best.floor()
	p.rest = slices.Grow(p.rest[:0], len(terms)+1)[:len(terms)+1]
	for i := range terms {
		t := &terms[i]
		p.rest[i] = t.weight * max(t.parts[0].to(number), t.parts[1].to(number)) * roundingSlack
	}
	p.rest[len(terms)] = 0
	for i := len(terms) - 1; i >= 0; i-- {
		p.rest[i] += p.rest[i+1]
	}
	if p.rest[0] <= floor {
		return
	}
	p.sums, p.touched = [chunkIDBlock]float32{}, [chunkIDBlock / 64]uint64{}
	n := 0
	for ; n < len(terms) && p.rest[n] > floor; n++ {
		p.add(&terms[n], true)
	}
	p.collect(number, allow, floor-p.rest[n])
	for ; n < len(terms) && len(p.some) > 0; n++ {
		p.addSome(&terms[n])
		p.keep(floor - p.rest[n+1])
	}
	for _, at := range p.some {
		best.offer(scored{number*chunkIDBlock + int64(at), float64(p.sums[at])})
	}
}

// add adds a term's scores, which is where a lexical search spends its time.
func (p *scorePage) add(t *weightedTerm, touch bool) {
	for i := range t.parts {
		w := &t.parts[i]
		offsets, impacts := w.offset[w.run.from:w.run.to], w.impact[w.run.from:w.run.to]
		for i, at := range offsets {
			at %= chunkIDBlock
			p.sums[at] += t.weight * impacts[i]
		}
		if touch {
			for _, at := range offsets {
				p.touched[at/64%uint16(len(p.touched))] |= 1 << (at % 64)
			}
		}
	}
}

// collect begins the list of chunks with those whose sum is more than the floor.
func (p *scorePage) collect(number int64, allow *ranges, floor float32) {
	p.some = p.some[:0]
	allowed := allow.walk()
	for w, word := range p.touched {
		for ; word != 0; word &= word - 1 {
			at := w*64 + bits.TrailingZeros64(word)
			if p.sums[at] > floor && (allow == nil || allowed.has(number*chunkIDBlock+int64(at))) {
				p.some = append(p.some, uint16(at))
			}
		}
	}
}

// keep leaves those whose sum is more than the floor.
func (p *scorePage) keep(floor float32) {
	kept := p.some[:0]
	for _, at := range p.some {
		if p.sums[at] > floor {
			kept = append(kept, at)
		}
	}
	p.some = kept
}

// addSome adds a term's scores for the chunks of the list.
func (p *scorePage) addSome(t *weightedTerm) {
	if length := t.parts[0].run.size() + t.parts[1].run.size(); length <= probeCost*len(p.some) {
		p.add(t, false)
		return
	}
	for i := range t.parts {
		w := &t.parts[i]
		offsets, impacts := w.offset[w.run.from:w.run.to], w.impact[w.run.from:w.run.to]
		for _, at := range p.some {
			i, found := slices.BinarySearch(offsets, at)
			if found {
				p.sums[at] += t.weight * impacts[i]
			}
			offsets, impacts = offsets[i:], impacts[i:]
		}
	}
}

// scored is a chunk with its score in one leg.
type scored struct {
	chunk int64
	score float64
}

// best keeps the k best that it was offered, in a heap with the worst on top. Of equal ones it keeps those offered first, which
// are those with lower ids.
type best struct {
	k    int
	heap []scored
}

// floor is the score that a chunk must exceed.
func (b *best) floor() float32 {
	if len(b.heap) < b.k {
		return 0
	}
	return float32(b.heap[0].score)
}

func (b *best) offer(c scored) {
	if len(b.heap) < b.k {
		b.heap = append(b.heap, c)
		for i := len(b.heap) - 1; i > 0 && betterFirst(b.heap[(i-1)/2], b.heap[i]) < 0; i = (i - 1) / 2 {
			b.heap[i], b.heap[(i-1)/2] = b.heap[(i-1)/2], b.heap[i]
		}
		return
	}
	if betterFirst(c, b.heap[0]) > 0 {
		return
	}
	b.heap[0] = c
	for i := 0; ; {
		worst := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(b.heap); child++ {
			if betterFirst(b.heap[worst], b.heap[child]) < 0 {
				worst = child
			}
		}
		if worst == i {
			return
		}
		b.heap[i], b.heap[worst] = b.heap[worst], b.heap[i]
		i = worst
	}
}

// inOrder is what was kept, best first; equal ones by id, so that a search gives the same answer each time.
func (b *best) inOrder() []scored {
	slices.SortFunc(b.heap, betterFirst)
	return b.heap
}

func betterFirst(a, b scored) int {
	switch {
	case a.score > b.score:
		return -1
	case a.score < b.score:
		return 1
	}
	return int(a.chunk - b.chunk)
}
