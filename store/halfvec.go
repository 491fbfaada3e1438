package store

import (
	"context"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"
	"github.com/pgvector/pgvector-go"
	pgxvector "github.com/pgvector/pgvector-go/pgx"
)

// unitVector checks a vector and scales it to length 1, so that inner product is cosine similarity and nothing overflows
// half precision.
func unitVector(v []float32, dimensions int) (pgvector.HalfVector, error) {
	var none pgvector.HalfVector
	if len(v) != dimensions {
		return none, fmt.Errorf("%w: it has %d dimensions, the space has %d", ErrInvalidVector, len(v), dimensions)
	}
	var sum float64
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	if math.IsNaN(sum) || math.IsInf(sum, 0) {
		return none, fmt.Errorf("%w: it holds NaN or infinity", ErrInvalidVector)
	}
	if sum == 0 {
		return none, fmt.Errorf("%w: it is zero", ErrInvalidVector)
	}
	scale := 1 / math.Sqrt(sum)
	unit := make([]float32, len(v))
	for i, x := range v {
		unit[i] = float32(float64(x) * scale)
	}
	return pgvector.NewHalfVector(unit), nil
}

// registerVectors teaches a connection pgvector's types, whose numbers differ between databases.
func registerVectors(ctx context.Context, conn *pgx.Conn) error {
	if err := pgxvector.RegisterTypes(ctx, conn); err != nil {
		return fmt.Errorf("%w: pgvector's types are missing in this database: run CREATE EXTENSION vector: %w", ErrIncompatible, err)
	}
	return nil
}
