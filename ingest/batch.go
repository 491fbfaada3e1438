package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/workersai"
)

// batcher fills embedding requests with the chunks of several documents. There is no timer: while requests are under way
// texts gather, and a free place takes what is there.
type batcher struct {
	cfg        Config
	budget     *store.Budget
	gate       gate
	dimensions atomic.Int64
	texts      atomic.Int64
	calls      atomic.Int64

	mu      sync.Mutex
	pending []*request    // those with texts to take, in order of arrival
	wake    chan struct{} // has one place: a free sender looks again
	express chan struct{} // likewise, for the sender of short documents
	bulk    int           // batches of long documents under way
}

// expressTexts is how many texts make a document short: it has a sender of its own, so that it need not wait for the
// hundreds of texts of a bulk load that are under way.
const expressTexts = 16

// text is one chunk on its way. Its document waits for all of its texts.
type text struct {
	embedded string
	chunk    *store.Chunk
	of       *request
	bad      int // replies that could not be used
}

// request is what one document waits for.
type request struct {
	ctx   context.Context
	size  int     // of all
	texts []*text // not taken yet; the batcher's lock guards them
	mu    sync.Mutex
	left  int
	err   error
	done  chan struct{}
}

func newBatcher(cfg Config) *batcher {
	return &batcher{cfg: cfg, wake: make(chan struct{}, 1), express: make(chan struct{}, 1), gate: gate{pauses: defaultPauses},
		budget: cfg.Store.Budget(store.BudgetConfig{Provider: cfg.Provider, Kind: store.EmbedBudget, PerMinute: cfg.EmbedPerMinute})}
}

// start runs the senders until ctx ends.
func (b *batcher) start(ctx context.Context, wg *sync.WaitGroup) {
	for range b.cfg.Concurrency {
		wg.Go(func() { b.sendLoop(ctx, b.wake, b.take) })
	}
	wg.Go(func() { b.sendLoop(ctx, b.express, b.takeShort) })
}

// embed fills the chunks' vectors. It returns when all are there, when one of them cannot be embedded (*ExtractError), or
// when ctx ends.
func (b *batcher) embed(ctx context.Context, chunks []store.Chunk) error {
	if len(chunks) == 0 {
		return nil
	}
	r := &request{ctx: ctx, size: len(chunks), left: len(chunks), done: make(chan struct{})}
	for i := range chunks {
		r.texts = append(r.texts, &text{embedded: EmbedText(chunks[i]), chunk: &chunks[i], of: r})
	}
	b.mu.Lock()
	b.pending = append(b.pending, r)
	b.signal()
	b.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		r.end(ctx.Err()) // its texts leave the batches
		return ctx.Err()
	}
}

// signal wakes the senders that have something to take; the caller holds the lock.
func (b *batcher) signal() {
	if len(b.pending) > 0 {
		ring(b.wake)
	}
	if b.crowded() && slices.ContainsFunc(b.pending, (*request).short) {
		ring(b.express)
	}
}

// crowded: long documents have the usual senders' attention. Without them short ones need no sender of their own, which would
// only make small requests of them.
func (b *batcher) crowded() bool {
	return b.bulk > 0 || slices.ContainsFunc(b.pending, func(r *request) bool { return !r.short() })
}

func ring(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

func (r *request) short() bool { return r.size <= expressTexts }

// end fails the whole request, once.
func (r *request) end(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left > 0 {
		r.left, r.err = 0, err
		close(r.done)
	}
}

// give stores a vector; late ones of an ended request are dropped.
func (r *request) give(c *store.Chunk, v []float32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left == 0 {
		return
	}
	c.Embedding = v
	if r.left--; r.left == 0 {
		close(r.done)
	}
}

func (r *request) over() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.left == 0
}

// take removes the next batch from the queue: of long documents if there are any, else of short ones. They are not mixed, or a
// short document would wait for a whole batch of a long one. Half of the places go to those who have waited longest, the others
// to those who need the fewest, so that neither is starved by the other.
func (b *batcher) take() []*text {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dropEnded()
	from := slices.DeleteFunc(slices.Clone(b.pending), (*request).short)
	if len(from) == 0 {
		from = b.pending
	}
	return b.fill(from)
}

// takeShort removes a batch of short documents' texts while long ones keep the usual senders busy.
func (b *batcher) takeShort() []*text {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dropEnded()
	if !b.crowded() {
		return nil
	}
	return b.fill(slices.DeleteFunc(slices.Clone(b.pending), func(r *request) bool { return !r.short() }))
}

