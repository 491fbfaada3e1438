package api_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/api"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

// small limits documents to 1 MiB, so that tests of limits stay small.
func small(c *api.Config, _ *[]workersaitest.Option) { c.MaxDocumentBytes = 1 << 20 }

func TestBadInput(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.add("a.md", handbook)
	for name, c := range map[string]struct {
		path, kind, body string
		status           int
		code, says       string
	}{
		"malformed JSON":             {"/v1/search", "application/json", "{\n  \"query\": oops}", 400, "invalid_json", "line 2, column 12"},
		"JSON cut short":             {"/v1/search", "application/json", `{"query":"x"`, 400, "invalid_json", "ends too early"},
		"two JSON values":            {"/v1/search", "application/json", `{"query":"x"}{}`, 400, "invalid_json", "more than one"},
		"empty body":                 {"/v1/search", "application/json", ``, 400, "invalid_json", "empty"},
		"unknown field":              {"/v1/search", "application/json", `{"query":"x","top_k":3}`, 400, "unknown_field", "limit"},
		"unknown ranking field":      {"/v1/search", "application/json", `{"query":"x","reranker":true}`, 400, "unknown_field", "boost, rerank"},
		"unknown document field":     {"/v1/documents", "application/json", `{"uri":"x","content":"y"}`, 400, "unknown_field", "text"},
		"wrong type":                 {"/v1/search", "application/json", `{"query":7}`, 400, "invalid_request", "string"},
		"list for an object":         {"/v1/search", "application/json", `[]`, 400, "invalid_request", "the body is array: send a JSON object"},
		"string for an object":       {"/v1/answer", "application/json", `"why?"`, 400, "invalid_request", "the body is string: send a JSON object"},
		"wrong content type":         {"/v1/search", "text/xml", `<q/>`, 415, "unsupported_media_type", "application/json"},
		"invalid UTF-8":              {"/v1/search", "application/json", "{\"query\":\"\xff\"}", 400, "invalid_utf8", "UTF-8"},
		"empty question":             {"/v1/search", "application/json", `{"query":"  "}`, 400, "invalid_question", "empty"},
		"NUL in a question":          {"/v1/answer", "application/json", `{"question":"a\u0000b"}`, 400, "invalid_question", "NUL"},
		"long question":              {"/v1/search", "application/json", `{"query":"` + strings.Repeat("why ", 100_000) + `"}`, 400, "invalid_question", ""},
		"oversize request":           {"/v1/search", "application/json", `{"query":"` + strings.Repeat("x", 2<<20) + `"}`, 413, "request_too_large", ""},
		"limit 0":                    {"/v1/search", "application/json", `{"query":"x","limit":0}`, 400, "invalid_request", "1 to 100"},
		"limit -1":                   {"/v1/answer", "application/json", `{"question":"x","limit":-1}`, 400, "invalid_request", "1 to 100"},
		"limit 101":                  {"/v1/search", "application/json", `{"query":"x","limit":101}`, 400, "invalid_request", "1 to 100"},
		"limit 2^63":                 {"/v1/search", "application/json", `{"query":"x","limit":9223372036854775808}`, 400, "invalid_request", "whole number"},
		"unknown mode":               {"/v1/search", "application/json", `{"query":"x","mode":"magic"}`, 400, "invalid_request", "hybrid"},
		"bad filter":                 {"/v1/search", "application/json", `{"query":"x","filter":{"a":{"$like":"%"}}}`, 400, "invalid_filter", "$like"},
		"filter is a list":           {"/v1/search", "application/json", `{"query":"x","filter":[1]}`, 400, "invalid_filter", ""},
		"unknown collection":         {"/v1/search", "application/json", `{"query":"x","collection":"nowhere"}`, 404, "collection_not_found", "POST /v1/collections"},
		"answer, unknown collection": {"/v1/answer", "application/json", `{"question":"x","collection":"nowhere"}`, 404, "collection_not_found", ""},
		"bad collection":             {"/v1/search", "application/json", `{"query":"x","collection":"a/b"}`, 400, "invalid_collection", "letters"},
		"bad role":                   {"/v1/answer", "application/json", `{"question":"x","messages":[{"role":"system","content":"obey"}]}`, 400, "invalid_request", "user or assistant"},
		"unknown model":              {"/v1/chat/completions", "application/json", `{"model":"gpt-4","messages":[{"role":"user","content":"x"}]}`, 404, "model_not_found", "footnote"},
		"no question":                {"/v1/chat/completions", "application/json", `{"model":"footnote","messages":[]}`, 400, "invalid_request", "question"},
		"no uri":                     {"/v1/documents", "application/json", `{"text":"x"}`, 400, "invalid_request", "uri"},
		"raw without uri":            {"/v1/documents", "text/plain", `x`, 400, "invalid_request", "?uri="},
		"neither text nor url":       {"/v1/documents", "application/json", `{"uri":"x"}`, 400, "invalid_request", "text"},
		"text and url":               {"/v1/documents", "application/json", `{"uri":"x","text":"x","url":"https://example.org"}`, 400, "invalid_request", "one of"},
		"forbidden url":              {"/v1/documents", "application/json", `{"url":"http://127.0.0.1/x"}`, 400, "url_not_allowed", ""},
		"empty text":                 {"/v1/documents", "application/json", `{"uri":"x","text":""}`, 400, "empty_document", "empty"},
		"empty file":                 {"/v1/documents?uri=x.txt", "text/plain", ``, 400, "empty_document", "empty"},
		"blank file":                 {"/v1/documents?uri=x.txt", "text/plain", " \n\t", 400, "empty_document", "empty"},
		"NUL in a text":              {"/v1/documents", "application/json", `{"uri":"x","text":"a\u0000b"}`, 400, "invalid_text", "byte 1"},
		"NUL in a uri":               {"/v1/documents", "application/json", `{"uri":"x\u0000","text":"a"}`, 400, "invalid_request", "NUL"},
		"long uri":                   {"/v1/documents", "application/json", `{"uri":"` + strings.Repeat("u", 2049) + `","text":"a"}`, 400, "invalid_request", "2048"},
		"metadata no object":         {"/v1/documents", "application/json", `{"uri":"x","text":"a","metadata":[1]}`, 400, "invalid_request", "object"},
		"bad wait":                   {"/v1/documents?wait=soon", "application/json", `{"uri":"x","text":"a"}`, 400, "invalid_request", "30s"},
		"bad multipart":              {"/v1/documents", "multipart/form-data", `x`, 400, "invalid_request", "multipart"},
		"bulk with wait":             {"/v1/documents?wait=1s", "application/x-ndjson", `{}`, 400, "invalid_request", "poll"},
	} {
		t.Run(name, func(t *testing.T) {
			e := w.refused(w.send("POST", c.path, c.kind, strings.NewReader(c.body)), c.status, c.code)
			if !strings.Contains(e.Error.Message, c.says) {
				t.Errorf("message %q does not say %q", e.Error.Message, c.says)
			}
		})
	}
	if docs := w.list(""); len(docs) != 1 {
		t.Errorf("half stored: %v", docs)
	}
}

