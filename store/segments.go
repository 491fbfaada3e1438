package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
)

// The inverted index is kept like Lucene's. Complete writes a document's words as one row of fresh_postings, which is cheap and
// makes no writer wait. When a collection has freshChunks of them, a writer turns them into a segment: rows by term, of up to
// rowBytes. mergeFactor segments of about one size are merged into one, so a term is in few rows however many documents there are.
// A chunk that goes leaves its words in the segments; removed_chunks says so until its segments are written anew.
const (
	freshChunks = 1024

	// maxFresh times freshChunks make writers wait for the one that writes the segment.
	maxFresh = 4

	mergeFactor = 8

	// segmentChunks bounds what a merge holds in memory, some 100 MB.
	segmentChunks = 128 << 10

	// rowBytes lets two rows share a page.
	rowBytes = 3900

	// A collection's segments are cleaned when this share of its chunks is removed, or this many runs of them.
	removedShare, removedRuns = 0.1, 2000

	// lockPostings plus a collection's id is the key of the lock under which its segments change.
	lockPostings int64 = 0x666f6f75_0000_0000
)

// segment is a row of posting_segments. An id is never used again: the same id means the same postings.
type segment struct {
	id          int64
	first, last int64 // chunks it was made of are among these ids
	chunks      int
}

// level grows by one when a segment has mergeFactor times the chunks.
func (g segment) level() (n int) {
	for size := g.chunks; size > freshChunks; size /= mergeFactor {
		n++
	}
	return n
}

// settleFresh makes a segment when enough fresh postings are there. The document is already safe: trouble is only logged, and
// the next writer or maintenance tries again.
func (s *Store) settleFresh(ctx context.Context, collection int64) {
	var chunks int64
	err := s.pool.QueryRow(ctx, "SELECT coalesce(sum(chunks), 0) FROM fresh_postings WHERE collection_id = $1", collection).Scan(&chunks)
	if err == nil && chunks >= freshChunks {
		_, err = s.flush(ctx, collection, chunks >= maxFresh*freshChunks)
	}
	if err != nil && ctx.Err() == nil {
		s.cfg.Logger.WarnContext(ctx, "new words not sorted into the index yet", "collection_id", collection, "error", err)
	}
}

// flush turns the fresh postings of a collection into a segment, unless another process is at it; wait waits for it.
func (s *Store) flush(ctx context.Context, collection int64, wait bool) (done bool, err error) {
	id, err := s.ids.take(ctx, s.pool, 1)
	if err != nil {
		return false, err
	}
	err = s.write(ctx, func(tx pgx.Tx) error {
		if done, err = lockSegments(ctx, tx, collection, wait); err != nil || !done {
			return err
		}
		terms, made, err := takeFresh(ctx, tx, collection)
		if err != nil || made.chunks == 0 {
			return err
		}
		made.id = id
		return insertSegment(ctx, tx, collection, made, terms)
	})
	return done, err
}

func lockSegments(ctx context.Context, tx pgx.Tx, collection int64, wait bool) (locked bool, err error) {
	if wait {
		_, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", lockPostings+collection)
		return err == nil, err
	}
	err = tx.QueryRow(ctx, "SELECT pg_try_advisory_xact_lock($1)", lockPostings+collection).Scan(&locked)
	return locked, err
}

// termLists are postings by term, in no order.
type termLists map[string][]posting

func (t termLists) add(term string, first int64, packed []byte) error {
	list, err := appendUnpacked(t[term], first, packed)
	t[term] = list
	return err
}

// takeFresh removes the fresh postings of a collection. A row that a document's removal holds is left to it.
func takeFresh(ctx context.Context, tx pgx.Tx, collection int64) (termLists, segment, error) {
	rows, err := tx.Query(ctx, `
		WITH taken AS (SELECT first_chunk FROM fresh_postings WHERE collection_id = $1 ORDER BY first_chunk LIMIT $2 FOR UPDATE SKIP LOCKED)
		DELETE FROM fresh_postings f USING taken t WHERE f.first_chunk = t.first_chunk RETURNING f.first_chunk, f.chunks, f.packed`,
		collection, 2*maxFresh*freshChunks)
	if err != nil {
		return nil, segment{}, err
	}
	terms := termLists{}
	var made segment
	var first int64
	var chunks int
	var packed []byte
	_, err = pgx.ForEachRow(rows, []any{&first, &chunks, (*pgxBytes)(&packed)}, func() error {
		made.include(segment{0, first, first + int64(chunks) - 1, chunks})
		return eachTerm(packed, func(term, postings []byte) error { return terms.add(string(term), first, postings) })
	})
	return terms, made, err
}

