package workersaitest_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

func TestServeStandsAlone(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, done := workersaitest.NewServer(), make(chan error)
	go func() { done <- srv.Serve(l) }()
	resp, err := http.Post("http://"+l.Addr().String()+"/client/v4/accounts/any/ai/run/"+bge, "application/x-www-form-urlencoded", strings.NewReader(`{"text":"one"}`))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if resp.Body.Close(); err != nil || !strings.HasPrefix(string(body), `{"result":{"shape":[1,768],"data":[[`) {
		t.Errorf("answer %.100s, %v", body, err)
	}
	http.DefaultClient.CloseIdleConnections()
	if srv.Close(); !errors.Is(<-done, http.ErrServerClosed) {
		t.Error("Serve did not end with ErrServerClosed")
	}
}

func TestResetIsOneOnTheWire(t *testing.T) {
	t.Parallel()
	srv := workersaitest.New(t)
	srv.Script(workersaitest.Reset())
	_, err := srv.Client(t, noRetry).Embed(t.Context(), workersai.EmbedRequest{Model: bge, Texts: []string{"a"}})
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) {
		t.Errorf("reset: %v, want connection reset", err)
	}
}

func TestHeldCallAnswersOnceReleased(t *testing.T) {
	t.Parallel()
	srv := workersaitest.New(t)
	release := make(chan struct{})
	srv.Script(workersaitest.Hold(release))
	c, done := srv.Client(t), make(chan error)
	go func() {
		_, err := c.Embed(t.Context(), workersai.EmbedRequest{Model: bge, Texts: []string{"a"}})
		done <- err
	}()
	srv.WaitCalls(t, 1)
	select {
	case err := <-done:
		t.Fatalf("held call answered: %v", err)
	default:
	}
	close(release)
	if err := <-done; err != nil || srv.Aborts() != 0 {
		t.Errorf("released call: %v, %d aborts", err, srv.Aborts())
	}
}

func TestOptionsShapeAnswers(t *testing.T) {
	t.Parallel()
	srv := workersaitest.New(t, workersaitest.Dims(8), workersaitest.Embed(func(string, int) []float32 { return []float32{1, 2} }),
		workersaitest.Rank(func(_, text string) float64 { return float64(len(text)) }),
		workersaitest.Models(workersai.ModelInfo{Name: "only"}),
		workersaitest.Chat(func(in workersai.TextInput) string { return "asked: " + in.Prompt }),
		workersaitest.Limit(func(model, text string) (int, int) { return len(text), 300 }))
	c := srv.Client(t, noRetry)
	if got, err := c.Embed(t.Context(), workersai.EmbedRequest{Model: bge, Texts: []string{"a"}}); err != nil || len(got.Vectors[0]) != 2 {
		t.Errorf("Embed = %+v, %v", got, err)
	}
	if got, err := c.Rerank(t.Context(), "@cf/baai/bge-reranker-base", "q", []string{"a", "bbb"}, 1); err != nil || got[0].ID != 1 {
		t.Errorf("Rerank = %+v, %v", got, err)
	}
	if got, err := c.SearchModels(t.Context(), workersai.ModelQuery{}); err != nil || len(got) != 1 || got[0].Name != "only" {
		t.Errorf("SearchModels = %+v, %v", got, err)
	}
	if got, err := c.Chat(t.Context(), workersai.ChatRequest{Model: llama, Prompt: "why"}); err != nil || got.Text != "asked: why" {
		t.Errorf("Chat = %+v, %v", got, err)
	}
	if _, err := c.Chat(t.Context(), workersai.ChatRequest{Model: llama, Prompt: "why", MaxTokens: 298}); !errors.Is(err, workersai.ErrContextExceeded) {
		t.Errorf("Chat over the window: %v, want context exceeded", err)
	}
}

func TestServerRefusesWhatTheAPIRefuses(t *testing.T) {
	t.Parallel()
	srv := workersaitest.New(t)
	for _, test := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/client/v4/accounts/a/ai/run/" + bge, `{`, 400},
		{"POST", "/client/v4/accounts/a/ai/run/" + bge, `{"text":[]}`, 400},
		{"POST", "/client/v4/accounts/a/ai/run/" + bge, `{"text":[null]}`, 400},
		{"POST", "/client/v4/accounts/a/ai/run/" + bge, `{"text":["` + strings.Repeat(`a","`, 100) + `a"]}`, 400},
		{"POST", "/client/v4/accounts/a/ai/run/" + llama, `{}`, 400},
		{"POST", "/client/v4/accounts/a/ai/run/" + llama, `{"prompt":"a","messages":[{"role":"user","content":"b"}]}`, 400},
		{"POST", "/client/v4/accounts/a/elsewhere", ``, 404},
		{"GET", "/client/v4/accounts/a/ai/models/schema?model=x", ``, 404},
	} {
		req, err := http.NewRequestWithContext(t.Context(), test.method, srv.URL+test.path, strings.NewReader(test.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&http.Client{Transport: srv.Config().HTTPClient.Transport, Timeout: 10 * time.Second}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		if resp.Body.Close(); resp.StatusCode != test.status || !strings.Contains(string(body), `"success":false`) {
			t.Errorf("%s %s %.40s = %d %s, want %d", test.method, test.path, test.body, resp.StatusCode, body, test.status)
		}
	}
}
