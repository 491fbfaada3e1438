package workersai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
)

var modelName = regexp.MustCompile(`^[@A-Za-z0-9][@A-Za-z0-9._:-]*(/[@A-Za-z0-9][@A-Za-z0-9._:-]*)*$`)

// Run runs a model and decodes the envelope's result into out, which may be nil. Errors are *Error, *ReplyError, or
// match ErrUnreachable or the context's.
func (c *Client) Run(ctx context.Context, model string, input, out any) error {
	_, err := c.runEnvelope(ctx, model, "", input, out)
	return err
}

// RunAs runs a model and returns its result as a T.
func RunAs[T any](ctx context.Context, c *Client, model string, input any) (T, error) {
	var out T
	err := c.Run(ctx, model, input, &out)
	return out, err
}

// RunRaw runs a model and returns the answer's bytes as they came: an image, as a rule.
func (c *Client) RunRaw(ctx context.Context, model string, input any) ([]byte, error) {
	q, err := runCall(model, "", input)
	if err != nil {
		return nil, err
	}
	var data []byte
	q.read = func(resp *http.Response) (err error) {
		data, err = readBody(ctx, resp, model)
		return err
	}
	return data, c.withFallback(ctx, q)
}

// runCall prepares a call of a model. query is added to the address.
func runCall(model, query string, input any) (call, error) {
	if !modelName.MatchString(model) {
		return call{}, invalid(model, "not a model name", "a name looks like @cf/baai/bge-base-en-v1.5")
	}
	body, err := json.Marshal(input)
	if err != nil {
		return call{}, &Error{Model: model, Message: "encode input: " + err.Error(), kind: ErrInvalidInput}
	}
	return call{model: model, method: http.MethodPost, query: query, body: body, contentType: "application/json"}, nil
}

// invalid is an input that is refused before it is sent.
func invalid(model, message, remedy string) *Error {
	return &Error{Model: model, Message: message, Remedy: remedy, kind: ErrInvalidInput}
}

func (c *Client) runEnvelope(ctx context.Context, model, query string, input, out any) (Envelope[json.RawMessage], error) {
	q, err := runCall(model, query, input)
	if err != nil {
		return Envelope[json.RawMessage]{}, err
	}
	return c.envelope(ctx, q, out)
}

// get reads another address below /ai.
func (c *Client) get(ctx context.Context, path string, query url.Values, out any) error {
	_, err := c.envelope(ctx, call{path: path, method: http.MethodGet, query: query.Encode()}, out)
	return err
}

// envelope makes a call whose answer is an envelope, and decodes its result into out, which may be nil.
func (c *Client) envelope(ctx context.Context, q call, out any) (env Envelope[json.RawMessage], err error) {
	q.read = func(resp *http.Response) error {
		data, err := readBody(ctx, resp, q.name())
		if err != nil {
			return err
		}
		env, err = c.decodeEnvelope(data, q.model)
		return err
	}
	if err = c.withFallback(ctx, q); err != nil || out == nil {
		return env, err
	}
	if err := json.Unmarshal(env.Result, out); err != nil {
		return env, &ReplyError{Model: q.model, Row: -1, Reason: "result has another shape", Err: err}
	}
	return env, nil
}

func (c *Client) decodeEnvelope(data []byte, model string) (env Envelope[json.RawMessage], err error) {
	if err := json.Unmarshal(data, &env); err != nil {
		return env, &ReplyError{Model: model, Row: -1, Reason: "not the API's JSON: " + clean(c.redact(string(data)), maxRawText), Err: err}
	}
	if !env.Success {
		return env, c.parseError(http.StatusOK, data)
	}
	if len(env.Result) == 0 {
		env.Result = json.RawMessage("null")
	}
	return env, nil
}

// readBody reads a plain answer whole; one that breaks off counts as unreachable, and is asked again.
func readBody(ctx context.Context, resp *http.Response, name string) ([]byte, error) {
	data, err := io.ReadAll(resp.Body)
	return data, brokenOff(ctx, name+": answer broke off", err)
}

// brokenOff says with what a failure to read an answer has to do: the caller's own end, an answer that is too long, or a lost connection.
func brokenOff(ctx context.Context, name string, err error) error {
	switch {
	case err == nil || errors.Is(err, ErrBadReply):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", name, ctx.Err())
	}
	return fmt.Errorf("%w: %s: %w", ErrUnreachable, name, err)
}
