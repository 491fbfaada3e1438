package store

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/pgvector/pgvector-go"
	"golang.org/x/sync/errgroup"
)

// Mode selects the legs of a search.
type Mode string

const (
	Hybrid  Mode = "hybrid"
	Vector  Mode = "vector"
	Lexical Mode = "lexical"
)

// SearchQuery asks for the best Limit chunks of a collection.
type SearchQuery struct {
	Collection Collection
	Text       string    // for the lexical leg
	Vector     []float32 // for the vector leg, of the collection's space
	Mode       Mode      // default Hybrid
	Limit      int       // default 10, 1..1000
	Filter     Filter
	Fusion     Fusion
}

// LegScore is a hit's score and 1-based rank within one leg.
type LegScore struct {
	Score float64 `json:"score"`
	Rank  int     `json:"rank"` // 0 if the leg did not return it and the score was computed for it afterwards
}

// Passage is a chunk found by a search (or several neighbours merged by retrieval).
type Passage struct {
	DocumentID  string
	URI         string
	Title       string
	MediaType   string
	Metadata    json.RawMessage
	Ordinal     int
	Heading     []string
	Start, End  int // code points in the document's extracted text
	Text        string
	Tokens      int
	Score       float64   // fused, 0..1
	Vector      *LegScore // cosine similarity; nil if the leg did not run
	Lexical     *LegScore // BM25; nil if the leg did not run or no word matched
	Fusion      string    // how Score was made
	Neighbors   *float64  // mean of the fused scores of the candidates most like it, where these counted: see Fusion.Smoothing
	Phrases     *int      // of the question's, in quotation marks, that it has word for word; nil if no passage has any
	Boost       *float64  // what retrieval multiplied Score by, for recency and fields
	Rerank      *LegScore // a reranker's score, from which Score was made
	Similarity  *float64  // greatest cosine to a passage before it, where variety counts
	Translation string    // of heading and text, where that was embedded; "" if not
	Summary     string    // a model's sentence that was embedded with the text, of which it is no part; "" if none
	Times       *Times    // of a recording, whole: when its characters were spoken
}

const (
	defaultLimit = 10
	maxLimit     = MaxEFSearch

	// exactRows is the size up to which a collection is scanned exactly: a few milliseconds, and no row is missed.
	exactRows = 5_000

	// changedTries is how often a search begins anew because documents it found were replaced before their texts were read.
	changedTries = 3
)

// search is one search under way.
type search struct {
	SearchQuery
	store    *Store
	vector   pgvector.HalfVector
	lexical  *lexicalLeg       // nil if the leg does not run
	near     []scored          // of the vector leg
	words    []scored          // of the lexical leg
	phrases  []phrase          // in the question
	holders  []scored          // the best with all the words of a phrase
	compared map[int64]likened // of words and holders; the score is the cosine
	nearLike []likeness        // of near; nothing where scores are not smoothed
	exact    bool              // the vector leg scans every row
	changed  bool              // a document was replaced between the statements
}

// Search runs the legs, fuses them and returns min(Limit, matching chunks) passages, best first. It takes two network turns:
// both legs at once, then the texts of the best; one if there is only the vector leg. ErrInvalidVector,
// ErrInvalidFusion, ErrUnavailable.
func (s *Store) Search(ctx context.Context, q SearchQuery) ([]Passage, error) {
	passages, err := s.search(ctx, q)
	if err == nil {
		err = s.addTimes(ctx, passages)
	}
	return passages, mapped("search", err)
}

func (s *Store) search(ctx context.Context, q SearchQuery) (passages []Passage, err error) {
	run, err := s.newSearch(q)
	if err != nil {
		return nil, err
	}
	run.exact = q.Collection.Chunks <= exactRows || !s.indexed(ctx, q.Collection.Space.ID)
	for range changedTries {
		if run.Mode == Vector {
			passages, err = run.nearest(ctx)
		} else {
			passages, err = run.fused(ctx)
		}
		if err != nil || !run.changed {
			break
		}
	}
	return passages, err
}

