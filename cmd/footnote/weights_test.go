package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/footnote-rag/footnote/embedded"
	"github.com/footnote-rag/footnote/modelhost"
	"github.com/footnote-rag/footnote/workersai"
)

// TestWeightsInTheCatalogue serves a small model with random weights that a catalogue names by its file.
func TestWeightsInTheCatalogue(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "footnote-test-") // the engine's user must reach it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file, catalogue := filepath.Join(dir, "own.gguf"), filepath.Join(dir, "catalogue.yaml")
	shape := embedded.BERTShape{Name: "own", Layers: 1, Hidden: 64, Intermediate: 128, Heads: 4, Pooling: "cls", Vocab: []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "dog"}}
	if err := embedded.WriteRandomBERT(shape, file); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("models:\n  - name: \"@own/bert\"\n    task: text-embeddings\n    backends:\n      - {weights: %s, dimensions: 64, max_tokens: 512, pooling: cls}\n", file)
	if err := os.WriteFile(catalogue, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	set, err := readSettings(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	set.Profile, set.Catalogue = "full", catalogue
	s := &service{}
	t.Cleanup(func() { _ = s.close(context.Background()) })
	local, err := s.localHost(t.Context(), serviceConfig{settings: set, log: slog.New(slog.DiscardHandler)}, modelhost.Config{})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(local.host.Handler())
	t.Cleanup(srv.Close)
	client, err := workersai.New(workersai.Config{BaseURL: srv.URL + "/client/v4", AccountID: "a", Token: "t", MaxRetries: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	r, err := client.Embed(t.Context(), workersai.EmbedRequest{Model: "@own/bert", Texts: []string{"cat dog", "dog"}, Pooling: "cls"})
	if err != nil || len(r.Vectors) != 2 || len(r.Vectors[0]) != 64 {
		t.Errorf("Embed = %+v, %v, want two vectors of 64", r, err)
	}
}
