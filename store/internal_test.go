package store

import (
	"context"
	"log/slog"
	"testing"

	"github.com/footnote-rag/footnote/store/storetest/testdb"
)

// inside is like storetest.Open for tests that look inside this package, which storetest imports.
func inside(t testing.TB, cfg Config) *Store {
	t.Helper()
	if cfg.URL == "" {
		cfg.URL = testdb.Empty(t)
	}
	cfg.MaxConns = 8
	cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	s, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}
