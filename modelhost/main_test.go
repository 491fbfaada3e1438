package modelhost_test

import (
	"context"
	"io"
	"os"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/footnote-rag/footnote/embedded"
)

// engineTests runs the tests, then stops the engines they share, so that the leak check finds nothing of them.
type engineTests struct{ *testing.M }

func (t engineTests) Run() int {
	code := t.M.Run()
	started.mu.Lock()
	defer started.mu.Unlock()
	for _, l := range started.list {
		_ = l.Close()
	}
	return code
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(engineTests{m}) }

// started are the real engines of this run.
var started struct {
	mu   sync.Mutex
	list []io.Closer
}

// The real engines, shared: loading weights takes longer than most tests.
var (
	miniLM = sync.OnceValues(func() (*embedded.Llama, error) {
		return newLlama(func(c *embedded.Cache, cfg *embedded.LlamaConfig) error {
			w, err := c.MiniLM(context.Background(), embedded.Q80)
			cfg.Model, cfg.Pooling = w.Path, w.Pooling
			return err
		})
	})
	smolLM = sync.OnceValues(func() (*embedded.Llama, error) {
		return newLlama(func(c *embedded.Cache, cfg *embedded.LlamaConfig) error {
			w, err := c.SmolLM2(context.Background())
			cfg.Model, cfg.Kind, cfg.Context, cfg.Parallel = w.Path, embedded.Chat, 8192, 1
			return err
		})
	})
)

func newLlama(choose func(*embedded.Cache, *embedded.LlamaConfig) error) (*embedded.Llama, error) {
	c := &embedded.Cache{Dir: embedded.DefaultCacheDir()}
	e, err := c.Engine(context.Background(), os.Getenv("FOOTNOTE_LLAMA_SERVER"))
	if err != nil {
		return nil, err
	}
	cfg := embedded.LlamaConfig{Engine: e}
	if err := choose(c, &cfg); err != nil {
		return nil, err
	}
	l, err := embedded.NewLlama(cfg)
	if err != nil {
		return nil, err
	}
	closeAtEnd(l)
	return l, nil
}

func closeAtEnd(c io.Closer) {
	started.mu.Lock()
	defer started.mu.Unlock()
	started.list = append(started.list, c)
}

// whisper is the speech engine, shared too.
var whisper = sync.OnceValues(func() (*embedded.Server, error) {
	files, err := (&embedded.Cache{Dir: embedded.DefaultCacheDir()}).Whisper(context.Background())
	if err != nil {
		return nil, err
	}
	w, err := embedded.NewWhisper(embedded.WhisperConfig{Files: files})
	if err != nil {
		return nil, err
	}
	closeAtEnd(w)
	return w, nil
})
