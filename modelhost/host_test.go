package modelhost_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/footnote-rag/footnote/modelhost"
	"github.com/footnote-rag/footnote/workersai"
)

const (
	embedModel = "@cf/baai/bge-base-en-v1.5"
	chatModel  = "@cf/meta/llama-3.1-8b-instruct"
	root       = "/client/v4/accounts/acc/ai/"
)

// upstream is a scripted OpenAI-compatible server that counts a word as a token and derives vectors from the text.
type upstream struct {
	*httptest.Server
	embed   func(w http.ResponseWriter, r *http.Request, texts []string) bool // true: it has answered
	chat    http.HandlerFunc
	batches atomic.Int64
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{}
	u.Server = httptest.NewServer(http.HandlerFunc(u.serve))
	t.Cleanup(u.Close)
	return u
}

func (u *upstream) serve(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Input   []string `json:"input"`
		Content string   `json:"content"`
	}
	body, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(body, &in)
	switch r.URL.Path {
	case "/tokenize":
		_ = json.NewEncoder(w).Encode(map[string]any{"tokens": make([]int, len(strings.Fields(in.Content))+2)})
	case "/apply-template":
		_ = json.NewEncoder(w).Encode(map[string]any{"prompt": string(body)})
	case "/v1/embeddings":
		u.batches.Add(1)
		if u.embed != nil && u.embed(w, r, in.Input) {
			return
		}
		writeVectors(w, in.Input)
	default:
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		u.chat(w, r)
	}
}

func writeVectors(w io.Writer, texts []string) {
	rows := make([]any, len(texts))
	for i, t := range texts {
		rows[len(texts)-1-i] = map[string]any{"index": i, "embedding": vectorOf(t)} // any order
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"data": rows, "usage": map[string]any{"prompt_tokens": len(texts)}})
}

func vectorOf(text string) []float32 {
	v := make([]float32, 384)
	for i, c := range []byte(text) {
		v[i%384] += float32(c)
	}
	return v
}

func newHost(t *testing.T, url string, change func(*modelhost.Config)) *httptest.Server {
	t.Helper()
	engine := modelhost.URLEngine(url, "")
	cfg := modelhost.Config{
		Engines: map[string]modelhost.Engine{modelhost.EngineMiniLM: engine, modelhost.EngineSmolLM2: engine},
		Logger:  slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	h, err := modelhost.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h.Handler())
	t.Cleanup(func() { srv.Close(); h.Close() })
	return srv
}

func post(t *testing.T, url, body string) (*http.Response, workersai.Envelope[json.RawMessage]) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer any")
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded") // as the reference's curl line sends it
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var env workersai.Envelope[json.RawMessage]
	_ = json.Unmarshal(data, &env)
	if resp.Header.Get("Content-Type") == "text/event-stream" {
		env.Result = data
	}
	return resp, env
}