func (g *segment) include(part segment) {
	if g.chunks == 0 {
		*g = part
		return
	}
	g.first, g.last, g.chunks = min(g.first, part.first), max(g.last, part.last), g.chunks+part.chunks
}

// insertSegment writes the lists as rows in the order of their key.
func insertSegment(ctx context.Context, tx pgx.Tx, collection int64, made segment, terms termLists) error {
	_, err := tx.Exec(ctx, "INSERT INTO posting_segments (id, collection_id, first_chunk, last_chunk, chunks) VALUES ($1, $2, $3, $4, $5)",
		made.id, collection, made.first, made.last, made.chunks)
	if err != nil {
		return err
	}
	next := rowsOf(terms)
	_, err = tx.CopyFrom(ctx, pgx.Identifier{"postings"}, []string{"collection_id", "term", "first_chunk", "segment", "packed"},
		pgx.CopyFromFunc(func() ([]any, error) {
			term, first, packed := next()
			if packed == nil {
				return nil, nil
			}
			return []any{collection, term, first, made.id, packed}, nil
		}))
	return err
}

// rowsOf returns a function that gives row after row of the lists; nil postings at the end.
func rowsOf(terms termLists) func() (term string, first int64, packed []byte) {
	order := slices.Sorted(maps.Keys(terms))
	var list []posting
	return func() (string, int64, []byte) {
		for len(list) == 0 && len(order) > 0 {
			list = terms[order[0]]
			slices.SortFunc(list, func(a, b posting) int { return int(a.chunk - b.chunk) })
			if len(list) == 0 {
				order = order[1:]
			}
		}
		if len(list) == 0 {
			return "", 0, nil
		}
		first, packed := list[0].chunk, []byte(nil)
		before, n := first, 0
		for n < len(list) && len(packed) < rowBytes {
			packed = appendPosting(packed, before, list[n])
			before = list[n].chunk
			n++
		}
		term := order[0]
		if list = list[n:]; len(list) == 0 {
			order = order[1:]
		}
		return term, first, packed
	}
}

// maintainPostings flushes, merges and cleans every collection's part of the index.
func (s *Store) maintainPostings(ctx context.Context) error {
	ids, err := many(ctx, s.pool, pgx.RowTo[int64], "SELECT id FROM collections ORDER BY id")
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range ids {
		if err := s.maintainCollection(ctx, id); err != nil {
			errs = append(errs, fmt.Errorf("collection %d: %w", id, err))
		}
	}
	return errors.Join(errs...)
}

func (s *Store) maintainCollection(ctx context.Context, collection int64) error {
	if _, err := s.flush(ctx, collection, false); err != nil {
		return err
	}
	for {
		merged, err := s.mergeSome(ctx, collection)
		if err != nil {
			return err
		}
		if !merged {
			return s.clean(ctx, collection)
		}
	}
}

// mergeSome merges mergeFactor or more segments of the lowest level that has so many.
func (s *Store) mergeSome(ctx context.Context, collection int64) (merged bool, err error) {
	id, err := s.ids.take(ctx, s.pool, 1)
	if err != nil {
		return false, err
	}
	err = s.write(ctx, func(tx pgx.Tx) error {
		merged = false
		if locked, err := lockSegments(ctx, tx, collection, false); err != nil || !locked {
			return err
		}
		all, err := segmentsOf(ctx, tx, collection)
		if err != nil {
			return err
		}
		some := mergeable(all)
		if len(some) == 0 {
			return nil
		}
		merged = true
		removed, _, err := readRemoved(ctx, tx, collection)
		if err != nil {
			return err
		}
		return rewrite(ctx, tx, collection, id, some, removed)
	})
	return merged, err
}

func segmentsOf(ctx context.Context, tx pgx.Tx, collection int64) ([]segment, error) {
	rows, err := tx.Query(ctx, "SELECT id, first_chunk, last_chunk, chunks FROM posting_segments WHERE collection_id = $1 ORDER BY first_chunk", collection)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (g segment, err error) {
		err = row.Scan(&g.id, &g.first, &g.last, &g.chunks)
		return g, err
	})
}

// mergeable are segments of one level that together are not too large.
func mergeable(all []segment) []segment {
	levels := map[int][]segment{}
	sizes := map[int]int{}
	for _, g := range all {
		n := g.level()
		if sizes[n]+g.chunks > segmentChunks {
			continue
		}
		sizes[n] += g.chunks
		if levels[n] = append(levels[n], g); len(levels[n]) == mergeFactor*mergeFactor {
			return levels[n]
		}
	}
	for _, n := range slices.Sorted(maps.Keys(levels)) {
		if len(levels[n]) >= mergeFactor {
			return levels[n]
		}
	}
	return nil
}

