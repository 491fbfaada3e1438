package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
)

// Weights is a model file that llama.cpp serves.
type Weights struct {
	Name    string
	Path    string // GGUF
	Pooling string // of an embedding model
}

// MiniLM returns all-MiniLM-L6-v2 (384 dimensions, mean pooling, 512 positions) as GGUF, fetched and converted once for
// each quantization.
func (c *Cache) MiniLM(ctx context.Context, q Quantization) (Weights, error) {
	file := map[Quantization]string{F16: "all-minilm-l6-v2-f16", Q80: "all-minilm-l6-v2-q8_0"}[q]
	dir, err := c.unpacked(ctx, assetMiniLM, file, func(_ context.Context, archive, into string) error {
		return unpackMiniLM(archive, into, file+".gguf", q)
	})
	if err != nil {
		return Weights{}, fmt.Errorf("get the weights of all-MiniLM-L6-v2: %w", err)
	}
	return Weights{Name: "all-MiniLM-L6-v2", Path: filepath.Join(dir, file+".gguf"), Pooling: "mean"}, nil
}

func unpackMiniLM(archive, into, name string, q Quantization) error {
	want := map[string]bool{"config.json": true, "model.safetensors": true, "vocab.txt": true, "LICENSE": true, "NOTICE": true}
	err := extract(archive, into, func(m string) (string, bool) {
		return path.Base(m), path.Base(path.Dir(m)) == "sentence-transformers__all-MiniLM-L6-v2" && want[path.Base(m)]
	})
	if err != nil {
		return err
	}
	in := func(f string) string { return filepath.Join(into, f) }
	err = ConvertBERT(BERTFiles{Name: "all-MiniLM-L6-v2", Config: in("config.json"), Safetensors: in("model.safetensors"),
		Vocab: in("vocab.txt"), Pooling: "mean"}, in(name), q)
	return errors.Join(err, os.Remove(in("model.safetensors"))) // 90 MB that are not needed again
}

// SmolLM2 returns SmolLM2-135M-Instruct (Q4_1) as GGUF.
func (c *Cache) SmolLM2(ctx context.Context) (Weights, error) {
	const file = "SmolLM2-135M-Instruct.Q4_1.gguf"
	dir, err := c.unpacked(ctx, assetSmolLM2, "smollm2-135m-instruct-q4_1", func(_ context.Context, archive, into string) error {
		return extract(archive, into, func(m string) (string, bool) {
			return path.Base(m), path.Base(m) == file || path.Base(m) == "LICENSE"
		})
	})
	if err != nil {
		return Weights{}, fmt.Errorf("get the weights of SmolLM2-135M-Instruct: %w", err)
	}
	return Weights{Name: "SmolLM2-135M-Instruct", Path: filepath.Join(dir, file)}, nil
}
