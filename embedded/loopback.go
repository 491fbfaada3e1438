package embedded

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// loopback is an engine in this process, behind HTTP on a loopback port like the others, so that who uses it sees no
// difference. The port is opened by the first Acquire.
type loopback struct {
	handler http.Handler

	mu     sync.Mutex
	srv    *http.Server
	url    string
	closed bool
}

// Acquire returns the base URL; release does nothing, since an idle listener costs nothing.
func (l *loopback) Acquire(context.Context) (baseURL string, release func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return "", nil, ErrClosed
	}
	if l.srv == nil {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", nil, err
		}
		l.srv = &http.Server{Handler: l.handler, ReadHeaderTimeout: 10 * time.Second}
		l.url = "http://" + listener.Addr().String()
		go func() { _ = l.srv.Serve(listener) }() // ends with Close
	}
	return l.url, func() {}, nil
}

// Close ends running requests and closes the port; later calls of Acquire return ErrClosed.
func (l *loopback) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.srv == nil {
		return nil
	}
	return l.srv.Close()
}