// rewrite makes one segment, with the id, of some, without removed chunks.
func rewrite(ctx context.Context, tx pgx.Tx, collection, id int64, some []segment, removed *ranges) error {
	var made segment
	ids := make([]int64, len(some))
	for i, g := range some {
		made.include(g)
		ids[i] = g.id
	}
	made.id = id
	rows, err := tx.Query(ctx, "DELETE FROM postings WHERE segment = ANY($1) RETURNING term, first_chunk, packed", ids)
	if err != nil {
		return err
	}
	terms := termLists{}
	var term string
	var first int64
	var packed []byte
	_, err = pgx.ForEachRow(rows, []any{&term, &first, (*pgxBytes)(&packed)}, func() error { return terms.add(term, first, packed) })
	if err != nil {
		return err
	}
	for term, list := range terms {
		terms[term] = removed.without(list)
	}
	made.chunks = max(made.chunks-int(removed.overlap(made.first, made.last)), 1)
	if _, err := tx.Exec(ctx, "DELETE FROM posting_segments WHERE id = ANY($1)", ids); err != nil {
		return err
	}
	return insertSegment(ctx, tx, collection, made, terms)
}

// readRemoved reads the removed chunks of a collection, and the number of removals ever made as of the same moment.
func readRemoved(ctx context.Context, db interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}, collection int64) (removed *ranges, removals int64, err error) {
	rows, err := db.Query(ctx, `
		SELECT n.removals, r.first_chunk, r.chunks
		FROM (SELECT coalesce(sum(removals), 0)::bigint AS removals FROM collection_counters WHERE collection_id = $1) n
		LEFT JOIN removed_chunks r ON r.collection_id = $1 ORDER BY r.first_chunk`, collection)
	if err != nil {
		return nil, 0, err
	}
	removed = &ranges{}
	var first *int64
	var n *int
	_, err = pgx.ForEachRow(rows, []any{&removals, &first, &n}, func() error {
		if first != nil {
			removed.add(*first, *n)
		}
		return nil
	})
	return removed, removals, err
}

// clean rewrites the segments that hold words of removed chunks, when these have become many, and forgets them. Each segment
// is a transaction of its own; only when all are done do the removals go. A segment made meanwhile is clean of them.
func (s *Store) clean(ctx context.Context, collection int64) error {
	var removed *ranges
	var dirty []segment
	err := s.locked(ctx, collection, func(tx pgx.Tx) (err error) {
		removed, dirty, err = dirtySegments(ctx, tx, collection)
		return err
	})
	if err != nil || removed.empty() {
		return err
	}
	for _, g := range dirty {
		id, err := s.ids.take(ctx, s.pool, 1)
		if err != nil {
			return err
		}
		err = s.locked(ctx, collection, func(tx pgx.Tx) error {
			all, err := segmentsOf(ctx, tx, collection)
			if err != nil || !slices.Contains(all, g) { // merged meanwhile
				return err
			}
			return rewrite(ctx, tx, collection, id, []segment{g}, removed)
		})
		if err != nil {
			return err
		}
	}
	_, err = s.pool.Exec(ctx, "DELETE FROM removed_chunks WHERE collection_id = $1 AND first_chunk = ANY($2)", collection, removed.first)
	return err
}

// locked runs f in a transaction in which nobody else changes the collection's segments.
func (s *Store) locked(ctx context.Context, collection int64, f func(tx pgx.Tx) error) error {
	return s.write(ctx, func(tx pgx.Tx) error {
		if _, err := lockSegments(ctx, tx, collection, true); err != nil {
			return err
		}
		return f(tx)
	})
}

// dirtySegments tells what cleaning has to do; nothing while removals are few.
func dirtySegments(ctx context.Context, tx pgx.Tx, collection int64) (removed *ranges, dirty []segment, err error) {
	if removed, _, err = readRemoved(ctx, tx, collection); err != nil || removed.empty() {
		return removed, nil, err
	}
	all, err := segmentsOf(ctx, tx, collection)
	if err != nil {
		return nil, nil, err
	}
	var chunks, gone int64
	for _, g := range all {
		chunks += int64(g.chunks)
		if removed.overlap(g.first, g.last) > 0 {
			dirty = append(dirty, g)
		}
	}
	for i := range removed.first {
		gone += removed.end[i] - removed.first[i]
	}
	if float64(gone) < removedShare*float64(chunks) && len(removed.first) < removedRuns {
		return nil, nil, nil
	}
	return removed, dirty, nil
}