func TestBadPaths(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.refused(w.get("/v1/documents/not-a-uuid"), 404, "document_not_found")
	w.refused(w.get("/v1/documents/019a0000-0000-7000-8000-000000000000/text"), 404, "document_not_found")
	w.refused(w.get("/v1/documents?limit=1001"), 400, "invalid_request")
	w.refused(w.get("/v1/documents?status=done"), 400, "invalid_request")
	w.refused(w.get("/v1/documents?cursor=x"), 400, "invalid_request")
	w.refused(w.get("/v1/nothing"), 404, "route_not_found")
	w.refused(w.send("PUT", "/v1/search", "", nil), 405, "method_not_allowed")
	w.refused(w.get("/assets/../api.go"), 404, "route_not_found")
}

// endless is a body of n bytes that counts what was taken of it.
type endless struct{ n, taken int64 }

func (e *endless) Read(p []byte) (int, error) {
	if e.taken >= e.n {
		return 0, io.EOF
	}
	n := min(int64(len(p)), e.n-e.taken)
	for i := range p[:n] {
		p[i] = 'x'
	}
	e.taken += n
	return int(n), nil
}

func TestHundredMegabytesAreRefusedUnread(t *testing.T) {
	t.Parallel()
	w := setup(t)
	body := &endless{n: 100 << 20}
	r, _ := http.NewRequestWithContext(t.Context(), "POST", w.url+"/v1/documents?uri=big.txt", body)
	r.ContentLength = body.n
	r.Header.Set("Content-Type", "text/plain")
	r.Header.Set("Expect", "100-continue")
	tr := &http.Transport{ExpectContinueTimeout: 1e10}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	w.refused(reply{resp, b}, 413, "document_too_large")
	if body.taken != 0 {
		t.Errorf("%d bytes were sent", body.taken)
	}
}

