package api

import (
	"container/list"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
)

const (
	idempotencyHeader = "Idempotency-Key"
	// maxIdempotencyKey bytes: a UUID has 36.
	maxIdempotencyKey = 255
	// replayAge and maxReplays bound what one process remembers: a day, and some 4 MiB.
	replayAge  = 24 * time.Hour
	maxReplays = 10_000
)

// replays remembers the replies to requests with an Idempotency-Key, in this process. After a restart, or on another
// process, a repeated put is still one document: (collection, uri) and the content's hash make it so.
type replays struct {
	now func() time.Time

	mu    sync.Mutex
	byKey map[string]*replayed
	order *list.List // of *replayed, oldest first
}

type replayed struct {
	key     string
	request [sha256.Size]byte
	since   time.Time
	place   *list.Element
	done    chan struct{} // closed when result or err is set
	result  putResult
	err     error
}

func newReplays(now func() time.Time) *replays {
	return &replays{now: now, byKey: map[string]*replayed{}, order: list.New()}
}

// begin returns the entry of the key and whether the caller is the first and must end it.
func (r *replays) begin(key string, request [sha256.Size]byte) (*replayed, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for e := r.order.Front(); e != nil; e = r.order.Front() {
		if old := e.Value.(*replayed); r.now().Sub(old.since) < replayAge && r.order.Len() < maxReplays {
			break
		}
		r.remove(e.Value.(*replayed))
	}
	if old, ok := r.byKey[key]; ok {
		return old, false
	}
	fresh := &replayed{key: key, request: request, since: r.now(), done: make(chan struct{})}
	fresh.place = r.order.PushBack(fresh)
	r.byKey[key] = fresh
	return fresh, true
}

// end publishes the result. A failure is not kept: the client may try again with the same key.
func (r *replays) end(p *replayed, result putResult, err error) {
	p.result, p.err = result, err
	if err != nil {
		r.mu.Lock()
		r.remove(p)
		r.mu.Unlock()
	}
	close(p.done)
}

func (r *replays) remove(p *replayed) {
	r.order.Remove(p.place)
	if r.byKey[p.key] == p {
		delete(r.byKey, p.key)
	}
}

// replay answers a put, or repeats the reply that the same key and body got before.
func (s *Server) replay(c echo.Context, body []byte, put func() (putResult, error)) error {
	key := c.Request().Header.Get(idempotencyHeader)
	if key == "" {
		return replyPut(c)(put())
	}
	if len(key) > maxIdempotencyKey {
		return invalid("the Idempotency-Key has %d bytes: it takes at most %d", len(key), maxIdempotencyKey)
	}
	request := fingerprint(c, body)
	p, first := s.replays.begin(key, request)
	if first {
		result, err := put()
		s.replays.end(p, result, err)
		return replyPut(c)(result, err)
	}
	if p.request != request {
		return errKeyReused
	}
	select {
	case <-p.done:
		return replyPut(c)(p.result, p.err)
	case <-c.Request().Context().Done():
		return c.Request().Context().Err()
	}
}

// fingerprint of everything that decides what a put does.
func fingerprint(c echo.Context, body []byte) [sha256.Size]byte {
	h := sha256.New()
	for _, part := range []string{c.Request().URL.RawQuery, mediaType(c.Request())} {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	h.Write(body)
	return [sha256.Size]byte(h.Sum(nil))
}

func replyPut(c echo.Context) func(putResult, error) error {
	return func(r putResult, err error) error {
		if err != nil {
			return err
		}
		return c.JSON(r.httpStatus(), r)
	}
}
