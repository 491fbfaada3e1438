package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Server is a supervised HTTP server of an engine: started when it is first needed, started again when it has died, ended
// with us even if we are killed. It is safe for concurrent use.
type Server struct {
	serverSpec
	who   account
	start chan struct{} // held by whoever starts the process

	mu     sync.Mutex
	proc   *process
	users  int
	idle   *time.Timer
	starts int
	closed bool
	peak   int64 // bytes of memory, the most that was measured
}

// serverSpec is what a kind of engine says of its process.
type serverSpec struct {
	name      string   // for messages
	files     []string // that the engine's user must reach
	command   func(who account, port int) (*exec.Cmd, error)
	idleAfter time.Duration // stopped after this long without use; 0 never
	log       *slog.Logger  // default slog.Default()
}

// ErrClosed: the engine was closed.
var ErrClosed = errors.New("the engine is closed")

// newServer chooses the user that the process runs as; nothing runs before Acquire.
func newServer(spec serverSpec) (*Server, error) {
	who, err := chooseAccount()
	if err != nil {
		return nil, err
	}
	if spec.log == nil {
		spec.log = slog.Default()
	}
	return &Server{serverSpec: spec, who: who, start: make(chan struct{}, 1)}, nil
}

// Acquire returns the base URL of the running server, starting it if need be; release must be called when the request is
// over. An engine that does not start is an error with its last words.
func (s *Server) Acquire(ctx context.Context) (baseURL string, release func(), err error) {
	for {
		if u, ok, err := s.use(); ok || err != nil {
			return u, sync.OnceFunc(s.release), err
		}
		if err := s.ensure(ctx); err != nil {
			return "", nil, err
		}
	}
}

// use counts a user of the running process, if there is one.
func (s *Server) use() (string, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return "", false, ErrClosed
	}
	if s.proc == nil || s.proc.dead() {
		return "", false, nil
	}
	s.users++
	if s.idle != nil {
		s.idle.Stop()
	}
	return s.proc.url, true, nil
}

func (s *Server) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users--
	if s.users > 0 || s.idleAfter <= 0 || s.closed {
		return
	}
	if s.idle != nil {
		s.idle.Stop()
	}
	s.idle = time.AfterFunc(s.idleAfter, s.stopIdle)
}

func (s *Server) stopIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users == 0 && s.proc != nil {
		s.proc.stop()
		s.proc = nil
	}
}

// ensure starts the process unless another caller has done so meanwhile.
func (s *Server) ensure(ctx context.Context) error {
	select {
	case s.start <- struct{}{}:
		defer func() { <-s.start }()
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	running, closed, again := s.proc != nil && !s.proc.dead(), s.closed, s.starts > 0
	s.mu.Unlock()
	if running || closed {
		return nil // Acquire looks again
	}
	if again {
		s.log.Warn("starting the engine again", "engine", s.name)
	}
	p, err := s.launch(ctx)
	if err != nil {
		return fmt.Errorf("start the %s engine: %w", s.name, err)
	}
	return s.install(p)
}

func (s *Server) install(p *process) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.starts++
	if s.closed {
		p.stop()
		return ErrClosed
	}
	s.proc = p
	return nil
}

// Starts counts how often the process was started.
func (s *Server) Starts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.starts
}

// PID of the running process, 0 if none runs.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil || s.proc.dead() {
		return 0
	}
	return s.proc.cmd.Process.Pid
}

// Close stops the process; later calls of Acquire return ErrClosed.
func (s *Server) Close() error {
	s.mu.Lock()
	p := s.proc
	s.closed, s.proc = true, nil
	if s.idle != nil {
		s.idle.Stop()
	}
	s.mu.Unlock()
	if p != nil {
		p.stop()
	}
	return nil
}

// Waiting for the engine: it is given up when it has neither answered nor written anything for so long.
const (
	engineStall   = 60 * time.Second
	healthEvery   = 25 * time.Millisecond
	healthTimeout = 5 * time.Second
	engineStop    = 5 * time.Second
	lastWordLines = 12
)

func (s *Server) launch(ctx context.Context) (*process, error) {
	for _, f := range s.files {
		if err := s.who.reachable(f); err != nil {
			return nil, err
		}
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	cmd, err := s.command(s.who, port)
	if err != nil {
		return nil, err
	}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.who.credential(), Pdeathsig: syscall.SIGKILL, Setpgid: true}
	p := &process{cmd: cmd, url: "http://127.0.0.1:" + strconv.Itoa(port), done: make(chan struct{}), words: &tail{}}
	if err := p.run(); err != nil {
		return nil, err
	}
	if err := p.waitHealthy(ctx); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// process is one run of an engine.
type process struct {
	cmd   *exec.Cmd
	url   string
	stdin io.Closer
	words *tail
	done  chan struct{}
	err   error // after done
}

// run starts the process from a thread that lives as long as it does: Linux sends the parent-death signal when the
// thread that forked ends, not the process.
func (p *process) run() error {
	p.cmd.Stdout, p.cmd.Stderr = p.words, p.words
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return err
	}
	p.stdin = stdin
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := p.cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return <-started
}

func (p *process) dead() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// stop ends the process and waits for its end.
func (p *process) stop() {
	_ = p.stdin.Close()
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may be gone already
	t := time.NewTimer(engineStop)
	defer t.Stop()
	select {
	case <-p.done:
	case <-t.C:
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// waitHealthy polls /health until it answers 200.
func (p *process) waitHealthy(ctx context.Context) error {
	tick := time.NewTicker(healthEvery)
	defer tick.Stop()
	client := &http.Client{Timeout: healthTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	began := time.Now()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.done:
			return fmt.Errorf("it ended at once (%v): %s", p.err, p.words)
		case <-tick.C:
		}
		if healthy(ctx, client, p.url) {
			return nil
		}
		if time.Since(began) > engineStall && time.Since(p.words.lastWrite()) > engineStall {
			return fmt.Errorf("it did not become healthy in %s: %s", engineStall, p.words)
		}
	}
}

func healthy(ctx context.Context, c *http.Client, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/health", nil)
	if err != nil {
		return false
	}
	resp, err := c.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// tail keeps the last lines that a process wrote.
type tail struct {
	mu   sync.Mutex
	buf  []byte
	last time.Time
}

// tailBytes bounds what is kept.
const tailBytes = 8 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = time.Now()
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - tailBytes; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(b), nil
}

func (t *tail) lastWrite() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return lastLines(strings.ToValidUTF8(string(t.buf), "?"), lastWordLines)
}