func (s *Store) newSearch(q SearchQuery) (*search, error) {
	if q.Mode == "" {
		q.Mode = Hybrid
	}
	if q.Limit <= 0 {
		q.Limit = defaultLimit
	}
	q.Limit = min(q.Limit, maxLimit)
	var err error
	if q.Fusion, err = q.Fusion.withDefaults(q.Limit); err != nil {
		return nil, err
	}
	run := &search{SearchQuery: q, store: s}
	if q.Mode != Lexical {
		if run.vector, err = unitVector(q.Vector, q.Collection.Space.Dimensions); err != nil {
			return nil, err
		}
	}
	if q.Mode != Vector {
		run.lexical = s.newLexicalLeg(q)
		run.phrases = phrasesOf(clipText(q.Text), q.Collection.Languages)
	}
	return run, nil
}

// maxQuestionBytes bounds what is analysed of a question.
const maxQuestionBytes = 32 << 10

func clipText(s string) string { return s[:min(len(s), maxQuestionBytes)] }

// passageColumns are those of scanPassage, of the aliases k of chunks and d of documents.
const passageColumns = "k.id, d.id, d.uri, d.title, d.media_type, d.metadata, k.ordinal, k.heading, k.start_char, k.end_char, k.text, k.token_count, k.translation, k.summary"

// found is a passage with what the fusion needs.
type found struct {
	Passage
	chunk  int64
	cosine *float64
}

func scanFound(row pgx.CollectableRow) (f found, err error) {
	err = row.Scan(&f.chunk, &f.DocumentID, &f.URI, &f.Title, &f.MediaType, &f.Metadata, &f.Ordinal, &f.Heading, &f.Start, &f.End, &f.Text, &f.Tokens, &f.Translation, &f.Summary, &f.cosine)
	return f, err
}

// nearest is a search by vectors alone, in one statement.
func (r *search) nearest(ctx context.Context) ([]Passage, error) {
	sql, args := r.vectorSQL(r.Limit, false)
	all, err := many(ctx, r.store.read, scanFound, "SELECT "+passageColumns+`, n.score
		FROM (`+sql+`) n JOIN chunks k ON k.id = n.chunk_id JOIN documents d ON d.id = k.document_id`, args...)
	if err != nil {
		return nil, err
	}
	if len(all) < r.Limit && !r.exact { // see legs
		r.exact = true
		return r.nearest(ctx)
	}
	slices.SortFunc(all, func(a, b found) int {
		return cmp.Or(cmp.Compare(*b.cosine, *a.cosine), cmp.Compare(a.DocumentID, b.DocumentID), a.Ordinal-b.Ordinal)
	})
	passages := make([]Passage, len(all))
	for i, f := range all {
		f.Score, f.Fusion = max(*f.cosine, 0), "cosine"
		f.Vector = &LegScore{*f.cosine, i + 1}
		passages[i] = f.Passage
	}
	return passages, nil
}

// vectorSQL selects the nearest chunks, with what scanLikened reads if that is wanted. The signs are taken of those that are chosen:
// the planner may compare and sort a whole collection instead of walking the index, and would take them of each row.
func (r *search) vectorSQL(limit int, likened bool) (sql string, args []any) {
	where, values := r.Filter.where(3)
	join := ""
	if !r.Filter.IsZero() {
		join = "JOIN documents d ON d.id = e.document_id"
	}
	table, order, more := r.Collection.Space.table(), "e.embedding <#> $2", ""
	if r.exact {
		order = "(e.embedding <#> $2) + 0" // an expression that no index gives: every row of the collection is compared
	} else if likened {
		more = ", e.document_id, e.embedding" // of which an index scan reads no more rows than these
	}
	sql = fmt.Sprintf("SELECT e.chunk_id, -(e.embedding <#> $2) AS score%s FROM %s e %s WHERE e.collection_id = $1 AND %s ORDER BY %s LIMIT %d",
		more, table, join, where, order, limit)
	switch {
	case likened && r.exact: // sorting without the vectors, and reading those of the nearest again, is faster
		sql = "SELECT n.chunk_id, n.score" + likenessColumns + " FROM (" + sql + ") n JOIN " + table + " e ON e.chunk_id = n.chunk_id ORDER BY n.score DESC"
	case likened:
		sql = "SELECT e.chunk_id, e.score" + likenessColumns + " FROM (" + sql + ") e ORDER BY e.score DESC"
	}
	return sql, append([]any{r.Collection.ID, r.vector}, values...)
}

