package workersaitest

import (
	"context"
	"slices"
	"testing"
	"time"
)

func (s *Server) arrived(r *Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r)
	for _, t := range r.Texts {
		s.texts[t]++
	}
	s.signal()
}

func (s *Server) aborted() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aborts++
	s.signal()
}

func (s *Server) signal() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Requests are the calls so far, scripted ones included, in the order of their arrival.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Request, len(s.requests))
	for i, r := range s.requests {
		out[i] = *r
	}
	return out
}

// Calls is the number of calls so far of a model, or of all if model is "".
func (s *Server) Calls(model string) int {
	n := 0
	for _, r := range s.Requests() {
		if model == "" || r.Model == model {
			n++
		}
	}
	return n
}

// CallTimes is when the calls of a model, or all calls if model is "", arrived.
func (s *Server) CallTimes(model string) []time.Time {
	var out []time.Time
	for _, r := range s.Requests() {
		if model == "" || r.Model == model {
			out = append(out, r.Time)
		}
	}
	return out
}

// Texts are all texts that came to be embedded, in order, repetitions included.
func (s *Server) Texts() []string {
	var out []string
	for _, r := range s.Requests() {
		out = slices.Concat(out, r.Texts)
	}
	return out
}

// TextCount is how often a text came to be embedded.
func (s *Server) TextCount(text string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.texts[text]
}

// Aborts is the number of calls whose client left before the answer's end.
func (s *Server) Aborts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.aborts
}

// WaitCalls returns once n calls have arrived; it fails the test after 20 seconds.
func (s *Server) WaitCalls(t testing.TB, n int) {
	t.Helper()
	s.waitFor(t, "calls", n, func() int { return len(s.requests) })
}

// WaitAborts returns once n calls were aborted; it fails the test after 20 seconds.
func (s *Server) WaitAborts(t testing.TB, n int) {
	t.Helper()
	s.waitFor(t, "aborted calls", n, func() int { return s.aborts })
}

func (s *Server) waitFor(t testing.TB, what string, n int, count func() int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	for {
		s.mu.Lock()
		got, changed := count(), s.changed
		s.mu.Unlock()
		if got >= n {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("workersaitest: %d %s after %v, want %d", got, what, waitLimit, n)
		}
	}
}
