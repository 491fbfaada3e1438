package workersai

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	firstBackoff   = 500 * time.Millisecond
	longestBackoff = 8 * time.Second
	jitterShare    = 0.25
	maxErrorBody   = 64 << 10 // bytes of an error's body that are read
	maxRawText     = 200      // bytes of a body that is no JSON, as a user may see it
	maxMessage     = 1000     // bytes of an error's message
)

// successors are the models that continue retired ones.
var successors = map[string]string{"@cf/meta/llama-3.1-8b-instruct": "@cf/meta/llama-3.1-8b-instruct-fp8"}

var modelName = regexp.MustCompile(`^[@A-Za-z0-9][@A-Za-z0-9._:-]*(/[@A-Za-z0-9][@A-Za-z0-9._:-]*)*$`)

// run posts body to the model and hands each answer of status 200 to read. It retries by the rules of the package
// comment, and only while read reports that nothing was delivered yet.
func (c *Client) run(ctx context.Context, model string, body []byte, stream bool, read func(*http.Response) error) error {
	if !modelName.MatchString(model) {
		return &Error{Model: model, Message: "not a model name", Remedy: "a name looks like @cf/baai/bge-base-en-v1.5", kind: ErrInvalidInput}
	}
	asked := model
	if next, ok := c.retire.Load(model); ok {
		model, _ = next.(string)
	}
	err := c.retry(ctx, model, body, stream, read)
	next, known := successors[model]
	if !c.cfg.FallbackDeprecated || !known || !errors.Is(err, ErrModelDeprecated) {
		return err
	}
	if _, again := c.retire.LoadOrStore(asked, next); !again && c.cfg.OnFallback != nil {
		c.cfg.OnFallback(asked, next)
	}
	if err = c.retry(ctx, next, body, stream, read); errors.Is(err, ErrModelDeprecated) {
		return fmt.Errorf("%s and its successor %s are both retired: %w", asked, next, err)
	}
	return err
}

// delivered marks a failure after the first event of a stream: it is final.
type delivered struct{ error }

func (d delivered) Unwrap() error { return d.error }

func (c *Client) retry(ctx context.Context, model string, body []byte, stream bool, read func(*http.Response) error) error {
	for try := 0; ; try++ {
		err := c.attempt(ctx, model, body, stream, read)
		var d delivered
		if errors.As(err, &d) {
			return d.error
		}
		if err == nil || try >= c.cfg.MaxRetries || ctx.Err() != nil || !retryable(err, try) {
			return err
		}
		wait := backoff(try)
		var e *Error
		if errors.As(err, &e) && e.RetryAfter > 0 {
			if wait = e.RetryAfter; wait > c.cfg.MaxRetryAfter {
				return err
			}
		}
		if werr := sleep(ctx, wait); werr != nil {
			return fmt.Errorf("%w while waiting to retry: %w", werr, err)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// backoff is 0.5 s, doubled each try up to 8 s, less up to 25 %.
func backoff(try int) time.Duration {
	d := min(firstBackoff<<min(try, 10), longestBackoff)
	return time.Duration(float64(d) * (1 - jitterShare*rand.Float64()))
}

// retryable: 408, 409, 429 and 5xx, and answers that never came or broke off; never a used-up quota; a model timeout once.
func retryable(err error, try int) bool {
	var e *Error
	if !errors.As(err, &e) {
		return errors.Is(err, ErrUnreachable)
	}
	switch {
	case e.kind == ErrQuotaExhausted:
		return false
	case e.Code == CodeNativeTimeout:
		return try == 0
	case e.kind == ErrRateLimited:
		return true
	case e.kind != nil:
		return false
	}
	return e.Status == 408 || e.Status == 409 || e.Status == 429 || e.Status >= 500
}

// attempt makes one request. An idle timer cancels it: one limit for a plain call, one between the reads of a stream.
func (c *Client) attempt(ctx context.Context, model string, body []byte, stream bool, read func(*http.Response) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	limit := c.cfg.Timeout
	if stream {
		limit = c.cfg.HeaderTimeout
	}
	var timer *time.Timer
	if limit > 0 {
		timer = time.AfterFunc(limit, func() { cancel(errSlow) })
		defer timer.Stop()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"/run/"+model, bytes.NewReader(body))
	if err != nil {
		return err
	}
	c.setHeaders(req, stream)
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(ctx, model, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return c.readFailure(resp, model)
	}
	resp.Body = &limitedBody{ReadCloser: resp.Body, left: c.cfg.MaxReplyBytes}
	if stream && timer != nil {
		resp.Body = &idleBody{ReadCloser: resp.Body, timer: timer, limit: c.cfg.IdleTimeout}
	}
	err = read(resp)
	var e *Error
	if errors.As(err, &e) {
		e.Model = model
	}
	if context.Cause(ctx) == errSlow && errors.Is(err, context.Canceled) {
		return reword(err, fmt.Errorf("%w: %s: %w", ErrUnreachable, model, errSlow))
	}
	return err
}

// reword keeps the mark of a failure that is final.
func reword(old, err error) error {
	var d delivered
	if errors.As(old, &d) {
		return delivered{err}
	}
	return err
}

var errSlow = errors.New("no answer in time")

// idleBody pushes the timer back with each read that brings something.
type idleBody struct {
	io.ReadCloser
	timer *time.Timer
	limit time.Duration
}

func (b *idleBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 && b.limit > 0 {
		b.timer.Reset(b.limit)
	} else if n > 0 {
		b.timer.Stop()
	}
	return n, err
}

// limitedBody refuses a reply longer than it may be, counted after inflating.
type limitedBody struct {
	io.ReadCloser
	left int64
}

func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, &ReplyError{Row: -1, Reason: "reply is longer than MaxReplyBytes"}
	}
	return n, err
}

func (c *Client) setHeaders(req *http.Request, stream bool) {
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", c.cfg.UserAgent)
	if stream {
		req.Header.Set("Accept", "text/event-stream, application/json")
	}
	if c.cfg.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.cfg.Token)
	}
	if c.cfg.GatewayID != "" {
		req.Header.Set(HeaderGateway, c.cfg.GatewayID)
	}
}

