package modelhost

import (
	"context"
	"sync"
)

const (
	// smallRequest is how many texts a request may have to overtake: a question and its rewrites, not a document.
	smallRequest = 4
	// smallInFlight is how many micro-requests of small requests run beside the bulk's: the engine takes them as its
	// next batch, and its own queue stays short.
	smallInFlight = 4
	// agingStep: of so many bulk picks one goes to the request that has waited longest, so that none starves.
	agingStep = 4
)

// scheduler cuts embedding requests into micro-requests and keeps the engine busy with them: InFlight of bulk requests
// at a time, taken in turns, with small requests beside them at once.
type scheduler struct {
	b *backend

	mu    sync.Mutex
	bulk  []*embedJob // waiting micro-requests left, in order of arrival
	small []*embedJob
	busy  int // bulk micro-requests at the engine
	fast  int // small ones
	turn  int
}

func newScheduler(b *backend) *scheduler { return &scheduler{b: b} }

// embedJob is one request: its texts, cut at every batch texts, and where the rows go.
type embedJob struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	texts  []string
	batch  int
	next   int // first text not sent
	left   int // micro-requests not answered
	rows   [][]float32
	encode bool     // the rows as JSON, too
	json   [][]byte // one a row, written while the engine works on the next
	tokens int
	done   chan struct{}
	over   bool
}

// embedOptions of one request.
type embedOptions struct {
	rejectIfBusy bool // do not wait for a turn
	encode       bool // write each row as JSON as soon as it is there
}

// embed returns the job when it has one row a text, in order, and the engine's token count. The first failure ends the request, and
// what it has at the engine.
func (s *scheduler) embed(ctx context.Context, texts []string, o embedOptions) (*embedJob, error) {
	jobCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	j := &embedJob{
		ctx: jobCtx, cancel: cancel, texts: texts, batch: s.b.BatchTexts,
		rows: make([][]float32, len(texts)), encode: o.encode, json: make([][]byte, len(texts)), done: make(chan struct{}),
	}
	j.left = (len(texts) + j.batch - 1) / j.batch
	if err := s.add(j, o.rejectIfBusy); err != nil {
		return nil, err
	}
	select {
	case <-j.done:
	case <-jobCtx.Done():
		s.drop(j)
		return nil, context.Cause(jobCtx)
	}
	if err := context.Cause(jobCtx); err != nil {
		return nil, err
	}
	return j, nil
}

// load is how many requests wait, and how many micro-requests are at the engine.
func (s *scheduler) load() (waiting, running int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting(), s.busy + s.fast
}

// add queues a request, if it may wait and the queue is not full.
func (s *scheduler) add(j *embedJob, rejectIfBusy bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	list, running, most := &s.bulk, s.busy, s.b.InFlight
	if len(j.texts) <= smallRequest {
		list, running, most = &s.small, s.fast, smallInFlight
	}
	if rejectIfBusy && running >= most {
		return busyNow(s.b.Backend.Model)
	}
	if s.waiting() >= s.b.Queue && running >= most {
		return queueFull(s.b.Backend.Model, s.b.Queue)
	}
	*list = append(*list, j)
	s.dispatch()
	return nil
}

// waiting counts the requests of which nothing was sent; s.mu is held.
func (s *scheduler) waiting() (n int) {
	for _, list := range [][]*embedJob{s.bulk, s.small} {
		for _, j := range list {
			if j.next == 0 {
				n++
			}
		}
	}
	return n
}

// drop forgets what a request has not sent yet.
func (s *scheduler) drop(j *embedJob) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j.over = true
	s.small = without(s.small, j)
	s.bulk = without(s.bulk, j)
}

func without(list []*embedJob, j *embedJob) []*embedJob {
	for i, other := range list {
		if other == j {
			return append(list[:i], list[i+1:]...)
		}
	}
	return list
}

// dispatch starts what may start; s.mu is held.
func (s *scheduler) dispatch() {
	for len(s.small) > 0 && s.fast < smallInFlight {
		j := s.small[0]
		s.fast++
		if s.start(j, &s.fast) {
			s.small = without(s.small, j)
		}
	}
	for len(s.bulk) > 0 && s.busy < s.b.InFlight {
		s.turn++
		i := s.turn % len(s.bulk)
		if s.turn%agingStep == 0 {
			i = 0
		}
		j := s.bulk[i]
		s.busy++
		if s.start(j, &s.busy) {
			s.bulk = without(s.bulk, j)
		}
	}
}

// start sends the next micro-request of j and says whether it was the last; s.mu is held. running is the counter that
// its end lowers.
func (s *scheduler) start(j *embedJob, running *int) (last bool) {
	from := j.next
	to := min(from+j.batch, len(j.texts))
	j.next = to
	go func() {
		rows, tokens, err := s.b.embedTexts(j.ctx, j.texts[from:to])
		s.free(running)
		for i := range rows {
			if j.encode { // the engine has its next work already
				j.json[from+i] = appendRow(make([]byte, 0, 12*len(rows[i])), rows[i])
			}
		}
		s.finish(j, from, rows, tokens, err)
	}()
	return to == len(j.texts)
}

// free gives the place of a micro-request to the next.
func (s *scheduler) free(running *int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*running--
	s.dispatch()
}

func (s *scheduler) finish(j *embedJob, from int, rows [][]float32, tokens int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j.over {
		return
	}
	if err != nil {
		j.over = true
		j.cancel(&batchError{from: from, err: err})
		s.small, s.bulk = without(s.small, j), without(s.bulk, j)
		return
	}
	copy(j.rows[from:], rows)
	j.tokens += tokens
	if j.left--; j.left == 0 {
		j.over = true
		close(j.done)
	}
}

// batchError is the failure of the micro-request that began with text from.
type batchError struct {
	from int
	err  error
}

func (e *batchError) Error() string { return e.err.Error() }
func (e *batchError) Unwrap() error { return e.err }
