package modelhost_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/modelhost"
)

// bindingCall is one request as Miniflare's remote proxy makes it.
type bindingCall struct {
	method, query, url, model, contentType, body string
}

// do sends it and returns status, headers and body.
func (b bindingCall) do(t *testing.T, srv *httptest.Server) (*http.Response, string) {
	t.Helper()
	if b.method == "" {
		b.method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(t.Context(), b.method, srv.URL+modelhost.BindingPath+b.query, strings.NewReader(b.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("mf-binding", "AI")
	for name, value := range map[string]string{"mf-url": b.url, "mf-header-cf-consn-model-id": b.model, "mf-header-content-type": b.contentType} {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// run is env.AI.run(model, inputs, options).
func run(model, inputs, options string) bindingCall {
	return bindingCall{url: "https://workers-binding.ai/run?version=3", model: model, contentType: "application/json",
		body: `{"inputs":` + inputs + `,"options":` + options + `}`}
}

func TestBindingRun(t *testing.T) {
	t.Parallel()
	up := newUpstream(t)
	up.chat = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\ndata: [DONE]\n\n")
	}
	srv := newHost(t, up.URL, nil)
	gateway := run(embedModel, `{"text":"a"}`, `{"gateway":{"id":"g"}}`)
	gateway.url = "https://workers-binding.ai/ai-gateway/run?version=3"
	prefixed := run("workers-ai:"+embedModel, `{"text":"a"}`, `{}`)
	get := run(embedModel, `{}`, `{}`)
	get.method = http.MethodGet
	for _, c := range []struct {
		name   string
		call   bindingCall
		status int
		kind   string
		want   string
	}{
		{"embeddings are the bare result", run(embedModel, `{"text":["a","b"]}`, `{}`), 200, "application/json", `{"shape":[2,384],`},
		{"through a gateway", gateway, 200, "application/json", `{"shape":[1,384],`},
		{"with a prefix", prefixed, 200, "application/json", `{"shape":[1,384],`},
		{"stream", run(chatModel, `{"prompt":"a","stream":true}`, `{}`), 200, "text/event-stream", "data: {\"response\":\"Hi\"}\n\n"},
		{"wrong input", run(embedModel, `{"txt":"a"}`, `{}`), 400, "application/json", `"internalCode":7504,"message":"InvalidInput: `},
		{"no such model", run("@cf/no/such", `{}`, `{}`), 404, "application/json", `"internalCode":7502`},
		{"not by GET", get, 405, "application/json", `"internalCode":7001`},
		{"no call", bindingCall{url: "https://workers-binding.ai/run", model: embedModel, contentType: "application/json", body: "{"}, 400, "application/json", `"internalCode":7504`},
		{"stream input with broken userInputs", bindingCall{url: "https://workers-binding.ai/run?userInputs={", model: embedModel, contentType: "audio/wav", body: "x"}, 400, "application/json", `userInputs`},
		{"what is not served", bindingCall{url: "https://workers-binding.ai/autorag/rags", method: "GET"}, 404, "application/json", `"errors":[{"code":7000`},
		{"the RPC probe", bindingCall{method: "GET", query: "?MF-Binding=AI"}, 426, "application/json", "no RPC sessions"},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, body := c.call.do(t, srv)
			if resp.StatusCode != c.status || resp.Header.Get("Content-Type") != c.kind || !strings.Contains(body, c.want) || (c.status == 200 && !strings.HasPrefix(body, c.want)) {
				t.Errorf("HTTP %d, %s, %.200s, want %d, %s and %q", resp.StatusCode, resp.Header.Get("Content-Type"), body, c.status, c.kind, c.want)
			}
			if c.status == 200 && resp.Header.Get("Cf-Ai-Req-Id") == "" {
				t.Error("no cf-ai-req-id: env.AI.lastRequestId would be null")
			}
		})
	}
}

func TestBindingBatch(t *testing.T) {
	t.Parallel()
	srv := newHost(t, newUpstream(t).URL, nil)
	var queued struct {
		RequestID string            `json:"request_id"`
		Responses []json.RawMessage `json:"responses"`
	}
	_, body := run(embedModel, `{"requests":[{"text":"a"}]}`, `{"queueRequest":true}`).do(t, srv)
	if err := json.Unmarshal([]byte(body), &queued); err != nil || queued.RequestID == "" {
		t.Fatalf("queue a batch: %s, %v, want a request_id", body, err)
	}
	for len(queued.Responses) == 0 { // the test's deadline bounds it
		resp, body := run(embedModel, `{"request_id":"`+queued.RequestID+`"}`, `{}`).do(t, srv)
		if err := json.Unmarshal([]byte(body), &queued); err != nil || resp.StatusCode != 200 {
			t.Fatalf("ask after the batch: HTTP %d, %s, %v", resp.StatusCode, body, err)
		}
	}
}

func TestBindingBeside(t *testing.T) {
	t.Parallel()
	srv := newHost(t, newUpstream(t).URL, nil)
	at := func(method, path, body string) bindingCall {
		return bindingCall{method: method, url: "https://workers-binding.ai" + path, contentType: "application/json", body: body}
	}
	for _, c := range []struct {
		name string
		call bindingCall
		want []string
	}{
		{"models", at("GET", "/ai-api/models/search?search=bge-base&per_page=1", ""), []string{`"name":"@cf/baai/bge-base-en-v1.5"`, `"total_count":1`}},
		{"toMarkdown", at("POST", "/to-everything/markdown/transformer", `{"files":[{"name":"a.html","mimeType":"text/html","data":"PGgxPlRlYTwvaDE+"}]}`), []string{`"data":"# Tea\n"`, `"id":"`}},
		{"supported", at("GET", "/to-everything/markdown/supported", ""), []string{`{"mimeType":"text/csv","extension":".csv"}`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, body := c.call.do(t, srv)
			for _, want := range c.want {
				if resp.StatusCode != 200 || !strings.Contains(body, want) {
					t.Errorf("HTTP %d, %.300s, want %s", resp.StatusCode, body, want)
				}
			}
		})
	}
}

func TestBindingAuthentication(t *testing.T) {
	t.Parallel()
	closed := newHost(t, newUpstream(t).URL, func(c *modelhost.Config) { c.Tokens, c.Accounts = []string{"secret"}, []string{"acc"} })
	for query, want := range map[string]int{"": 401, "?token=wrong&account=acc": 401, "?token=secret": 404, "?token=secret&account=acc": 200} {
		call := run(embedModel, `{"text":"a"}`, `{}`)
		call.query = query
		if resp, body := call.do(t, closed); resp.StatusCode != want {
			t.Errorf("binding%s: HTTP %d, %s, want %d", query, resp.StatusCode, body, want)
		}
	}
}

// A web page can give its own name any address, this machine's too: without tokens such a name is refused.
func TestForeignNameRefused(t *testing.T) {
	t.Parallel()
	srv := newHost(t, newUpstream(t).URL, nil)
	for name, want := range map[string]int{"localhost:1": 200, "[::1]:1": 200, "evil.example": 401} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+root+"models/search", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = name
		req.Header.Set("Authorization", "Bearer any")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("sent to %s: HTTP %d, want %d", name, resp.StatusCode, want)
		}
	}
}
