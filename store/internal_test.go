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
		cfg.URL = freshURL(t)
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

// freshURL is storetest.URL.
func freshURL(t testing.TB) string {
	t.Helper()
	return testdb.Copy(t, testdb.Template{Key: testdb.SchemaKey(), Make: func(ctx context.Context, url string) error {
		s, err := Open(ctx, Config{URL: url, MaxConns: 1})
		if err == nil {
			s.Close()
		}
		return err
	}})
}
