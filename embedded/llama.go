package embedded

import (
	"cmp"
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

// LlamaKind is what a llama.cpp server is started for.
type LlamaKind string

const (
	Embed  LlamaKind = "embed"
	Chat   LlamaKind = "chat"
	Rerank LlamaKind = "rerank"
)

// LlamaConfig says what to serve. Zero fields mean the documented default.
type LlamaConfig struct {
	Engine   Engine        // required
	Model    string        // required: GGUF file
	Kind     LlamaKind     // default Embed
	Pooling  string        // of an embedding model: mean or cls; default mean
	Context  int           // tokens of all slots together; default 4096
	Parallel int           // slots: requests worked on at once; default 8, for chat 2
	Threads  int           // default: the number of cores
	Batch    int           // tokens of a micro-batch, at least those of one text; default 512, where attention over a packed batch is cheapest
	Idle     time.Duration // stopped after this long without use, to give its memory back; default never
	Logger   *slog.Logger  // default slog.Default()
}

// Llama is a supervised llama.cpp server: started when it is first needed, started again when it has died, ended with us
// even if we are killed. It is safe for concurrent use.
type Llama struct {
	cfg   LlamaConfig
	who   account
	start chan struct{} // held by whoever starts the process

	mu     sync.Mutex
	proc   *process
	users  int
	idle   *time.Timer
	starts int
	closed bool
}

// ErrClosed: the engine was closed.
var ErrClosed = errors.New("the engine is closed")

// NewLlama checks the config; nothing runs before Acquire.
func NewLlama(cfg LlamaConfig) (*Llama, error) {
	if cfg.Engine.Path == "" || cfg.Model == "" {
		return nil, errors.New("embedded: Engine and Model are required")
	}
	cfg.Kind = cmp.Or(cfg.Kind, Embed)
	cfg.Pooling = cmp.Or(cfg.Pooling, "mean")
	cfg.Context = cmp.Or(cfg.Context, 4096)
	cfg.Parallel = cmp.Or(cfg.Parallel, map[LlamaKind]int{Chat: 2}[cfg.Kind], 8)
	cfg.Threads = cmp.Or(cfg.Threads, runtime.NumCPU())
	cfg.Batch = cmp.Or(cfg.Batch, 512)
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	who, err := chooseAccount()
	if err != nil {
		return nil, err
	}
	return &Llama{cfg: cfg, who: who, start: make(chan struct{}, 1)}, nil
}

// Acquire returns the base URL of the running server, starting it if need be; release must be called when the request is
// over. An engine that does not start is an error with its last words.
func (l *Llama) Acquire(ctx context.Context) (baseURL string, release func(), err error) {
	for {
		if u, ok, err := l.use(); ok || err != nil {
			return u, sync.OnceFunc(l.release), err
		}
		if err := l.ensure(ctx); err != nil {
			return "", nil, err
		}
	}
}

// use counts a user of the running process, if there is one.
func (l *Llama) use() (string, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return "", false, ErrClosed
	}
	if l.proc == nil || l.proc.dead() {
		return "", false, nil
	}
	l.users++
	if l.idle != nil {
		l.idle.Stop()
	}
	return l.proc.url, true, nil
}

func (l *Llama) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users--
	if l.users > 0 || l.cfg.Idle <= 0 || l.closed {
		return
	}
	if l.idle != nil {
		l.idle.Stop()
	}
	l.idle = time.AfterFunc(l.cfg.Idle, l.stopIdle)
}

func (l *Llama) stopIdle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users == 0 && l.proc != nil {
		l.proc.stop()
		l.proc = nil
	}
}

// ensure starts the process unless another caller has done so meanwhile.
func (l *Llama) ensure(ctx context.Context) error {
	select {
	case l.start <- struct{}{}:
		defer func() { <-l.start }()
	case <-ctx.Done():
		return ctx.Err()
	}
	l.mu.Lock()
	running, closed, again := l.proc != nil && !l.proc.dead(), l.closed, l.starts > 0
	l.mu.Unlock()
	if running || closed {
		return nil // Acquire looks again
	}
	if again {
		l.cfg.Logger.Warn("starting the engine again", "kind", l.cfg.Kind)
	}
	p, err := l.launch(ctx)
	if err != nil {
		return fmt.Errorf("start the %s engine: %w", l.cfg.Kind, err)
	}
	return l.install(p)
}

func (l *Llama) install(p *process) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.starts++
	if l.closed {
		p.stop()
		return ErrClosed
	}
	l.proc = p
	return nil
}

// Starts counts how often the process was started.
func (l *Llama) Starts() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.starts
}

// PID of the running process, 0 if none runs.
func (l *Llama) PID() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.proc == nil || l.proc.dead() {
		return 0
	}
	return l.proc.cmd.Process.Pid
}

// Close stops the process; later calls of Acquire return ErrClosed.
func (l *Llama) Close() error {
	l.mu.Lock()
	p := l.proc
	l.closed, l.proc = true, nil
	if l.idle != nil {
		l.idle.Stop()
	}
	l.mu.Unlock()
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

func (l *Llama) launch(ctx context.Context) (*process, error) {
	for _, f := range []string{l.cfg.Model, l.cfg.Engine.Path} {
		if err := l.who.reachable(f); err != nil {
			return nil, err
		}
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	cmd, err := l.cfg.Engine.command(l.cfg, l.who, port)
	if err != nil {
		return nil, err
	}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: l.who.credential(), Pdeathsig: syscall.SIGKILL, Setpgid: true}
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
