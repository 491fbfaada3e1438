package store

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
)

// lexicalLeg collects the postings of a question's terms and scores them.
type lexicalLeg struct {
	collection int64
	cache      *termCache
	terms      []string // sorted
	counts     []int

	assumed  string       // the segments that known is true for
	known    []*termEntry // of each term, from the cache or read now; nil: not yet
	wanted   []string     // terms to read
	segments string       // as read
	read     [][]posting  // of each term, in segments
	fresh    [][]posting  // of each term, in documents that no segment holds yet

	chunks, words float64 // in the collection
	probeFrom     int     // length of a list from which it is worth asking whether all of it is needed
	removals      int64
	removed       *ranges // chunks that the segments still speak of
	allow         *ranges // nil: every chunk
	scores        *accumulator
}

func (s *Store) newLexicalLeg(q SearchQuery) *lexicalLeg {
	l := &lexicalLeg{collection: q.Collection.ID, cache: s.terms, probeFrom: probeFrom}
	l.terms, l.counts = queryTerms(clipText(q.Text), q.Collection.Languages)
	return l
}

// selectPostings gives the set of segments, all fresh rows and the wanted terms' rows. It is one statement, and so one moment,
// because maintenance moves documents from one table to the other.
const selectPostings = `
	SELECT 0, 0, coalesce(string_agg(id::text, ' ' ORDER BY id), ''), NULL FROM posting_segments WHERE collection_id = $1
	UNION ALL SELECT 1, first_chunk, NULL, packed FROM fresh_postings WHERE collection_id = $1
	UNION ALL SELECT 2, first_chunk, term, packed FROM postings WHERE collection_id = $1 AND term = ANY($2)`

const (
	rowSegments = iota
	rowFresh
	rowTerm
)

// queue asks for what the cache does not have.
func (l *lexicalLeg) queue(b *pgx.Batch) {
	l.assumed = l.cache.seen(l.collection)
	l.known = l.cache.lookup(l.collection, l.assumed, l.terms)
	l.wanted = []string{}
	for i, term := range l.terms {
		if l.known[i] == nil {
			l.wanted = append(l.wanted, term)
		}
	}
	b.Queue(selectPostings, l.collection, l.wanted).Query(l.scan)
}

// scan reads the rows of selectPostings.
func (l *lexicalLeg) scan(rows pgx.Rows) error {
	l.read, l.fresh = make([][]posting, len(l.terms)), make([][]posting, len(l.terms))
	var kind int
	var first int64
	var text *string
	var packed []byte
	_, err := pgx.ForEachRow(rows, []any{&kind, &first, &text, (*pgxBytes)(&packed)}, func() (err error) {
		switch kind {
		case rowSegments:
			l.segments = *text
		case rowFresh:
			return l.scanFresh(first, packed)
		case rowTerm:
			i, _ := slices.BinarySearch(l.terms, *text)
			l.read[i], err = appendUnpacked(l.read[i], first, packed)
		}
		return err
	})
	return err
}

// scanFresh walks the document's terms and the question's side by side.
func (l *lexicalLeg) scanFresh(first int64, packed []byte) error {
	i := 0
	return eachTerm(packed, func(term, postings []byte) (err error) {
		for i < len(l.terms) && l.terms[i] < string(term) {
			i++
		}
		if i < len(l.terms) && l.terms[i] == string(term) {
			l.fresh[i], err = appendUnpacked(l.fresh[i], first, postings)
		}
		return err
	})
}

