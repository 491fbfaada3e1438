package workersaitest

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/footnote-rag/footnote/workersai"
)

// Step scripts one call. Zero fields leave the true answer as it is.
type Step struct {
	Model string // only a call of this model takes the step; "" any call of the API
	Times int    // how many calls take it; default 1, -1 all

	Hold <-chan struct{} // nothing is sent until it is closed, or the client leaves
	Pace <-chan struct{} // each event of a stream waits for one value

	Status      int // default 200
	ContentType string
	Body        string // sent instead of the true answer, if Status or ContentType is set
	RetryAfter  string // header Retry-After
	Header      http.Header

	Rewrite func(body []byte) []byte // changes the true answer's body

	Cut   bool // send CutAt bytes of the body, then drop the connection
	CutAt int
	Clean bool // with Cut: end the answer properly instead of dropping the connection
	Reset bool // reset the connection before anything is sent
}

// Script appends steps. A call takes the first step for its model; a call without one gets a true answer.
func (s *Server) Script(steps ...Step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range steps {
		if st.Times == 0 {
			st.Times = 1
		}
		s.script = append(s.script, st)
	}
}

// Scripted is the number of steps that are left.
func (s *Server) Scripted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.script)
}

func (s *Server) takeStep(model string) Step {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, st := range s.script {
		if st.Model != "" && st.Model != model {
			continue
		}
		if st.Times > 0 {
			s.script[i].Times--
		}
		if s.script[i].Times == 0 {
			s.script = append(s.script[:i], s.script[i+1:]...)
		}
		return st
	}
	return Step{}
}

// reply is an answer before it is sent.
type reply struct {
	status      int
	contentType string
	body        []byte
	retryAfter  string
}

// play sends a reply as its step wants it.
func (s *Server) play(w http.ResponseWriter, r *http.Request, st Step, answer func() reply) {
	if !s.wait(r, st.Hold) {
		return
	}
	if st.Reset {
		reset(w)
		return
	}
	var out reply
	if st.Status != 0 || st.ContentType != "" {
		out = reply{status: st.Status, contentType: st.ContentType, body: []byte(st.Body)}
	} else {
		out = answer()
	}
	if st.Rewrite != nil {
		out.body = st.Rewrite(out.body)
	}
	if st.RetryAfter != "" {
		out.retryAfter = st.RetryAfter
	}
	for k, v := range st.Header {
		w.Header()[k] = v
	}
	s.send(w, r, st, out)
}

func (s *Server) send(w http.ResponseWriter, r *http.Request, st Step, out reply) {
	if out.status == 0 {
		out.status = http.StatusOK
	}
	if out.contentType != "" {
		w.Header().Set("Content-Type", out.contentType)
	}
	if out.retryAfter != "" {
		w.Header().Set("Retry-After", out.retryAfter)
	}
	w.WriteHeader(out.status)
	flush := func() { _ = http.NewResponseController(w).Flush() } // a client that left is found by Write or the context
	body := out.body
	if st.Cut {
		body = body[:min(st.CutAt, len(body))]
	}
	flush()
	for _, event := range bytes.SplitAfter(body, []byte("\n\n")) {
		if st.Pace != nil && len(event) > 0 && !s.waitOne(r, st.Pace) {
			return
		}
		if _, err := w.Write(event); err != nil {
			s.aborted()
			return
		}
		if strings.HasPrefix(out.contentType, "text/event-stream") {
			flush()
		}
	}
	if flush(); st.Cut && !st.Clean {
		panic(http.ErrAbortHandler) // net/http's own way to drop a connection without its end mark
	}
}

// wait reports whether the client is still there when hold is closed.
func (s *Server) wait(r *http.Request, hold <-chan struct{}) bool {
	return hold == nil || s.waitOne(r, hold)
}

func (s *Server) waitOne(r *http.Request, c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	case <-r.Context().Done():
		s.aborted()
		return false
	}
}

// reset drops the connection with RST, where it is TCP.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		err = tcp.SetLinger(0)
	}
	if err = errors.Join(err, conn.Close()); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// Request is one call as the server saw it.
type Request struct {
	Time   time.Time
	Method string
	Path   string
	Model  string // "" if it runs none
	Header http.Header
	Body   []byte
	Texts  []string // of an embedding request
	Chat   *workersai.TextInput
}