func TestErrorTable(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	u.chat = func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, `{"error":{"message":"busy"}}`, http.StatusServiceUnavailable)
	}
	srv := newHost(t, u.URL, nil)
	long := strings.Repeat("word ", 600)
	many := `{"text":["` + strings.Repeat(`a","`, 100) + `b"]}`
	messages := `"messages":[{"role":"user","content":"hi"}]`
	for name, c := range map[string]struct {
		model, body          string
		status, code, native int
		text, nativeText     string
	}{
		"unknown model":            {"@cf/no/such", `{}`, 404, 7502, 5007, "spelling", "No such model"},
		"weights not here":         {"@cf/baai/bge-m3", `{"text":"a"}`, 404, 7502, 5007, "nothing here serves it", ""},
		"not JSON":                 {embedModel, `{"text":`, 400, 7504, 5006, "not JSON", "Bad input"},
		"no text":                  {embedModel, `{}`, 400, 7504, 5006, "", "AiError: Bad input: Error: required properties at '/' are 'text'"},
		"null pooling":             {embedModel, `{"text":"a","pooling":null}`, 400, 7504, 5006, "", "/pooling"},
		"101 texts":                {embedModel, many, 400, 7504, 5006, "101 texts", ""},
		"text over 512":            {embedModel, `{"text":["a","` + long + `"],"truncate_inputs":false}`, 413, 7506, 5021, "text 1 has 602 tokens, the model takes 512", "(602) exceeded this model context window limit (512)"},
		"neither prompt":           {chatModel, `{}`, 400, 7504, 5006, "", "oneOf at '/' not met, 0 matches: required properties at '/' are 'prompt', required properties at '/' are 'messages'"},
		"both":                     {chatModel, `{"prompt":"a",` + messages + `}`, 400, 7504, 5006, "", "oneOf at '/' not met, 2 matches"},
		"temperature over 5":       {chatModel, `{` + messages + `,"temperature":6}`, 400, 7504, 5006, "", "'/temperature' must be <= 5"},
		"null temperature":         {chatModel, `{` + messages + `,"temperature":null}`, 400, 7504, 5006, "", "Type mismatch of '/temperature', 'number' not in 'null'"},
		"role":                     {chatModel, `{"messages":[{"role":"x","content":"a"}]}`, 400, 7504, 5006, "", "enum x not in system,user,assistant,tool at '/messages/0/role'"},
		"lora":                     {chatModel, `{` + messages + `,"lora":"x"}`, 400, 7504, 5006, "lora", ""},
		"json mode in a stream":    {chatModel, `{` + messages + `,"stream":true,"response_format":{"type":"json_object"}}`, 400, 7504, 5006, "stream", ""},
		"window":                   {chatModel, `{` + messages + `,"max_tokens":9000}`, 413, 7506, 5021, "context window is 8192", ""},
		"engine busy":              {chatModel, `{` + messages + `}`, 429, 7505, 3040, "busy", "Capacity"},
		"engine busy for a stream": {chatModel, `{` + messages + `,"stream":true}`, 429, 7505, 3040, "busy", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := srv
			if name == "text over 512" {
				u := newUpstream(t)
				u.embed = refuseLong
				srv = newHost(t, u.URL, nil)
			}
			resp, env := post(t, srv.URL+root+"run/"+c.model, c.body)
			if resp.StatusCode != c.status || env.Success || len(env.Errors) != 1 || env.Errors[0].Code != c.code {
				t.Fatalf("got %d %+v, want %d and code %d", resp.StatusCode, env, c.status, c.code)
			}
			if string(env.Result) != "{}" || len(env.Messages) != 1 || env.Messages[0].Code != c.native {
				t.Errorf("result %s, messages %+v, want {} and code %d", env.Result, env.Messages, c.native)
			}
			if !strings.Contains(env.Errors[0].Message, c.text) || !strings.Contains(env.Messages[0].Message, c.nativeText) {
				t.Errorf("texts %q and %q, want %q and %q in them", env.Errors[0].Message, env.Messages[0].Message, c.text, c.nativeText)
			}
			if c.status == 429 && resp.Header.Get("Retry-After") == "" {
				t.Error("429 without Retry-After")
			}
		})
	}
}

// refuseLong refuses as llama.cpp does.
func refuseLong(w http.ResponseWriter, _ *http.Request, texts []string) bool {
	for _, text := range texts {
		if n := len(strings.Fields(text)) + 2; n > 512 {
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprintf(w, `{"error":{"code":500,"message":"input (%d tokens) is too large to process. increase the physical batch size (current batch size: 512)","type":"server_error"}}`, n)
			return true
		}
	}
	return false
}

func TestEdgeErrors(t *testing.T) {
	t.Parallel()
	srv := newHost(t, newUpstream(t).URL, func(c *modelhost.Config) { c.Tokens, c.Accounts = []string{"secret"}, []string{"acc"} })
	for name, c := range map[string]struct {
		method, path, auth string
		status, code       int
	}{
		"no token":      {"POST", root + "run/" + chatModel, "", 401, 10000},
		"wrong token":   {"POST", root + "run/" + chatModel, "Bearer wrong", 401, 10000},
		"no route":      {"POST", "/client/v4/zones", "Bearer secret", 404, 7000},
		"wrong account": {"POST", "/client/v4/accounts/other/ai/run/" + chatModel, "Bearer secret", 404, 7003},
		"wrong method":  {"GET", root + "run/" + chatModel, "Bearer secret", 405, 7001},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req, _ := http.NewRequestWithContext(t.Context(), c.method, srv.URL+c.path, nil)
			req.Header.Set("Authorization", c.auth)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var env workersai.Envelope[json.RawMessage]
			if err := json.NewDecoder(resp.Body).Decode(&env); err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != c.status || env.Errors[0].Code != c.code || string(env.Result) != "null" || len(env.Messages) != 0 {
				t.Errorf("got %d %+v, want %d, code %d and a null result", resp.StatusCode, env, c.status, c.code)
			}
		})
	}
}