// complete reads once more if the segments are not those that the cache was asked for, and keeps what was read.
func (l *lexicalLeg) complete(ctx context.Context, conn *pgx.Conn) error {
	if l.segments != l.assumed && len(l.wanted) < len(l.terms) {
		l.wanted = l.terms
		rows, err := conn.Query(ctx, selectPostings, l.collection, l.wanted)
		if err != nil {
			return err
		}
		if err := l.scan(rows); err != nil {
			return err
		}
	}
	perWord := l.perWord()
	var made []*termEntry
	for i, term := range l.terms {
		e := l.known[i]
		if _, read := slices.BinarySearch(l.wanted, term); read {
			e = &termEntry{key: termKey{l.collection, term}, segments: l.segments, termPostings: newTermPostings(l.read[i])}
		}
		if e.removals < l.removals {
			e = &termEntry{e.key, e.segments, l.removals, newTermPostings(l.removed.without(e.list()))}
		}
		if t := e.at(perWord); t != e.termPostings {
			e = &termEntry{e.key, e.segments, e.removals, t}
		}
		if e != l.known[i] {
			l.known[i] = e
			made = append(made, e)
		}
	}
	l.cache.put(l.collection, l.segments, made...)
	return nil
}

// perWord is what a word adds to the length's part of BM25.
func (l *lexicalLeg) perWord() float32 {
	return float32(bm25K1 * bm25B / max(l.words/max(l.chunks, 1), 1))
}

// release gives memory back.
func (l *lexicalLeg) release() {
	if l.scores != nil {
		l.scores.release()
		l.scores = nil
	}
}

// pgxBytes scans a bytea without copying it: the row is read before the next one comes.
type pgxBytes []byte

// ScanBytes implements pgtype.BytesScanner.
func (b *pgxBytes) ScanBytes(v []byte) error {
	*b = v
	return nil
}

// weightedTerm is a term's part in BM25 in Lucene's form (Robertson and Zaragoza 2009, without the constant factor k1+1):
// count · ln(1 + (N-n+½)/(n+½)) · tf / (tf + k1·(1-b+b·length/mean)).
type weightedTerm struct {
	parts  [2]*termPostings // in segments, and fresh
	weight float32
	most   float32 // no chunk's score is higher
}

func (t *weightedTerm) size() int { return t.parts[0].size() + t.parts[1].size() }

// weighted are the question's terms, those first that can give the most.
func (l *lexicalLeg) weighted() []weightedTerm {
	terms := make([]weightedTerm, 0, len(l.terms))
	for i := range l.terms {
		t := weightedTerm{parts: [2]*termPostings{l.known[i].termPostings, newTermPostings(l.fresh[i]).at(l.perWord())}}
		n := float64(t.size())
		if n == 0 {
			continue
		}
		t.weight = float32(float64(l.counts[i]) * math.Log(1+(max(l.chunks, n)-n+0.5)/(n+0.5)))
		t.most = t.weight * max(t.parts[0].most, t.parts[1].most)
		terms = append(terms, t)
	}
	slices.SortStableFunc(terms, func(a, b weightedTerm) int { return cmp.Compare(b.most, a.most) })
	return terms
}

const probeFrom = 1024

// score fills scores with BM25 so that the k best chunks and those of near have theirs in full. It adds up term after term;
// when the rest together cannot lift a chunk that is not there yet to the k best (MaxScore, Turtle and Flood 1995), it looks up
// the rest for chunks that still can be among them, and for near, only.
func (l *lexicalLeg) score(k int, near []scored) []scored {
	l.scores = newAccumulator()
	terms := l.weighted()
	rest := float32(0)
	for _, t := range terms {
		rest += t.most
	}
	left := 0
	for _, t := range terms {
		left += t.size()
	}
	done := float32(0)
	for i := range terms {
		if left >= l.probeFrom && rest < done {
			if some, ok := l.hopeful(k, rest*roundingSlack, left/probeCost); ok {
				l.probe(terms[i:], some, near)
				break
			}
		}
		t := &terms[i]
		for _, part := range t.parts {
			l.scores.addAll(part, t.weight, l.allow)
		}
		left -= t.size()
		rest, done = rest-t.most, done+t.most
	}
	return l.scores.best(k)
}

// hopeful are the chunks that can be among the k best when no chunk's score grows by more than rest; not ok if others can, too,
// or if these are more than most.
func (l *lexicalLeg) hopeful(k int, rest float32, most int) (some []int64, ok bool) {
	best := l.scores.best(k)
	if len(best) < k || float32(best[k-1].score) <= rest {
		return nil, false
	}
	return l.scores.atLeast(float32(best[k-1].score)-rest, most)
}

