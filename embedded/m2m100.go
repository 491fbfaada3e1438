package embedded

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

//go:embed python/m2m100.py
var m2m100Script string

// sentencePieceNames are what the model of M2M100's tokens is called, at Hugging Face and in the original release.
var sentencePieceNames = []string{"sentencepiece.bpe.model", "spm.128k.model", "sentencepiece.model"}

// M2M100Files is an installed translation engine with the user's weights.
type M2M100Files struct {
	Model         string // folder of the weights, in CTranslate2's form
	sentencePiece string
	packages      pythonPackages
}

// M2M100At installs CTranslate2 for the user's m2m100 weights: a folder as ct2-transformers-converter writes it (model.bin
// and its vocabulary), with the sentencepiece.bpe.model of the original beside it.
func (c *Cache) M2M100At(ctx context.Context, model string) (M2M100Files, error) {
	files := M2M100Files{Model: model}
	for _, name := range sentencePieceNames {
		if p := filepath.Join(model, name); isFile(p) {
			files.sentencePiece = p
		}
	}
	if !isFile(filepath.Join(model, "model.bin")) || files.sentencePiece == "" {
		return files, fmt.Errorf("%s must hold model.bin, as ct2-transformers-converter writes it, and the original's %s", model, sentencePieceNames[0])
	}
	var err error
	files.packages, err = c.packages(ctx)
	return files, err
}

// M2M100Config says what to serve. Zero fields mean the documented default.
type M2M100Config struct {
	Files   M2M100Files   // required
	Threads int           // default: the number of cores
	Idle    time.Duration // stopped after this long without use, to give its memory back; default never
	Logger  *slog.Logger  // default slog.Default()
}

// NewM2M100 is a supervised server of LibreTranslate's API; nothing runs before Acquire.
func NewM2M100(cfg M2M100Config) (*Server, error) {
	if cfg.Files.Model == "" || cfg.Files.packages.dir == "" {
		return nil, errors.New("embedded: Files are required")
	}
	f := cfg.Files
	return newServer(serverSpec{
		name: "translation", files: []string{filepath.Join(f.Model, "model.bin"), f.packages.dir}, idleAfter: cfg.Idle, log: cfg.Logger,
		command: func(_ account, port int) (*exec.Cmd, error) {
			return pythonCommand(f.packages.python, serverScript+m2m100Script, map[string]any{"packages": f.packages.dir, "model": f.Model,
				"sentencepiece": f.sentencePiece, "port": port, "threads": cmp.Or(cfg.Threads, runtime.NumCPU())})
		},
	})
}
