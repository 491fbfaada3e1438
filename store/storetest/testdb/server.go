// Package testdb finds or starts a Postgres with pgvector for tests and makes databases in it. Package storetest is the
// usual door; package store's own tests, which storetest imports, use this one.
package testdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/modules/postgres"

	"github.com/footnote-rag/footnote/embedded"
)

const (
	image = "pgvector/pgvector:0.8.5-pg18"

	// maxConnections: every parallel test of every package opens a pool.
	maxConnections = "400"

	dockerTimeout = 3 * time.Second // a Docker engine that is there answers at once
	startTimeout  = 5 * time.Minute // the first start may fetch an image or the packaged Postgres
)

// server is the one that this process uses; it is started by the first test that needs it.
var server struct {
	sync.Mutex
	url  string
	stop func() error
	err  error
}

// Server returns a superuser's URL: that of TEST_DATABASE_URL; else of a container where a Docker engine answers; else of
// a private Postgres that the test processes of this user share. It fails the test where none of them works.
func Server(t testing.TB) string {
	t.Helper()
	server.Lock()
	defer server.Unlock()
	if server.url == "" && server.err == nil {
		if server.url, server.stop, server.err = start(); server.err == nil {
			server.err = admin(server.url, dropLeftovers)
		}
	}
	if server.err != nil {
		t.Fatalf("no Postgres for tests: %v\nset TEST_DATABASE_URL to a superuser's URL of a Postgres with pgvector", server.err)
	}
	return server.url
}

func start() (url string, stop func() error, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if url := os.Getenv("TEST_DATABASE_URL"); url != "" {
		return url, func() error { return nil }, reachable(ctx, url)
	}
	url, stop, containerErr := startContainer(ctx)
	if containerErr == nil {
		return url, stop, nil
	}
	url, stop, err = startEmbedded(ctx)
	if err != nil {
		return "", nil, errors.Join(containerErr, err)
	}
	return url, stop, nil
}

func reachable(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("TEST_DATABASE_URL: %w", err)
	}
	return conn.Close(ctx)
}

// startContainer fails fast where no Docker engine answers. Its reaper removes the container if this process is killed.
func startContainer(ctx context.Context) (url string, stop func() error, err error) {
	if err := dockerAnswers(ctx); err != nil {
		return "", nil, fmt.Errorf("no Docker engine: %w", err)
	}
	c, err := postgres.Run(ctx, image, postgres.BasicWaitStrategies(),
		testcontainers.WithCmdArgs("-c", "max_connections="+maxConnections))
	if err != nil {
		return "", nil, fmt.Errorf("start %s: %w", image, err)
	}
	stop = func() error { return testcontainers.TerminateContainer(c) }
	if url, err = c.ConnectionString(ctx, "sslmode=disable"); err != nil {
		return "", nil, errors.Join(err, stop())
	}
	return url, stop, nil
}

func dockerAnswers(ctx context.Context) (err error) {
	defer func() {
		if r := recover(); r != nil { // the library panics on some faults of its setup
			err = fmt.Errorf("%v", r)
		}
	}()
	provider, err := testcontainers.NewDockerProvider(testcontainers.WithLogger(quiet{}))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, dockerTimeout)
	defer cancel()
	return provider.Health(ctx)
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}

// startEmbedded joins or starts the user's private Postgres for tests; the last process to end stops it.
func startEmbedded(ctx context.Context) (url string, stop func() error, err error) {
	cache := &embedded.Cache{Dir: embedded.DefaultCacheDir()}
	p, err := embedded.StartPostgres(ctx, embedded.PostgresConfig{
		DataDir:  filepath.Join(cache.Dir, "test-postgres"),
		Cache:    cache,
		Settings: map[string]string{"max_connections": maxConnections},
		Logger:   slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		return "", nil, fmt.Errorf("start the private Postgres: %w", err)
	}
	return p.URL(), p.Close, nil
}

// Stop ends the server if this process started it. A TestMain calls it after m.Run; without one, the server ends with
// the process.
func Stop() error {
	server.Lock()
	defer server.Unlock()
	if server.stop == nil {
		return nil
	}
	err := server.stop()
	server.url, server.stop = "", nil
	return err
}