// unreachable wraps a failure of the transport; the caller's own cancellation stays what it is.
func (c *Client) unreachable(ctx context.Context, model string, err error) error {
	if cause := context.Cause(ctx); cause == errSlow {
		err = errSlow
	} else if cause != nil {
		return fmt.Errorf("%s: %w", model, ctx.Err())
	}
	var u interface{ Unwrap() error }
	if errors.As(err, &u) && u.Unwrap() != nil { // the URL in a *url.Error names the account
		err = u.Unwrap()
	}
	return fmt.Errorf("%w: %s: %w", ErrUnreachable, model, err)
}

// readFailure reads an answer that is not 200.
func (c *Client) readFailure(resp *http.Response, model string) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // what arrived is enough
	e := parseError(resp.StatusCode, body)
	e.Model, e.Ray = model, resp.Header.Get(HeaderRay)
	if e.RequestID == "" {
		e.RequestID = resp.Header.Get(HeaderRequestID)
	}
	e.RetryAfter = retryAfter(resp.Header.Get("Retry-After"))
	if c.cfg.Token != "" {
		e.Message = strings.ReplaceAll(e.Message, c.cfg.Token, "[token]")
	}
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		e.Remedy = "redirects are not followed: correct the base URL"
	}
	return e
}

// retryAfter reads seconds or an HTTP date; 0 for anything else.
func retryAfter(v string) time.Duration {
	if s, err := strconv.ParseFloat(strings.TrimSpace(v), 64); err == nil && s > 0 && s < 1e9 {
		return time.Duration(s * float64(time.Second))
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

var (
	requestID = regexp.MustCompile(`\s*\(([0-9a-fA-F]{8}-[0-9a-fA-F-]{4,27})\)\s*$`)
	prefixes  = regexp.MustCompile(`^(AiError:\s*|Ai:\s*)+`)
)

// parseError reads the four shapes of an error: errors[0], else error, else the text.
func parseError(status int, body []byte) *Error {
	var w struct {
		Errors   []Notice `json:"errors"`
		Messages []Notice `json:"messages"`
		Error    *struct {
			Code    json.RawMessage `json:"code"`
			Message json.RawMessage `json:"message"`
		} `json:"error"`
	}
	e := &Error{Status: status}
	isJSON := json.Unmarshal(body, &w) == nil
	switch e.Notices = w.Messages; {
	case isJSON && len(w.Errors) > 0:
		e.Code, e.Message = w.Errors[0].Code, w.Errors[0].Message
	case isJSON && w.Error != nil:
		e.CodeText, e.Message = rawText(w.Error.Code), rawText(w.Error.Message)
	default:
		e.Message = clean(string(body), maxRawText)
	}
	if m := requestID.FindStringSubmatchIndex(e.Message); m != nil {
		e.RequestID, e.Message = e.Message[m[2]:m[3]], e.Message[:m[0]]
	}
	e.Message = prefixes.ReplaceAllString(e.Message, "")
	param := e.readNested()
	if e.Message = clean(e.Message, maxMessage); e.Message == "" {
		e.Message = http.StatusText(status)
	}
	e.classify(param)
	return e
}

// readNested takes the backend's own error out of the message, and returns the parameter it complains about.
func (e *Error) readNested() string {
	var w struct {
		Error struct {
			Message string `json:"message"`
			Param   string `json:"param"`
		} `json:"error"`
	}
	if strings.HasPrefix(e.Message, "{") && json.Unmarshal([]byte(e.Message), &w) == nil && w.Error.Message != "" {
		e.Message = w.Error.Message
	}
	return w.Error.Param
}

// clean makes one line of valid text without control characters, of at most n bytes.
func clean(s string, n int) string {
	s = strings.ToValidUTF8(s[:min(len(s), 4*n)], "")
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) }), " ")
	return strings.ToValidUTF8(s[:min(len(s), n)], "")
}

