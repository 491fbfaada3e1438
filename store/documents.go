package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Status of a document.
type Status string

const (
	StatusQueued    Status = "queued"
	StatusRunning   Status = "running"
	StatusCompleted Status = "completed"
	StatusError     Status = "error"
)

// Document is unique by (collection, uri). Title, MediaType, Language, Metadata, Generation, Chunks and Tokens describe the
// visible version, once there is one. Revision counts acknowledged puts, so Revision > Generation means that a newer version
// is on its way, or has failed.
type Document struct {
	ID           string // UUIDv7
	CollectionID int64
	Collection   string // name
	URI          string
	Title        string
	MediaType    string
	Language     string // BCP 47, "" if unknown
	Metadata     json.RawMessage
	SHA256       []byte // of the newest acknowledged source bytes
	Status       Status
	ErrorCode    string
	ErrorText    string
	Chunks       int // visible chunks
	Tokens       int // visible tokens
	Generation   int64
	Revision     int64
	CreatedAt    time.Time
	UpdatedAt    time.Time
}

const documentColumns = `d.id, d.collection_id, (SELECT name FROM collections k WHERE k.id = d.collection_id), d.uri, d.title, d.media_type,
	d.language, d.metadata, d.content_sha256, d.status, coalesce(d.error_code, ''), coalesce(d.error_text, ''), d.chunk_count,
	d.token_count, d.generation, d.revision, d.created_at, d.updated_at`

func scanDocument(row pgx.CollectableRow) (d Document, err error) {
	err = row.Scan(&d.ID, &d.CollectionID, &d.Collection, &d.URI, &d.Title, &d.MediaType, &d.Language, &d.Metadata, &d.SHA256, &d.Status,
		&d.ErrorCode, &d.ErrorText, &d.Chunks, &d.Tokens, &d.Generation, &d.Revision, &d.CreatedAt, &d.UpdatedAt)
	return d, err
}

// NewDocument is what a caller puts.
type NewDocument struct {
	Collection Collection
	URI        string
	Title      string
	MediaType  string
	Language   string
	Metadata   json.RawMessage // a JSON object; nil is an empty one
	Source     []byte
	SHA256     []byte // of Source
	Settings   string // fingerprint of whatever else decides the result (extractor and chunker version, chunking); a change re-ingests
}

// PutOutcome tells what a put did.
type PutOutcome string

const (
	Created   PutOutcome = "created"
	Changed   PutOutcome = "changed"
	Unchanged PutOutcome = "unchanged" // same bytes, settings, title, metadata and not in error: nothing stored, nothing enqueued
)

// PutDocument stores the source as the newest revision with status queued and calls enqueue in the same transaction
// (not for Unchanged). A document in status error is put again even if its bytes are the same. ErrInvalidText, ErrNotFound
// if the collection is gone.
func (s *Store) PutDocument(ctx context.Context, d NewDocument, enqueue func(ctx context.Context, tx pgx.Tx, d Document) error) (Document, PutOutcome, error) {
	if len(d.Metadata) == 0 {
		d.Metadata = json.RawMessage("{}")
	}
	var doc Document
	var outcome PutOutcome
	err := s.write(ctx, func(tx pgx.Tx) error {
		var err error
		doc, outcome, err = put(ctx, tx, d)
		if err != nil || outcome == Unchanged {
			return err
		}
		if err := enqueue(ctx, tx, doc); err != nil {
			return fmt.Errorf("enqueue: %w", err)
		}
		if outcome == Created {
			_, err = tx.Exec(ctx, addToCounters, counters{documents: 1}.of(d.Collection.ID)...)
		}
		return err
	})
	return doc, outcome, mapped("put "+d.URI, err)
}