func TestEmbeddingsKeepOrder(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	srv := newHost(t, u.URL, nil)
	texts := make([]string, 100)
	for i := range texts {
		texts[i] = fmt.Sprintf("text number %d", i)
	}
	body, _ := json.Marshal(map[string]any{"text": texts, "pooling": "cls"})
	resp, env := post(t, srv.URL+root+"run/%40cf%2Fbaai%2Fbge-base-en-v1.5", string(body))
	var out workersai.EmbeddingOutput
	if err := json.Unmarshal(env.Result, &out); err != nil {
		t.Fatalf("%v in %s", err, env.Result)
	}
	if fmt.Sprint(out.Shape) != "[100 384]" || out.Pooling != "mean" || out.Usage.PromptTokens != 100 || len(env.Messages) != 1 {
		t.Errorf("shape %v, pooling %q, usage %+v, messages %+v", out.Shape, out.Pooling, out.Usage, env.Messages)
	}
	for i, row := range out.Data {
		if fmt.Sprint(row) != fmt.Sprint(vectorOf(texts[i])) {
			t.Fatalf("row %d is not the vector of text %d", i, i)
		}
	}
	if got := resp.Header.Get(modelhost.HeaderServedBy); got != "all-MiniLM-L6-v2" {
		t.Errorf("%s = %q, want all-MiniLM-L6-v2", modelhost.HeaderServedBy, got)
	}
	if resp.Header.Get(workersai.HeaderRequestID) == "" || u.batches.Load() != 13 {
		t.Errorf("request id %q, %d micro-requests, want 13", resp.Header.Get(workersai.HeaderRequestID), u.batches.Load())
	}
}

func TestSmallRequestOvertakes(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	bulk := make(chan struct{})
	u.embed = func(_ http.ResponseWriter, r *http.Request, texts []string) bool {
		if len(texts) > 1 {
			select {
			case <-bulk:
			case <-r.Context().Done():
			}
		}
		return false
	}
	srv := newHost(t, u.URL, nil)
	body := `{"text":["` + strings.Repeat(`a","`, 99) + `b"]}`
	done := make(chan int, 1)
	go func() {
		resp, _ := post(t, srv.URL+root+"run/"+embedModel, body)
		done <- resp.StatusCode
	}()
	waitFor(t, func() bool { return u.batches.Load() == 2 })
	if resp, _ := post(t, srv.URL+root+"run/"+embedModel, `{"text":"question"}`); resp.StatusCode != 200 {
		t.Errorf("the question got %d", resp.StatusCode)
	}
	close(bulk)
	if got := <-done; got != 200 {
		t.Errorf("the bulk request got %d", got)
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the condition did not come true in 10 s")
		}
	}
}

func TestEngineDiesOnce(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	u.embed = func(w http.ResponseWriter, _ *http.Request, _ []string) bool {
		if u.batches.Load() > 1 {
			return false
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			conn.Close()
		}
		return true
	}
	srv := newHost(t, u.URL, nil)
	if resp, env := post(t, srv.URL+root+"run/"+embedModel, `{"text":"a"}`); resp.StatusCode != 200 {
		t.Errorf("got %d %+v, want 200 on the second try", resp.StatusCode, env)
	}
}

func TestUnusableVectors(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]string{"zero": `[` + strings.Repeat("0,", 383) + `0]`, "short": `[1,2]`, "NaN": `["NaN"]`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newUpstream(t)
			u.embed = func(w http.ResponseWriter, _ *http.Request, _ []string) bool {
				fmt.Fprintf(w, `{"data":[{"index":0,"embedding":%s}]}`, row)
				return true
			}
			resp, env := post(t, newHost(t, u.URL, nil).URL+root+"run/"+embedModel, `{"text":"a"}`)
			if resp.StatusCode != 502 || env.Success {
				t.Errorf("got %d %+v, want 502", resp.StatusCode, env)
			}
		})
	}
}

