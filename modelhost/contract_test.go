package modelhost_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/embedded"
	"github.com/footnote-rag/footnote/modelhost"
	"github.com/footnote-rag/footnote/workersai"
)

// realHost serves the default catalogue over the real small engines.
func realHost(t testing.TB, change ...func(*modelhost.Config)) *httptest.Server {
	t.Helper()
	embeds, chats := engineOf(t, miniLM), engineOf(t, smolLM)
	cfg := modelhost.Config{
		Engines: map[string]modelhost.Engine{modelhost.EngineMiniLM: embeds, modelhost.EngineSmolLM2: chats},
		Tokens:  []string{"secret"}, Logger: slog.New(slog.DiscardHandler),
	}
	for _, f := range change {
		f(&cfg)
	}
	h, err := modelhost.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h.Handler())
	t.Cleanup(func() { srv.Close(); h.Close() })
	return srv
}

func engineOf(t testing.TB, start func() (*embedded.Llama, error)) *embedded.Llama {
	t.Helper()
	l, err := start()
	if err != nil {
		t.Fatalf("the engine is needed here; `footnote doctor` says what is missing: %v", err)
	}
	return l
}

// clientOf calls srv without retries, as one would call Cloudflare.
func clientOf(t testing.TB, srv *httptest.Server, change ...func(*workersai.Config)) *workersai.Client {
	t.Helper()
	cfg := workersai.Config{BaseURL: srv.URL + "/client/v4", AccountID: "acc", Token: "secret", MaxRetries: -1, Timeout: -1, HeaderTimeout: -1, IdleTimeout: -1}
	for _, f := range change {
		f(&cfg)
	}
	c, err := workersai.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func ptr[T any](v T) *T { return &v }

// ask is a question that a small model answers the same way each time.
func ask(text string, maxTokens int) workersai.ChatRequest {
	return workersai.ChatRequest{
		Model: chatModel, MaxTokens: maxTokens, Temperature: ptr(0.0), Seed: ptr(int64(1)),
		Messages: []workersai.Message{{Role: "system", Content: "You are a helpful assistant."}, {Role: "user", Content: text}},
	}
}

func TestChatContract(t *testing.T) {
	t.Parallel()
	c := clientOf(t, realHost(t))
	got, err := c.Chat(t.Context(), ask("What is the capital of France?", 40))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(got.Text, "Paris") || got.Usage.PromptTokens == 0 || got.Usage.CompletionTokens == 0 ||
		got.Usage.TotalTokens != got.Usage.PromptTokens+got.Usage.CompletionTokens {
		t.Errorf("answer %q, usage %+v, want Paris and a sum that is right", got.Text, got.Usage)
	}
	var text strings.Builder
	var last workersai.ChatEvent
	for e, err := range c.ChatStream(t.Context(), ask("What is the capital of France?", 40)) {
		if err != nil {
			t.Fatal(err)
		}
		text.WriteString(e.Text)
		last = e
	}
	if !strings.Contains(text.String(), "Paris") || last.Usage == nil || last.Usage.CompletionTokens == 0 {
		t.Errorf("stream %q, usage %+v, want Paris and a count", text.String(), last.Usage)
	}
	cut, err := c.Chat(t.Context(), ask("Tell me a long story.", 5))
	if err != nil {
		t.Fatal(err)
	}
	if !cut.Cut || cut.Usage.CompletionTokens != 5 {
		t.Errorf("5 tokens of a story: %+v, want it cut", cut)
	}
}

func TestJSONModeContract(t *testing.T) {
	t.Parallel()
	c := clientOf(t, realHost(t))
	type city struct {
		Name    string `json:"name"`
		Country string `json:"country"`
		Large   bool   `json:"large"`
	}
	got, err := workersai.ChatAs[city](t.Context(), c, ask("Describe the city Paris: its name, its country, whether it is large.", 120))
	if err != nil {
		t.Fatal(err)
	}
	if got.Name == "" || got.Country == "" {
		t.Errorf("ChatAs = %+v, want a name and a country", got)
	}
	_, err = workersai.ChatAs[city](t.Context(), c, ask("Describe the city Paris.", 2))
	if !errors.Is(err, workersai.ErrInvalidInput) || !strings.Contains(err.Error(), "cut at max_tokens") {
		t.Errorf("an object cut after 2 tokens: %v, want invalid input that says so", err)
	}
}

// weatherTool reports where it was asked for.
func weatherTool(t *testing.T, asked *[]string) workersai.Tool {
	t.Helper()
	type where struct {
		Location string `json:"location"`
	}
	tool, err := workersai.NewTool("getWeather", "The weather at a place now.", func(_ context.Context, in where) (any, error) {
		*asked = append(*asked, in.Location)
		return map[string]any{"temperature": 12, "sky": "rain"}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tool
}

func TestToolConversationContract(t *testing.T) {
	t.Parallel()
	c := clientOf(t, realHost(t))
	var asked []string
	tool := weatherTool(t, &asked)
	r := ask("What is the weather in Oslo? Use the function.", 120)
	r.Tools, r.ToolChoice = []workersai.ToolSpec{tool.Spec}, json.RawMessage(`"required"`)
	first, err := c.Chat(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if len(first.ToolCalls) != 1 || first.ToolCalls[0].Name != "getWeather" || first.ToolCalls[0].ID == "" {
		t.Fatalf("calls = %+v, want one of getWeather with an id", first.ToolCalls)
	}
	result, err := tool.Call(t.Context(), first.ToolCalls[0].Arguments)
	if err != nil {
		t.Fatal(err)
	}
	if len(asked) != 1 || !strings.Contains(asked[0], "Oslo") {
		t.Errorf("asked for %q, want Oslo", asked)
	}
	r.ToolChoice = json.RawMessage(`"none"`)
	r.Messages = append(r.Messages, workersai.Message{Role: "assistant", ToolCalls: first.ToolCalls},
		workersai.Message{Role: "tool", ToolCallID: first.ToolCalls[0].ID, Name: "getWeather", Content: result})
	second, err := c.Chat(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if second.Text == "" || len(second.ToolCalls) != 0 {
		t.Errorf("the answer after the call is %+v, want text alone", second)
	}
	r.Messages, r.ToolChoice = r.Messages[:2], json.RawMessage(`"required"`)
	var streamed []workersai.ToolCall
	for e, err := range c.ChatStream(t.Context(), r) {
		if err != nil {
			t.Fatal(err)
		}
		streamed = append(streamed, e.ToolCalls...)
	}
	if len(streamed) != 1 || streamed[0].Name != "getWeather" || !json.Valid([]byte(streamed[0].Arguments)) {
		t.Errorf("streamed calls = %+v, want one of getWeather", streamed)
	}
}

func TestToolLoopContract(t *testing.T) {
	t.Parallel()
	c := clientOf(t, realHost(t))
	var asked []string
	got, err := c.ChatWithTools(t.Context(), ask("What is the weather in Oslo?", 120), weatherTool(t, &asked))
	if errors.Is(err, workersai.ErrToolRounds) {
		t.Fatalf("the model never stopped calling: asked for %q", asked)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got.Text == "" || len(asked) == 0 || len(got.Messages) < 3+2*len(asked) {
		t.Errorf("answer %q, %d messages after %d calls", got.Text, len(got.Messages), len(asked))
	}
}

func TestEmbeddingsContract(t *testing.T) {
	t.Parallel()
	c := clientOf(t, realHost(t))
	texts := make([]string, 100)
	for i := range texts {
		texts[i] = fmt.Sprintf("record %d speaks of %d apples", i, i*i)
	}
	all, err := c.Embed(t.Context(), workersai.EmbedRequest{Model: embedModel, Texts: texts})
	if err != nil {
		t.Fatal(err)
	}
	if len(all.Vectors) != 100 || len(all.Vectors[0]) != 384 || all.Pooling != "mean" {
		t.Fatalf("%d vectors of %d, pooling %q, want 100 of 384, mean", len(all.Vectors), len(all.Vectors[0]), all.Pooling)
	}
	for _, i := range []int{0, 7, 8, 50, 99} { // the ends of micro-requests among them
		one, err := c.Embed(t.Context(), workersai.EmbedRequest{Model: embedModel, Texts: texts[i : i+1]})
		if err != nil {
			t.Fatal(err)
		}
		for k := range all.Vectors {
			if got := cosine(one.Vectors[0], all.Vectors[k]); (got > 0.999) != (k == i) {
				t.Errorf("text %d alone against row %d: cosine %.4f, want 1 for its own row only", i, k, got)
			}
		}
	}
}

func cosine(a, b []float32) float64 {
	var dot, aa, bb float64
	for i := range a {
		dot, aa, bb = dot+float64(a[i]*b[i]), aa+float64(a[i]*a[i]), bb+float64(b[i]*b[i])
	}
	return dot / math.Sqrt(aa*bb)
}

// TestErrorContract is the server's table of the reference, asked by our own client over real engines.
func TestErrorContract(t *testing.T) {
	t.Parallel()
	srv := realHost(t)
	c := clientOf(t, srv)
	chat := func(r workersai.ChatRequest) error { _, err := c.Chat(t.Context(), r); return err }
	embed := func(model string, texts ...string) error {
		_, err := c.Embed(t.Context(), workersai.EmbedRequest{Model: model, Texts: texts})
		return err
	}
	named := ask("hi", 8)
	named.Model = "@cf/no/such"
	for name, tt := range map[string]struct {
		err    error
		want   error
		status int
		code   int
		text   string
	}{
		"unknown model":    {chat(named), workersai.ErrModelNotFound, 404, 7502, "spelling"},
		"weights not here": {embed("@cf/baai/bge-m3", "a"), workersai.ErrModelNotFound, 404, 7502, "nothing here serves it"},
		"window":           {chat(ask("hi", 9000)), workersai.ErrContextExceeded, 413, 7506, "context window is 8192"},
		"text over 512":    {embed(embedModel, "short", strings.Repeat("word ", 700)), workersai.ErrContextExceeded, 413, 7506, "text 1 has 702 tokens"},
		"wrong token":      {first(clientOf(t, srv, func(c *workersai.Config) { c.Token = "wrong" }).SearchModels(t.Context(), workersai.ModelQuery{})), workersai.ErrUnauthorized, 401, 10000, "token"},
		"only white space": {embed(embedModel, "a", " "), workersai.ErrInvalidInput, 400, 7504, "text 1"},
	} {
		var e *workersai.Error
		if !errors.Is(tt.err, tt.want) || !errors.As(tt.err, &e) || e.Status != tt.status || e.Code != tt.code || !strings.Contains(e.Error(), tt.text) {
			t.Errorf("%s: %v, want %v: HTTP %d, code %d, with %q", name, tt.err, tt.want, tt.status, tt.code, tt.text)
		}
	}
}

func first[T any](_ T, err error) error { return err }

func TestWindowCountsToolDefinitions(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	u.chat = sseServer("[DONE]")
	srv := newHost(t, u.URL, func(c *modelhost.Config) {
		c.Engines = map[string]modelhost.Engine{modelhost.EngineLlama8B: modelhost.URLEngine(u.URL, "")}
	})
	body := `{"messages":[{"role":"user","content":"hi"}],"tools":[{"name":"f","description":"` + strings.Repeat("word ", 33000) + `","parameters":{"type":"object"}}]}`
	resp, env := post(t, srv.URL+root+"run/"+chatModel, body)
	if resp.StatusCode != 413 || env.Errors[0].Code != 7506 {
		t.Errorf("tools of 33,000 tokens in a window of 32,000: %d %+v, want 413 and 7506", resp.StatusCode, env.Errors)
	}
}