// fill moves the next texts of the requests into a batch; the caller holds the lock.
func (b *batcher) fill(from []*request) []*text {
	batch := move(nil, from, (b.cfg.BatchTexts+1)/2)
	fewest := slices.Clone(from)
	slices.SortStableFunc(fewest, func(x, y *request) int { return len(x.texts) - len(y.texts) })
	batch = move(batch, fewest, b.cfg.BatchTexts)
	if isBulk(batch) {
		b.bulk++
	}
	b.dropEnded()
	b.signal()
	return batch
}

func isBulk(batch []*text) bool { return len(batch) > 0 && !batch[0].of.short() }

// sent says that a batch is not under way any more.
func (b *batcher) sent(batch []*text) {
	if isBulk(batch) {
		b.mu.Lock()
		b.bulk--
		b.mu.Unlock()
	}
}

// move appends texts of the requests, in their order, until the batch has size texts.
func move(batch []*text, from []*request, size int) []*text {
	for _, r := range from {
		n := min(size-len(batch), len(r.texts))
		batch = append(batch, r.texts[:n]...)
		r.texts = r.texts[n:]
	}
	return batch
}

// dropEnded lets go of requests that are over or have no texts left to take.
func (b *batcher) dropEnded() {
	b.pending = slices.DeleteFunc(b.pending, func(r *request) bool { return len(r.texts) == 0 || r.over() })
}

func (b *batcher) sendLoop(ctx context.Context, wake <-chan struct{}, take func() []*text) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake:
		}
		for batch := take(); len(batch) > 0; batch = take() {
			b.send(ctx, batch)
			b.sent(batch)
		}
	}
}

// send gets the vectors of a batch, waiting as long as the provider wants. A batch that is too large, or holds a text that the
// model refuses, is halved until that text is alone.
func (b *batcher) send(ctx context.Context, batch []*text) {
	for {
		batch = alive(batch)
		if len(batch) == 0 || ctx.Err() != nil {
			return
		}
		err := b.call(ctx, batch)
		if err == nil || ctx.Err() != nil {
			return
		}
		if !errors.Is(err, workersai.ErrContextExceeded) && !errors.Is(err, workersai.ErrInvalidInput) && !b.tooOftenBad(batch, err) {
			continue // an unusable reply is asked for again at once, for others the gate decides
		}
		if len(batch) == 1 {
			batch[0].of.end(refused(batch[0], err))
			return
		}
		b.send(ctx, batch[:len(batch)/2])
		batch = batch[len(batch)/2:]
	}
}

// queuePoll is how often an asynchronous batch is asked for: bulk work does not mind a second.
const queuePoll = time.Second

// vectors embeds at once, or what is large by an asynchronous batch where that is asked for. If this process ends
// meanwhile the batch is forgotten: its texts are not staged, and the documents' jobs ask for them again.
func (b *batcher) vectors(ctx context.Context, q workersai.EmbedRequest) (*workersai.EmbedResponse, error) {
	if b.cfg.EmbedQueued && len(q.Texts) > expressTexts {
		return b.cfg.Models.EmbedQueued(ctx, q, queuePoll)
	}
	return b.cfg.Models.Embed(ctx, q)
}

// maxBadReplies is how often a text's unusable vector is asked for before it is the document's error.
const maxBadReplies = 3

// tooOftenBad counts unusable replies against each text.
func (b *batcher) tooOftenBad(batch []*text, err error) bool {
	if !errors.Is(err, workersai.ErrBadReply) {
		return false
	}
	worst := 0
	for _, t := range batch {
		t.bad++
		worst = max(worst, t.bad)
	}
	return worst >= maxBadReplies
}

func alive(batch []*text) []*text {
	var live []*text
	for _, t := range batch {
		if !t.of.over() {
			live = append(live, t)
		}
	}
	return live
}

// refused words a text's permanent error for the document.
func refused(t *text, err error) error {
	e := &ExtractError{Code: "rejected_by_model", Message: fmt.Sprintf("the embedding model refuses chunk %d (characters %d to %d): %v", t.chunk.Ordinal, t.chunk.Start, t.chunk.End, err)}
	switch {
	case errors.Is(err, workersai.ErrContextExceeded):
		e.Code = "context_exceeded"
	case errors.Is(err, workersai.ErrBadReply):
		e.Code = "bad_upstream_reply"
	}
	return e
}

