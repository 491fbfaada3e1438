package store

import (
	"context"
	"fmt"
	"slices"

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
	removals      int64
	removed       *ranges // chunks that the segments still speak of
	allow         *ranges // nil: every chunk
	weighted      []weightedTerm
}

func (s *Store) newLexicalLeg(q SearchQuery) *lexicalLeg {
	l := &lexicalLeg{collection: q.Collection.ID, cache: s.terms}
	l.terms, l.counts = queryTerms(clipText(q.Text), q.Collection.Languages)
	return l
}

// selectPostings gives the collection's totals, the set of segments, all fresh rows and the wanted terms' rows. It is one
// statement, and so one moment, because maintenance moves documents from one table to the other.
const selectPostings = `
	SELECT 3, coalesce(sum(removals), 0)::bigint, coalesce(sum(chunks), 0) || ' ' || coalesce(sum(words), 0), NULL::bytea FROM collection_counters WHERE collection_id = $1
	UNION ALL SELECT 0, 0, coalesce(string_agg(id::text, ' ' ORDER BY id), ''), NULL FROM posting_segments WHERE collection_id = $1
	UNION ALL SELECT 1, first_chunk, NULL, packed FROM fresh_postings WHERE collection_id = $1
	UNION ALL SELECT 2, first_chunk, term, packed FROM postings WHERE collection_id = $1 AND term = ANY($2)`

const (
	rowSegments = iota
	rowFresh
	rowTerm
	rowTotals
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
		case rowTotals:
			l.removals = first
			_, err = fmt.Sscan(*text, &l.chunks, &l.words)
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

// pgxBytes scans a bytea without copying it: the row is read before the next one comes.
type pgxBytes []byte

// ScanBytes implements pgtype.BytesScanner.
func (b *pgxBytes) ScanBytes(v []byte) error {
	*b = v
	return nil
}
