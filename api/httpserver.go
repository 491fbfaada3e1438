package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// readHeaderTimeout ends connections that send their headers byte by byte.
	readHeaderTimeout = 5 * time.Second
	// idleTimeout closes keep-alive connections that nobody uses.
	idleTimeout = 2 * time.Minute
	// maxHeaderBytes is far above any honest request and far below what hurts.
	maxHeaderBytes = 64 << 10
	// cutGrace is what a stream that was told to end gets to write its last event.
	cutGrace = 2 * time.Second
)

type connKey struct{}

// NewHTTPServer returns a server with the timeouts that the handler counts on. It sets neither ReadTimeout nor
// WriteTimeout, which would cut uploads and streams: the handler moves its own deadlines.
func NewHTTPServer(addr string, handler http.Handler) *http.Server {
	return &http.Server{
		Addr:              addr,
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug), // noise of clients that hang up
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
	}
}

// Shutdown stops hs gracefully: readiness turns 503 at once, no connection is accepted any more, plain requests finish,
// streams, and answers that go on without a client, may finish for DrainTimeout and are then ended with the error event server_stopping. When ctx ends first,
// everything left is cut.
func (s *Server) Shutdown(ctx context.Context, hs *http.Server) error {
	s.Drain()
	timer := time.AfterFunc(s.cfg.DrainTimeout, s.streams.cut)
	defer timer.Stop()
	stop := context.AfterFunc(ctx, s.streams.cut)
	defer stop()
	err := errors.Join(hs.Shutdown(ctx), s.live.idle(ctx))
	if err == nil {
		return nil
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), cutGrace)
	defer cancel()
	if hs.Shutdown(last) == nil && s.live.idle(last) == nil {
		return nil
	}
	return errors.Join(err, hs.Close())
}

// Drain makes /readyz answer 503 from now on.
func (s *Server) Drain() { s.streams.drain() }

// streams knows the live streams, so that a stop can end each with a last event.
type streams struct {
	mu       sync.Mutex
	draining bool
	stopped  bool
	live     map[*context.CancelCauseFunc]struct{}
}

// open derives the context of one stream; done must be called when it ended.
func (s *streams) open(ctx context.Context, limit time.Duration) (_ context.Context, done func()) {
	ctx, cancelTime := context.WithTimeoutCause(ctx, limit, errStreamTooLong)
	ctx, cancel := context.WithCancelCause(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live == nil {
		s.live = map[*context.CancelCauseFunc]struct{}{}
	}
	s.live[&cancel] = struct{}{}
	if s.stopped {
		cancel(errServerStopping)
	}
	return ctx, func() {
		s.mu.Lock()
		delete(s.live, &cancel)
		s.mu.Unlock()
		cancel(nil)
		cancelTime()
	}
}

func (s *streams) drain() {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
}

func (s *streams) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

func (s *streams) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.live)
}

// cut ends every live stream with errServerStopping.
func (s *streams) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	for cancel := range s.live {
		(*cancel)(errServerStopping)
	}
}
