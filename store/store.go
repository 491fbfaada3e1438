// Package store owns everything SQL: collections, documents, chunks, their vectors and words, in Postgres with pgvector.
//
// A document's new version is staged beside the old one and takes its place in one transaction, so the tables that a search
// reads hold visible chunks only. Vectors of a space live in one narrow halfvec table; words live in an inverted index of
// our own (words.go), because Postgres's full text has no BM25.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/footnote-rag/footnote/migrations"
)

// Config says how to reach the database. Zero fields mean the documented default.
type Config struct {
	URL        string       // postgres://… ; required
	ReplicaURL string       // reads go here when set
	MaxConns   int32        // default 16
	EFSearch   int          // hnsw.ef_search floor; default 100
	IndexAfter int          // rows of a space below which it is scanned exactly and has no HNSW index; default 20000
	Logger     *slog.Logger // default slog.Default()
}

// MaxEFSearch is pgvector's largest hnsw.ef_search.
const MaxEFSearch = 1000

const (
	defaultMaxConns   = 16
	queueConns        = 8 // fetching, completing, listening, leading, and our watch over dead processes
	defaultEFSearch   = 100
	defaultIndexAfter = 20_000

	connectTimeout   = 5 * time.Second
	acquireTimeout   = 5 * time.Second  // a request waits no longer for a connection, so a hung database shows as unavailable
	statementTimeout = 60 * time.Second // the longest statement, Complete of a very large document, takes a few seconds
	lockTimeout      = 10 * time.Second
	cancelDelay      = 5 * time.Second // after a cancel request the connection may take this long to become usable again
)

func (c Config) withDefaults() (Config, error) {
	if c.URL == "" {
		return c, errors.New("store: Config.URL is empty: set DATABASE_URL")
	}
	if c.MaxConns == 0 {
		c.MaxConns = defaultMaxConns
	}
	if c.EFSearch == 0 {
		c.EFSearch = defaultEFSearch
	}
	if c.EFSearch < 1 || c.EFSearch > MaxEFSearch {
		return c, fmt.Errorf("store: Config.EFSearch is %d: want 1 to %d", c.EFSearch, MaxEFSearch)
	}
	if c.IndexAfter == 0 {
		c.IndexAfter = defaultIndexAfter
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

// Store is safe for concurrent use and does not change after Open.
type Store struct {
	cfg   Config
	pool  *pgxpool.Pool
	read  *pgxpool.Pool // pool, or the replica's
	queue *pgxpool.Pool // for River
	ids   chunkIDs

	indexes sync.Map // space id → indexState (maintain.go)
	budgets sync.Map // [provider, kind] → *waiting (budget.go)
	removed sync.Map // collection id → removals (search.go)
	terms   *termCache

	maintenance maintenance
}

// Open connects, applies the migrations under an advisory lock and checks the pgvector version (0.8.4 or newer).
func Open(ctx context.Context, cfg Config) (*Store, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := prepareDatabase(ctx, cfg.URL); err != nil {
		return nil, mapped("open database", err)
	}
	s := &Store{cfg: cfg, terms: newTermCache()}
	if s.pool, err = openPool(ctx, cfg.URL, cfg, cancelWatcher); err != nil {
		return nil, mapped("open database", err)
	}
	s.read = s.pool
	forQueue := cfg
	forQueue.MaxConns = queueConns
	if s.queue, err = openPool(ctx, cfg.URL, forQueue, nil); err != nil {
		s.pool.Close()
		return nil, mapped("open database", err)
	}
	if cfg.ReplicaURL != "" {
		if s.read, err = openPool(ctx, cfg.ReplicaURL, cfg, cancelWatcher); err != nil {
			s.pool.Close()
			s.queue.Close()
			return nil, mapped("open replica", err)
		}
	}
	return s, nil
}

// prepareDatabase migrates through a connection of its own, without the statement timeout of the pool.
func prepareDatabase(ctx context.Context, url string) error {
	conf, err := pgx.ParseConfig(url)
	if err != nil {
		return err
	}
	if conf.ConnectTimeout == 0 {
		conf.ConnectTimeout = connectTimeout
	}
	conn, err := pgx.ConnectConfig(ctx, conf)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return migrate(ctx, conn, migrations.Files)
}

// cancelWatcher asks the server to cancel a query whose caller has left, so that the connection can be used again: without it
// every client that disconnects costs a new connection.
func cancelWatcher(conn *pgconn.PgConn) ctxwatch.Handler {
	return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: cancelDelay}
}

// openPool opens a pool; watcher says what happens to a query whose context ends, nil: its connection is closed.
func openPool(ctx context.Context, url string, cfg Config, watcher func(*pgconn.PgConn) ctxwatch.Handler) (*pgxpool.Pool, error) {
	conf, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	conf.MaxConns = cfg.MaxConns
	conf.MaxConnIdleTime = 5 * time.Minute
	cc := conf.ConnConfig
	cc.ConnectTimeout = connectTimeout
	if watcher != nil {
		cc.BuildContextWatcherHandler = watcher
	}
	for key, value := range map[string]string{
		"application_name":    "footnote",
		"statement_timeout":   strconv.FormatInt(statementTimeout.Milliseconds(), 10),
		"lock_timeout":        strconv.FormatInt(lockTimeout.Milliseconds(), 10),
		"timezone":            "UTC",
		"jit":                 "off", // compiling costs more than any of our statements gains
		"hnsw.ef_search":      strconv.Itoa(cfg.EFSearch),
		"hnsw.iterative_scan": "strict_order",
	} {
		if _, set := cc.RuntimeParams[key]; !set {
			cc.RuntimeParams[key] = value
		}
	}
	conf.AfterConnect = registerVectors
	pool, err := pgxpool.NewWithConfig(ctx, conf)
	if err != nil {
		return nil, err
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return pool, nil
}

// Close releases all connections.
func (s *Store) Close() {
	if s.read != s.pool {
		s.read.Close()
	}
	s.queue.Close()
	s.pool.Close()
}

// Ping reports whether the database answers; ErrUnavailable if not.
func (s *Store) Ping(ctx context.Context) error {
	conn, err := acquire(ctx, s.pool)
	if err != nil {
		return mapped("ping", err)
	}
	defer conn.Release()
	return mapped("ping", conn.Ping(ctx))
}

// Pool is for River's driver in ingest and for nothing else. It is a pool of its own: River interrupts a connection that
// listens, which the cancellation of queries in the main pool would hold up.
func (s *Store) Pool() *pgxpool.Pool { return s.queue }

// acquire takes a connection under a deadline of its own.
func acquire(ctx context.Context, pool *pgxpool.Pool) (*pgxpool.Conn, error) {
	short, cancel := context.WithTimeoutCause(ctx, acquireTimeout, errPoolBusy)
	defer cancel()
	conn, err := pool.Acquire(short)
	if err != nil && ctx.Err() == nil && short.Err() != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, errPoolBusy)
	}
	return conn, err
}

