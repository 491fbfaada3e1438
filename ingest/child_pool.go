package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// maxChildren bounds memory and cores that extraction takes; embedding, not extraction, sets the pace of a load.
	maxChildren = 4
	// maxExtractTime per document, of a clock on the wall. The largest documents that are accepted take a few seconds.
	maxExtractTime = 30 * time.Second
	// maxChildStderr is enough for what the Go runtime says before its stack traces.
	maxChildStderr = 4 << 10
)

var (
	errExtractorClosed  = errors.New("the extractor is closed")
	errExtractorTimeout = errors.New("the extractor ran out of time")
)

// extractor extracts in child processes, which stay warm for the next document. It is safe for concurrent use.
type extractor struct {
	command []string // of a child that calls RunExtractor; empty: in this process, without limits
	log     *slog.Logger
	timeout time.Duration
	slots   chan struct{} // one for each child at work

	life context.Context // ends with Close
	end  context.CancelFunc
	mu   sync.Mutex
	idle []*child
}

func newExtractor(command []string, log *slog.Logger) *extractor {
	x := &extractor{command: command, log: log, timeout: maxExtractTime}
	x.slots = make(chan struct{}, max(1, min(maxChildren, runtime.GOMAXPROCS(0))))
	x.life, x.end = context.WithCancel(context.Background())
	return x
}

// Extract is Extract in a child. An *ExtractError is permanent; other errors, ctx's among them, are not the document's
// fault. A child that dies, or runs out of memory after earlier documents, gets one fresh successor before it counts.
func (x *extractor) Extract(ctx context.Context, mediaType string, source []byte) (Extracted, error) {
	if err := ctx.Err(); err != nil {
		return Extracted{}, err
	}
	if len(x.command) == 0 {
		return Extract(mediaType, source)
	}
	select {
	case x.slots <- struct{}{}:
		defer func() { <-x.slots }()
	case <-ctx.Done():
		return Extracted{}, ctx.Err()
	case <-x.life.Done():
		return Extracted{}, errExtractorClosed
	}
	c, err := x.takeIdle()
	if c == nil && err == nil {
		c, err = x.start()
	}
	if err != nil {
		return Extracted{}, err
	}
	e, failure := x.try(ctx, c, mediaType, source)
	if failure == nil || !failure.retry {
		return e, failure.unwrap()
	}
	x.log.Warn("extractor died, trying once more", "media_type", mediaType, "bytes", len(source), "cause", failure.cause)
	if c, err = x.start(); err != nil {
		return Extracted{}, err
	}
	e, failure = x.try(ctx, c, mediaType, source)
	return e, failure.unwrap()
}

// takeIdle returns nil if there is no idle child.
func (x *extractor) takeIdle() (*child, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.life.Err() != nil {
		return nil, errExtractorClosed
	}
	n := len(x.idle)
	if n == 0 {
		return nil, nil
	}
	c := x.idle[n-1]
	x.idle = x.idle[:n-1]
	return c, nil
}

// putIdle keeps a child for the next document.
func (x *extractor) putIdle(c *child) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.life.Err() != nil {
		c.kill()
		return
	}
	c.used = true
	x.idle = append(x.idle, c)
}

// Close stops what is being extracted and ends all children.
func (x *extractor) Close() error {
	x.end()
	for range cap(x.slots) {
		x.slots <- struct{}{}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, c := range x.idle {
		c.kill()
	}
	x.idle = nil
	for range cap(x.slots) {
		<-x.slots
	}
	return nil
}

// childFailure is an error of a child; cause is for the log.
type childFailure struct {
	err   error
	cause string
	retry bool
}

func (f *childFailure) unwrap() error {
	if f == nil {
		return nil
	}
	return f.err
}

// try has a child extract a document, and keeps it if it is still good.
func (x *extractor) try(ctx context.Context, c *child, mediaType string, source []byte) (Extracted, *childFailure) {
	ctx, cancel := context.WithTimeoutCause(ctx, x.timeout, errExtractorTimeout)
	defer cancel()
	defer context.AfterFunc(x.life, cancel)()
	stop := context.AfterFunc(ctx, func() { _ = c.cmd.Process.Kill() }) // ends the waiting for its answer, too
	a, err := c.ask(mediaType, source)
	if stop() && err == nil {
		x.putIdle(c)
		if a.Refused != nil {
			return Extracted{}, &childFailure{err: a.Refused}
		}
		return a.Extracted, nil
	}
	c.kill()
	return Extracted{}, x.diagnose(ctx, c, err)
}

// diagnose tells why a child that is gone now gave no answer.
func (x *extractor) diagnose(ctx context.Context, c *child, err error) *childFailure {
	f := &childFailure{cause: c.lastWords()}
	switch {
	case x.life.Err() != nil:
		f.err = errExtractorClosed
	case ctx.Err() != nil && context.Cause(ctx) != errExtractorTimeout:
		f.err = ctx.Err()
	case ctx.Err() != nil || strings.Contains(c.stderr.String(), "SIGXCPU"):
		f.err = extractErrorf(CodeParserTimeout, "reading the document took longer than %s; split or simplify it, or send its text", x.timeout)
	case errors.Is(err, errAnswerTooLarge):
		f.err = textTooLarge()
	case outOfMemory(c.stderr.String()):
		f.retry = c.used // its memory may be in pieces from earlier documents
		f.err = extractErrorf(CodeParserMemory, "reading the document took more than %d MiB of memory; split or simplify it, or send its text", maxChildMemory>>20)
	default:
		f.retry = true
		f.err = extractErrorf(CodeParserCrashed, "the extractor crashed on the document, twice; simplify it or send its text, and please report it")
	}
	return f
}

// outOfMemory knows what the Go runtime says when it gets no memory, or none for a thread; the last two are of race builds.
func outOfMemory(stderr string) bool {
	return slices.ContainsFunc([]string{"out of memory", "cannot allocate memory", "cannot map pages", "failed to create new OS thread",
		"ThreadSanitizer failed to allocate", "too many address space collisions"},
		func(s string) bool { return strings.Contains(stderr, s) })
}

// child is a process in RunExtractor.
type child struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    io.ReadCloser
	stderr headBuffer
	used   bool // for an earlier document
}

func (x *extractor) start() (*child, error) {
	c := &child{cmd: exec.Command(x.command[0], x.command[1:]...)}
	c.cmd.Env = []string{} // no key or proxy of ours; nil would mean all of them
	c.cmd.Dir = "/"
	c.cmd.Stderr = &c.stderr
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start the extractor: %w", err)
	}
	if c.out, err = c.cmd.StdoutPipe(); err != nil {
		return nil, fmt.Errorf("start the extractor: %w", err)
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the extractor: %w", err)
	}
	return c, nil
}

func (c *child) ask(mediaType string, source []byte) (answer, error) {
	if err := writeRequest(c.in, mediaType, source); err != nil {
		return answer{}, err
	}
	return readAnswer(c.out)
}

// kill ends the process and reaps it; a child has nothing to lose.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait() // "signal: killed" is what was asked for
}

// lastWords of a child that was reaped: how it ended and the first line it wrote, which holds no text of the document.
func (c *child) lastWords() string {
	line, _, _ := strings.Cut(c.stderr.String(), "\n")
	return strings.TrimSpace(c.cmd.ProcessState.String() + " " + line)
}

// headBuffer keeps the start of what is written.
type headBuffer struct{ bytes.Buffer }

func (b *headBuffer) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), maxChildStderr-b.Len())])
	return len(p), nil
}
