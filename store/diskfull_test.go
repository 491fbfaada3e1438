package store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/footnote-rag/footnote/embedded"
	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/store/storetest"
)

// smallDisk mounts a file system of the given megabytes; grow makes it larger.
func smallDisk(t *testing.T, megabytes int) (dir string, grow func(megabytes int)) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("run the tests as root: this one mounts a small file system")
	}
	dir, err := os.MkdirTemp("", "footnote-disk-") // not below t.TempDir, which other users cannot enter
	if err != nil {
		t.Fatal(err)
	}
	mount := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("mount", append(args, dir)...).CombinedOutput(); err != nil {
			t.Fatalf("mount %v: %v: %s", args, err, out)
		}
	}
	mount("-t", "tmpfs", "-o", fmt.Sprintf("size=%dm", megabytes), "tmpfs")
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
		_ = os.Remove(dir)
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir, func(megabytes int) { t.Helper(); mount("-o", fmt.Sprintf("remount,size=%dm", megabytes)) }
}

// fillDisk leaves so many megabytes.
func fillDisk(t *testing.T, dir string, leave int) {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	if n := int64(st.Bavail)*st.Bsize - int64(leave)<<20; n > 0 {
		if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// ownPostgres starts a server whose data lie in dir and which is started again when it dies.
func ownPostgres(t *testing.T, dir string) *embedded.Postgres {
	t.Helper()
	p, err := embedded.StartPostgres(t.Context(), embedded.PostgresConfig{DataDir: dir, Cache: &embedded.Cache{Dir: embedded.DefaultCacheDir()},
		Settings: map[string]string{"max_wal_size": "64MB", "min_wal_size": "32MB", "shared_buffers": "32MB"}, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	keep, stop := context.WithCancel(context.Background())
	kept := make(chan struct{})
	go func() { defer close(kept); p.Keep(keep) }()
	t.Cleanup(func() {
		stop()
		<-kept
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// A full disk refuses writes with a sentinel of its own or stops the server; what was acknowledged before is there when there
// is room again, and no person has to do more than make room.
func TestFullDiskLosesNothing(t *testing.T) {
	t.Parallel()
	dir, grow := smallDisk(t, 400)
	config := store.Config{URL: ownPostgres(t, dir).URL(), Logger: slog.New(slog.DiscardHandler)}
	s, err := store.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	c, _, err := s.EnsureCollection(t.Context(), "default", store.Space{Model: "m", Pooling: "mean", Dimensions: testDims}, store.Chunking{MaxTokens: 256})
	if err != nil {
		t.Fatal(err)
	}
	load(t, s, c, "before", "the sea is blue")
	fillDisk(t, dir, 40)

	acknowledged := map[string][]byte{}
	noise := rand.NewChaCha8([32]byte{1})
	put := func(uri string) error {
		source := make([]byte, 1<<20)
		_, _ = noise.Read(source)
		n, sum := newDocument(c, uri, uri), sha256.Sum256(source)
		n.Source, n.SHA256 = source, sum[:]
		d, _, err := s.PutDocument(t.Context(), n, noQueue)
		if err == nil {
			acknowledged[d.ID] = source
		}
		return err
	}
	for i := 0; err == nil && i < 200; i++ {
		err = put(fmt.Sprint(i))
	}
	if !errors.Is(err, store.ErrStorageFull) && !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("PutDocument on a full disk: %v after %d documents, want %v or %v", err, len(acknowledged), store.ErrStorageFull, store.ErrUnavailable)
	}
	t.Logf("full after %d documents: %v", len(acknowledged), err)
	if errors.Is(err, store.ErrStorageFull) { // the server is up: reading goes on
		if got, err := s.Search(t.Context(), store.SearchQuery{Collection: c, Text: "sea", Mode: store.Lexical}); err != nil || len(got) != 1 {
			t.Errorf("Search on a full disk = %d passages, %v, want 1", len(got), err)
		}
	}

	grow(800)
	deadline := time.Now().Add(60 * time.Second)
	for err = put("after"); err != nil; err = put("after") {
		if time.Now().After(deadline) {
			t.Fatalf("PutDocument 60 s after there was room again: %v", err)
		}
		<-time.After(200 * time.Millisecond) // the server recovers
	}
	for id, want := range acknowledged {
		if got, _, err := s.DocumentSource(t.Context(), id); err != nil || !bytes.Equal(got, want) {
			t.Errorf("source of %s: %d bytes, %v, want the %d acknowledged ones", id, len(got), err, len(want))
		}
	}
	if got, err := s.Search(t.Context(), store.SearchQuery{Collection: c, Text: "sea", Mode: store.Lexical}); err != nil || len(got) != 1 {
		t.Errorf("Search afterwards = %d passages, %v, want 1", len(got), err)
	}
	fresh, err := store.Open(t.Context(), config) // s may still hold connections to the server that died
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fresh.Close)
	storetest.Invariants(t, fresh)
}
