package modelhost

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/footnote-rag/footnote/workersai"
)

// Engine is a running model server, local as a rule.
type Engine interface {
	// Acquire returns the root URL of the server (without /v1), starting it first if need be and waiting until it
	// answers. A server that has died since is started anew. release, never nil when err is nil, says that the caller
	// is done with it; an engine may stop when nobody holds it.
	Acquire(ctx context.Context) (baseURL string, release func(), err error)
}

// keyed is an engine whose server wants a bearer token.
type keyed interface{ key() string }

type urlEngine struct{ url, token string }

// URLEngine is a server at a fixed URL that somebody else runs: vLLM, Ollama, TEI, or a llama.cpp server. key is its
// bearer token, "" for none.
func URLEngine(url, key string) Engine {
	url = strings.TrimSuffix(strings.TrimRight(url, "/"), "/v1")
	return urlEngine{url: url, token: key}
}

func (e urlEngine) Acquire(context.Context) (string, func(), error) { return e.url, func() {}, nil }
func (e urlEngine) key() string                                     { return e.token }

// backend is a model resolved to the engine that serves it.
type backend struct {
	Model
	Backend
	engine  Engine
	client  *http.Client
	gate    *gate
	embeds  *scheduler
	metrics *metrics
}

// servedBy is the weights' name where they are a stand-in.
func (b *backend) servedBy() string { return b.StandIn }

const (
	maxEngineError = 64 << 10 // bytes of an engine's error that we read
	maxEngineReply = 64 << 20 // bytes of a whole reply: 100 rows of 4096 numbers are about 10 MB

	// restartPatience is how long a request waits for an engine that refuses connections: its supervisor is starting it.
	restartPatience = 10 * time.Second
	firstPause      = 25 * time.Millisecond
)

// reply is an engine's 200; the caller closes it.
type reply struct {
	*http.Response
	release func()
}

// Close ends the request and lets go of the engine.
func (r *reply) Close() {
	_ = r.Body.Close()
	r.release()
}

// request is one request to an engine, repeatable.
type request struct {
	method      string // default POST
	path        string
	contentType string // default application/json
	body        []byte
}

// do sends a request. An engine that refuses the connection is asked again until restartPatience is over, for nothing
// was sent; one that dies under a request gets it once more. The error is a *failure or the context's.
func (b *backend) do(ctx context.Context, q request) (*reply, error) {
	deadline := time.Now().Add(restartPatience)
	pause := firstPause
	for died := 0; ; {
		r, err := b.once(ctx, q)
		var f *failure
		if err == nil || errors.As(err, &f) || ctx.Err() != nil {
			return r, cmpErr(ctx.Err(), err)
		}
		if !refused(err) {
			died++
		}
		if died > 1 || time.Now().After(deadline) {
			return nil, engineFailed(fmt.Sprintf("the engine of %s does not answer: %v", b.Name, err), err)
		}
		if err := wait(ctx, pause); err != nil {
			return nil, err
		}
		pause = min(2*pause, time.Second)
	}
}

// cmpErr prefers the context's end to what it caused.
func cmpErr(ctxErr, err error) error {
	if err != nil && ctxErr != nil {
		return ctxErr
	}
	return err
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// refused says that nothing listened: the request was never sent.
func refused(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" || errors.Is(err, syscall.ECONNREFUSED)
}

// once acquires the engine and sends the request.
func (b *backend) once(ctx context.Context, q request) (*reply, error) {
	base, release, err := b.engine.Acquire(ctx)
	if err != nil {
		if f := (*failure)(nil); errors.As(err, &f) || ctx.Err() != nil {
			return nil, cmpErr(ctx.Err(), err)
		}
		return nil, engineFailed(fmt.Sprintf("the engine of %s cannot be started: %v", b.Name, err), err)
	}
	resp, err := b.send(ctx, base, q)
	if err != nil {
		release()
		return nil, err
	}
	if resp.StatusCode/100 == 2 {
		return &reply{resp, release}, nil
	}
	defer release()
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxEngineError))
	return nil, b.readError(resp, text)
}

func (b *backend) send(ctx context.Context, base string, q request) (*http.Response, error) {
	if q.method == "" {
		q.method = http.MethodPost
	}
	if q.contentType == "" {
		q.contentType = "application/json"
	}
	req, err := http.NewRequestWithContext(ctx, q.method, base+q.path, bytes.NewReader(q.body))
	if err != nil {
		return nil, engineFailed("the URL of "+b.Name+"'s engine is wrong", err)
	}
	req.Header.Set("Content-Type", q.contentType)
	if k, ok := b.engine.(keyed); ok && k.key() != "" {
		req.Header.Set("Authorization", "Bearer "+k.key())
	}
	return b.client.Do(req)
}

