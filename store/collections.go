package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Space is an embedding space: vectors of different spaces are never compared.
type Space struct {
	ID         int64
	Model      string // as the Workers AI API names it, e.g. @cf/baai/bge-base-en-v1.5
	Pooling    string // "mean", "cls", or what the model reports
	Dimensions int
}

// maxDimensions is what an HNSW index over halfvec takes.
const maxDimensions = 4000

// table is the name of the space's vectors; the id is a number of ours, so it is safe in SQL text.
func (s Space) table() string { return fmt.Sprintf("embeddings_%d", s.ID) }

// Chunking holds a collection's chunk settings.
type Chunking struct {
	MaxTokens int    `json:"max_tokens"`        // WordPiece tokens with [CLS] and [SEP]; at most 512
	Overlap   int    `json:"overlap"`           // tokens
	Split     string `json:"split,omitempty"`   // "" or SplitStructure, or SplitFixed
	Context   string `json:"context,omitempty"` // "" or ContextHeadings, ContextNone or ContextSummary
	// Window is how many tokens of a passage a search returns around a chunk that it found; at most the chunk's own: the chunk.
	Window int `json:"window,omitempty"`
}

// Values of Chunking.Split and Context.
const (
	SplitStructure  = "structure" // at headings, then blocks, then sentences
	SplitFixed      = "fixed"     // every MaxTokens tokens, whatever stands there: for comparison
	ContextHeadings = "headings"  // title and heading path are embedded before a chunk's text
	ContextNone     = "none"      // the text alone is embedded
	ContextSummary  = "summary"   // as headings, and a sentence of the chat model that situates the chunk within its document
)

// Collection is a named set of documents in one space; the unit of access.
type Collection struct {
	ID          int64
	Name        string
	Space       Space
	Chunking    Chunking
	TranslateTo string   // documents in other languages are embedded in this one; "": as they are
	Documents   int64    // all states
	Chunks      int64    // visible
	Languages   []string // of its documents, as stemmed; Search analyses the question for each
	CreatedAt   time.Time
}

const selectCollections = `
	SELECT c.id, c.name, s.id, s.model, s.pooling, s.dimensions, c.chunking, c.translate_to, c.languages, c.created_at,
	       coalesce(n.documents, 0), coalesce(n.chunks, 0)
	FROM collections c JOIN spaces s ON s.id = c.space_id
	LEFT JOIN LATERAL (SELECT sum(documents)::bigint AS documents, sum(chunks)::bigint AS chunks
	                   FROM collection_counters WHERE collection_id = c.id) n ON true`

func scanCollection(row pgx.CollectableRow) (c Collection, err error) {
	err = row.Scan(&c.ID, &c.Name, &c.Space.ID, &c.Space.Model, &c.Space.Pooling, &c.Space.Dimensions, &c.Chunking, &c.TranslateTo,
		&c.Languages, &c.CreatedAt, &c.Documents, &c.Chunks)
	return c, err
}

// EnsureCollection returns the named collection, creating it (and its space) if absent. created tells which.
// ErrSpaceMismatch if it exists in another space.
func (s *Store) EnsureCollection(ctx context.Context, name string, space Space, chunking Chunking) (c Collection, created bool, err error) {
	c, err = s.collection(ctx, name)
	if errors.Is(err, pgx.ErrNoRows) {
		c, created, err = s.createCollection(ctx, name, space, chunking)
	}
	if err != nil {
		return Collection{}, false, mapped("ensure collection "+name, err)
	}
	if c.Space.Model != space.Model || c.Space.Pooling != space.Pooling || c.Space.Dimensions != space.Dimensions {
		return Collection{}, false, fmt.Errorf("collection %q was made with %s (%s, %d dimensions), not %s (%s, %d): use another collection, or delete this one: %w",
			name, c.Space.Model, c.Space.Pooling, c.Space.Dimensions, space.Model, space.Pooling, space.Dimensions, ErrSpaceMismatch)
	}
	return c, created, nil
}