// classify finds the sentinel: by code first, since a malformed token arrives as 400; then by status.
func (e *Error) classify(param string) {
	switch e.kind = kindOfCode(e.Code); {
	case param == "input_tokens":
		e.kind = ErrContextExceeded
	case e.Code == CodeNativeMaxContext && strings.Contains(strings.ToLower(e.Message), "flagged"):
		e.kind = ErrInvalidInput
	case e.kind == nil && e.Code != CodeNativeTimeout && e.Code != CodeNativeAborted:
		e.kind = kindOfStatus(e.Status)
	}
	switch {
	case e.kind == ErrModelDeprecated:
		e.Remedy = "use @cf/meta/llama-3.1-8b-instruct-fp8, or another current model"
	case e.Code == CodeEdgeNoRoute || e.Code == CodeEdgeInvalidObject:
		e.Remedy = "check the base URL, the account id and the model's name"
	case e.kind == ErrModelNotFound:
		e.Remedy = "check the model's name"
	case e.kind == ErrQuotaExhausted:
		e.Remedy = "the quota resets at 00:00 UTC; or upgrade the plan"
	case e.kind == ErrUnauthorized:
		e.Remedy = "check the token: it needs Workers AI Read and Edit"
	case e.Code == CodeNativeTimeout:
		e.Remedy = "lower max_tokens"
	}
}

func kindOfCode(code int) error {
	switch code {
	case CodeModelNotFound, CodeNativeModelNotFound, CodeNativeNoSuchModelID, CodeEdgeNoRoute, CodeEdgeInvalidObject:
		return ErrModelNotFound
	case CodeNativeDeprecated:
		return ErrModelDeprecated
	case CodeInvalidInput, CodeNativeInvalidInput, CodeNativeInvalidData, CodeNativeInvalidJSON, CodeNativeIncomplete,
		CodeNativeBackend, CodeNativeBackendValidation, CodeNativeMethod, CodeNativeSDKVersion:
		return ErrInvalidInput
	case CodeRateLimited, CodeNativeCapacity:
		return ErrRateLimited
	case CodeNativeQuota, CodeNativeQuotaSeen:
		return ErrQuotaExhausted
	case CodeContextExceeded, CodeNativeContextExceeded, CodeNativeMaxContext, CodeNativeTooLarge, CodeNativeTooLargeSeen:
		return ErrContextExceeded
	case CodeEdgeAuthentication, CodeEdgeBadToken, CodeNativeAccountBlocked, CodeNativeForbiddenModel,
		CodeNativeAgreement, CodeNativeLoRA, CodeNativePlan:
		return ErrUnauthorized
	}
	return nil
}

func kindOfStatus(status int) error {
	switch status {
	case 404:
		return ErrModelNotFound
	case 410:
		return ErrModelDeprecated
	case 400, 405, 422:
		return ErrInvalidInput
	case 429:
		return ErrRateLimited
	case 413:
		return ErrContextExceeded
	case 401, 403:
		return ErrUnauthorized
	}
	return nil
}

// Run runs a model and decodes the envelope's result into out, which may be nil. Errors are *Error, *ReplyError, or
// match ErrUnreachable or the context's.
func (c *Client) Run(ctx context.Context, model string, input, out any) error {
	_, err := c.runEnvelope(ctx, model, input, out)
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
	body, err := json.Marshal(input)
	if err != nil {
		return nil, fmt.Errorf("encode input: %w", err)
	}
	var data []byte
	err = c.run(ctx, model, body, false, func(resp *http.Response) (err error) {
		data, err = readBody(ctx, resp, model)
		return err
	})
	return data, err
}

func (c *Client) runEnvelope(ctx context.Context, model string, input, out any) (env Envelope[json.RawMessage], err error) {
	body, err := json.Marshal(input)
	if err != nil {
		return env, fmt.Errorf("encode input: %w", err)
	}
	err = c.run(ctx, model, body, false, func(resp *http.Response) error {
		data, err := readBody(ctx, resp, model)
		if err != nil {
			return err
		}
		env, err = decodeEnvelope(data, model)
		return err
	})
	if err != nil || out == nil {
		return env, err
	}
	if err := json.Unmarshal(env.Result, out); err != nil {
		return env, &ReplyError{Model: model, Row: -1, Reason: "result has another shape", Err: err}
	}
	return env, nil
}

func decodeEnvelope(data []byte, model string) (env Envelope[json.RawMessage], err error) {
	if err := json.Unmarshal(data, &env); err != nil {
		return env, &ReplyError{Model: model, Row: -1, Reason: "not the API's JSON: " + clean(string(data), maxRawText), Err: err}
	}
	if !env.Success {
		return env, parseError(http.StatusOK, data)
	}
	return env, nil
}

// readBody reads a plain answer whole; one that breaks off counts as unreachable, and is asked again.
func readBody(ctx context.Context, resp *http.Response, model string) ([]byte, error) {
	data, err := io.ReadAll(resp.Body)
	if err == nil || errors.Is(err, ErrBadReply) {
		return data, err
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, fmt.Errorf("%w: %s: %w", ErrUnreachable, model, err)
}
