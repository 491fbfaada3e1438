package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
)

const (
	// requestIDHeader carries the id that is also in error bodies and the log.
	requestIDHeader = "X-Request-Id"
	// slowBodyGrace and minBodyRate: a body may take 30 s plus a second for each KiB already sent (slow mobile links
	// pass, one byte a second does not).
	slowBodyGrace = 30 * time.Second
	minBodyRate   = 1 << 10
	// replyTimeout bounds one plain reply to a client that reads slowly; the largest is a source of 64 MiB.
	replyTimeout = 5 * time.Minute
	linkHeader   = `</openapi.yaml>; rel="service-desc"; type="application/yaml"`
)

var requestIDPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// observe is the outermost middleware: request id, one log line, one measurement, errors turned into replies.
func (s *Server) observe(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		start := time.Now()
		id := c.Request().Header.Get(requestIDHeader)
		if !requestIDPattern.MatchString(id) {
			id = rand.Text()
		}
		h := c.Response().Header()
		h.Set(requestIDHeader, id)
		h.Set("Link", linkHeader)
		h.Set("X-Content-Type-Options", "nosniff")
		c.Response().Before(func() { limitReply(c) })
		s.metrics.inFlight.Inc()
		defer s.metrics.inFlight.Dec()
		err := next(c)
		if err != nil {
			s.handleError(err, c)
		}
		s.finish(c, start, err)
		return nil
	}
}

// limitReply sets the write deadline of a plain reply. Streams move it with every write; the model host sets its own
// limits. net/http clears it when the reply is over.
func limitReply(c echo.Context) {
	if isModelHost(c) {
		return
	}
	_ = http.NewResponseController(c.Response()).SetWriteDeadline(time.Now().Add(replyTimeout)) // a test recorder has none
}

func isModelHost(c echo.Context) bool { return c.Path() == "/client/v4/*" || c.Path() == "/binding/*" }

// finish measures and logs one request. The path is logged, never the query, a body or a key.
func (s *Server) finish(c echo.Context, start time.Time, err error) {
	took := time.Since(start)
	route, status := routeOf(c), c.Response().Status
	s.metrics.observe(c.Request().Method, route, status, took)
	level := slog.LevelInfo
	attrs := []slog.Attr{
		slog.String("request_id", requestID(c)), slog.String("method", c.Request().Method),
		slog.String("path", c.Request().URL.Path), slog.Int("status", status),
		slog.Int64("bytes", c.Response().Size), slog.Float64("duration_ms", milliseconds(took)),
	}
	if err != nil {
		p := describe(err)
		attrs = append(attrs, slog.String("code", p.Code))
		if p.status >= 500 {
			level = slog.LevelError
			attrs = append(attrs, slog.String("error", err.Error()))
		}
	}
	s.cfg.Logger.LogAttrs(context.WithoutCancel(c.Request().Context()), level, "request", attrs...)
}

func requestID(c echo.Context) string { return c.Response().Header().Get(requestIDHeader) }

// routeOf is the route's template, so that metric labels stay few whatever clients send.
func routeOf(c echo.Context) string {
	if p := c.Path(); p != "" {
		return p
	}
	return "unmatched"
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// recover turns a panic into an internal error with its stack in the log. http.ErrAbortHandler passes.
func (s *Server) recover(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		defer func() {
			r := recover()
			if r == http.ErrAbortHandler {
				panic(r)
			}
			if r != nil {
				err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
			}
		}()
		return next(c)
	}
}

// guardOrigin refuses what a foreign web page makes a browser send: cross-origin writes always, and, on an open server
// that is reached over loopback, names that a rebinding DNS server may point here.
func (s *Server) guardOrigin(next echo.HandlerFunc) echo.HandlerFunc {
	cross := http.NewCrossOriginProtection()
	return func(c echo.Context) error {
		if err := cross.Check(c.Request()); err != nil {
			return errCrossOrigin
		}
		if s.cfg.APIKey == "" && onLoopback(c.Request()) && !isLoopbackHost(c.Request().Host) {
			return errHost
		}
		return next(c)
	}
}