func sseServer(events ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, e := range events {
			fmt.Fprintf(w, "data: %s\n\n", e)
		}
	}
}

const streamBody = `{"messages":[{"role":"user","content":"hi"}],"stream":true}`

func TestStream(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		events []string
		want   string
	}{
		"whole": {[]string{`{"choices":[{"delta":{"role":"assistant","content":null}}]}`, `{"choices":[{"delta":{"content":"He\"y"}}]}`, `{"choices":[{"delta":{},"finish_reason":"stop"}]}`,
			`{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}`, `[DONE]`},
			"data: {\"response\":\"He\\\"y\"}\n\ndata: {\"response\":\"\",\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1,\"total_tokens\":4}}\n\ndata: [DONE]\n\n"},
		"cut": {[]string{`{"choices":[{"delta":{"content":"a"}}]}`},
			"data: {\"response\":\"a\"}\n\ndata: {\"errors\":[{\"code\":3043,\"message\":\"the engine of @cf/meta/llama-3.1-8b-instruct broke off its answer\"}],\"messages\":[],\"success\":false}\n\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newUpstream(t)
			u.chat = sseServer(c.events...)
			_, env := post(t, newHost(t, u.URL, nil).URL+root+"run/"+chatModel, streamBody)
			if string(env.Result) != c.want {
				t.Errorf("stream = %q, want %q", env.Result, c.want)
			}
		})
	}
}

func TestHeartbeatAndLeaving(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	left := make(chan struct{})
	u.chat = func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(200)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(left)
	}
	srv := newHost(t, u.URL, func(c *modelhost.Config) { c.Heartbeat = 5 * time.Millisecond })
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, "POST", srv.URL+root+"run/"+chatModel, strings.NewReader(streamBody))
	req.Header.Set("Authorization", "Bearer x")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	ping := make([]byte, 8)
	if _, err := io.ReadFull(resp.Body, ping); err != nil || string(ping) != ": ping\n\n" {
		t.Fatalf("first bytes %q, %v, want a comment", ping, err)
	}
	gone := time.Now()
	cancel()
	<-left
	if d := time.Since(gone); d > 250*time.Millisecond {
		t.Errorf("the engine was told after %v, want at most 250 ms", d)
	}
}

func TestToolGrammar(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	u.chat = func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if !strings.Contains(string(body), `"const":"getWeather"`) {
			t.Errorf("no grammar in %s", body)
		}
		fmt.Fprint(w, `{"choices":[{"message":{"content":"{\"name\":\"getWeather\",\"arguments\":{\"location\":\"Oslo\"}}"}}]}`)
	}
	_, env := post(t, newHost(t, u.URL, nil).URL+root+"run/"+chatModel,
		`{"messages":[{"role":"user","content":"hi"}],"tools":[{"name":"getWeather","description":"d","parameters":{"type":"object"}}]}`)
	var out workersai.TextOutput
	if err := json.Unmarshal(env.Result, &out); err != nil || len(out.ToolCalls) != 1 || out.ToolCalls[0].Arguments != `{"location":"Oslo"}` || out.ToolCalls[0].ID == "" {
		t.Errorf("result %s (%v), want one call of getWeather", env.Result, err)
	}
}