var errPoolBusy = fmt.Errorf("no connection within %s", acquireTimeout)

// write runs f in a transaction, again if it lost against another one.
func (s *Store) write(ctx context.Context, f func(tx pgx.Tx) error) error {
	return retrying(ctx, func() error {
		conn, err := acquire(ctx, s.pool)
		if err != nil {
			return err
		}
		defer conn.Release()
		return pgx.BeginFunc(ctx, conn, f)
	})
}

// one reads a single row from the reading pool.
func one[T any](ctx context.Context, pool *pgxpool.Pool, scan pgx.RowToFunc[T], sql string, args ...any) (v T, err error) {
	all, err := many(ctx, pool, scan, sql, args...)
	if err == nil && len(all) == 0 {
		err = pgx.ErrNoRows
	}
	if err != nil {
		return v, err
	}
	return all[0], nil
}

// many reads all rows.
func many[T any](ctx context.Context, pool *pgxpool.Pool, scan pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	conn, err := acquire(ctx, pool)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scan)
}

// chunkIDs hands out consecutive chunk ids from blocks taken of the database.
type chunkIDs struct {
	mu         sync.Mutex
	next, last int64 // [next, last)
}

// chunkIDBlock is how many ids are taken at once; what is left at exit is lost, of 2^63.
const chunkIDBlock = 4096

// take returns the first of n consecutive ids.
func (c *chunkIDs) take(ctx context.Context, pool *pgxpool.Pool, n int) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last-c.next < int64(n) {
		size := int64(max(n, chunkIDBlock))
		next, err := one(ctx, pool, pgx.RowTo[int64], "UPDATE chunk_ids SET next = next + $1 RETURNING next - $1", size)
		if err != nil {
			return 0, err
		}
		c.next, c.last = next, next+size
	}
	first := c.next
	c.next += int64(n)
	return first, nil
}