// put inserts or updates the row; the row lock of an existing one makes later puts of it wait.
func put(ctx context.Context, tx pgx.Tx, d NewDocument) (Document, PutOutcome, error) {
	doc, err := insertDocument(ctx, tx, d)
	if err == nil {
		return doc, Created, putSource(ctx, tx, doc.ID, d)
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return doc, "", err
	}
	doc, same, err := lockDocument(ctx, tx, d)
	if err != nil {
		return doc, "", err
	}
	if same && doc.Status != StatusError {
		return doc, Unchanged, nil
	}
	if doc, err = updateDocument(ctx, tx, doc.ID, d); err != nil {
		return doc, "", err
	}
	return doc, Changed, putSource(ctx, tx, doc.ID, d)
}

// insertDocument returns pgx.ErrNoRows if the document is there.
func insertDocument(ctx context.Context, tx pgx.Tx, d NewDocument) (Document, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Document{}, err
	}
	rows, err := tx.Query(ctx, `
		INSERT INTO documents AS d (id, collection_id, uri, title, media_type, language, metadata, content_sha256, settings, status)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'queued')
		ON CONFLICT (collection_id, uri) DO NOTHING
		RETURNING `+documentColumns,
		id.String(), d.Collection.ID, d.URI, d.Title, d.MediaType, d.Language, d.Metadata, d.SHA256, d.Settings)
	if err != nil {
		return Document{}, err
	}
	return pgx.CollectExactlyOneRow(rows, scanDocument)
}

// lockDocument also tells whether the newest put said the same.
func lockDocument(ctx context.Context, tx pgx.Tx, d NewDocument) (doc Document, same bool, err error) {
	rows, err := tx.Query(ctx, "SELECT "+documentColumns+" FROM documents d WHERE d.collection_id = $1 AND d.uri = $2 FOR UPDATE", d.Collection.ID, d.URI)
	if err != nil {
		return doc, false, err
	}
	if doc, err = pgx.CollectExactlyOneRow(rows, scanDocument); err != nil {
		return doc, false, err
	}
	err = tx.QueryRow(ctx, `
		SELECT d.content_sha256 = $2 AND d.settings = $3 AND s.title = $4 AND s.media_type = $5 AND s.language = $6 AND s.metadata = $7::jsonb
		FROM documents d JOIN document_sources s ON s.document_id = d.id WHERE d.id = $1`,
		doc.ID, d.SHA256, d.Settings, d.Title, d.MediaType, d.Language, d.Metadata).Scan(&same)
	return doc, same, err
}

// updateDocument makes the newest revision. What describes the visible version changes when that revision is complete; while
// there is no visible version the newest put describes it.
func updateDocument(ctx context.Context, tx pgx.Tx, id string, d NewDocument) (Document, error) {
	rows, err := tx.Query(ctx, `
		UPDATE documents d SET revision = revision + 1, content_sha256 = $2, settings = $3, status = 'queued', error_code = NULL, error_text = NULL,
			title      = CASE WHEN generation = 0 THEN $4 ELSE title END,
			media_type = CASE WHEN generation = 0 THEN $5 ELSE media_type END,
			language   = CASE WHEN generation = 0 THEN $6 ELSE language END,
			metadata   = CASE WHEN generation = 0 THEN $7::jsonb ELSE metadata END,
			updated_at = now()
		WHERE id = $1 RETURNING `+documentColumns, id, d.SHA256, d.Settings, d.Title, d.MediaType, d.Language, d.Metadata)
	if err != nil {
		return Document{}, err
	}
	return pgx.CollectExactlyOneRow(rows, scanDocument)
}

