package retrieval

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/footnote-rag/footnote/embedded"
)

// EvalData is the folder of evaluation collections: FOOTNOTE_EVAL_DATA, or shared/data beside the checkout.
func EvalData(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("FOOTNOTE_EVAL_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "data")
	}
	if _, err := os.Stat(filepath.Join(dir, "squad2", "corpus.jsonl")); err != nil {
		t.Skipf("no evaluation collections in %s: set FOOTNOTE_EVAL_DATA to a folder with squad2, scifact, … (BEIR layout) and scifact-claims", dir)
	}
	return dir
}

// EvalFull reports whether the whole measurement was asked for (make eval) and not the small one of the tests.
func EvalFull() bool { return os.Getenv("FOOTNOTE_EVAL") != "" }

// ReadLines reads a JSON object a line.
func ReadLines[T any](t testing.TB, path string) (out []T) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<24)
	for sc.Scan() {
		var v T
		if err := json.Unmarshal(sc.Bytes(), &v); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		out = append(out, v)
	}
	return out
}

// vectorDims of all-MiniLM-L6-v2, which the measurements use.
const vectorDims = 384

// EvalVectors embeds texts with all-MiniLM-L6-v2 on the product's own engine. Vectors are kept in a file below the user's
// cache folder (FOOTNOTE_EVAL_CACHE), so that a second run embeds nothing.
func EvalVectors(t testing.TB, texts []string) map[string][]float32 {
	t.Helper()
	c := openVectorFile(t)
	out, missing := map[string][]float32{}, []string(nil)
	for _, text := range texts {
		if _, known := out[text]; known {
			continue
		}
		v := c[sha256.Sum256([]byte(text))]
		out[text] = v
		if v == nil {
			missing = append(missing, text)
		}
	}
	if len(missing) == 0 {
		return out
	}
	t.Logf("embedding %d texts", len(missing))
	engine := startMiniLM(t)
	const step = 256
	for from := 0; from < len(missing); from += step {
		part := missing[from:min(from+step, len(missing))]
		vectors := embedOnEngine(t, engine, part)
		for i, text := range part {
			out[text] = vectors[i]
			c[sha256.Sum256([]byte(text))] = vectors[i]
		}
		appendVectors(t, part, vectors)
	}
	return out
}

var vectorFiles = struct {
	sync.Mutex
	byName map[string]map[[32]byte][]float32
}{byName: map[string]map[[32]byte][]float32{}}

func vectorFileName(t testing.TB) string {
	dir := os.Getenv("FOOTNOTE_EVAL_CACHE")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(base, "footnote-eval")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "all-minilm-l6-v2.vectors")
}

func openVectorFile(t testing.TB) map[[32]byte][]float32 {
	vectorFiles.Lock()
	defer vectorFiles.Unlock()
	name := vectorFileName(t)
	if m := vectorFiles.byName[name]; m != nil {
		return m
	}
	m := map[[32]byte][]float32{}
	vectorFiles.byName[name] = m
	raw, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	const record = 32 + 4*vectorDims
	for ; len(raw) >= record; raw = raw[record:] { // a last record that was cut is embedded again
		v := make([]float32, vectorDims)
		for i := range v {
			v[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[32+4*i:]))
		}
		m[[32]byte(raw[:32])] = v
	}
	return m
}

func appendVectors(t testing.TB, texts []string, vectors [][]float32) {
	t.Helper()
	f, err := os.OpenFile(vectorFileName(t), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for i, text := range texts {
		sum := sha256.Sum256([]byte(text))
		b.Write(sum[:])
		_ = binary.Write(&b, binary.LittleEndian, vectors[i])
	}
	if _, err := b.WriteTo(f); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// startMiniLM returns the engine's address.
func startMiniLM(t testing.TB) string {
	t.Helper()
	cache := &embedded.Cache{Dir: embedded.DefaultCacheDir()}
	engine, err := cache.Engine(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	weights, err := cache.MiniLM(t.Context(), engine.Quantization())
	if err != nil {
		t.Fatal(err)
	}
	llama, err := embedded.NewLlama(embedded.LlamaConfig{Engine: engine, Model: weights.Path, Pooling: weights.Pooling, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = llama.Close() })
	url, release, err := llama.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return url
}

func embedOnEngine(t testing.TB, url string, texts []string) [][]float32 {
	t.Helper()
	out := make([][]float32, len(texts))
	const batch = 16
	var g errgroup.Group
	g.SetLimit(3)
	for from := 0; from < len(texts); from += batch {
		g.Go(func() error {
			part := texts[from:min(from+batch, len(texts))]
			vectors, err := postEmbeddings(url, part)
			copy(out[from:], vectors)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	return out
}

// clipForModel keeps about the 256 tokens that the model sees of a text.
func clipForModel(text string) string {
	r := []rune(text)
	return string(r[:min(len(r), 1100)])
}

func postEmbeddings(url string, texts []string) ([][]float32, error) {
	clipped := make([]string, len(texts))
	for i, s := range texts {
		clipped[i] = clipForModel(s)
	}
	body, err := json.Marshal(map[string]any{"input": clipped})
	if err != nil {
		return nil, err
	}
	resp, err := http.Post(url+"/v1/embeddings", "application/json", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	var in struct {
		Data []struct {
			Embedding []float32 `json:"embedding"`
		} `json:"data"`
	}
	if err := json.Unmarshal(raw, &in); err != nil || len(in.Data) != len(texts) {
		return nil, fmt.Errorf("engine: %s, %d vectors for %d texts: %.200s", resp.Status, len(in.Data), len(texts), raw)
	}
	out := make([][]float32, len(texts))
	for i, d := range in.Data {
		out[i] = unit(d.Embedding)
	}
	return out, nil
}

func unit(v []float32) []float32 {
	var n float64
	for _, x := range v {
		n += float64(x) * float64(x)
	}
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = float32(float64(x) / math.Sqrt(n))
	}
	return out
}