func (s *Store) createCollection(ctx context.Context, name string, space Space, chunking Chunking) (c Collection, created bool, err error) {
	if space.Dimensions < 1 || space.Dimensions > maxDimensions {
		return c, false, fmt.Errorf("%w: an embedding space has 1 to %d dimensions, not %d: choose another embedding model", ErrInvalidVector, maxDimensions, space.Dimensions)
	}
	err = s.write(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", lockSpaces); err != nil {
			return err
		}
		if err := ensureSpace(ctx, tx, &space); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, "INSERT INTO collections (name, space_id, chunking) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING", name, space.ID, chunking)
		created = tag.RowsAffected() == 1
		return err
	})
	if err != nil {
		return c, false, err
	}
	rows, err := s.pool.Query(ctx, selectCollections+" WHERE c.name = $1", name)
	if err != nil {
		return c, false, err
	}
	c, err = pgx.CollectExactlyOneRow(rows, scanCollection)
	return c, created, err
}

// ensureSpace finds or makes the space and its table of vectors. The HNSW index comes later (maintain.go).
func ensureSpace(ctx context.Context, tx pgx.Tx, space *Space) error {
	err := tx.QueryRow(ctx, `INSERT INTO spaces (model, pooling, dimensions) VALUES ($1, $2, $3)
		ON CONFLICT (model, pooling, dimensions) DO UPDATE SET model = excluded.model RETURNING id`,
		space.Model, space.Pooling, space.Dimensions).Scan(&space.ID)
	if err != nil {
		return err
	}
	_, err = tx.Conn().PgConn().Exec(ctx, fmt.Sprintf(`
		CREATE TABLE IF NOT EXISTS %[1]s (
			chunk_id      bigint PRIMARY KEY,
			collection_id bigint NOT NULL,
			document_id   uuid NOT NULL,
			embedding     halfvec(%[2]d) NOT NULL CHECK (l2_norm(embedding) > 0)
		);
		ALTER TABLE %[1]s ALTER COLUMN embedding SET STORAGE %[3]s;
		CREATE INDEX IF NOT EXISTS %[1]s_by_collection ON %[1]s (collection_id);`,
		space.table(), space.Dimensions, storageOf(space.Dimensions))).ReadAll()
	return err
}

// storageOf keeps vectors in the row where a row of 8 kB takes them: reading them from TOAST makes scans 3.5 times slower.
func storageOf(dimensions int) string {
	const plainDimensions = 3900
	if dimensions > plainDimensions {
		return "EXTERNAL"
	}
	return "PLAIN"
}

// Collection by name; ErrNotFound.
func (s *Store) Collection(ctx context.Context, name string) (Collection, error) {
	c, err := s.collection(ctx, name)
	return c, mapped(fmt.Sprintf("collection %q", name), err)
}

func (s *Store) collection(ctx context.Context, name string) (Collection, error) {
	return one(ctx, s.read, scanCollection, selectCollections+" WHERE c.name = $1", name)
}

// Collections lists all, by name.
func (s *Store) Collections(ctx context.Context) ([]Collection, error) {
	all, err := many(ctx, s.read, scanCollection, selectCollections+" ORDER BY c.name")
	return all, mapped("list collections", err)
}

// SetTranslation chooses the language that documents put from now on are embedded in; "" is none. ErrNotFound.
func (s *Store) SetTranslation(ctx context.Context, name, language string) error {
	err := s.write(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, "UPDATE collections SET translate_to = $2 WHERE name = $1", name, language)
		if err == nil && tag.RowsAffected() == 0 {
			err = pgx.ErrNoRows
		}
		return err
	})
	return mapped(fmt.Sprintf("translation of collection %q", name), err)
}

// DeleteCollection removes it with everything in it; ErrNotFound.
func (s *Store) DeleteCollection(ctx context.Context, name string) error {
	err := s.write(ctx, func(tx pgx.Tx) error {
		var id int64
		var space Space
		err := tx.QueryRow(ctx, "SELECT id, space_id FROM collections WHERE name = $1 FOR UPDATE", name).Scan(&id, &space.ID)
		if err != nil {
			return err
		}
		if _, err := lockSegments(ctx, tx, id, true); err != nil {
			return err
		}
		// Writers of its documents hold these row locks until they are done.
		if _, err := tx.Exec(ctx, "SELECT FROM documents WHERE collection_id = $1 ORDER BY id FOR UPDATE", id); err != nil {
			return err
		}
		for _, table := range []string{space.table(), "chunks", "postings", "posting_segments", "fresh_postings", "removed_chunks", "documents", "collections"} {
			key := "collection_id"
			if table == "collections" {
				key = "id"
			}
			if _, err := tx.Exec(ctx, "DELETE FROM "+table+" WHERE "+key+" = $1", id); err != nil {
				return err
			}
		}
		return nil
	})
	return mapped(fmt.Sprintf("delete collection %q", name), err)
}