// legs runs both legs at once, each on a connection of its own, so that words are scored here while the database compares
// vectors. Neither waits for a connection while it holds one.
func (r *search) legs(ctx context.Context) error {
	if r.Mode == Lexical {
		return r.runLexical(ctx)
	}
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() error { return r.runVector(ctx) })
	both.Go(func() error { return r.runLexical(ctx) })
	return both.Wait()
}

// runVector finds the nearest chunks.
func (r *search) runVector(ctx context.Context) error {
	sql, args := r.vectorSQL(r.Fusion.Candidates, r.Fusion.smoothing() > 0)
	near, err := many(ctx, r.store.read, r.scanLikened, sql, args...)
	if err != nil {
		return err
	}
	r.near, r.nearLike = make([]scored, len(near)), make([]likeness, len(near))
	for i, n := range near {
		r.near[i], r.nearLike[i] = n.scored, n.likeness
	}
	// A filter or deleted rows can starve the index scan; the collection has more rows than this, so look at each.
	if !r.exact && len(near) < r.Fusion.Candidates {
		r.exact = true
		return r.runVector(ctx)
	}
	return nil
}

// runLexical reads the postings that are not at hand, scores, and compares the vectors of what it found.
func (r *search) runLexical(ctx context.Context) error {
	if err := r.readWords(ctx); err != nil {
		return err
	}
	r.words = r.lexical.score(r.Fusion.Candidates)
	if len(r.phrases) > 0 {
		r.holders = r.lexical.holders(r.phrases)
	}
	if r.Mode == Lexical || len(r.words) == 0 {
		return nil
	}
	ids := make([]int64, 0, len(r.words)+len(r.holders))
	for _, leg := range [][]scored{r.words, r.holders} {
		for _, w := range leg {
			ids = append(ids, w.chunk)
		}
	}
	columns := ""
	if r.Fusion.smoothing() > 0 {
		columns = likenessColumns
	}
	known, err := many(ctx, r.store.read, r.scanLikened,
		"SELECT e.chunk_id, -(e.embedding <#> $2)"+columns+" FROM "+r.Collection.Space.table()+" e WHERE e.chunk_id = ANY($1)", ids, r.vector)
	r.compared = make(map[int64]likened, len(known))
	for _, c := range known {
		r.compared[c.chunk] = c
	}
	return err
}

// readWords makes the lexical leg's postings complete, without those of removed chunks.
func (r *search) readWords(ctx context.Context) error {
	conn, err := acquire(ctx, r.store.read)
	if err != nil {
		return err
	}
	defer conn.Release()
	var b pgx.Batch
	r.queueLexical(&b)
	if err := conn.SendBatch(ctx, &b).Close(); err != nil {
		return err
	}
	l := r.lexical
	if l.removals > 0 {
		known, err := r.store.removedChunks(ctx, conn.Conn(), r.Collection.ID, l.removals)
		if err != nil {
			return err
		}
		l.removals, l.removed = known.made, known.chunks
	}
	return l.complete(ctx, conn.Conn())
}

func (r *search) queueLexical(b *pgx.Batch) {
	l := r.lexical
	if !r.Filter.IsZero() {
		where, args := r.Filter.where(2)
		sql := "SELECT d.first_chunk, d.chunk_count FROM documents d WHERE d.collection_id = $1 AND d.chunk_count > 0 AND " + where + " ORDER BY d.first_chunk"
		b.Queue(sql, append([]any{r.Collection.ID}, args...)...).Query(func(rows pgx.Rows) error {
			l.allow = &ranges{}
			var first int64
			var n int
			_, err := pgx.ForEachRow(rows, []any{&first, &n}, func() error { l.allow.add(first, n); return nil })
			return err
		})
	}
	l.queue(b)
}

// removals are the removed chunks of a collection as of a number of removals.
type removals struct {
	made   int64
	chunks *ranges
}

// removedChunks reads the removed chunks when there are more than were known.
func (s *Store) removedChunks(ctx context.Context, conn *pgx.Conn, collection, made int64) (removals, error) {
	if known, ok := s.removed.Load(collection); ok && known.(removals).made >= made {
		return known.(removals), nil
	}
	chunks, now, err := readRemoved(ctx, conn, collection)
	if err == nil {
		s.removed.Store(collection, removals{now, chunks})
	}
	return removals{now, chunks}, err
}
