package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/pgvector/pgvector-go"
)

// Work is what a worker needs to process one revision. Document carries title, media type, language and metadata as the
// newest put said them.
type Work struct {
	Document   Document
	Collection Collection
	Source     []byte
	Settings   string
}

// BeginWork marks the revision running and returns its source. ErrSuperseded if a newer revision exists or this one has
// ended, ErrNotFound if the document is gone.
func (s *Store) BeginWork(ctx context.Context, documentID string, revision int64) (Work, error) {
	var w Work
	var collection string
	err := s.write(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			UPDATE documents d SET status = 'running', updated_at = now()
			WHERE id = $1 AND revision = $2 AND status IN ('queued', 'running') RETURNING `+documentColumns, documentID, revision)
		if err != nil {
			return err
		}
		if w.Document, err = pgx.CollectExactlyOneRow(rows, scanDocument); errors.Is(err, pgx.ErrNoRows) {
			return whyNot(ctx, tx, documentID)
		}
		if err != nil {
			return err
		}
		collection = w.Document.Collection
		d := &w.Document
		return tx.QueryRow(ctx, `
			SELECT s.source, s.title, s.media_type, s.language, s.metadata, d.settings
			FROM document_sources s JOIN documents d ON d.id = s.document_id WHERE d.id = $1`, documentID).
			Scan(&w.Source, &d.Title, &d.MediaType, &d.Language, &d.Metadata, &w.Settings)
	})
	if err != nil {
		return Work{}, mapped("begin work on "+documentID, err)
	}
	w.Collection, err = s.Collection(ctx, collection)
	return w, err
}

// whyNot tells a document that is gone from a revision that is not wanted any more.
func whyNot(ctx context.Context, tx pgx.Tx, documentID string) error {
	var there bool
	if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM documents WHERE id = $1)", documentID).Scan(&there); err != nil {
		return err
	}
	if there {
		return ErrSuperseded
	}
	return ErrNotFound
}

// Wanted tells whether the revision is still to be worked on: ErrSuperseded, ErrNotFound.
func (s *Store) Wanted(ctx context.Context, documentID string, revision int64) error {
	err := s.write(ctx, func(tx pgx.Tx) error {
		_, err := lockWanted(ctx, tx, documentID, revision)
		return err
	})
	return mapped("look after "+documentID, err)
}

// Chunk is one piece of a document's extracted text. Start and End count Unicode code points into that text.
type Chunk struct {
	Ordinal   int
	Heading   []string // path from the document's top heading down
	Start     int
	End       int
	Text      string // exactly text[Start:End]
	Context   string // what is embedded before the text; not stored
	Tokens    int
	Embedding []float32

	// Translation, if not "", is what was embedded instead: heading and text in the collection's language. Its words are
	// found as those of the text are.
	Translation string

	// Summary, if not "", is a model's sentence that situates the chunk within its document. It is embedded before all else and
	// its words are found, but it is no part of the text. SummaryInput is the SHA-256 of what it was written from; nil if none
	// was asked for.
	Summary      string
	SummaryInput []byte
}

// StageChunks keeps embedded chunks of an unfinished revision, invisible to search, so that a restart need not embed
// them again. Idempotent per ordinal. ErrSuperseded, ErrNotFound, ErrInvalidVector.
func (s *Store) StageChunks(ctx context.Context, documentID string, revision int64, chunks []Chunk) error {
	err := s.write(ctx, func(tx pgx.Tx) error {
		v, err := lockWanted(ctx, tx, documentID, revision)
		if err != nil {
			return err
		}
		ordinals := make([]int, len(chunks))
		values := make([][]any, len(chunks))
		for i, c := range chunks {
			embedding, err := unitVector(c.Embedding, v.dimensions)
			if err != nil {
				return fmt.Errorf("chunk %d: %w", c.Ordinal, err)
			}
			ordinals[i] = c.Ordinal
			values[i] = []any{documentID, revision, c.Ordinal, headingOf(c), c.Start, c.End, c.Tokens, c.Text, c.Translation, c.Summary, c.SummaryInput, embedding}
		}
		_, err = tx.Exec(ctx, "DELETE FROM staged_chunks WHERE document_id = $1 AND (revision <> $2 OR ordinal = ANY($3))", documentID, revision, ordinals)
		if err != nil {
			return err
		}
		_, err = tx.CopyFrom(ctx, pgx.Identifier{"staged_chunks"},
			[]string{"document_id", "revision", "ordinal", "heading", "start_char", "end_char", "token_count", "text", "translation", "summary", "summary_input", "embedding"}, pgx.CopyFromRows(values))
		return err
	})
	return mapped("stage chunks of "+documentID, err)
}

func headingOf(c Chunk) []string {
	if c.Heading == nil {
		return []string{}
	}
	return c.Heading
}

// SumOf is the SHA-256 of what decides a chunk's vector beside its document: its text, and its summary.
func SumOf(c Chunk) [sha256.Size]byte { return sha256.Sum256([]byte(c.Summary + "\n\n" + c.Text)) }

// StagedOrdinals lists the ordinals staged for the revision with the SumOf each.
func (s *Store) StagedOrdinals(ctx context.Context, documentID string, revision int64) (map[int][32]byte, error) {
	type row struct {
		Ordinal int
		Sum     []byte
	}
	all, err := many(ctx, s.pool, pgx.RowToStructByPos[row],
		`SELECT ordinal, sha256(convert_to(summary || E'\n\n' || text, 'UTF8')) FROM staged_chunks WHERE document_id = $1 AND revision = $2`, documentID, revision)
	if err != nil {
		return nil, mapped("staged chunks of "+documentID, err)
	}
	staged := make(map[int][32]byte, len(all))
	for _, r := range all {
		staged[r.Ordinal] = [sha256.Size]byte(r.Sum)
	}
	return staged, nil
}

// Completion is the result of processing one revision.
type Completion struct {
	DocumentID string
	Revision   int64
	Text       string  // the extracted text
	Title      string  // "" keeps what the put said
	Language   string  // "" keeps
	Chunks     []Chunk // those not staged; with staged ones they must cover ordinals 0..Total-1
	Total      int
	Times      *Times // of a recording
}

// Complete makes the revision visible and removes the old generation, in one transaction: text, chunks, vectors, words,
// counts, status completed. ErrSuperseded and ErrNotFound (then nothing changes), ErrInvalidVector, ErrInvalidText.
func (s *Store) Complete(ctx context.Context, c Completion) error {
	p, err := s.prepare(ctx, c)
	var collection int64
	if err == nil {
		err = s.write(ctx, func(tx pgx.Tx) error {
			collection, err = p.swap(ctx, tx)
			return err
		})
	}
	if err == nil {
		s.settleFresh(ctx, collection)
	}
	return mapped("complete "+c.DocumentID, err)
}

// prepared is a completion with everything that can be computed before the document's row is locked.
type prepared struct {
	Completion
	space       Space
	table       string
	first       int64 // id of the first chunk
	language    string
	translateTo string
	known       []string // languages of the collection
	title       string
	vectors     []pgvector.HalfVector
	postings    []byte
	words       int64
	tokens      int
}

// prepare analyses the words of all chunks, the staged ones too, and gives them ids.
func (s *Store) prepare(ctx context.Context, c Completion) (*prepared, error) {
	p := &prepared{Completion: c}
	err := s.pool.QueryRow(ctx, `
		SELECT sp.id, sp.dimensions, coalesce(nullif($2, ''), s.title), coalesce(nullif($3, ''), s.language), k.translate_to, k.languages
		FROM documents d JOIN document_sources s ON s.document_id = d.id JOIN collections k ON k.id = d.collection_id JOIN spaces sp ON sp.id = k.space_id
		WHERE d.id = $1`, c.DocumentID, c.Title, c.Language).Scan(&p.space.ID, &p.space.Dimensions, &p.title, &p.language, &p.translateTo, &p.known)
	if err != nil {
		return nil, err
	}
	p.table = p.space.table()
	staged, err := many(ctx, s.pool, scanChunk, `
		SELECT `+chunkColumns+` FROM staged_chunks WHERE document_id = $1 AND revision = $2`, c.DocumentID, c.Revision)
	if err != nil {
		return nil, err
	}
	if err := p.cover(staged); err != nil {
		return nil, err
	}
	for _, ch := range c.Chunks {
		v, err := unitVector(ch.Embedding, p.space.Dimensions)
		if err != nil {
			return nil, fmt.Errorf("chunk %d: %w", ch.Ordinal, err)
		}
		p.vectors = append(p.vectors, v)
	}
	if p.Total > 0 {
		if p.first, err = s.ids.take(ctx, s.pool, p.Total); err != nil {
			return nil, err
		}
	}
	p.analyse(staged)
	return p, nil
}

// cover checks that chunks and staged chunks are ordinals 0..Total-1, each once.
func (p *prepared) cover(staged []Chunk) error {
	seen := make([]bool, p.Total)
	for _, list := range [][]Chunk{p.Chunks, staged} {
		for _, c := range list {
			if c.Ordinal < 0 || c.Ordinal >= p.Total || seen[c.Ordinal] {
				return fmt.Errorf("chunk %d of %d is there twice or out of range", c.Ordinal, p.Total)
			}
			seen[c.Ordinal] = true
			p.tokens += c.Tokens
		}
	}
	if have := len(p.Chunks) + len(staged); have != p.Total {
		return fmt.Errorf("%d of %d chunks are there", have, p.Total)
	}
	return nil
}

func (p *prepared) analyse(staged []Chunk) {
	a, translated := newAnalyzer(stemLanguage(p.language)), newAnalyzer(stemLanguage(p.translateTo))
	words := make([]chunkWords, 0, p.Total)
	for _, list := range [][]Chunk{p.Chunks, staged} {
		for _, c := range list {
			words = append(words, a.wordsOf(p.title, c, translated))
		}
	}
	p.postings, p.words = invert(words, p.first)
}

// visible is what is known of a document's visible version, its row locked.
type visible struct {
	document   string
	collection int64
	table      string
	dimensions int // of its space
	first      int64
	chunks     int
	words      int64
	generation int64
}

const visibleLocked = `
	SELECT d.id, d.collection_id, s.id, s.dimensions, d.first_chunk, d.chunk_count, d.word_count, d.generation
	FROM documents d JOIN collections k ON k.id = d.collection_id JOIN spaces s ON s.id = k.space_id WHERE d.id = $1 %s FOR UPDATE OF d`

func lockVisible(ctx context.Context, tx pgx.Tx, id string) (visible, error) {
	return scanVisible(tx.QueryRow(ctx, fmt.Sprintf(visibleLocked, ""), id))
}

// lockWanted is lockVisible for a revision that is still wanted, and that stays so until the transaction ends: ErrSuperseded,
// ErrNotFound.
func lockWanted(ctx context.Context, tx pgx.Tx, id string, revision int64) (visible, error) {
	v, err := scanVisible(tx.QueryRow(ctx, fmt.Sprintf(visibleLocked, "AND d.revision = $2 AND d.status IN ('queued', 'running')"), id, revision))
	if errors.Is(err, pgx.ErrNoRows) {
		err = whyNot(ctx, tx, id)
	}
	return v, err
}

func scanVisible(row pgx.Row) (v visible, err error) {
	var space Space
	err = row.Scan(&v.document, &v.collection, &space.ID, &v.dimensions, &v.first, &v.chunks, &v.words, &v.generation)
	v.table = space.table()
	return v, err
}

// remove deletes chunks, vectors and words; ids of a document's chunks are consecutive. It returns how many removals searches
// have to be told of: words that are in a segment stay there.
func (v visible) remove(ctx context.Context, tx pgx.Tx) (removals int64, err error) {
	if v.chunks == 0 {
		return 0, nil
	}
	last := v.first + int64(v.chunks) - 1
	for _, sql := range []string{
		"DELETE FROM chunks WHERE id BETWEEN $1 AND $2",
		"DELETE FROM " + v.table + " WHERE chunk_id BETWEEN $1 AND $2",
	} {
		if _, err := tx.Exec(ctx, sql, v.first, last); err != nil {
			return 0, err
		}
	}
	// Where a segment is being made of them, this waits for it.
	tag, err := tx.Exec(ctx, "DELETE FROM fresh_postings WHERE first_chunk = $1", v.first)
	if err != nil || tag.RowsAffected() > 0 {
		return 0, err
	}
	_, err = tx.Exec(ctx, "INSERT INTO removed_chunks (collection_id, first_chunk, chunks) VALUES ($1, $2, $3)", v.collection, v.first, v.chunks)
	return 1, err
}

// swap is Complete's transaction. A round trip costs about as much as copying ten chunks, so what needs no answer goes together.
func (p *prepared) swap(ctx context.Context, tx pgx.Tx) (collection int64, err error) {
	old, err := lockWanted(ctx, tx, p.DocumentID, p.Revision)
	if err != nil {
		return 0, err
	}
	removals, err := old.remove(ctx, tx)
	if err != nil {
		return 0, err
	}
	if err := p.copyIn(ctx, tx, old.collection); err != nil {
		return 0, err
	}
	var b pgx.Batch
	p.moveStaged(&b, old.collection)
	if err := p.describe(&b, old); err != nil {
		return 0, err
	}
	// Last, because other writers of the collection may wait for the counters' row.
	b.Queue(addToCounters, counters{chunks: int64(p.Total - old.chunks), words: p.words - old.words, removals: removals}.of(old.collection)...)
	return old.collection, tx.SendBatch(ctx, &b).Close()
}

// copyIn copies the chunks that were not staged.
func (p *prepared) copyIn(ctx context.Context, tx pgx.Tx, collection int64) error {
	if len(p.Chunks) == 0 {
		return nil
	}
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"chunks"},
		[]string{"id", "collection_id", "document_id", "generation", "ordinal", "heading", "start_char", "end_char", "token_count", "text", "translation", "summary", "summary_input"},
		pgx.CopyFromSlice(len(p.Chunks), func(i int) ([]any, error) {
			c := &p.Chunks[i]
			return []any{p.first + int64(c.Ordinal), collection, p.DocumentID, p.Revision, c.Ordinal, headingOf(*c), c.Start, c.End, c.Tokens, c.Text, c.Translation, c.Summary, c.SummaryInput}, nil
		}))
	if err != nil {
		return err
	}
	_, err = tx.CopyFrom(ctx, pgx.Identifier{p.table}, []string{"chunk_id", "collection_id", "document_id", "embedding"},
		pgx.CopyFromSlice(len(p.Chunks), func(i int) ([]any, error) {
			return []any{p.first + int64(p.Chunks[i].Ordinal), collection, p.DocumentID, p.vectors[i]}, nil
		}))
	return err
}

func (p *prepared) moveStaged(b *pgx.Batch, collection int64) {
	if len(p.Chunks) < p.Total {
		for _, sql := range []string{
			`INSERT INTO chunks (id, collection_id, document_id, generation, ordinal, heading, start_char, end_char, token_count, text, translation, summary, summary_input)
			 SELECT $1 + ordinal, $2, document_id, revision, ordinal, heading, start_char, end_char, token_count, text, translation, summary, summary_input
			 FROM staged_chunks WHERE document_id = $3 AND revision = $4 ORDER BY ordinal`,
			`INSERT INTO ` + p.table + ` (chunk_id, collection_id, document_id, embedding)
			 SELECT $1 + ordinal, $2, document_id, embedding FROM staged_chunks WHERE document_id = $3 AND revision = $4 ORDER BY ordinal`,
		} {
			b.Queue(sql, p.first, collection, p.DocumentID, p.Revision)
		}
	}
	b.Queue("DELETE FROM staged_chunks WHERE document_id = $1", p.DocumentID)
	b.Queue("DELETE FROM staged_results WHERE document_id = $1", p.DocumentID)
}

// describe makes the document's row tell of the new version, and keeps its words and its text.
func (p *prepared) describe(b *pgx.Batch, old visible) error {
	if len(p.postings) > 0 {
		b.Queue("INSERT INTO fresh_postings (first_chunk, collection_id, chunks, packed) VALUES ($1, $2, $3, $4)", p.first, old.collection, p.Total, p.postings)
	}
	b.Queue(`
		UPDATE documents d SET status = 'completed', error_code = NULL, error_text = NULL, generation = $2, chunk_count = $3, token_count = $4,
			word_count = $5, first_chunk = $6, title = $7, language = $8, media_type = s.media_type, metadata = s.metadata, updated_at = now()
		FROM document_sources s WHERE s.document_id = d.id AND d.id = $1`,
		p.DocumentID, p.Revision, p.Total, p.tokens, p.words, p.first, p.title, p.language)
	b.Queue(`
		INSERT INTO document_texts (document_id, collection_id, text) VALUES ($1, $2, $3)
		ON CONFLICT (document_id) DO UPDATE SET text = excluded.text`, p.DocumentID, old.collection, p.Text)
	p.addLanguages(b, old.collection)
	if p.Times == nil && old.generation == 0 {
		return nil
	}
	return putTimes(b, p.DocumentID, old.collection, p.Times)
}

// addLanguages tells searches in which languages the collection's words are stemmed.
func (p *prepared) addLanguages(b *pgx.Batch, collection int64) {
	languages := []string{stemLanguage(p.language)}
	if p.translateTo != "" {
		languages = append(languages, stemLanguage(p.translateTo))
	}
	languages = slices.DeleteFunc(languages, func(l string) bool { return slices.Contains(p.known, l) }) // none goes away
	if len(languages) == 0 {
		return
	}
	b.Queue(`
		UPDATE collections SET languages = languages || (SELECT array_agg(DISTINCT l) FROM unnest($2::text[]) AS l WHERE NOT l = ANY(languages))
		WHERE id = $1 AND NOT languages @> $2::text[]`, collection, languages)
}

// Fail records the revision's permanent error; the old generation stays visible. ErrSuperseded, ErrNotFound.
func (s *Store) Fail(ctx context.Context, documentID string, revision int64, code, text string) error {
	err := s.write(ctx, func(tx pgx.Tx) error {
		if _, err := lockWanted(ctx, tx, documentID, revision); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "UPDATE documents SET status = 'error', error_code = $2, error_text = $3, updated_at = now() WHERE id = $1", documentID, code, text)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "DELETE FROM staged_chunks WHERE document_id = $1", documentID)
		return err
	})
	return mapped("fail "+documentID, err)
}

// counters are changes of a collection's totals.
type counters struct{ documents, chunks, words, removals int64 }

// counterShards spreads a collection's totals, so that writers seldom wait for each other.
const counterShards = 16

const addToCounters = `
	INSERT INTO collection_counters AS t (collection_id, shard, documents, chunks, words, removals) VALUES ($1, $2, $3, $4, $5, $6)
	ON CONFLICT (collection_id, shard) DO UPDATE SET documents = t.documents + excluded.documents,
		chunks = t.chunks + excluded.chunks, words = t.words + excluded.words,
		removals = t.removals + excluded.removals`

// of returns the arguments of addToCounters.
func (c counters) of(collection int64) []any {
	return []any{collection, rand.N(counterShards), c.documents, c.chunks, c.words, c.removals}
}
