package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// loadVectors stores one document with n chunks and returns its space.
func loadVectors(t *testing.T, s *Store, uri string, n int) Space {
	t.Helper()
	c, _, err := s.EnsureCollection(t.Context(), "default", Space{Model: "m", Pooling: "mean", Dimensions: 3}, Chunking{})
	if err != nil {
		t.Fatal(err)
	}
	d, _, err := s.PutDocument(t.Context(), NewDocument{Collection: c, URI: uri, Source: []byte("x"), SHA256: []byte("x"), MediaType: "text/plain"},
		func(context.Context, pgx.Tx, Document) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	done := Completion{DocumentID: d.ID, Revision: d.Revision, Text: "x", Total: n}
	for i := range n {
		done.Chunks = append(done.Chunks, Chunk{Ordinal: i, End: 1, Text: "x", Tokens: 3, Embedding: []float32{1, float32(i), float32(i * i % 7)}})
	}
	if err := s.Complete(t.Context(), done); err != nil {
		t.Fatal(err)
	}
	return c.Space
}

// indexes lists a space's HNSW indexes as name:valid.
func indexes(t *testing.T, s *Store, space Space) string {
	t.Helper()
	rows, err := s.pool.Query(t.Context(), `SELECT c.relname || ':' || i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
		JOIN pg_am a ON a.oid = c.relam WHERE i.indrelid = to_regclass($1) AND a.amname = 'hnsw' ORDER BY 1`, space.table())
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(all)
}

const (
	builtIndex   = "[embeddings_1_hnsw:true]"
	invalidIndex = "[embeddings_1_hnsw:false]"
	noIndex      = "[]"
)

func TestMaintainIndexesWhenALoadEnds(t *testing.T) {
	t.Parallel()
	s := inside(t, Config{IndexAfter: 50})
	maintain := func() {
		t.Helper()
		if err := s.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	space := loadVectors(t, s, "a", 40)
	maintain()
	maintain()
	if got := indexes(t, s, space); got != noIndex {
		t.Errorf("below the limit the indexes are %s, want none", got)
	}
	loadVectors(t, s, "b", 40)
	maintain()
	if got := indexes(t, s, space); got != noIndex {
		t.Errorf("while rows come in the indexes are %s, want none", got)
	}
	if s.indexed(t.Context(), space.ID) {
		t.Error("indexed = true before there is an index")
	}
	maintain()
	if got := indexes(t, s, space); got != builtIndex {
		t.Errorf("after the load the indexes are %s, want %s", got, builtIndex)
	}
	if !s.indexed(t.Context(), space.ID) {
		t.Error("indexed = false after the index was built")
	}
	maintain()
	if got := indexes(t, s, space); got != builtIndex {
		t.Errorf("a call with nothing to do left %s, want %s", got, builtIndex)
	}
}

func TestMaintainDoesNotWaitForAnEndlessLoad(t *testing.T) {
	t.Parallel()
	s := inside(t, Config{IndexAfter: 20})
	space := loadVectors(t, s, "a", 20*growingFactor)
	if err := s.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := indexes(t, s, space); got != builtIndex {
		t.Errorf("the indexes are %s, want %s", got, builtIndex)
	}
}

// busyTable holds a row lock of the space's table, for which a concurrent build waits until release.
func busyTable(t *testing.T, s *Store, space Space) (release func()) {
	t.Helper()
	tx, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "UPDATE "+space.table()+" SET document_id = document_id WHERE chunk_id = 1"); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := tx.Rollback(context.WithoutCancel(t.Context())); err != nil && !errors.Is(err, pgx.ErrTxClosed) {
			t.Error(err)
		}
	}
}

