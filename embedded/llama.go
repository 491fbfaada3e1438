package embedded

import (
	"cmp"
	"errors"
	"log/slog"
	"os/exec"
	"runtime"
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

// Llama is a supervised llama.cpp server.
type Llama struct{ *Server }

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
	s, err := newServer(serverSpec{
		name: string(cfg.Kind), files: []string{cfg.Model, cfg.Engine.Path}, idleAfter: cfg.Idle, log: cfg.Logger,
		command: func(who account, port int) (*exec.Cmd, error) { return cfg.Engine.command(cfg, who, port) },
	})
	if err != nil {
		return nil, err
	}
	return &Llama{s}, nil
}
