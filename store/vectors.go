package store

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/pgvector/pgvector-go"
)

// Vectors are the embeddings of passages found in the collection, of length 1; nil for one whose document was replaced since.
func (s *Store) Vectors(ctx context.Context, c Collection, passages []Passage) ([][]float32, error) {
	documents, ordinals := make([]string, len(passages)), make([]int, len(passages))
	for i, p := range passages {
		documents[i], ordinals[i] = p.DocumentID, p.Ordinal
	}
	vectors := make([][]float32, len(passages))
	_, err := many(ctx, s.read, func(row pgx.CollectableRow) (none struct{}, err error) {
		var place int
		var v pgvector.HalfVector
		if err := row.Scan(&place, &v); err != nil {
			return none, err
		}
		vectors[place-1] = v.Slice()
		return none, nil
	}, `SELECT p.place, e.embedding
		FROM unnest($1::uuid[], $2::int[]) WITH ORDINALITY AS p(document_id, ordinal, place)
		JOIN chunks k ON k.document_id = p.document_id AND k.ordinal = p.ordinal JOIN `+c.Space.table()+` e ON e.chunk_id = k.id`, documents, ordinals)
	return vectors, mapped("vectors of passages", err)
}
