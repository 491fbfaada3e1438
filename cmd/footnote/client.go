package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// client talks to a Footnote server over its HTTP API: the one that every user has.
type client struct {
	base string
	key  string
	http *http.Client
}

// errUnreachable: nothing answers at the URL.
var errUnreachable = errors.New("no server answers")

// apiError is the server's error body.
type apiError struct {
	Status     int
	RetryAfter time.Duration
	Body       struct {
		Code         string `json:"code"`
		Message      string `json:"message"`
		UpstreamCode int    `json:"upstream_code,omitempty"`
		RequestID    string `json:"request_id,omitempty"`
	}
}

func (e *apiError) Error() string {
	s := e.Body.Message
	if s == "" {
		s = http.StatusText(e.Status)
	}
	if e.Body.Code != "" {
		s += " (" + e.Body.Code + ")"
	}
	if e.Body.RequestID != "" && e.Status >= 500 {
		s += " [request " + e.Body.RequestID + "]"
	}
	return s
}

func (e *apiError) exitCode() int {
	switch {
	case e.Status == 401 || e.Status == 403:
		return exitAuth
	case e.Status == 429:
		return exitRateLimited
	case e.Status == 408:
		return exitTimeout
	case e.Status >= 500:
		return exitServer
	default:
		return exitFailed
	}
}

// maxReply bounds a JSON reply that is read whole.
const maxReply = 256 << 20

// do sends one request and decodes the JSON reply into out, which may be nil.
func (c *client) do(ctx context.Context, method, path string, body io.Reader, contentType string, out any) error {
	resp, err := c.send(ctx, method, path, body, contentType, "application/json")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		_, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxReply))
		return err
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxReply)).Decode(out); err != nil {
		return fmt.Errorf("read the server's reply to %s %s: %w", method, path, err)
	}
	return nil
}

// send returns a 2xx response; anything else becomes an *apiError.
func (c *client) send(ctx context.Context, method, path string, body io.Reader, contentType, accept string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	req.Header.Set("Accept", accept)
	resp, err := c.http.Do(req)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("%w at %s: start one with `footnote serve`, or set FOOTNOTE_URL", errUnreachable, c.base)
	}
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, readAPIError(resp)
}

func readAPIError(resp *http.Response) error {
	e := &apiError{Status: resp.StatusCode}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		e.RetryAfter = time.Duration(s) * time.Second
	}
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if json.Unmarshal(raw, &struct{ Error any }{&e.Body}) != nil || e.Body.Code == "" {
		e.Body.Message = fmt.Sprintf("the server answered %s: %.200s", resp.Status, strings.TrimSpace(string(raw)))
	}
	return e
}

func (c *client) postJSON(ctx context.Context, path string, in, out any) error {
	b, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return c.do(ctx, http.MethodPost, path, bytes.NewReader(b), "application/json", out)
}

func (c *client) getJSON(ctx context.Context, path string, q url.Values, out any) error {
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return c.do(ctx, http.MethodGet, path, nil, "", out)
}

// document is the API's document.
type document struct {
	ID         string          `json:"id"`
	Collection string          `json:"collection"`
	URI        string          `json:"uri"`
	Title      string          `json:"title"`
	MediaType  string          `json:"media_type"`
	Metadata   json.RawMessage `json:"metadata,omitempty"`
	Status     string          `json:"status"`
	Outcome    string          `json:"outcome,omitempty"`
	Error      *struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
	Waiting    *waiting  `json:"waiting,omitempty"`
	Chunks     int       `json:"chunks"`
	Tokens     int       `json:"tokens"`
	Generation int64     `json:"generation"`
	UpdatedAt  time.Time `json:"updated_at"`
}

// waiting is why a document does not get on.
type waiting struct {
	For    string    `json:"for"`
	Until  time.Time `json:"until"`
	Reason string    `json:"reason"`
}

func (w *waiting) String() string {
	return fmt.Sprintf("waiting until %s for the %s model: %s", w.Until.Local().Format(time.TimeOnly), modelNames[w.For], w.Reason)
}

var modelNames = map[string]string{"embed": "embedding", "translate": "translation", "chat": "chat", "speech": "speech"}

func (d document) ended() bool { return d.Status == "completed" || d.Status == "error" }

// passage is the API's passage.
type passage struct {
	Document struct {
		ID       string          `json:"id"`
		URI      string          `json:"uri"`
		Title    string          `json:"title"`
		Metadata json.RawMessage `json:"metadata,omitempty"`
	} `json:"document"`
	Ordinal int             `json:"ordinal"`
	Heading []string        `json:"heading,omitempty"`
	Start   int             `json:"start"`
	End     int             `json:"end"`
	Text    string          `json:"text"`
	Time    *spoken         `json:"time,omitempty"`
	Score   float64         `json:"score"`
	Details json.RawMessage `json:"scoring_details,omitempty"`
}

// spoken is when something was said in a recording, in seconds.
type spoken struct {
	Start float64 `json:"start"`
	End   float64 `json:"end"`
}

// String is like 1:23–1:31.
func (s spoken) String() string { return clock(s.Start) + "–" + clock(s.End) }

func clock(seconds float64) string {
	t := int(seconds)
	if t < 3600 {
		return fmt.Sprintf("%d:%02d", t/60, t%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", t/3600, t/60%60, t%60)
}

// sseEvent is one server-sent event.
type sseEvent struct {
	Name string
	Data []byte
}

// maxEvent bounds one line of an event stream; sources with long passages are the largest.
const maxEvent = 16 << 20

// stream posts in and yields the events of the reply. A stream that ends without "done" or "error" ends in an error.
func (c *client) stream(ctx context.Context, path string, in question) iter.Seq2[sseEvent, error] {
	return func(yield func(sseEvent, error) bool) {
		body, contentType, err := in.body()
		if err != nil {
			yield(sseEvent{}, err)
			return
		}
		resp, err := c.send(ctx, http.MethodPost, path, body, contentType, "text/event-stream")
		if err != nil {
			yield(sseEvent{}, err)
			return
		}
		defer resp.Body.Close()
		readSSE(resp.Body, yield)
	}
}

func readSSE(r io.Reader, yield func(sseEvent, error) bool) {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 64<<10), maxEvent)
	var ev sseEvent
	ended := false
	for sc.Scan() {
		line := sc.Text()
		switch {
		case line == "" && ev.Data != nil:
			ended = ended || ev.Name == "done" || ev.Name == "error"
			if !yield(ev, nil) {
				return
			}
			ev = sseEvent{}
		case strings.HasPrefix(line, "event:"):
			ev.Name = strings.TrimSpace(line[len("event:"):])
		case strings.HasPrefix(line, "data:"):
			ev.Data = append(ev.Data, strings.TrimPrefix(line[len("data:"):], " ")...)
		}
	}
	if err := sc.Err(); err != nil {
		yield(sseEvent{}, err)
	} else if !ended {
		yield(sseEvent{}, fmt.Errorf("the answer's stream was cut: %w", io.ErrUnexpectedEOF))
	}
}