// call sends a request and decodes the whole reply. A connection lost while reading counts as the engine's death.
func (b *backend) call(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode for the engine of %s: %w", b.Name, err)
	}
	return b.exchange(ctx, request{path: path, body: body}, out)
}

// exchange sends a request of any content type and decodes the whole reply.
func (b *backend) exchange(ctx context.Context, q request, out any) error {
	for attempt := 0; ; attempt++ {
		r, err := b.do(ctx, q)
		if err != nil {
			return err
		}
		data, err := io.ReadAll(io.LimitReader(r.Body, maxEngineReply))
		r.Close()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			return b.decode(data, out)
		case attempt > 0:
			return engineFailed(fmt.Sprintf("the engine of %s broke off its answer twice", b.Name), err)
		}
	}
}

func (b *backend) decode(data []byte, out any) error {
	if err := json.Unmarshal(data, out); err != nil {
		return engineFailed(fmt.Sprintf("the engine of %s gave an answer we cannot read", b.Name), err)
	}
	return nil
}

// engineError is what OpenAI-compatible servers put in "error", and TEI beside it.
type engineError struct {
	Message      string `json:"message"`
	Type         string `json:"type"`
	PromptTokens int    `json:"n_prompt_tokens"`
	Context      int    `json:"n_ctx"`
}

func parseEngineError(text []byte) engineError {
	var w struct {
		Error     json.RawMessage `json:"error"`
		ErrorType string          `json:"error_type"`
		Message   string          `json:"message"`
		Why       string          `json:"explanation"` // Apertium: message is the status's name
		Detail    json.RawMessage `json:"detail"`      // FastAPI: a string, or a list of what is wrong
	}
	e := engineError{}
	if json.Unmarshal(text, &w) == nil {
		if json.Unmarshal(w.Error, &e) != nil {
			_ = json.Unmarshal(w.Error, &e.Message) // TEI and Ollama: a string; else the fallback below
		}
		e.Message = cmp.Or(e.Message, w.Why, w.Message)
		if e.Message == "" && len(w.Detail) > 0 && json.Unmarshal(w.Detail, &e.Message) != nil {
			e.Message = string(w.Detail[:min(len(w.Detail), 500)])
		}
		if e.Type == "" {
			e.Type = w.ErrorType
		}
	}
	if e.Message == "" {
		e.Message = strings.TrimSpace(string(text[:min(len(text), 500)]))
	}
	return e
}

// readError maps an engine's refusal to ours.
func (b *backend) readError(resp *http.Response, text []byte) error {
	e := parseEngineError(text)
	cause := fmt.Errorf("engine of %s: HTTP %d: %s", b.Name, resp.StatusCode, e.Message)
	if f := b.refusal(e); f != nil {
		return f
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		after, _ := time.ParseDuration(resp.Header.Get("Retry-After") + "s") // absent or a date: one second
		f := tooBusy("the engine of "+b.Name+" is busy: "+e.Message, after)
		f.cause = cause
		return f
	case http.StatusRequestEntityTooLarge:
		return &failure{status: http.StatusRequestEntityTooLarge, code: workersai.CodeNativeTooLarge, cause: cause,
			message: "too much for the engine of " + b.Name + ": " + e.Message}
	case http.StatusBadRequest, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		f := invalid(e.Message, "the engine of "+b.Name+" refused the request: "+e.Message)
		f.cause = cause
		return f
	}
	return engineFailed(fmt.Sprintf("the engine of %s failed with HTTP %d: %s", b.Name, resp.StatusCode, e.Message), cause)
}

// refusal recognises an input that is too long, in the words of the engines we know.
func (b *backend) refusal(e engineError) *failure {
	long := e.Type == "exceed_context_size_error"
	for _, words := range []string{"too large to process", "maximum context length", "exceeds the available context size", "must have less than"} {
		long = long || strings.Contains(e.Message, words)
	}
	if !long {
		return nil
	}
	limit := e.Context
	if limit == 0 {
		limit = max(b.MaxTokens, b.ContextWindow)
	}
	return overContext(e.PromptTokens, limit, "the input is longer than "+b.Name+" takes here: "+e.Message)
}

// newEngineClient is shared by all engines. No timeout: requests carry contexts.
func newEngineClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		MaxIdleConnsPerHost: 64, // as many as requests may run at a time on one engine
		IdleConnTimeout:     90 * time.Second,
		DisableCompression:  true,
		TLSHandshakeTimeout: 10 * time.Second,
	}}
}
