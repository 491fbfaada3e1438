package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/footnote-rag/footnote/ingest"
)

// childRole as first argument makes the test binary a child that extracts.
const childRole = "extractor-child"

// init runs before the tests, which a child must not start.
func init() {
	if len(os.Args) == 2 && os.Args[1] == childRole {
		if err := ingest.ServeExtractor(os.Stdin, os.Stdout, misbehave); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// misbehave does what a document tells, like a parser with bugs.
func misbehave(mediaType string, source []byte) (ingest.Extracted, error) {
	switch what, rest, _ := strings.Cut(string(source), " "); what {
	case "hang":
		for n := 0; ; n++ {
			runtime.KeepAlive(n)
		}
	case "swell":
		var hoard [][]byte
		for {
			hoard = append(hoard, make([]byte, 32<<20))
			runtime.KeepAlive(hoard)
		}
	case "crash":
		panic("crash")
	case "crash-once":
		if os.Remove(rest) == nil {
			os.Exit(3)
		}
	case "flood":
		_, err := os.Stdout.WriteString(strings.Repeat("\x00\xff", 1<<20))
		return ingest.Extracted{}, err
	case "environment":
		return ingest.Extracted{Text: fmt.Sprintf("%q", os.Environ())}, nil
	case "limits":
		var cpu, memory unix.Rlimit
		err := errors.Join(unix.Getrlimit(unix.RLIMIT_CPU, &cpu), unix.Getrlimit(unix.RLIMIT_AS, &memory))
		return ingest.Extracted{Text: fmt.Sprint(cpu.Cur, memory.Cur)}, err
	}
	return ingest.Extract(mediaType, source)
}

func newExtractor(t *testing.T, timeout time.Duration) *ingest.Extractor {
	t.Helper()
	x := ingest.NewExtractor([]string{os.Args[0], childRole}, slog.New(slog.NewTextHandler(t.Output(), nil)), timeout)
	t.Cleanup(func() { _ = x.Close() })
	return x
}

func TestChildExtracts(t *testing.T) {
	t.Parallel()
	x := newExtractor(t, 0)
	want := extract(t, "text/html", "<title>T</title><h1>One</h1><p>zwei 三")
	got, err := x.Extract(t.Context(), "text/html", []byte("<title>T</title><h1>One</h1><p>zwei 三"))
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("Extract in a child = %+v, %v, want %+v", got, err, want)
	}
	_, err = x.Extract(t.Context(), "text/plain", nil)
	wantCode(t, err, ingest.CodeEmptyDocument)
	before := x.IdleChildren()
	big := strings.Repeat("word ", 2_000_000)
	if got, err := x.Extract(t.Context(), "text/plain", []byte(big)); err != nil || got.Text != strings.TrimSpace(big) {
		t.Errorf("Extract of 10 MB in a child has %d bytes, %v", len(got.Text), err)
	}
	if after := x.IdleChildren(); len(before) != 1 || len(after) != 1 || before[0] != after[0] {
		t.Errorf("idle children = %v, then %v, want the same one", before, after)
	}
}

func TestChildSeesNoEnvironment(t *testing.T) {
	t.Setenv("FOOTNOTE_TEST_SECRET", "secret")
	got, err := newExtractor(t, 0).Extract(t.Context(), "text/plain", []byte("environment"))
	if err != nil || got.Text != "[]" {
		t.Errorf("the child's environment is %s, %v, want none", got.Text, err)
	}
}

func TestChildIsLimited(t *testing.T) {
	t.Parallel()
	x := newExtractor(t, 0)
	got, err := x.Extract(t.Context(), "text/plain", []byte("limits"))
	if err != nil {
		t.Fatal(err)
	}
	var cpu, memory uint64
	if _, err := fmt.Sscan(got.Text, &cpu, &memory); err != nil || cpu < 60 || cpu > 120 || memory == math.MaxUint64 {
		t.Errorf("limits = %q, %v, want 60 seconds of processor and some of memory", got.Text, err)
	}
}

func TestChildIsStopped(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, source, code string
		timeout            time.Duration
	}{
		{"endless loop", "hang", ingest.CodeParserTimeout, 500 * time.Millisecond},
		{"endless memory", "swell", ingest.CodeParserMemory, 0},
		{"endless output", "flood", ingest.CodeDocumentTooLarge, 0},
		{"crash", "crash", ingest.CodeParserCrashed, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			x := newExtractor(t, test.timeout)
			_, err := x.Extract(t.Context(), "text/plain", []byte(test.source))
			wantCode(t, err, test.code)
			if idle := x.IdleChildren(); len(idle) != 0 {
				t.Errorf("idle children = %v, want the one that failed to be gone", idle)
			}
			if got, err := newExtractor(t, 0).Extract(t.Context(), "text/plain", []byte("fine")); err != nil || got.Text != "fine" {
				t.Errorf("the next document = %q, %v, want it read", got.Text, err)
			}
		})
	}
}

