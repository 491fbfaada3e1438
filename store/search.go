package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/pgvector/pgvector-go"
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
}

// LegScore is a hit's score and 1-based rank within one leg.
type LegScore struct {
	Score float64 `json:"score"`
	Rank  int     `json:"rank"` // 0 if the leg did not return it and the score was computed for it afterwards
}

// Passage is a chunk found by a search (or several neighbours merged by retrieval).
type Passage struct {
	DocumentID string
	URI        string
	Title      string
	MediaType  string
	Metadata   json.RawMessage
	Ordinal    int
	Heading    []string
	Start, End int // code points in the document's extracted text
	Text       string
	Tokens     int
	Score      float64   // fused, 0..1
	Vector     *LegScore // cosine similarity; nil if the leg did not run
	Lexical    *LegScore // BM25; nil if the leg did not run or no word matched
	Fusion     string    // how Score was made
	Times      *Times    // of a recording, whole: when its characters were spoken
}

const (
	defaultLimit = 10
	maxLimit     = 1000 // pgvector's largest hnsw.ef_search

	// Candidates a leg gives to the fusion. Every candidate gets its exact score in both legs, so more of them change little.
	vectorCandidates  = 100
	lexicalCandidates = 200

	// exactRows is the size up to which a collection is scanned exactly: a few milliseconds, and no row is missed.
	exactRows = 5_000
)

// How Passage.Score is made. Dividing each leg by its best score and adding the halves was the best simple rule on 16
// collections (docs/quality.md).
const (
	fusionMax     = "0.5 vector/max + 0.5 lexical/max"
	fusionVector  = "cosine"
	fusionLexical = "lexical/max"
)

// search is one search under way.
type search struct {
	SearchQuery
	store   *Store
	vector  pgvector.HalfVector
	lexical *lexicalLeg // nil if the leg does not run
	near    []scored    // of the vector leg
	exact   bool        // the vector leg scans every row
	wanted  int         // rows of the vector leg
}

// Search runs the legs, fuses them and returns min(Limit, matching chunks) passages, best first. It takes two network turns:
// the legs together, then scores and texts of their candidates. ErrInvalidVector, ErrUnavailable.
func (s *Store) Search(ctx context.Context, q SearchQuery) ([]Passage, error) {
	run, err := s.newSearch(q)
	if err != nil {
		return nil, mapped("search", err)
	}
	run.exact = q.Collection.Chunks <= exactRows || !s.indexed(ctx, q.Collection.Space.ID)
	if err := run.legs(ctx); err != nil {
		return nil, mapped("search", err)
	}
	// A filter or deleted rows can starve the index scan; the collection has more rows than this, so look at each.
	if run.Mode != Lexical && !run.exact && len(run.near) < run.wanted {
		run.exact = true
		if err := run.legs(ctx); err != nil {
			return nil, mapped("search", err)
		}
	}
	passages, err := run.fuse(ctx)
	if err == nil {
		err = s.addTimes(ctx, passages)
	}
	return passages, mapped("search", err)
}

func (s *Store) newSearch(q SearchQuery) (*search, error) {
	if q.Mode == "" {
		q.Mode = Hybrid
	}
	if q.Limit <= 0 {
		q.Limit = defaultLimit
	}
	q.Limit = min(q.Limit, maxLimit)
	run := &search{SearchQuery: q, store: s, wanted: max(vectorCandidates, q.Limit)}
	if q.Mode == Vector {
		run.wanted = q.Limit
	}
	if q.Mode != Lexical {
		v, err := unitVector(q.Vector, q.Collection.Space.Dimensions)
		if err != nil {
			return nil, err
		}
		run.vector = v
	}
	if q.Mode != Vector {
		run.lexical = &lexicalLeg{}
		run.lexical.terms, run.lexical.counts = queryTerms(clipText(q.Text), q.Collection.Languages)
	}
	return run, nil
}

// maxQuestionBytes bounds what is analysed of a question.
const maxQuestionBytes = 32 << 10

func clipText(s string) string { return s[:min(len(s), maxQuestionBytes)] }

// legs sends the statements of all legs at once.
func (r *search) legs(ctx context.Context) error {
	conn, err := acquire(ctx, r.store.read)
	if err != nil {
		return err
	}
	defer conn.Release()
	var b pgx.Batch
	if r.Mode != Lexical {
		r.queueVector(&b)
	}
	if r.lexical != nil && r.lexical.found == nil {
		r.queueLexical(&b)
	}
	return conn.SendBatch(ctx, &b).Close()
}

func (r *search) queueVector(b *pgx.Batch) {
	where, args := r.Filter.where(3)
	join := ""
	if !r.Filter.IsZero() {
		join = "JOIN documents d ON d.id = e.document_id"
	}
	order := "e.embedding <#> $2"
	if r.exact {
		order = "(e.embedding <#> $2) + 0" // an expression that no index gives: every row of the collection is compared
	}
	sql := fmt.Sprintf(`SELECT e.chunk_id, -(e.embedding <#> $2) FROM %s e %s WHERE e.collection_id = $1 AND %s ORDER BY %s LIMIT %s`,
		r.Collection.Space.table(), join, where, order, strconv.Itoa(r.wanted))
	b.Queue(sql, append([]any{r.Collection.ID, r.vector}, args...)...).Query(func(rows pgx.Rows) error {
		near, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c scored, err error) {
			err = row.Scan(&c.chunk, &c.score)
			return c, err
		})
		r.near = near
		return err
	})
}

