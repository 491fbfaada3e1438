package modelhost_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/footnote-rag/footnote/embedded"
	"github.com/footnote-rag/footnote/modelhost"
	"github.com/footnote-rag/footnote/workersai"
)

const rerankModel = "@cf/baai/bge-reranker-base"

// Models of bge-base's and of bge-reranker-base's exact architecture with random weights, in the real engine.
var (
	bgeBase     = sync.OnceValues(func() (*embedded.Llama, error) { return randomBERT("cls", embedded.Embed) })
	bgeReranker = sync.OnceValues(func() (*embedded.Llama, error) { return randomBERT("rank", embedded.Rerank) })
)

func randomBERT(pooling string, kind embedded.LlamaKind) (*embedded.Llama, error) {
	return newLlama(func(c *embedded.Cache, cfg *embedded.LlamaConfig) error {
		mini, err := c.MiniLM(context.Background(), embedded.Q80) // for its vocabulary, which is BERT's
		if err != nil {
			return err
		}
		words, err := os.ReadFile(filepath.Join(filepath.Dir(mini.Path), "vocab.txt"))
		if err != nil {
			return err
		}
		dir, err := os.MkdirTemp("", "footnote-test-")
		if err != nil {
			return err
		}
		closeAtEnd(removed(dir))
		cfg.Model, cfg.Kind, cfg.Pooling = filepath.Join(dir, pooling+".gguf"), kind, pooling
		vocab := strings.Split(strings.TrimSpace(string(words)), "\n")
		return errors.Join(os.Chmod(dir, 0o755), embedded.WriteRandomBERT(embedded.BERTShape{Name: "random " + pooling, Pooling: pooling, Vocab: vocab, Seed: 7}, cfg.Model))
	})
}

// removed deletes a folder when the tests are over.
type removed string

func (r removed) Close() error { return os.RemoveAll(string(r)) }

func bgeHost(t testing.TB, name string, start func() (*embedded.Llama, error)) *workersai.Client {
	t.Helper()
	h, err := modelhost.New(modelhost.Config{Engines: map[string]modelhost.Engine{name: engineOf(t, start)}})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h.Handler())
	t.Cleanup(func() { srv.Close(); h.Close() })
	return clientOf(t, srv)
}

func TestBGEBaseOfTheExactShape(t *testing.T) {
	t.Parallel()
	c := bgeHost(t, modelhost.EngineBGEBase, bgeBase)
	texts := []string{"a cat", "the central bank raised interest rates", strings.Repeat("word ", 510)}
	r, err := c.Embed(t.Context(), workersai.EmbedRequest{Model: embedModel, Texts: texts, Pooling: "cls"})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Vectors) != 3 || len(r.Vectors[0]) != 768 || r.Pooling != "cls" || r.Usage.PromptTokens != 4+8+512 {
		t.Errorf("%d vectors of %d, pooling %s, usage %+v, want 3 of 768, cls, 524 tokens", len(r.Vectors), len(r.Vectors[0]), r.Pooling, r.Usage)
	}
	alone, err := c.Embed(t.Context(), workersai.EmbedRequest{Model: embedModel, Texts: texts[1:2], Pooling: "cls"})
	if err != nil {
		t.Fatal(err)
	}
	if d := distance(alone.Vectors[0], r.Vectors[1]); d > 0.02 || distance(r.Vectors[0], r.Vectors[1]) < 2*d {
		t.Errorf("a text alone and among others: distance %v; two texts: %v", d, distance(r.Vectors[0], r.Vectors[1]))
	}
	_, err = c.Embed(t.Context(), workersai.EmbedRequest{Model: embedModel, Texts: []string{"short", strings.Repeat("word ", 511)}, Pooling: "cls"})
	if !errors.Is(err, workersai.ErrContextExceeded) || !strings.Contains(err.Error(), "text 1 has 513 tokens, the model takes 512") {
		t.Errorf("513 tokens: %v, want 7506 that names the text", err)
	}
	_, err = c.Embed(t.Context(), workersai.EmbedRequest{Model: embedModel, Texts: texts[:1], Pooling: "mean"})
	if !errors.Is(err, workersai.ErrInvalidInput) {
		t.Errorf("pooling mean of a cls model: %v, want invalid input", err)
	}
}

// distance is the Euclidean one of two vectors at unit length.
func distance(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
	}
	return math.Sqrt(max(0, 2-2*ab/math.Sqrt(aa*bb)))
}

func TestRerankerOfTheExactShape(t *testing.T) {
	t.Parallel()
	c := bgeHost(t, modelhost.EngineBGEReranker, bgeReranker)
	texts := make([]string, 9)
	for i := range texts {
		texts[i] = fmt.Sprintf("passage %d about %s", i, strings.Repeat([]string{"banks ", "cats ", "rivers "}[i%3], i+1))
	}
	scores, err := c.Rerank(t.Context(), rerankModel, "where do cats sleep", texts, 0)
	if err != nil {
		t.Fatal(err)
	}
	byText := map[string]float64{}
	distinct := map[float64]bool{}
	for _, s := range scores {
		byText[texts[s.ID]], distinct[s.Score] = s.Score, true
	}
	if len(scores) != 9 || len(distinct) != 9 || !slices.IsSortedFunc(scores, func(a, b workersai.RerankScore) int { return cmp.Compare(b.Score, a.Score) }) {
		t.Errorf("%d scores, %d of them distinct, want 9 and best first: %v", len(scores), len(distinct), scores)
	}
	// The order of the contexts must not matter: a score belongs to its text. Other neighbours in a batch move it a little.
	near := 0.1 * (scores[0].Score - scores[8].Score)
	slices.Reverse(texts)
	top, err := c.Rerank(t.Context(), rerankModel, "where do cats sleep", texts, 3)
	if err != nil || len(top) != 3 {
		t.Fatalf("top 3 = %v, %v", top, err)
	}
	for i, s := range top {
		if math.Abs(s.Score-byText[texts[s.ID]]) > near || math.Abs(s.Score-scores[i].Score) > near {
			t.Errorf("number %d of the reversed contexts, %q, has %v, before %v, and a tenth of the range is %v", i, texts[s.ID], s.Score, byText[texts[s.ID]], near)
		}
	}
	_, err = c.Rerank(t.Context(), rerankModel, "where do cats sleep", []string{"short", strings.Repeat("word ", 600)}, 0)
	if !errors.Is(err, workersai.ErrContextExceeded) {
		t.Errorf("a pair of over 512 tokens: %v, want context exceeded", err)
	}
}

func BenchmarkBGEBase(b *testing.B) {
	c := bgeHost(b, modelhost.EngineBGEBase, bgeBase)
	texts := slices.Repeat([]string{strings.Repeat("some words of a passage ", 40)}, 16) // 200 tokens each
	for b.Loop() {
		if _, err := c.Embed(b.Context(), workersai.EmbedRequest{Model: embedModel, Texts: texts, Pooling: "cls"}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(texts)*b.N)/b.Elapsed().Seconds(), "texts/s")
}

func BenchmarkBGEReranker(b *testing.B) {
	c := bgeHost(b, modelhost.EngineBGEReranker, bgeReranker)
	texts := slices.Repeat([]string{strings.Repeat("some words of a passage ", 40)}, 16)
	for b.Loop() {
		if _, err := c.Rerank(b.Context(), rerankModel, "what is in the passage", texts, 0); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(texts)*b.N)/b.Elapsed().Seconds(), "pairs/s")
}
