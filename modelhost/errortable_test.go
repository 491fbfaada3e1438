package modelhost_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/footnote-rag/footnote/modelhost"
	"github.com/footnote-rag/footnote/workersai"
)

const reranker = "@cf/baai/bge-reranker-base"

// TestValidationTexts: each text of Cloudflare's validator, with its path and its rule, in messages[0].
func TestValidationTexts(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	u.chat = talker
	srv := newHost(t, u.URL, func(c *modelhost.Config) {
		c.Engines[modelhost.EngineBGEReranker] = modelhost.URLEngine(u.URL, "")
	})
	const messages = `"messages":[{"role":"user","content":"hi"}]`
	type row struct{ model, body, text string }
	rows := []row{
		{embedModel, `{}`, "required properties at '/' are 'text'"},
		{reranker, `{"query":"a"}`, "required properties at '/' are 'query,contexts'"}, // all that are required, not only the missing
		{reranker, `{"query":"a","contexts":[{}]}`, "required properties at '/contexts/0' are 'text'"},
		{chatModel, `{"messages":[{"role":"user"}]}`, "required properties at '/messages/0' are 'role,content'"},
		{chatModel, `{}`, "oneOf at '/' not met, 0 matches: required properties at '/' are 'prompt', required properties at '/' are 'messages'"},
		{chatModel, `{"prompt":"a",` + messages + `}`, "oneOf at '/' not met, 2 matches"},
		{chatModel, `{"prompt":""}`, "Length of '/prompt' must be >= 1 not met"},
		{embedModel, `{"text":""}`, "Length of '/text' must be >= 1 not met"},
		{embedModel, `{"text":["a",""]}`, "Length of '/text/1' must be >= 1 not met"},
		{embedModel, `{"text":["` + strings.Repeat(`a","`, 100) + `b"]}`, "Length of '/text' must be <= 100"},
		{embedModel, `{"text":7}`, "Type mismatch of '/text', 'string' not in 'number','integer'"},
		{embedModel, `{"text":["a",true]}`, "Type mismatch of '/text/1', 'string' not in 'boolean'"},
		{embedModel, `[]`, "Type mismatch of '/', 'object' not in 'array'"},
		{embedModel, `{"text":"a","truncate_inputs":"yes"}`, "Type mismatch of '/truncate_inputs', 'boolean' not in 'string'"},
		{chatModel, `{` + messages + `,"temperature":null}`, "Type mismatch of '/temperature', 'number' not in 'null'"},
		{chatModel, `{` + messages + `,"max_tokens":1.5}`, "Type mismatch of '/max_tokens', 'integer' not in 'number'"},
		{chatModel, `{` + messages + `,"seed":"x"}`, "Type mismatch of '/seed', 'integer' not in 'string'"},
		{embedModel, `{"text":"a","pooling":"max"}`, "enum max not in mean,cls at '/pooling'"},
		{chatModel, `{"messages":[{"role":"boss","content":"a"}]}`, "enum boss not in system,user,assistant,tool at '/messages/0/role'"},
		{chatModel, `{` + messages + `,"tools":[{"name":"f","description":"d"}],"tool_choice":"any"}`, "enum any not in auto,none,required at '/tool_choice'"},
		{chatModel, `{` + messages + `,"lora":"x"}`, "Additional or unevaluated properties '/lora' at '/' not allowed"},
		{chatModel, `{` + messages + `,"functions":[]}`, "Additional or unevaluated properties '/functions' at '/' not allowed"},
	}
	for field, limits := range map[string][2]string{
		"temperature": {"0", "5"}, "top_p": {"0", "2"}, "top_k": {"1", "50"}, "seed": {"1", "9999999999"},
		"repetition_penalty": {"0", "2"}, "frequency_penalty": {"0", "2"}, "presence_penalty": {"0", "2"},
	} {
		rows = append(rows, row{chatModel, fmt.Sprintf(`{%s,%q:-1}`, messages, field), fmt.Sprintf("'/%s' must be >= %s", field, limits[0])},
			row{chatModel, fmt.Sprintf(`{%s,%q:99999999999}`, messages, field), fmt.Sprintf("'/%s' must be <= %s", field, limits[1])})
	}
	for _, r := range rows {
		resp, env := post(t, srv.URL+root+"run/"+r.model, r.body)
		if resp.StatusCode != 400 || len(env.Errors) != 1 || env.Errors[0].Code != 7504 || len(env.Messages) != 1 || env.Messages[0].Code != 5006 || string(env.Result) != "{}" {
			t.Errorf("%s: %d %+v, want 400, 7504 and 5006", r.body, resp.StatusCode, env)
			continue
		}
		const prefix = "AiError: Bad input: Error: "
		if m := env.Messages[0].Message; !strings.HasPrefix(m, prefix) || !strings.Contains(m, r.text) || !strings.HasSuffix(m, " ("+resp.Header.Get(workersai.HeaderRequestID)+")") {
			t.Errorf("%s:\n got %s\nwant %s%s (request id)", r.body, m, prefix, r.text)
		}
	}
}