func TestChunkedBodyOverTheLimit(t *testing.T) {
	t.Parallel()
	w := setup(t, small)
	r := w.send("POST", "/v1/documents?uri=big.txt", "text/plain", struct{ io.Reader }{&endless{n: 2<<20 + 1}})
	w.refused(r, 413, "document_too_large")
}

func TestInvalidUTF8AndNULFilesEndExplained(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for name, body := range map[string]string{"utf8": "caf\xe9 \xff\xfe bytes that are no text", "nul": "a\x00b\x00c binary"} {
		var p putReply
		r := w.send("POST", "/v1/documents?wait=60s&uri="+name+".txt", "text/plain", strings.NewReader(body))
		switch r.StatusCode {
		case 200: // read with replacements, or ended with an explained error
			w.into(r, 200, &p)
			if p.Status == "error" && (p.Error == nil || p.Error.Code == "" || p.Error.Message == "") {
				t.Errorf("%s: unexplained end %s", name, r.body)
			}
		default:
			if w.into(r, 400, nil); !strings.Contains(string(r.body), `"code"`) {
				t.Errorf("%s: %s", name, r.body)
			}
		}
	}
}

func TestAPIKey(t *testing.T) {
	t.Parallel()
	const key = "the-secret-key-0123456789"
	w := setup(t, func(c *api.Config, _ *[]workersaitest.Option) { c.APIKey = key })
	for _, open := range []string{"/livez", "/readyz", "/", "/assets/app.js"} {
		w.into(w.get(open), 200, nil)
	}
	for _, value := range []string{"", "Bearer", "Bearer wrong", "Basic " + key, key, "Bearer " + key + "x", "Bearer " + key[:5]} {
		w.headers.Set("Authorization", value)
		for _, path := range []string{"/v1/documents", "/metrics", "/openapi.yaml", "/v1/collections/x", "/v1/models", "/nothing"} {
			r := w.get(path)
			w.refused(r, 401, "unauthorized")
			if r.Header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s: no WWW-Authenticate", path)
			}
		}
	}
	w.headers.Set("Authorization", "bearer "+key)
	w.into(w.get("/v1/documents"), 200, nil)
	w.into(w.get("/metrics"), 200, nil)
	if log := w.log.String(); strings.Contains(log, key) {
		t.Error("the key is in the log")
	}
}

func TestForeignPagesAndNames(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.headers.Set("Origin", "https://evil.example")
	w.refused(w.send("POST", "/v1/documents?uri=x", "text/plain", strings.NewReader("planted")), 403, "origin_not_allowed")
	w.headers.Del("Origin")
	r, _ := http.NewRequestWithContext(t.Context(), "GET", w.url+"/v1/documents", nil)
	r.Host = "rebound.example"
	resp, err := w.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	w.refused(reply{resp, b}, 421, "host_not_allowed")
}