func TestChildIsReplaced(t *testing.T) {
	t.Parallel()
	x := newExtractor(t, 0)
	once := t.TempDir() + "/once"
	if err := os.WriteFile(once, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := x.Extract(t.Context(), "text/plain", []byte("crash-once "+once)); err != nil || got.Text != "crash-once "+once {
		t.Errorf("after one crash Extract = %q, %v, want the text", got.Text, err)
	}
	for _, id := range x.IdleChildren() {
		if err := syscall.Kill(id, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := x.Extract(t.Context(), "text/plain", []byte("fine")); err != nil || got.Text != "fine" {
		t.Errorf("after the idle child was killed Extract = %q, %v, want the text", got.Text, err)
	}
}

func TestChildMemoryIsSoughtAfresh(t *testing.T) {
	t.Parallel()
	x := newExtractor(t, 0)
	if _, err := x.Extract(t.Context(), "text/plain", []byte("fine")); err != nil {
		t.Fatal(err)
	}
	_, err := x.Extract(t.Context(), "text/plain", []byte("swell"))
	wantCode(t, err, ingest.CodeParserMemory)
}

func TestChildrenWorkSideBySide(t *testing.T) {
	t.Parallel()
	x := newExtractor(t, 0)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			source := fmt.Sprintf("document %d", i)
			if got, err := x.Extract(t.Context(), "text/plain", []byte(source)); err != nil || got.Text != source {
				t.Errorf("Extract(%q) = %q, %v", source, got.Text, err)
			}
		})
	}
	wg.Wait()
	if n := len(x.IdleChildren()); n == 0 || n > 4 {
		t.Errorf("%d children, want 1 to 4", n)
	}
}

func TestChildIsLeft(t *testing.T) {
	t.Parallel()
	x := newExtractor(t, 0)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := x.Extract(ctx, "text/plain", []byte("hang")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Extract with a deadline = %v, want %v", err, context.DeadlineExceeded)
	}
	failed := make(chan error)
	go func() {
		_, err := x.Extract(t.Context(), "text/plain", []byte("hang"))
		failed <- err
	}()
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	var refused *ingest.ExtractError
	if err := <-failed; err == nil || errors.As(err, &refused) {
		t.Errorf("Extract while closing = %v, want an error that is not the document's", err)
	}
	if _, err := x.Extract(t.Context(), "text/plain", []byte("x")); err == nil {
		t.Error("Extract after Close gives no error")
	}
	if err := x.Close(); err != nil {
		t.Errorf("second Close = %v", err)
	}
}

func TestChildThatCannotStart(t *testing.T) {
	t.Parallel()
	x := ingest.NewExtractor([]string{"/nonexistent"}, slog.New(slog.DiscardHandler), 0)
	defer x.Close()
	_, err := x.Extract(t.Context(), "text/plain", []byte("x"))
	var refused *ingest.ExtractError
	if err == nil || errors.As(err, &refused) {
		t.Errorf("error = %v, want one that is not the document's", err)
	}
}

func TestChildEndsWithItsInput(t *testing.T) {
	t.Parallel()
	child := exec.Command(os.Args[0], childRole)
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); err != nil {
		t.Errorf("the child ended with %v, want nothing", err)
	}
}