// waitForBuild returns when a build waits for the transaction of busyTable.
func waitForBuild(t *testing.T, s *Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for waiting := false; !waiting; {
		err := s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_stat_progress_create_index p JOIN pg_stat_activity a USING (pid)
			WHERE p.datname = current_database() AND a.wait_event_type = 'Lock')`).Scan(&waiting)
		if err != nil {
			t.Fatalf("wait for the build: %v", err)
		}
	}
}

func TestMaintainMendsABrokenBuild(t *testing.T) {
	t.Parallel()
	s := inside(t, Config{IndexAfter: 20})
	space := loadVectors(t, s, "a", 20*growingFactor)
	release := busyTable(t, s, space)
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Maintain(ctx) }()
	waitForBuild(t, s)
	cancel()
	if err := <-ended; err == nil {
		t.Fatal("Maintain = nil after its context ended, want an error")
	}
	if got := indexes(t, s, space); got != invalidIndex {
		t.Fatalf("the indexes are %s after the build broke off, want %s", got, invalidIndex)
	}
	if s.indexed(t.Context(), space.ID) {
		t.Error("indexed = true with an invalid index")
	}
	release()
	if err := s.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := indexes(t, s, space); got != builtIndex {
		t.Errorf("the indexes are %s after Maintain, want %s", got, builtIndex)
	}
	if !s.indexed(t.Context(), space.ID) {
		t.Error("indexed = false after the index was mended")
	}
}

func TestMaintainHasOneLeader(t *testing.T) {
	t.Parallel()
	url := freshURL(t)
	leader, other := inside(t, Config{URL: url, IndexAfter: 20}), inside(t, Config{URL: url, IndexAfter: 20})
	space := loadVectors(t, leader, "a", 20*growingFactor)
	release := busyTable(t, leader, space)
	defer release()
	ended := make(chan error, 1)
	go func() { ended <- leader.Maintain(t.Context()) }()
	waitForBuild(t, leader)
	if err := other.Maintain(t.Context()); err != nil {
		t.Errorf("the other's Maintain = %v, want nil at once", err)
	}
	if got := indexes(t, other, space); got != invalidIndex {
		t.Errorf("the indexes are %s while the leader builds, want %s", got, invalidIndex)
	}
	release()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if got := indexes(t, other, space); got != builtIndex {
		t.Errorf("the indexes are %s, want %s", got, builtIndex)
	}
	if !other.indexed(t.Context(), space.ID) {
		t.Error("the other process does not see the index")
	}
}

func TestIndexLostIsRebuilt(t *testing.T) {
	t.Parallel()
	s := inside(t, Config{IndexAfter: 20})
	space := loadVectors(t, s, "a", 20*growingFactor)
	for range 2 {
		if err := s.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := indexes(t, s, space); got != builtIndex {
			t.Fatalf("the indexes are %s, want %s", got, builtIndex)
		}
		if _, err := s.pool.Exec(t.Context(), "DROP INDEX embeddings_1_hnsw"); err != nil {
			t.Fatal(err)
		}
	}
}

// littleMemory is a store of 20,000 vectors whose database's own setting is too small for their graph, and what it logs.
func littleMemory(t *testing.T) (*Store, Space, *bytes.Buffer) {
	t.Helper()
	s := inside(t, Config{URL: freshURL(t) + "&maintenance_work_mem=1MB", IndexAfter: 20})
	var log bytes.Buffer
	s.cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	return s, loadVectors(t, s, "a", 20_000), &log
}

// TestGraphFitsItsMemory: the build is given what pgvector's graph takes; on disk it would be many times slower.
func TestGraphFitsItsMemory(t *testing.T) {
	t.Parallel()
	s, space, log := littleMemory(t)
	if err := s.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := indexes(t, s, space); got != builtIndex || strings.Contains(log.String(), "WARN") {
		t.Errorf("the indexes are %s, want %s and no warning:\n%s", got, builtIndex, log)
	}
}

// TestGraphThatDoesNotFitIsReported: the database's notice reaches who runs the service.
func TestGraphThatDoesNotFitIsReported(t *testing.T) {
	t.Parallel()
	s, space, log := littleMemory(t)
	conn, err := s.maintenanceConn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := s.build(t.Context(), conn, sizedSpace{space, 1}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "WARN") || !strings.Contains(log.String(), "maintenance_work_mem") {
		t.Errorf("the log does not tell that the graph did not fit:\n%s", log)
	}
}
