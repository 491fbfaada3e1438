package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/footnote-rag/footnote/retrieval"
	"github.com/footnote-rag/footnote/store"
)

const (
	// maxLiveBytes bounds the events of one answer in memory: 100 passages of the largest size take about 1 MiB.
	maxLiveBytes = 8 << 20
	// unstoredLife is how long the events of an answer that could not be stored are kept in memory.
	unstoredLife = 2 * time.Minute
	// storeTimeout bounds the recording of an answer whose time is up.
	storeTimeout = 10 * time.Second
)

// record is one event as it is sent and stored.
type record struct {
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
}

// liveAnswer is an answer in the making that outlives the connection it was asked on. Its events are kept, so that any
// number of readers can follow it from any of them. Safe for concurrent use.
type liveAnswer struct {
	id       string
	question string
	grace    time.Duration // without readers, before the work is cancelled
	cancel   context.CancelCauseFunc

	mu      sync.Mutex
	records []record
	bytes   int
	ended   bool
	err     error         // why there is no answer
	changed chan struct{} // closed when there is more
	readers int
	timer   *time.Timer // runs while nobody reads
}

// attach adds a reader.
func (a *liveAnswer) attach() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.readers++
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
}

// detach takes a reader away; after the last one, the work has its grace.
func (a *liveAnswer) detach() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.readers--; a.readers == 0 && !a.ended {
		a.timer = time.AfterFunc(a.grace, a.abandon)
	}
}

// abandon cancels the work unless a reader has come back.
func (a *liveAnswer) abandon() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.readers == 0 && a.timer != nil {
		a.cancel(errAbandoned)
	}
}

// add appends an event; errAnswerTooLarge if there are too many.
func (a *liveAnswer) add(r record) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.bytes += len(r.Data); a.bytes > maxLiveBytes {
		return errAnswerTooLarge
	}
	a.records = append(a.records, r)
	a.wake()
	return nil
}

// end appends the last event.
func (a *liveAnswer) end(r record, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.records, a.ended, a.err = append(a.records, r), true, err
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
	a.wake()
}

// wake tells the readers; the caller holds the lock.
func (a *liveAnswer) wake() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// since returns the events after the first n, whether there will be more, and what tells when.
func (a *liveAnswer) since(n int) (records []record, ended bool, changed <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.records[min(n, len(a.records)):len(a.records):len(a.records)], a.ended, a.changed
}

// wait returns all events once there are all, or the error that ended the answer.
func (a *liveAnswer) wait(ctx context.Context) ([]record, error) {
	for {
		records, ended, changed := a.since(0)
		if ended {
			a.mu.Lock()
			defer a.mu.Unlock()
			return records, a.err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// liveAnswers are those of this process.
type liveAnswers struct {
	mu      sync.Mutex
	byID    map[string]*liveAnswer
	working sync.WaitGroup
}

func (l *liveAnswers) find(id string) *liveAnswer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byID[id]
}

func (l *liveAnswers) forget(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.byID, id)
}

// idle waits until no answer is in the making any more.
func (l *liveAnswers) idle(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		l.working.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// startLive begins an answer that goes on without its client; the caller is its first reader and must detach. ctx ends
// only the wait for a slot.
func (s *Server) startLive(ctx context.Context, q retrieval.Question, k keeping, requestID string) (*liveAnswer, error) {
	if err := retrieval.CheckQuestion(q.Question); err != nil {
		return nil, err
	}
	release, err := s.takeSlot(ctx)
	if err != nil {
		return nil, err
	}
	start, err := s.recordQuestion(ctx, q, k)
	if err != nil {
		release()
		return nil, err
	}
	work, done := s.streams.open(context.WithoutCancel(ctx), s.cfg.MaxStream)
	work, cancel := context.WithCancelCause(work)
	a := &liveAnswer{id: start.ID, question: q.Question, grace: s.cfg.ResumeGrace, cancel: cancel, changed: make(chan struct{}), readers: 1}
	s.live.mu.Lock()
	s.live.byID[a.id] = a
	s.live.mu.Unlock()
	s.live.working.Go(func() {
		defer release()
		defer done()
		defer cancel(nil)
		s.produce(work, a, q, start, requestID)
	})
	return a, nil
}

// recordQuestion makes the thread if it is new, and the row that the answer will fill.
func (s *Server) recordQuestion(ctx context.Context, q retrieval.Question, k keeping) (startView, error) {
	if k.thread == newThread {
		t, err := s.cfg.Store.CreateThread(ctx, q.Collection, q.Question)
		if err != nil {
			return startView{}, missing(err, errNoCollection)
		}
		k.thread = t.ID
	}
	id, err := s.cfg.Store.BeginAnswer(ctx, store.NewAnswer{Collection: q.Collection, ThreadID: k.thread, PreviousID: k.previous, Question: q.Question})
	return startView{id, optional(k.thread), optional(k.previous)}, missing(err, errNoCollection)
}

// produce makes the answer. Its last event is shown after the answer is stored, so that who has seen it can build on it.
func (s *Server) produce(ctx context.Context, a *liveAnswer, q retrieval.Question, start startView, requestID string) {
	var done retrieval.Done
	err := a.addEvent("start", start)
	if err == nil {
		done, err = s.produceEvents(ctx, a, q)
	}
	if err == nil {
		err = s.finishLive(ctx, a, done)
		if err == nil {
			return
		}
	}
	p := describe(missing(causeOf(ctx, err), errNoCollection))
	p.RequestID = requestID
	s.cfg.Logger.WarnContext(ctx, "answer failed", "answer", a.id, "request_id", requestID, "error", err)
	last, _ := json.Marshal(errorBody{p}) // strings and numbers: never fails
	s.endLive(ctx, a, record{"error", last}, store.EndedAnswer{Status: store.AnswerFailed, Reason: p.Code}, p)
}

func (s *Server) produceEvents(ctx context.Context, a *liveAnswer, q retrieval.Question) (done retrieval.Done, err error) {
	for ev, err := range s.cfg.Retrieval.Answer(ctx, q) {
		if err != nil {
			return done, err
		}
		if d, last := ev.(retrieval.Done); last {
			done = d
			continue
		}
		if name, v := nativeEvent(ev); name != "" {
			if err := a.addEvent(name, v); err != nil {
				return done, err
			}
		}
	}
	return done, nil
}

func (a *liveAnswer) addEvent(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode event %s: %w", name, err)
	}
	return a.add(record{name, data})
}

func (s *Server) finishLive(ctx context.Context, a *liveAnswer, done retrieval.Done) error {
	name, v := nativeEvent(done)
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode event %s: %w", name, err)
	}
	s.endLive(ctx, a, record{name, data}, store.EndedAnswer{Text: done.Answer, Reason: done.Reason, Status: store.AnswerCompleted}, nil)
	return nil
}

// endLive stores the answer and shows its last event. What cannot be stored stays in memory for a while.
func (s *Server) endLive(ctx context.Context, a *liveAnswer, last record, e store.EndedAnswer, failure error) {
	records, _, _ := a.since(0)
	e.ID = a.id
	e.Events, _ = json.Marshal(append(records, last)) // parts that were encoded before
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	err := s.cfg.Store.EndAnswer(ctx, e)
	a.end(last, failure)
	if err != nil && !errors.Is(err, store.ErrNotFound) { // else it was deleted
		s.cfg.Logger.ErrorContext(ctx, "answer not stored", "answer", a.id, "error", err)
		time.AfterFunc(unstoredLife, func() { s.live.forget(a.id) })
		return
	}
	s.live.forget(a.id)
}