// TestErrorsWithoutABriefCode carry today's code in errors[0] and no messages.
func TestErrorsWithoutABriefCode(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	u.chat = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/rerank" {
			<-r.Context().Done() // longer than the backend's timeout
			return
		}
		http.Error(w, `{"error":{"message":"kaput"}}`, http.StatusInternalServerError)
	}
	srv := newHost(t, u.URL, func(c *modelhost.Config) {
		c.MaxBody = 10_000
		c.Catalogue = modelhost.DefaultCatalogue().With(modelhost.Catalogue{Models: []modelhost.Model{{Name: reranker, Task: modelhost.TaskReranking,
			Backends: []modelhost.Backend{{URL: u.URL, Timeout: 50 * time.Millisecond}}}}})
	})
	for name, tt := range map[string]struct {
		model, body  string
		status, code int
		sentinel     error
	}{
		"engine fails":     {chatModel, `{"prompt":"a"}`, 502, 3043, nil},
		"engine too slow":  {reranker, `{"query":"a","contexts":[{"text":"b"}]}`, 408, 3007, nil},
		"body over limits": {embedModel, `{"text":"` + strings.Repeat("a", 20_000) + `"}`, 413, 3006, workersai.ErrContextExceeded},
	} {
		resp, env := post(t, srv.URL+root+"run/"+tt.model, tt.body)
		if resp.StatusCode != tt.status || len(env.Errors) != 1 || env.Errors[0].Code != tt.code || len(env.Messages) != 0 || string(env.Result) != "{}" {
			t.Errorf("%s: %d %+v, want %d, code %d, no messages", name, resp.StatusCode, env, tt.status, tt.code)
		}
		err := clientOf(t, srv).Run(t.Context(), tt.model, json.RawMessage(tt.body), nil)
		var e *workersai.Error
		if !errors.As(err, &e) || e.Code != tt.code || (tt.sentinel != nil && !errors.Is(err, tt.sentinel)) {
			t.Errorf("%s: the client got %v", name, err)
		}
	}
}

// TestOpenAIErrorTable: the same conditions on /ai/v1 have the same statuses, in OpenAI's shape, which the client reads too.
func TestOpenAIErrorTable(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	u.chat = func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, `{"error":{"message":"busy"}}`, http.StatusServiceUnavailable)
	}
	srv := newHost(t, u.URL, nil)
	const messages = `"messages":[{"role":"user","content":"hi"}]`
	for name, tt := range map[string]struct {
		path, body   string
		status, code int
	}{
		"unknown model":    {"chat/completions", `{"model":"gpt-4",` + messages + `}`, 404, 7502},
		"not JSON":         {"chat/completions", `{`, 400, 7504},
		"no messages":      {"chat/completions", `{"model":"` + chatModel + `"}`, 400, 7504},
		"wrong task":       {"chat/completions", `{"model":"` + embedModel + `",` + messages + `}`, 400, 7504},
		"over the window":  {"chat/completions", `{"model":"` + chatModel + `","max_tokens":9000,` + messages + `}`, 413, 7506},
		"busy":             {"chat/completions", `{"model":"` + chatModel + `",` + messages + `}`, 429, 7505},
		"busy for streams": {"chat/completions", `{"model":"` + chatModel + `","stream":true,` + messages + `}`, 429, 7505},
		"no input":         {"embeddings", `{"model":"` + embedModel + `"}`, 400, 7504},
		"101 inputs":       {"embeddings", `{"model":"` + embedModel + `","input":["` + strings.Repeat(`a","`, 100) + `b"]}`, 400, 7504},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+root+"v1/"+tt.path, strings.NewReader(tt.body))
			req.Header.Set("Authorization", "Bearer any")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var got struct {
				Error struct {
					Message, Type string
					Code          int
				}
			}
			if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tt.status || got.Error.Code != tt.code || got.Error.Message == "" || got.Error.Type != "invalid_request_error" {
				t.Errorf("%d %+v, want %d and code %d", resp.StatusCode, got.Error, tt.status, tt.code)
			}
			if (tt.status == 429) != (resp.Header.Get("Retry-After") != "") {
				t.Errorf("Retry-After %q with status %d", resp.Header.Get("Retry-After"), resp.StatusCode)
			}
		})
	}
}

