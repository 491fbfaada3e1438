package store

import (
	"context"
)

func (s *Store) indexed(ctx context.Context, spaceID int64) bool { return false }

// Maintain is about to be built.
func (s *Store) Maintain(ctx context.Context) error { return nil }
