package workersaitest_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	bge   = "@cf/baai/bge-base-en-v1.5"
	llama = "@cf/meta/llama-3.1-8b-instruct"
)

func noRetry(cfg *workersai.Config) { cfg.MaxRetries = -1 }

func TestVectorIsTheTextsHash(t *testing.T) {
	t.Parallel()
	a, b := workersaitest.Vector("a", 768), workersaitest.Vector("b", 768)
	if !slices.Equal(a, workersaitest.Vector("a", 768)) {
		t.Error("Vector(a) differs from itself")
	}
	if got := workersaitest.Cosine(a, a); math.Abs(got-1) > 1e-6 {
		t.Errorf("Cosine(a, a) = %v, want 1", got)
	}
	if got := workersaitest.Cosine(a, b); math.Abs(got) > 0.2 {
		t.Errorf("Cosine(a, b) = %v, want about 0", got)
	}
}

func TestEmbedAnswersTheTextsVectors(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB, ...workersaitest.Option) *workersaitest.Server{
		"loopback": workersaitest.New, "in memory": workersaitest.NewInMemory} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := start(t)
			got, err := srv.Client(t).Embed(t.Context(), workersai.EmbedRequest{Model: bge, Texts: []string{"a", "b", "a"}})
			if err != nil {
				t.Fatal(err)
			}
			for i, text := range []string{"a", "b", "a"} {
				if !slices.Equal(got.Vectors[i], workersaitest.Vector(text, 768)) {
					t.Errorf("vector %d is not that of %q", i, text)
				}
			}
			if srv.TextCount("a") != 2 || srv.Calls(bge) != 1 || len(srv.CallTimes("")) != 1 {
				t.Errorf("counted %d texts a, %d calls, want 2, 1", srv.TextCount("a"), srv.Calls(bge))
			}
		})
	}
}

func TestStepsApplyToTheirModelInOrder(t *testing.T) {
	t.Parallel()
	srv := workersaitest.New(t)
	c := srv.Client(t, noRetry)
	only := workersaitest.Context()
	only.Model = llama
	srv.Script(only, workersaitest.Quota(), workersaitest.Capacity("7"))
	embed := func() error {
		_, err := c.Embed(t.Context(), workersai.EmbedRequest{Model: bge, Texts: []string{"a"}})
		return err
	}
	if err := embed(); !errors.Is(err, workersai.ErrQuotaExhausted) {
		t.Errorf("first call: %v, want the quota", err)
	}
	var e *workersai.Error
	if err := embed(); !errors.As(err, &e) || e.RetryAfter.Seconds() != 7 {
		t.Errorf("second call: %v, want Retry-After 7 s", err)
	}
	if err := embed(); err != nil || srv.Scripted() != 1 {
		t.Errorf("third call: %v, %d steps left, want none, 1", err, srv.Scripted())
	}
}

func TestHeldCallIsAbortedWhenItsClientLeaves(t *testing.T) {
	t.Parallel()
	srv := workersaitest.New(t)
	srv.Script(workersaitest.Hold(nil), workersaitest.Hold(make(chan struct{})))
	c := srv.Client(t, noRetry, func(cfg *workersai.Config) { cfg.Timeout = 1 << 25 })
	ask := func() error {
		_, err := c.Embed(t.Context(), workersai.EmbedRequest{Model: bge, Texts: []string{"a"}})
		return err
	}
	if err := ask(); err != nil {
		t.Errorf("call with no hold: %v", err)
	}
	if err := ask(); !errors.Is(err, workersai.ErrUnreachable) {
		t.Errorf("held call: %v, want unreachable", err)
	}
	srv.WaitAborts(t, 1)
}

func TestPoisonAndLimit(t *testing.T) {
	t.Parallel()
	srv := workersaitest.New(t,
		workersaitest.Poison(func(text string) int {
			if strings.Contains(text, "poison") {
				return workersai.CodeInvalidInput
			}
			return 0
		}),
		workersaitest.Limit(func(_, text string) (int, int) { return len(strings.Fields(text)), 3 }))
	c := srv.Client(t, noRetry)
	for text, want := range map[string]error{"fine": nil, "poison": workersai.ErrInvalidInput, "a b c d": workersai.ErrContextExceeded} {
		if _, err := c.Embed(t.Context(), workersai.EmbedRequest{Model: bge, Texts: []string{text}}); !errors.Is(err, want) {
			t.Errorf("Embed(%q): %v, want %v", text, err, want)
		}
	}
}

func TestDefaultChatExtracts(t *testing.T) {
	t.Parallel()
	c := workersaitest.New(t).Client(t)
	var got strings.Builder
	for e, err := range c.ChatStream(t.Context(), workersai.ChatRequest{Model: llama, Messages: []workersai.Message{
		{Role: "user", Content: "The sea is blue. The tower of Pisa leans to the south.\nWhere does the tower lean?"}}}) {
		if err != nil {
			t.Fatal(err)
		}
		got.WriteString(e.Text)
	}
	if want := "The tower of Pisa leans to the south."; got.String() != want {
		t.Errorf("answer %q, want %q", got.String(), want)
	}
}

func TestTokenIsChecked(t *testing.T) {
	t.Parallel()
	c := workersaitest.New(t, workersaitest.Token("right-token")).Client(t, noRetry, func(cfg *workersai.Config) { cfg.Token = "wrong-token" })
	if _, err := c.SearchModels(t.Context(), workersai.ModelQuery{}); !errors.Is(err, workersai.ErrUnauthorized) {
		t.Errorf("SearchModels with a wrong token: %v, want unauthorized", err)
	}
}