func onLoopback(r *http.Request) bool {
	addr, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && addr.IP.IsLoopback()
}

func isLoopbackHost(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	host = strings.TrimSuffix(strings.TrimPrefix(strings.ToLower(host), "["), "]")
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}

// openPaths need no key; the page's files are added by routeWeb. The model host checks its own tokens.
var openPaths = map[string]bool{"/livez": true, "/readyz": true, "/": true, "/assets/*": true, "/client/v4/*": true, "/binding/*": true}

// authenticate asks for the API key. Digests of equal length are compared in constant time.
func (s *Server) authenticate(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if s.cfg.APIKey == "" || openPaths[c.Path()] {
			return next(c)
		}
		scheme, key, _ := strings.Cut(c.Request().Header.Get("Authorization"), " ")
		got := sha256.Sum256([]byte(strings.TrimSpace(key)))
		if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(got[:], s.keyHash[:]) != 1 {
			c.Response().Header().Set("WWW-Authenticate", `Bearer realm="footnote"`)
			if key == "" {
				return errKeyMissing
			}
			return errKeyWrong
		}
		return next(c)
	}
}

// limitBody bounds size and slowness of every body before anything reads it.
func (s *Server) limitBody(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		limit, unlimited := s.bodyLimit(c)
		if unlimited {
			return next(c)
		}
		if limit > 0 && r.ContentLength > limit {
			return bodyTooLarge(c.Path(), limit)
		}
		r.Body = &patientBody{
			ReadCloser: r.Body, limit: limit, path: c.Path(),
			deadline: http.NewResponseController(c.Response()).SetReadDeadline,
		}
		return next(c)
	}
}

// bodyLimit in bytes; 0 means no total (a bulk of any length is read line by line). The model host has its own limits.
func (s *Server) bodyLimit(c echo.Context) (limit int64, unlimited bool) {
	if isModelHost(c) {
		return 0, true
	}
	switch c.Path() {
	case "/v1/documents/plan":
		return maxPlanBytes, false
	case "/v1/documents":
		switch mediaType(c.Request()) {
		case ndjsonType:
			return 0, false
		case multipartType:
			return maxUploadBytes, false
		}
		return s.cfg.MaxDocumentBytes + documentOverheadBytes, false
	}
	if spoken[c.Path()] && isSpeech(c.Request()) {
		return maxSpeechBytes, false
	}
	return maxRequestBytes, false
}

// spoken are the routes that take recordings.
var spoken = map[string]bool{"/v1/search": true, "/v1/answer": true, "/v1/transcribe": true}

// patientBody reads a body with a limit and a deadline that counts only the time spent waiting for the client, so that
// a bulk which waits for us is never called slow.
type patientBody struct {
	io.ReadCloser
	limit, read int64
	path        string
	waited      time.Duration
	deadline    func(time.Time) error
}

func (b *patientBody) Read(p []byte) (int, error) {
	if b.limit > 0 && int64(len(p)) > b.limit-b.read+1 {
		p = p[:b.limit-b.read+1]
	}
	start := time.Now()
	allowed := slowBodyGrace + time.Duration(b.read/minBodyRate)*time.Second - b.waited
	_ = b.deadline(start.Add(allowed)) // a transport without deadlines (tests, HTTP/2 proxies) reads without one
	n, err := b.ReadCloser.Read(p)
	b.waited += time.Since(start)
	b.read += int64(n)
	// Left in place, the deadline would later end the request's context, which watches the same connection.
	_ = b.deadline(time.Time{})
	if b.limit > 0 && b.read > b.limit {
		return 0, bodyTooLarge(b.path, b.limit)
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return n, errBodySlow
	}
	return n, err
}

// readAll reads a whole bounded body.
func readAll(r io.Reader, sizeHint int64) ([]byte, error) {
	var b bytes.Buffer
	if sizeHint > 0 {
		b.Grow(int(sizeHint) + bytes.MinRead)
	}
	if _, err := b.ReadFrom(r); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