func putSource(ctx context.Context, tx pgx.Tx, id string, d NewDocument) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO document_sources (document_id, collection_id, title, media_type, language, metadata, source) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (document_id) DO UPDATE SET title = excluded.title, media_type = excluded.media_type, language = excluded.language,
			metadata = excluded.metadata, source = excluded.source`,
		id, d.Collection.ID, d.Title, d.MediaType, d.Language, d.Metadata, d.Source)
	return err
}

// Known is one answer of KnownSources.
type Known struct {
	ID       string
	URI      string
	SHA256   []byte
	Settings string
	Status   Status
}

// KnownSources tells for each of the uris that exists what is stored, for load plans.
func (s *Store) KnownSources(ctx context.Context, collectionID int64, uris []string) (map[string]Known, error) {
	all, err := many(ctx, s.pool, func(row pgx.CollectableRow) (k Known, err error) {
		err = row.Scan(&k.ID, &k.URI, &k.SHA256, &k.Settings, &k.Status)
		return k, err
	}, "SELECT id, uri, content_sha256, settings, status FROM documents WHERE collection_id = $1 AND uri = ANY($2)", collectionID, uris)
	if err != nil {
		return nil, mapped("known sources", err)
	}
	known := make(map[string]Known, len(all))
	for _, k := range all {
		known[k.URI] = k
	}
	return known, nil
}

// Document by id; ErrNotFound.
func (s *Store) Document(ctx context.Context, id string) (Document, error) {
	if uuid.Validate(id) != nil {
		return Document{}, fmt.Errorf("document %q: %w", id, ErrNotFound)
	}
	d, err := one(ctx, s.pool, scanDocument, "SELECT "+documentColumns+" FROM documents d WHERE d.id = $1", id)
	return d, mapped("document "+id, err)
}

// DocumentByURI; ErrNotFound.
func (s *Store) DocumentByURI(ctx context.Context, collectionID int64, uri string) (Document, error) {
	d, err := one(ctx, s.pool, scanDocument, "SELECT "+documentColumns+" FROM documents d WHERE d.collection_id = $1 AND d.uri = $2", collectionID, uri)
	return d, mapped("document "+uri, err)
}

// DocumentText is the extracted text of the visible generation; ErrNotFound if there is none.
func (s *Store) DocumentText(ctx context.Context, id string) (string, error) {
	if uuid.Validate(id) != nil {
		return "", fmt.Errorf("text of document %q: %w", id, ErrNotFound)
	}
	text, err := one(ctx, s.pool, pgx.RowTo[string], "SELECT text FROM document_texts WHERE document_id = $1", id)
	return text, mapped("text of document "+id, err)
}

// DocumentSource is the newest acknowledged source and its media type; ErrNotFound.
func (s *Store) DocumentSource(ctx context.Context, id string) (source []byte, mediaType string, err error) {
	if uuid.Validate(id) != nil {
		return nil, "", fmt.Errorf("source of document %q: %w", id, ErrNotFound)
	}
	type row struct {
		Source    []byte
		MediaType string
	}
	r, err := one(ctx, s.pool, pgx.RowToStructByPos[row], "SELECT source, media_type FROM document_sources WHERE document_id = $1", id)
	return r.Source, r.MediaType, mapped("source of document "+id, err)
}

// ListQuery selects documents, ordered by id (creation). Zero fields select all.
type ListQuery struct {
	CollectionID int64
	Status       Status
	URIPrefix    string
	Limit        int // default 100, at most 1000
	Cursor       string
}

const defaultPage, maxPage = 100, 1000

// Documents returns one page and the next cursor, "" at the end. ErrNotFound for a cursor that is none.
func (s *Store) Documents(ctx context.Context, q ListQuery) ([]Document, string, error) {
	if q.Limit <= 0 {
		q.Limit = defaultPage
	}
	q.Limit = min(q.Limit, maxPage)
	if q.Cursor == "" {
		q.Cursor = uuid.Nil.String()
	}
	if uuid.Validate(q.Cursor) != nil {
		return nil, "", fmt.Errorf("cursor %q: %w", q.Cursor, ErrNotFound)
	}
	all, err := many(ctx, s.pool, scanDocument, "SELECT "+documentColumns+` FROM documents d
		WHERE d.id > $1 AND ($2 = 0 OR d.collection_id = $2) AND ($3 = '' OR d.status = $3) AND starts_with(d.uri, $4)
		ORDER BY d.id LIMIT $5`, q.Cursor, q.CollectionID, string(q.Status), q.URIPrefix, q.Limit+1)
	if err != nil {
		return nil, "", mapped("list documents", err)
	}
	if len(all) <= q.Limit {
		return all, "", nil
	}
	all = all[:q.Limit]
	return all, all[q.Limit-1].ID, nil
}

// StatusCounts counts a collection's documents by status.
func (s *Store) StatusCounts(ctx context.Context, collectionID int64) (map[Status]int64, error) {
	type row struct {
		Status Status
		N      int64
	}
	all, err := many(ctx, s.pool, pgx.RowToStructByPos[row], "SELECT status, count(*) FROM documents WHERE collection_id = $1 GROUP BY status", collectionID)
	if err != nil {
		return nil, mapped("count documents", err)
	}
	counts := make(map[Status]int64, len(all))
	for _, r := range all {
		counts[r.Status] = r.N
	}
	return counts, nil
}

// Unfinished counts the collection's documents that are queued or running, as the transaction sees them, up to atMost.
func Unfinished(ctx context.Context, tx pgx.Tx, collectionID int64, atMost int) (n int, err error) {
	err = tx.QueryRow(ctx, `SELECT count(*) FROM (SELECT FROM documents WHERE collection_id = $1 AND status IN ('queued', 'running') LIMIT $2) AS few`,
		collectionID, atMost).Scan(&n)
	return n, mapped("count unfinished documents", err)
}

// DeleteDocument removes it with everything of it; ErrNotFound.
func (s *Store) DeleteDocument(ctx context.Context, id string) error {
	if uuid.Validate(id) != nil {
		return fmt.Errorf("delete document %q: %w", id, ErrNotFound)
	}
	err := s.write(ctx, func(tx pgx.Tx) error {
		v, err := lockVisible(ctx, tx, id)
		if err != nil {
			return err
		}
		removals, err := v.remove(ctx, tx)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "DELETE FROM documents WHERE id = $1", id); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, addToCounters, counters{documents: -1, chunks: -int64(v.chunks), words: -v.words, removals: removals}.of(v.collection)...)
		return err
	})
	return mapped("delete document "+id, err)
}

// Chunks lists the visible chunks of a document by ordinal (no vectors).
func (s *Store) Chunks(ctx context.Context, documentID string) ([]Chunk, error) {
	const all = 1<<31 - 1
	return s.Neighbours(ctx, documentID, 0, all)
}

// Neighbours returns the visible chunks of a document with ordinals in [from, to].
func (s *Store) Neighbours(ctx context.Context, documentID string, from, to int) ([]Chunk, error) {
	if uuid.Validate(documentID) != nil {
		return nil, nil
	}
	chunks, err := many(ctx, s.read, scanChunk, `
		SELECT `+chunkColumns+` FROM chunks
		WHERE document_id = $1 AND ordinal BETWEEN $2 AND $3 ORDER BY ordinal`, documentID, max(from, 0), min(to, 1<<31-1))
	return chunks, mapped("chunks of document "+documentID, err)
}

// Summary is a model's sentence about a chunk; "" if it had none to give.
type Summary struct {
	Input []byte // SHA-256 of what it was written from
	Text  string
}

// Summaries are those of a document's visible chunks.
func (s *Store) Summaries(ctx context.Context, documentID string) ([]Summary, error) {
	all, err := many(ctx, s.pool, pgx.RowToStructByPos[Summary],
		"SELECT summary_input, summary FROM chunks WHERE document_id = $1 AND summary_input IS NOT NULL", documentID)
	return all, mapped("summaries of document "+documentID, err)
}

// chunkColumns are those of scanChunk, of chunks and of staged ones.
const chunkColumns = "ordinal, heading, start_char, end_char, text, token_count, translation, summary, summary_input"

func scanChunk(row pgx.CollectableRow) (c Chunk, err error) {
	err = row.Scan(&c.Ordinal, &c.Heading, &c.Start, &c.End, &c.Text, &c.Tokens, &c.Translation, &c.Summary, &c.SummaryInput)
	return c, err
}
