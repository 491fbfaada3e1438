package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
)

const (
	sseType = "text/event-stream"
	// sseSendBuffer bounds what the kernel takes for a client that does not read: 152 KiB instead of 3.7 MiB before the
	// write deadline is felt.
	sseSendBuffer = 32 << 10
)

// deadlineWriter gives each write its own deadline.
type deadlineWriter struct {
	w       io.Writer
	rc      *http.ResponseController
	timeout time.Duration
}

func (d deadlineWriter) Write(p []byte) (int, error) {
	// A transport without deadlines (a test recorder) writes without one.
	_ = d.rc.SetWriteDeadline(time.Now().Add(d.timeout))
	return d.w.Write(p)
}

// eventStream writes server-sent events, and comments while nothing else is written. The reply begins with the first of
// them, so that an error before it is an ordinary reply with its own status. Safe for concurrent use.
type eventStream struct {
	c    echo.Context
	mu   sync.Mutex
	out  deadlineWriter
	last time.Time
	err  error // the first that writing met; nothing is written after it
	buf  bytes.Buffer

	stop chan struct{}
	done chan struct{}
}

// startEvents starts the heartbeat of a stream. onLost is called when the client cannot be written to.
func (s *Server) startEvents(c echo.Context, onLost context.CancelCauseFunc) *eventStream {
	e := &eventStream{
		c: c, out: deadlineWriter{c.Response(), http.NewResponseController(c.Response()), s.cfg.WriteTimeout},
		last: time.Now(), stop: make(chan struct{}), done: make(chan struct{}),
	}
	go e.beat(s.cfg.Heartbeat, onLost)
	return e
}

// begin writes the headers.
func (e *eventStream) begin() {
	h := e.c.Response().Header()
	h.Set("Content-Type", sseType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would hold events back
	if conn, ok := e.c.Request().Context().Value(connKey{}).(*net.TCPConn); ok {
		_ = conn.SetWriteBuffer(sseSendBuffer) // a hint: the write deadline works without it, later
	}
	e.c.Response().WriteHeader(http.StatusOK)
}

// begun tells, after close, whether the reply has begun.
func (e *eventStream) begun() bool { return e.c.Response().Committed }

// close ends the heartbeat and waits for it.
func (e *eventStream) close() {
	close(e.stop)
	<-e.done
}

func (e *eventStream) beat(every time.Duration, onLost context.CancelCauseFunc) {
	defer close(e.done)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-e.stop:
			return
		case <-ticker.C:
			if err := e.ping(every); err != nil {
				onLost(err)
				return
			}
		}
	}
}

func (e *eventStream) ping(every time.Duration) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if time.Since(e.last) < every/2 {
		return e.err
	}
	return e.write([]byte(": ping\n\n"))
}

// send writes one event with v as JSON and flushes it. JSON has no raw line breaks, so no text can forge an event.
func (e *eventStream) send(event string, v any) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.buf.Reset()
	if event != "" {
		e.buf.WriteString("event: ")
		e.buf.WriteString(event)
		e.buf.WriteByte('\n')
	}
	e.buf.WriteString("data: ")
	if err := json.NewEncoder(&e.buf).Encode(v); err != nil { // ends with one line break, escapes U+2028 and U+2029
		return fmt.Errorf("encode event %s: %w", event, err)
	}
	e.buf.WriteByte('\n')
	return e.write(e.buf.Bytes())
}

// sendRecord writes one event that was encoded before, with its id.
func (e *eventStream) sendRecord(id string, r record) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.buf.Reset()
	for _, part := range []string{"id: ", id, "\nevent: ", r.Event, "\ndata: ", string(r.Data), "\n\n"} {
		e.buf.WriteString(part)
	}
	return e.write(e.buf.Bytes())
}

// open begins the reply before there is an event.
func (e *eventStream) open() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.write([]byte(": open\n\n"))
}

// sendRaw writes one data line that is not JSON.
func (e *eventStream) sendRaw(data string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.write([]byte("data: " + data + "\n\n"))
}

func (e *eventStream) write(p []byte) error {
	if e.err != nil {
		return e.err
	}
	if !e.begun() {
		e.begin()
	}
	e.last = time.Now()
	if _, err := e.out.Write(p); err != nil {
		e.err = &lostClient{err}
	} else if err := e.out.rc.Flush(); err != nil {
		e.err = &lostClient{err}
	}
	return e.err
}

// lostClient: the client cannot be written to any more.
type lostClient struct{ cause error }

func (l *lostClient) Error() string        { return "write to the client: " + l.cause.Error() }
func (l *lostClient) Unwrap() error        { return l.cause }
func (l *lostClient) Is(target error) bool { return target == context.Canceled }

// jsonSerializer writes JSON as everywhere else: no HTML escaping is asked of clients, no indentation.
type jsonSerializer struct{}

func (jsonSerializer) Serialize(c echo.Context, v any, _ string) error {
	return json.NewEncoder(c.Response()).Encode(v)
}

// Deserialize is not used: decode is stricter.
func (jsonSerializer) Deserialize(c echo.Context, v any) error { return decode(c, v) }
