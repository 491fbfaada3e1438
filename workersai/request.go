package workersai

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// call is one request, which can be sent again.
type call struct {
	model       string // "" if it runs none; then path says where it goes
	path        string // below /ai
	method      string
	query       string
	contentType string
	body        []byte
	stream      bool
	read        func(*http.Response) error // gets each answer of status 200
}

// name is the call in an error's text.
func (q call) name() string {
	if q.model != "" {
		return q.model
	}
	return q.path
}

func (c *Client) newRequest(ctx context.Context, q call) (*http.Request, error) {
	address := c.base + q.path
	if q.model != "" {
		address = c.base + "/run/" + q.model
	}
	if q.query != "" {
		address += "?" + q.query
	}
	req, err := http.NewRequestWithContext(ctx, q.method, address, bytes.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", c.cfg.UserAgent)
	if q.contentType != "" {
		req.Header.Set("Content-Type", q.contentType)
	}
	if q.stream {
		req.Header.Set("Accept", "text/event-stream, application/json")
	}
	if c.cfg.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.cfg.Token)
	}
	for name, values := range c.cfg.GatewayHeaders {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	if c.cfg.GatewayID != "" {
		req.Header.Set(HeaderGateway, c.cfg.GatewayID)
	}
	return req, nil
}

// attempt sends a call once and tells OnAttempt.
func (c *Client) attempt(ctx context.Context, q call, try int) error {
	a := Attempt{Model: q.model, Path: q.path, Try: try}
	start := time.Now()
	err := c.redactError(c.send(ctx, q, &a))
	if c.cfg.OnAttempt != nil {
		a.Duration = time.Since(start)
		if a.Err = err; errors.Is(err, errStopped) {
			a.Err = nil
		}
		c.cfg.OnAttempt(a)
	}
	return err
}

// send makes one request. A timer cancels it: one limit for a plain call; for a stream one until its headers and one
// for each read.
func (c *Client) send(ctx context.Context, q call, a *Attempt) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	limit := c.cfg.Timeout
	if q.stream {
		limit = c.cfg.HeaderTimeout
	}
	timer := time.AfterFunc(time.Hour, func() { cancel(errSlow) })
	defer timer.Stop()
	arm(timer, limit)
	req, err := c.newRequest(ctx, q)
	if err != nil {
		return final{fmt.Errorf("%s: %w", q.name(), err)}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return unreachable(ctx, q.name(), err)
	}
	defer resp.Body.Close()
	a.note(resp)
	if q.stream {
		timer.Stop()
		resp.Body = &idleBody{ReadCloser: resp.Body, timer: timer, limit: c.cfg.IdleTimeout}
	}
	if resp.StatusCode != http.StatusOK {
		return c.readFailure(resp, q.model)
	}
	resp.Body = &limitedBody{ReadCloser: resp.Body, left: c.cfg.MaxReplyBytes}
	return q.named(ctx, q.read(resp))
}

// named completes an error with the model's name, and with its cause if that is our own timer.
func (q call) named(ctx context.Context, err error) error {
	var e *Error
	if errors.As(err, &e) {
		e.of(q.model)
	}
	var reply *ReplyError
	if errors.As(err, &reply) && reply.Model == "" {
		reply.Model = q.model
	}
	if errors.Is(context.Cause(ctx), errSlow) && errors.Is(err, context.Canceled) {
		return slow(q, err)
	}
	return err
}

// arm sets the timer to a limit; a negative one is none.
func arm(t *time.Timer, limit time.Duration) {
	if limit > 0 {
		t.Reset(limit)
	} else {
		t.Stop()
	}
}

var errSlow = errors.New("no answer in time")

// slow renames a failure that our own timer caused, and keeps the mark of one that is final.
func slow(q call, err error) error {
	renamed := fmt.Errorf("%w: %s: %w", ErrUnreachable, q.name(), errSlow)
	var f final
	if errors.As(err, &f) {
		return final{renamed}
	}
	return renamed
}

// idleBody limits each read. What the reader does in between takes the time it takes.
type idleBody struct {
	io.ReadCloser
	timer *time.Timer
	limit time.Duration
}

func (b *idleBody) Read(p []byte) (int, error) {
	arm(b.timer, b.limit)
	defer b.timer.Stop()
	return b.ReadCloser.Read(p)
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

// unreachable wraps a failure of the transport; the caller's own cancellation stays what it is. A certificate that is
// refused stays so: it is not tried again.
func unreachable(ctx context.Context, name string, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errSlow) {
		err = errSlow
	} else if cause != nil {
		return fmt.Errorf("%s: %w", name, ctx.Err())
	}
	var u *url.Error
	if errors.As(err, &u) { // its URL names the account
		err = u.Err
	}
	wrapped := fmt.Errorf("%w: %s: %w", ErrUnreachable, name, err)
	if refusedTLS(err) {
		return final{wrapped}
	}
	return wrapped
}

func refusedTLS(err error) bool {
	var (
		verify    *tls.CertificateVerificationError
		record    tls.RecordHeaderError
		alert     tls.AlertError
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
	)
	return errors.As(err, &verify) || errors.As(err, &record) || errors.As(err, &alert) || errors.As(err, &authority) ||
		errors.As(err, &host) || strings.Contains(err.Error(), "server gave HTTP response to HTTPS client")
}

// readFailure reads an answer that is not 200.
func (c *Client) readFailure(resp *http.Response, model string) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // what arrived is enough
	e := c.parseError(resp.StatusCode, body)
	e.of(model)
	e.Ray = resp.Header.Get(HeaderRay)
	if e.RequestID == "" {
		e.RequestID = resp.Header.Get(HeaderRequestID)
	}
	e.RetryAfter = retryAfter(resp.Header.Get("Retry-After"))
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		e.Remedy = "redirects are not followed: correct the base URL"
	}
	return e
}

// redactError takes the token out of what a server may have repeated.
func (c *Client) redactError(err error) error {
	var reply *ReplyError
	if errors.As(err, &reply) {
		reply.Reason = c.redact(reply.Reason)
	}
	return err
}

func (c *Client) redact(s string) string {
	if len(c.cfg.Token) < 4 { // a word of everyday text
		return s
	}
	return strings.ReplaceAll(s, c.cfg.Token, "[token]")
}

// Attempt describes one try of one call.
type Attempt struct {
	Model     string // the one that was asked in this try; "" for calls that run none
	Path      string // below /ai, of a call that runs no model
	Try       int    // from 1
	Status    int    // 0 if no answer came
	Duration  time.Duration
	Err       error   // nil if it succeeded, or the caller left a stream early
	RequestID string  // header cf-ai-req-id
	Ray       string  // header cf-ray
	Neurons   float64 // header cf-ai-neurons: what the call cost; 0 if not told
}

func (a *Attempt) note(resp *http.Response) {
	a.Status, a.RequestID, a.Ray = resp.StatusCode, resp.Header.Get(HeaderRequestID), resp.Header.Get(HeaderRay)
	a.Neurons, _ = strconv.ParseFloat(resp.Header.Get(HeaderNeurons), 64) // absent as a rule
}