// Code written for the API reference parses function.arguments; code written for Cloudflare's own models reads name and
// an object beside it.
func TestToolCallsInBothForms(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	u.chat = func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), `"stream":true`) {
			sseServer(`{"choices":[{"delta":{"content":"{\"name\":\"getWeather\",\"arguments\":{\"location\":\"Oslo\"}}"}}]}`, `[DONE]`)(w, r)
			return
		}
		fmt.Fprint(w, `{"choices":[{"message":{"content":"{\"name\":\"getWeather\",\"arguments\":{\"location\":\"Oslo\"}}"}}]}`)
	}
	srv := newHost(t, u.URL, nil)
	const head = `{"messages":[{"role":"user","content":"hi"}],"tools":[{"name":"getWeather","description":"d","parameters":{"type":"object"}}]`
	_, env := post(t, srv.URL+root+"run/"+chatModel, head+`}`)
	_, stream := post(t, srv.URL+root+"run/"+chatModel, head+`,"stream":true}`)
	frame, _, _ := strings.Cut(strings.TrimPrefix(string(stream.Result), "data: "), "\n\n")
	for name, answer := range map[string]string{"whole": string(env.Result), "streamed": frame} {
		var out struct {
			ToolCalls []struct {
				ID, Type, Name string
				Index          *int
				Arguments      map[string]string
				Function       struct{ Name, Arguments string }
			} `json:"tool_calls"`
		}
		if err := json.Unmarshal([]byte(answer), &out); err != nil || len(out.ToolCalls) != 1 {
			t.Fatalf("%s: %s, %v, want one call", name, answer, err)
		}
		call := out.ToolCalls[0]
		if call.ID == "" || call.Type != "function" || call.Function.Name != "getWeather" || call.Function.Arguments != `{"location":"Oslo"}` ||
			call.Name != "getWeather" || call.Arguments["location"] != "Oslo" || (call.Index != nil) != (name == "streamed") {
			t.Errorf("%s: call %s, want the reference's form and Cloudflare's", name, answer)
		}
	}
}

// raw sends the prompt as it is: there is no turn to describe tools in.
func TestRawLeavesToolsOut(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	u.chat = func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"choices":[{"text":"Oslo"}]}`) }
	resp, env := post(t, newHost(t, u.URL, nil).URL+root+"run/"+chatModel,
		`{"raw":true,"prompt":"The capital is","tools":[{"name":"getWeather","description":"d","parameters":{"type":"object"}}]}`)
	if resp.StatusCode != 200 || !strings.Contains(string(env.Result), `"response":"Oslo"`) {
		t.Errorf("%s: %s, want the completion", resp.Status, env.Result)
	}
}

// A small model asked to choose rambles instead of calling: the turn decides for it.
func TestToolGrammarByTurn(t *testing.T) {
	t.Parallel()
	const call = `{"role":"assistant","content":"","tool_calls":[{"id":"call_1","type":"function","function":{"name":"getWeather","arguments":"{}"}}]}`
	const result = `{"role":"tool","tool_call_id":"call_1","content":"12 degrees"}`
	for _, c := range []struct {
		name, turns, choice string
		grammar             bool
	}{
		{"a question", `{"role":"user","content":"hi"}`, "auto", true},
		{"a result", `{"role":"user","content":"hi"},` + call + `,` + result, "auto", false},
		{"a result, and a call is required", `{"role":"user","content":"hi"},` + call + `,` + result, "required", true},
		{"a result without a name, as langchain-cloudflare sends it", `{"role":"user","content":"hi"},` + call + `,{"role":"tool","name":null,"tool_call_id":null,"content":"12 degrees"}`, "auto", false},
		{"the next question", `{"role":"user","content":"hi"},` + call + `,` + result + `,{"role":"user","content":"and now?"}`, "auto", true},
		{"none", `{"role":"user","content":"hi"}`, "none", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			u := newUpstream(t)
			var asked string
			u.chat = func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				asked = string(body)
				fmt.Fprint(w, `{"choices":[{"message":{"content":"{\"name\":\"getWeather\",\"arguments\":{}}"}}]}`)
			}
			post(t, newHost(t, u.URL, nil).URL+root+"run/"+chatModel, `{"messages":[`+c.turns+`],"tool_choice":"`+c.choice+`",
				"tools":[{"name":"getWeather","description":"d","parameters":{"type":"object","properties":{"location":{"type":"string"}}}}]}`)
			if got := strings.Contains(asked, `"maxLength":120`); got != c.grammar {
				t.Errorf("a grammar in the engine's request: %v, want %v: %s", got, c.grammar, asked)
			}
			if strings.Contains(c.turns, "12 degrees") && !strings.Contains(asked, "Result of getWeather: 12 degrees") {
				t.Errorf("the engine was not told the result: %s", asked)
			}
			answers := strings.HasSuffix(c.turns, `12 degrees"}`) && !c.grammar
			if got := strings.Contains(asked, "in a sentence: hi"); got != answers {
				t.Errorf("the question stands once more after the result: %v, want %v: %s", got, answers, asked)
			}
		})
	}
}