func (r *search) queueLexical(b *pgx.Batch) {
	l := r.lexical
	b.Queue("SELECT coalesce(sum(chunks), 0)::float8, coalesce(sum(words), 0)::float8 FROM collection_counters WHERE collection_id = $1", r.Collection.ID).
		QueryRow(func(row pgx.Row) error { return row.Scan(&l.chunks, &l.words) })
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
	b.Queue("SELECT term, first_chunk, packed FROM postings WHERE collection_id = $1 AND term = ANY($2)", r.Collection.ID, l.terms).Query(l.scan)
}

// candidates is the union of the legs' best, as columns for SQL. A score that is not known is NULL.
type candidates struct {
	ids               []int64
	cosine, lexical   []*float64
	nearRank, lexRank []int
}

func (r *search) candidates() candidates {
	var c candidates
	at := map[int64]int{}
	place := func(id int64) int {
		i, ok := at[id]
		if !ok {
			i = len(c.ids)
			at[id] = i
			c.ids = append(c.ids, id)
			c.cosine, c.lexical = append(c.cosine, nil), append(c.lexical, nil)
			c.nearRank, c.lexRank = append(c.nearRank, 0), append(c.lexRank, 0)
		}
		return i
	}
	for rank, n := range r.near {
		i := place(n.chunk)
		c.cosine[i], c.nearRank[i] = &n.score, rank+1
	}
	if r.lexical == nil {
		return c
	}
	scores := r.lexical.scores()
	for rank, l := range best(scores, max(lexicalCandidates, r.Limit)) {
		i := place(l.chunk)
		c.lexical[i], c.lexRank[i] = &l.score, rank+1
	}
	for i, id := range c.ids {
		if s, ok := scores[id]; ok && c.lexical[i] == nil {
			c.lexical[i] = &s
		}
	}
	return c
}

// fuse gives every candidate its missing cosine, fuses the scores and reads the best ones' texts, in one statement.
func (r *search) fuse(ctx context.Context) ([]Passage, error) {
	c := r.candidates()
	if len(c.ids) == 0 {
		return nil, nil
	}
	cosine, join, args := "NULL::float8", "", []any{c.ids, c.cosine, c.lexical, c.nearRank, c.lexRank, r.Limit}
	if r.Mode != Lexical {
		cosine = "coalesce(c.cosine, -(e.embedding <#> $7))"
		join = "JOIN " + r.Collection.Space.table() + " e ON e.chunk_id = c.id"
		args = append(args, r.vector)
	}
	score, fusion := r.fusion()
	sql := fmt.Sprintf(`
		WITH c AS (SELECT * FROM unnest($1::bigint[], $2::float8[], $3::float8[], $4::int[], $5::int[]) AS t(id, cosine, lexical, near_rank, lex_rank)),
		s AS (SELECT c.id, %s AS cosine, c.lexical, c.near_rank, c.lex_rank FROM c %s),
		m AS (SELECT s.*, max(s.cosine) OVER () AS best_cosine, max(s.lexical) OVER () AS best_lexical FROM s),
		f AS (SELECT m.*, %s AS score FROM m)
		SELECT d.id, d.uri, d.title, d.media_type, d.metadata, k.ordinal, k.heading, k.start_char, k.end_char, k.text, k.token_count,
		       f.score, f.cosine, f.lexical, f.near_rank, f.lex_rank
		FROM f JOIN chunks k ON k.id = f.id JOIN documents d ON d.id = k.document_id
		ORDER BY f.score DESC, d.id, k.ordinal LIMIT $6`, cosine, join, score)
	return many(ctx, r.store.read, func(row pgx.CollectableRow) (Passage, error) { return r.scanPassage(row, fusion) }, sql, args...)
}

// fusion is the score in SQL, 0 to 1, and its name.
func (r *search) fusion() (sql, name string) {
	switch {
	case r.Mode == Lexical:
		return "coalesce(lexical / nullif(best_lexical, 0), 0)", fusionLexical
	case r.Mode == Vector:
		return "greatest(cosine, 0)", fusionVector
	}
	return "0.5 * coalesce(greatest(cosine, 0) / nullif(best_cosine, 0), 0) + 0.5 * coalesce(lexical / nullif(best_lexical, 0), 0)", fusionMax
}

func (r *search) scanPassage(row pgx.CollectableRow, fusion string) (Passage, error) {
	p := Passage{Fusion: fusion}
	var cosine, lexical *float64
	var nearRank, lexRank int
	err := row.Scan(&p.DocumentID, &p.URI, &p.Title, &p.MediaType, &p.Metadata, &p.Ordinal, &p.Heading, &p.Start, &p.End, &p.Text, &p.Tokens,
		&p.Score, &cosine, &lexical, &nearRank, &lexRank)
	if cosine != nil {
		p.Vector = &LegScore{*cosine, nearRank}
	}
	if lexical != nil {
		p.Lexical = &LegScore{*lexical, lexRank}
	}
	return p, err
}