// call makes one request and tells the gate how it went.
func (b *batcher) call(ctx context.Context, batch []*text) error {
	leave, err := b.gate.wait(ctx)
	if err != nil {
		return err
	}
	defer leave()
	err = b.ask(ctx, batch)
	switch {
	case err == nil, errors.Is(err, workersai.ErrContextExceeded), errors.Is(err, workersai.ErrInvalidInput), errors.Is(err, workersai.ErrBadReply):
		b.gate.open()
	case ctx.Err() == nil:
		b.gate.shut(ctx, err, b.budget, b.cfg.Logger)
	}
	return err
}

func (b *batcher) ask(ctx context.Context, batch []*text) error {
	if err := b.budget.Wait(ctx, false); err != nil {
		return err
	}
	texts := make([]string, len(batch))
	for i, t := range batch {
		texts[i] = t.embedded
	}
	b.calls.Add(1)
	q := workersai.EmbedRequest{Model: b.cfg.EmbedModel, Pooling: b.cfg.Pooling, Texts: texts, Dimensions: int(b.dimensions.Load())}
	r, err := b.vectors(ctx, q)
	if err != nil {
		return err
	}
	b.texts.Add(int64(len(batch)))
	for i, t := range batch {
		t.of.give(t.chunk, r.Vectors[i])
	}
	return nil
}

// gate makes all senders wait together while the provider cannot serve. After a pause one of them tries; the others go on when
// it has succeeded.
type gate struct {
	pauses pauses

	mu       sync.Mutex
	until    time.Time
	why      string
	failures int           // in a row
	trying   chan struct{} // closed when the one that tries is back; nil when nobody does
}

// pauses are how long the gate stays shut when the provider does not say.
type pauses struct {
	first, longest time.Duration // after a failure: the first, doubling to the longest, with jitter
	mend           time.Duration // a wrong token or an unknown model is for a person to mend
	quota          time.Duration // a used-up allocation comes back at 00:00 UTC
}

var defaultPauses = pauses{first: 500 * time.Millisecond, longest: 30 * time.Second, mend: time.Minute, quota: 5 * time.Minute}

func (g *gate) state() (until time.Time, why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.until, g.why
}

// wait returns when the caller may make a call; leave ends it.
func (g *gate) wait(ctx context.Context) (leave func(), err error) {
	for ctx.Err() == nil {
		g.mu.Lock()
		left, trying, failing := time.Until(g.until), g.trying, g.failures > 0
		first := left <= 0 && failing && trying == nil
		if first {
			g.trying = make(chan struct{})
		}
		g.mu.Unlock()
		switch {
		case first:
			return g.back, nil
		case left > 0:
			pause(ctx, left)
		case !failing:
			return func() {}, nil
		default:
			select {
			case <-ctx.Done():
			case <-trying:
			}
		}
	}
	return nil, ctx.Err()
}

// back lets the next one try, or all go on.
func (g *gate) back() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.trying)
	g.trying = nil
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failures = 0 // the reason stays: a call that was under way before the gate shut may have succeeded
}

// shut closes the gate for as long as the error asks.
func (g *gate) shut(ctx context.Context, err error, budget *store.Budget, log *slog.Logger) {
	var api *workersai.Error
	errors.As(err, &api)
	g.mu.Lock()
	g.failures++
	d := min(time.Duration(float64(g.pauses.first)*math.Exp2(float64(min(g.failures-1, 10)))), g.pauses.longest)
	d += rand.N(d/4 + 1)
	switch {
	case errors.Is(err, workersai.ErrQuotaExhausted):
		d = g.pauses.quota
	case errors.Is(err, workersai.ErrUnauthorized), errors.Is(err, workersai.ErrModelNotFound):
		d = g.pauses.mend
	case api != nil && api.RetryAfter > 0:
		d = api.RetryAfter
	}
	until := time.Now().Add(d)
	first := g.failures == 1
	if until.After(g.until) {
		g.until, g.why = until, err.Error()
	}
	g.mu.Unlock()
	if first {
		log.Warn("the model provider cannot serve, documents wait", "for", d.Round(time.Millisecond), "error", err)
	}
	if api != nil && api.RetryAfter > 0 {
		if err := budget.Pause(ctx, until); err != nil {
			log.Warn("other processes could not be told to wait", "error", err)
		}
	}
}
