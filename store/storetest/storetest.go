// Package storetest gives tests a fresh Postgres database with the store's schema, and checks what must always hold in it.
//
// The server is that of TEST_DATABASE_URL (a superuser's URL), else a container where a Docker engine answers, else the
// private Postgres of package embedded, shared by the test processes of this user.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/store/storetest/testdb"
)

// maxConns is small: hundreds of tests' pools share one server.
const maxConns = 8

// Template is the migrated database that fresh ones are copied from, which is faster than migrating each.
var Template = testdb.Template{Key: testdb.SchemaKey(), Make: migrated}

// URL returns the URL of a fresh database with the schema and no rows, dropped when the test ends.
func URL(t testing.TB) string {
	t.Helper()
	return testdb.Copy(t, Template)
}

// EmptyURL returns the URL of a fresh database without any schema, dropped when the test ends.
func EmptyURL(t testing.TB) string {
	t.Helper()
	return testdb.Empty(t)
}

// Open opens a store on a fresh database and closes it when the test ends.
func Open(t testing.TB) *store.Store {
	t.Helper()
	return OpenConfig(t, store.Config{URL: URL(t)})
}

// OpenConfig opens a store, with a few connections and the test's log where cfg does not say, and closes it when the test ends.
func OpenConfig(t testing.TB, cfg store.Config) *store.Store {
	t.Helper()
	if cfg.MaxConns == 0 {
		cfg.MaxConns = maxConns
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	s, err := store.Open(context.Background(), cfg)
	if err != nil {
		t.Fatalf("open the store: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}

// Main is a TestMain: it runs the tests, stops the server if this process started it, and fails if goroutines are left.
func Main(m *testing.M) {
	code := m.Run()
	err := testdb.Stop()
	if code == 0 {
		err = errors.Join(err, goleak.Find())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func migrated(ctx context.Context, url string) error {
	s, err := store.Open(ctx, store.Config{URL: url, MaxConns: 1})
	if err == nil {
		s.Close()
	}
	return err
}
