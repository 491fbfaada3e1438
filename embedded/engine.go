package embedded

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
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

//go:embed portable.py
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
	python, err := findPython(who)
	if err != nil {
		return nil, err
	}
	pooling := cfg.Pooling
	if cfg.Kind == Rerank {
		pooling = "rank"
	}
	settings, err := json.Marshal(map[string]any{"package": e.Path, "model": cfg.Model, "kind": cfg.Kind, "port": port, "context": cfg.Context,
		"parallel": cfg.Parallel, "threads": cfg.Threads, "batch": cfg.Batch, "pooling": pooling})
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(python, "-I", "-u", "-c", portableScript, string(settings))
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/", "LANG=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1"}
	return cmd, nil
}

// findPython returns a Python of 3.10 or newer that the account may run: version managers keep theirs below a home folder,
// which an unprivileged user often cannot enter.
func findPython(who account) (string, error) {
	var tried []string
	for _, name := range []string{"python3", "/usr/bin/python3", "/usr/local/bin/python3", "python3.13", "python3.12", "python3.11", "python3.10"} {
		out, err := exec.Command(name, "-c", "import sys; print(sys.executable if sys.version_info >= (3, 10) else '')").Output()
		exe := strings.TrimSpace(string(out))
		if err != nil || exe == "" {
			continue
		}
		real, err := filepath.EvalSymlinks(exe)
		if err == nil {
			err = who.reachable(real)
		}
		if err == nil {
			return real, nil
		}
		tried = append(tried, fmt.Sprintf("%s: %v", exe, err))
	}
	return "", fmt.Errorf("%w: the portable engine needs a Python of 3.10 or newer that the engine's user can run: install the system's python3 (tried %s)", ErrUnavailable, strings.Join(tried, "; "))
}