// probeCost is how much dearer it is to look up a posting than to add up one in a row.
const probeCost = 16

// roundingSlack keeps sums of float32 in different order from leaving out a chunk.
const roundingSlack = 1.0001

// probe adds the terms' scores of some chunks.
func (l *lexicalLeg) probe(terms []weightedTerm, some []int64, near []scored) {
	for _, n := range near {
		some = append(some, n.chunk)
	}
	slices.Sort(some)
	some = slices.Compact(some)
	for _, t := range terms {
		for _, part := range t.parts {
			for _, chunk := range some {
				if impact, ok := part.find(chunk); ok {
					l.scores.add(chunk, t.weight*impact)
				}
			}
		}
	}
}

// scored is a chunk with its score in one leg.
type scored struct {
	chunk int64
	score float64
}

// accumulator sums scores by chunk id. Ids of a collection come in blocks of chunkIDBlock, so a page of sums covers one.
type accumulator struct {
	pages map[int64]*scorePage
	last  *scorePage
}

type scorePage struct {
	number int64
	sums   [chunkIDBlock]float32
}

var scorePages = sync.Pool{New: func() any { return new(scorePage) }}

func newAccumulator() *accumulator {
	return &accumulator{pages: map[int64]*scorePage{}, last: &scorePage{number: -1}}
}

func (a *accumulator) add(chunk int64, score float32) {
	if number := chunk / chunkIDBlock; number != a.last.number {
		a.turn(number)
	}
	a.last.sums[chunk%chunkIDBlock] += score
}

// addAll adds a term's scores, which is where a lexical search spends its time.
func (a *accumulator) addAll(t *termPostings, weight float32, allow *ranges) {
	allowed := allow.walk()
	for _, run := range t.pages {
		a.turn(run.page)
		sums := &a.last.sums
		offsets, impacts := t.offset[run.from:run.to], t.impact[run.from:run.to]
		for i, at := range offsets {
			if allow == nil || allowed.has(run.page*chunkIDBlock+int64(at)) {
				sums[at%chunkIDBlock] += weight * impacts[i]
			}
		}
	}
}

func (a *accumulator) turn(number int64) {
	page, ok := a.pages[number]
	if !ok {
		page = scorePages.Get().(*scorePage)
		*page = scorePage{number: number}
		a.pages[number] = page
	}
	a.last = page
}

// at is the score of a chunk; 0 if no term of the question is in it.
func (a *accumulator) at(chunk int64) float64 {
	if page, ok := a.pages[chunk/chunkIDBlock]; ok {
		return float64(page.sums[chunk%chunkIDBlock])
	}
	return 0
}

// atLeast are the chunks with such a score or a higher one; not ok if these are more than most.
func (a *accumulator) atLeast(score float32, most int) (chunks []int64, ok bool) {
	for n, page := range a.pages {
		for i, s := range page.sums {
			if s >= score {
				if len(chunks) == most {
					return nil, false
				}
				chunks = append(chunks, n*chunkIDBlock+int64(i))
			}
		}
	}
	return chunks, true
}

func (a *accumulator) release() {
	for _, page := range a.pages {
		scorePages.Put(page)
	}
	a.pages = nil
}

// best returns the k highest scores in order; equal ones by id, so that a search gives the same answer each time.
func (a *accumulator) best(k int) []scored {
	numbers := make([]int64, 0, len(a.pages))
	for n := range a.pages {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	top := make([]scored, 0, 2*k)
	var floor float32
	for _, n := range numbers {
		for i, s := range a.pages[n].sums {
			if s <= floor {
				continue
			}
			top = append(top, scored{n*chunkIDBlock + int64(i), float64(s)})
			if len(top) == 2*k { // keep the better half, which is cheaper than a heap
				slices.SortFunc(top, betterFirst)
				top = top[:k]
				floor = float32(top[k-1].score)
			}
		}
	}
	slices.SortFunc(top, betterFirst)
	return top[:min(k, len(top))]
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
