package embedded_test

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/footnote-rag/footnote/embedded"
)

// cache is the user's own, so that downloads happen once a machine.
func cache() *embedded.Cache { return &embedded.Cache{Dir: embedded.DefaultCacheDir()} }

// openDir is a temporary folder that an unprivileged user can enter, which t.TempDir is not for root.
func openDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "footnote-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// embed asks a server for vectors.
func embed(t testing.TB, url string, texts ...string) [][]float64 {
	t.Helper()
	body, _ := json.Marshal(map[string]any{"input": texts, "model": "x"})
	resp, err := http.Post(url+"/v1/embeddings", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var out struct {
		Data []struct {
			Embedding []float64 `json:"embedding"`
		} `json:"data"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || resp.StatusCode != 200 {
		t.Fatalf("embeddings: %s, %v", resp.Status, err)
	}
	var v [][]float64
	for _, d := range out.Data {
		v = append(v, d.Embedding)
	}
	return v
}

func cosine(a, b []float64) float64 {
	var ab, aa, bb float64
	for i := range a {
		ab, aa, bb = ab+a[i]*b[i], aa+a[i]*a[i], bb+b[i]*b[i]
	}
	return ab / math.Sqrt(aa*bb)
}

func startMiniLM(t testing.TB, q embedded.Quantization) *embedded.Llama {
	t.Helper()
	ctx := testContext(t)
	e, err := cache().Engine(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	w, err := cache().MiniLM(ctx, q)
	if err != nil {
		t.Fatal(err)
	}
	l, err := embedded.NewLlama(embedded.LlamaConfig{Engine: e, Model: w.Path, Pooling: w.Pooling})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestMiniLMMeaning(t *testing.T) {
	t.Parallel()
	l := startMiniLM(t, embedded.Q80)
	url, release, err := l.Acquire(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	v := embed(t, url, "a kitten plays with wool", "a young cat at play", "the central bank raised interest rates")
	if len(v[0]) != 384 {
		t.Fatalf("dimensions = %d, want 384", len(v[0]))
	}
	if near, far := cosine(v[0], v[1]), cosine(v[0], v[2]); near < far+0.2 {
		t.Errorf("cosine(kitten, cat) = %.3f, cosine(kitten, bank) = %.3f: want the first well above", near, far)
	}
}

func TestPostgresSurvivesRestart(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	cfg := embedded.PostgresConfig{DataDir: filepath.Join(openDir(t), "data"), Cache: cache()}
	p, err := embedded.StartPostgres(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if p.PID() == 0 {
		t.Error("no process id of a running server")
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if p.PID() != 0 {
		t.Error("the server still runs after the last user closed it")
	}
	again, err := embedded.StartPostgres(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if again.URL() != p.URL() {
		t.Errorf("URL changed from %q to %q", p.URL(), again.URL())
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}
