package embedded

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// EngineKind tells where the engine came from.
type EngineKind string

const (
	EngineGiven    EngineKind = "given"    // FOOTNOTE_LLAMA_SERVER
	EngineOnPath   EngineKind = "on PATH"  // llama-server on PATH
	EngineBuilt    EngineKind = "built"    // by BuildEngine, for this machine
	EnginePortable EngineKind = "portable" // the packaged, prebuilt one
)

// Engine is llama.cpp's server in one of its forms.
type Engine struct {
	Kind EngineKind
	Path string // the llama-server binary; for EnginePortable the folder of the Python package
}

// Quantization that is fastest on this engine (measured: docs/benchmarks.md).
func (e Engine) Quantization() Quantization {
	if e.Kind == EnginePortable {
		return Q80
	}
	return F16
}

// builtEngine is the folder below the cache that BuildEngine fills.
const builtEngine = "llama-server-" + llamaSourceVersion

// Engine finds an engine: the given binary, llama-server on PATH, the one built by BuildEngine, else the portable one,
// which is fetched. ErrUnavailable if there is none for this platform.
func (c *Cache) Engine(ctx context.Context, given string) (Engine, error) {
	if given != "" {
		if _, err := exec.LookPath(given); err != nil {
			return Engine{}, fmt.Errorf("FOOTNOTE_LLAMA_SERVER: %w", err)
		}
		return Engine{EngineGiven, given}, nil
	}
	if p, err := exec.LookPath("llama-server"); err == nil {
		return Engine{EngineOnPath, p}, nil
	}
	if p := filepath.Join(c.Dir, builtEngine, "llama-server"); isFile(p) {
		return Engine{EngineBuilt, p}, nil
	}
	a, err := forPlatform(assetPortableEngine, "text engine", "install llama-server, run `footnote engine build`, or use models elsewhere")
	if err != nil {
		return Engine{}, err
	}
	dir, err := c.unpacked(ctx, a, "xllamacpp-2026.10.11549", func(_ context.Context, archive, into string) error {
		return extract(archive, into, func(m string) (string, bool) { return m, filepath.Dir(m) == "xllamacpp" })
	})
	if err != nil {
		return Engine{}, fmt.Errorf("get the text engine: %w", err)
	}
	return Engine{EnginePortable, dir}, nil
}

func isFile(p string) bool {
	i, err := os.Stat(p)
	return err == nil && i.Mode().IsRegular()
}

//go:embed python/portable.py
var portableScript string

// command builds the command line that serves cfg on port.
func (e Engine) command(cfg LlamaConfig, who account, port int) (*exec.Cmd, error) {
	if e.Kind == EnginePortable {
		return e.portableCommand(cfg, who, port)
	}
	args := []string{"--model", cfg.Model, "--host", "127.0.0.1", "--port", strconv.Itoa(port),
		"--ctx-size", strconv.Itoa(cfg.Context), "--parallel", strconv.Itoa(cfg.Parallel), "--threads", strconv.Itoa(cfg.Threads)}
	switch cfg.Kind {
	case Chat:
		args = append(args, "--jinja", "--cache-ram", "0", "--no-webui")
	case Rerank:
		args = append(args, "--rerank", "--batch-size", strconv.Itoa(cfg.Batch), "--ubatch-size", strconv.Itoa(cfg.Batch))
	default:
		args = append(args, "--embedding", "--pooling", cfg.Pooling, "--batch-size", strconv.Itoa(cfg.Batch), "--ubatch-size", strconv.Itoa(cfg.Batch))
	}
	cmd := exec.Command(e.Path, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LD_LIBRARY_PATH=" + filepath.Dir(e.Path)}
	return cmd, nil
}

func (e Engine) portableCommand(cfg LlamaConfig, who account, port int) (*exec.Cmd, error) {
	python, _, err := findPython(who, 10)
	if err != nil {
		return nil, err
	}
	pooling := cfg.Pooling
	if cfg.Kind == Rerank {
		pooling = "rank"
	}
	return pythonCommand(python, portableScript, map[string]any{"packages": e.Path, "model": cfg.Model, "kind": cfg.Kind, "port": port,
		"context": cfg.Context, "parallel": cfg.Parallel, "threads": cfg.Threads, "batch": cfg.Batch, "pooling": pooling})
}
