package api_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"github.com/footnote-rag/footnote/api"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

func description(t *testing.T, raw []byte) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		t.Fatal(err)
	}
	return doc
}

var pathParameter = regexp.MustCompile(`:(\w+)`)

// described writes a route as the description does.
func described(path string) string {
	path = pathParameter.ReplaceAllString(path, "{$1}")
	if strings.HasPrefix(path, "/assets/") {
		return strings.Replace(path, "*", "{file}", 1)
	}
	return strings.Replace(path, "*", "{path}", 1)
}

func TestDescriptionHasEveryRoute(t *testing.T) {
	t.Parallel()
	w := setup(t, func(c *api.Config, _ *[]workersaitest.Option) { c.ModelHost = http.NotFoundHandler() })
	r := w.get("/openapi.yaml")
	if link := r.Header.Get("Link"); !strings.Contains(link, "</openapi.yaml>") {
		t.Errorf("Link = %q", link)
	}
	doc := description(t, r.body)
	var routes, paths []string
	for _, r := range w.api.Routes() {
		path := described(r[1])
		if strings.HasSuffix(r[1], "/*") && !strings.HasPrefix(path, "/assets") && r[0] != "POST" {
			continue // the model host answers every method; its own API has POST
		}
		routes = append(routes, r[0]+" "+path)
	}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			paths = append(paths, method+" "+path)
		}
	}
	slices.Sort(routes)
	slices.Sort(paths)
	if !slices.Equal(routes, paths) {
		t.Errorf("routes:\n%s\ndescribed:\n%s", strings.Join(routes, "\n"), strings.Join(paths, "\n"))
	}
}

// validator checks each request and response that passes against the description, and remembers the operations seen.
type validator struct {
	*testing.T
	router routers.Router
	next   http.RoundTripper
	seen   map[string]bool
}

func (v *validator) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	resp, err := v.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(raw))
	if err != nil {
		return resp, err
	}
	route, params, err := v.router.FindRoute(r)
	if err != nil {
		v.Errorf("%s %s: %v", r.Method, r.URL, err)
		return resp, nil
	}
	v.seen[route.Operation.OperationID] = true
	in := &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true, ExcludeResponseBody: skipBody(resp)}}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: resp.StatusCode, Header: resp.Header, Options: in.Options}
	out.SetBodyBytes(raw)
	if err := openapi3filter.ValidateResponse(r.Context(), out); err != nil {
		v.Errorf("%s %s: %v\n%.500s", r.Method, r.URL, err, raw)
	}
	return resp, nil
}

// skipBody: text formats have no schema worth checking; JSON has.
func skipBody(r *http.Response) bool {
	return !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json")
}

func TestRepliesMatchTheDescription(t *testing.T) {
	t.Parallel()
	w := setup(t)
	doc := description(t, w.get("/openapi.yaml").body)
	doc.Servers = nil // the router takes "/" for a host
	router, err := legacy.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	v := &validator{T: t, router: router, next: w.client.Transport, seen: map[string]bool{}}
	w.client = &http.Client{Transport: v}

	put := w.add("travel.md", handbook)
	w.post("/v1/illustrate", `{"prompt":"x"}`)
	w.send("POST", "/v1/transcribe", "audio/wav", bytes.NewReader(speech("words ")))
	w.send("POST", "/v1/search", "audio/wav", bytes.NewReader(speech("visa for Japan")))
	w.post("/v1/documents", `{"uri":"queued","text":"x"}`)
	w.post("/v1/documents", `{"uri":"queued"}`)
	w.send("POST", "/v1/documents?uri=broken.pdf&wait=60s", "application/pdf", strings.NewReader("%PDF-1.4 no"))
	w.send("POST", "/v1/documents", "application/x-ndjson", strings.NewReader(`{"uri":"l","text":"x"}`+"\n"))
	w.get("/v1/documents?limit=1")
	w.get("/v1/documents?status=nonsense")
	for _, part := range []string{"", "/text", "/chunks", "/source"} {
		w.get("/v1/documents/" + put.ID + part)
		w.get("/v1/documents/019a0000-0000-7000-8000-000000000000" + part)
	}
	w.post("/v1/documents/plan", `{"documents":[{"uri":"a","sha256":"`+strings.Repeat("0", 64)+`"}]}`)
	w.post("/v1/collections", `{"name":"new"}`)
	w.post("/v1/collections", `{"name":"new"}`)
	w.get("/v1/collections")
	w.get("/v1/collections/new")
	w.send("DELETE", "/v1/collections/new", "", nil)
	w.post("/v1/search", `{"query":"visa for Japan","filter":{"a":1}}`)
	w.post("/v1/search", `{"query":"visa for Japan"}`)
	w.post("/v1/search", `{"query":"And how long does it take?","messages":[{"role":"user","content":"What is a visa for Japan?"}],"understand":{"decompose":true}}`)
	w.post("/v1/answer", `{"question":"How long does a visa for Japan take?"}`)
	w.post("/v1/answer", `{"question":""}`)
	var kept struct{ ID, Thread string }
	w.into(w.post("/v1/answer", `{"question":"How long does a visa for Japan take?","thread":"new"}`), 200, &kept)
	w.into(w.post("/v1/answer", `{"question":"And for how long are receipts kept?","previous_id":"`+kept.ID+`"}`), 200, nil)
	w.into(w.get("/v1/answers/"+kept.ID), 200, nil)
	w.get("/v1/answers/" + kept.ID + "/events")
	w.get("/v1/answers/none/events")
	w.into(w.send("DELETE", "/v1/answers/"+kept.ID, "", nil), 204, nil)
	w.into(w.post("/v1/threads", `{"title":"Travel"}`), 201, nil)
	w.into(w.get("/v1/threads?limit=1"), 200, nil)
	w.into(w.get("/v1/threads/"+kept.Thread), 200, nil)
	w.into(w.send("DELETE", "/v1/threads/"+kept.Thread, "", nil), 204, nil)
	w.send("DELETE", "/v1/threads/"+kept.Thread, "", nil)
	w.post("/v1/chat/completions", `{"model":"footnote","messages":[{"role":"user","content":"How long does a visa take?"}]}`)
	for _, path := range []string{"/v1/models", "/livez", "/readyz", "/metrics", "/openapi.yaml", "/", "/assets/app.css"} {
		w.into(w.get(path), 200, nil)
	}
	w.send("DELETE", "/v1/documents/"+put.ID, "", nil)

	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			if !v.seen[op.OperationID] && op.OperationID != "" {
				t.Errorf("%s %s was not exercised", method, path)
			}
		}
	}
}
