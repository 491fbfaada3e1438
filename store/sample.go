package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// sampleByChunk is the size up to which a sample is drawn among all chunks. In larger collections a chunk is drawn of each
// of some documents: reading every chunk's row would take seconds.
const sampleByChunk = 20_000

// SampleTexts returns the texts of at most n chunks, spread over the collection by a hash of their ids: the same ones each
// time, as long as the collection does not change. ErrUnavailable.
func (s *Store) SampleTexts(ctx context.Context, c Collection, n int) ([]string, error) {
	drawn := "SELECT id FROM chunks WHERE collection_id = $1 ORDER BY hashint8(id), id LIMIT $2"
	if c.Chunks > sampleByChunk && c.Documents >= int64(n) {
		drawn = `SELECT first_chunk + abs(hashint8(first_chunk)::bigint) % chunk_count AS id FROM documents
			WHERE collection_id = $1 AND chunk_count > 0 ORDER BY hashint8(first_chunk), first_chunk LIMIT $2`
	}
	sql := fmt.Sprintf("SELECT k.text FROM (%s) AS d JOIN chunks k ON k.id = d.id ORDER BY d.id", drawn)
	texts, err := many(ctx, s.read, pgx.RowTo[string], sql, c.ID, n)
	return texts, mapped("sample "+c.Name, err)
}