// TestRejectIfBusy: a request that asked not to wait is refused at once while the engine is busy, and served when it is not.
func TestRejectIfBusy(t *testing.T) {
	t.Parallel()
	busy, free := make(chan struct{}, 10), make(chan struct{})
	u := newUpstream(t)
	hold := func(r *http.Request) {
		busy <- struct{}{}
		select {
		case <-free:
		case <-r.Context().Done():
		}
	}
	u.embed = func(_ http.ResponseWriter, r *http.Request, texts []string) bool {
		if texts[0] == "hold" {
			hold(r)
		}
		return false
	}
	u.chat = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/rerank" {
			hold(r)
			fmt.Fprint(w, `{"results":[{"index":0,"relevance_score":1}]}`)
			return
		}
		hold(r)
		talker(w, r)
	}
	one := func(task, name string) modelhost.Model {
		return modelhost.Model{Name: name, Task: task, Backends: []modelhost.Backend{{URL: u.URL, Kind: "llama", InFlight: 1, Queue: 1}}}
	}
	h, err := modelhost.New(modelhost.Config{Logger: slog.New(slog.DiscardHandler), Catalogue: modelhost.Catalogue{Models: []modelhost.Model{
		one(modelhost.TaskTextGeneration, chatModel), one(modelhost.TaskEmbeddings, embedModel), one(modelhost.TaskReranking, reranker)}}})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h.Handler())
	t.Cleanup(func() { srv.Close(); h.Close() })
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(h.Collectors()...)
	waiting := func(model string) bool {
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.Metric {
				if f.GetName() == "footnote_model_queue_waiting" && m.Label[0].GetValue() == model {
					return m.GetGauge().GetValue() == 1
				}
			}
		}
		return false
	}
	held := strings.Repeat(`hold","`, 9) + "hold" // more than a question, whose requests overtake
	calls := map[string]string{
		chatModel:  `{"prompt":"a"%s}`,
		embedModel: `{"text":["` + held + `"]%s}`,
		reranker:   `{"query":"a","contexts":[{"text":"b"}]%s}`,
	}
	done := make(chan int, 10)
	ask := func(model string) {
		resp, _ := post(t, srv.URL+root+"run/"+model, fmt.Sprintf(calls[model], ""))
		done <- resp.StatusCode
	}
	for model, body := range calls {
		go ask(model)
		<-busy
		resp, env := post(t, srv.URL+root+"run/"+model, fmt.Sprintf(body, `,"options":{"rejectIfBusy":true}`))
		if resp.StatusCode != 429 || env.Errors[0].Code != 7505 || env.Messages[0].Code != 3040 || resp.Header.Get("Retry-After") != "1" {
			t.Errorf("%s, asked not to wait: %d %+v, Retry-After %q; want 429, 7505, 3040 and 1", model, resp.StatusCode, env, resp.Header.Get("Retry-After"))
		}
	}
	for model := range calls { // one waits, the next is over the queue: that is told at once
		go ask(model)
		waitFor(t, func() bool { return waiting(model) })
		resp, env := post(t, srv.URL+root+"run/"+model, fmt.Sprintf(calls[model], ""))
		if resp.StatusCode != 429 || !strings.Contains(env.Errors[0].Message, "1 requests already wait") {
			t.Errorf("%s, over the queue: %d %+v, want 429", model, resp.StatusCode, env.Errors)
		}
	}
	close(free)
	for range 6 {
		if got := <-done; got != 200 {
			t.Errorf("a request that waited got %d", got)
		}
	}
	for model, body := range calls {
		if resp, _ := post(t, srv.URL+root+"run/"+model, fmt.Sprintf(body, `,"options":{"rejectIfBusy":true}`)); resp.StatusCode != 200 {
			t.Errorf("%s, free again: %d", model, resp.StatusCode)
		}
	}
}
