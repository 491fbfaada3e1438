package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// loadFailure is a document that did not become searchable.
type loadFailure struct {
	URI     string `json:"uri"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// sender carries out one load.
type sender struct {
	p      *program
	c      *client
	o      loadOptions
	bar    *progressBar
	mu     sync.Mutex
	totals *totals
	failed []loadFailure
	lines  *json.Encoder
	told   map[string]time.Time // what was waited for, and until when it was last told
}

// sendAll sends every source with bounded concurrency and waits for the end state of each. One document's failure does
// not stop the others; a failure of the server or of the way to it does.
func (p *program) sendAll(ctx context.Context, c *client, o loadOptions, plan loadPlan, t *totals) ([]loadFailure, error) {
	s := &sender{p: p, c: c, o: o, totals: t, lines: json.NewEncoder(p.stdout), told: map[string]time.Time{}}
	s.bar = newProgressBar(p.stderr, "loading", len(plan.send)+len(plan.waiting))
	defer s.bar.finish()

	accepted := make(chan document, len(plan.send)+len(plan.waiting)+1)
	for _, d := range plan.waiting {
		accepted <- d
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(accepted)
		return s.sendEach(ctx, plan.send, accepted)
	})
	for range min(o.concurrency, waiters) {
		g.Go(func() error { return s.waitEach(ctx, accepted) })
	}
	err := g.Wait()
	return s.failed, err
}

// waiters is how many documents are waited for at once. The server works its queue in order, so few are enough.
const waiters = 4

// waitTime is how long each is waited for before it is asked what holds it.
const waitTime = "5s"

func (s *sender) sendEach(ctx context.Context, sources []loadSource, accepted chan<- document) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(s.o.concurrency)
	for _, src := range sources {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			d, err := s.sendOne(ctx, src)
			if err != nil {
				return s.fail(ctx, src.uri, err)
			}
			accepted <- d // never blocks: it holds one place a source
			return nil
		})
	}
	return g.Wait()
}

// sendTries and the first pause: the server is asked again when it is busy or away for a moment.
const (
	sendTries    = 8
	sendPause    = 250 * time.Millisecond
	sendPauseMax = 10 * time.Second
)

// sendOne puts one document; a put is repeatable, so a lost reply is asked for again.
func (s *sender) sendOne(ctx context.Context, src loadSource) (document, error) {
	b, err := src.read()
	if err != nil {
		return document{}, err
	}
	q := url.Values{"collection": {s.o.collection}, "uri": {src.uri}}
	if src.title != "" {
		q.Set("title", src.title)
	}
	if len(src.metadata) > 0 {
		q.Set("metadata", string(src.metadata))
	}
	var d document
	err = patiently(ctx, sendTries, s.tellRepeat, func() error {
		d = document{}
		return s.c.do(ctx, http.MethodPost, "/v1/documents?"+q.Encode(), bytes.NewReader(b), contentType(src.mediaType), &d)
	})
	return d, err
}

// patiently repeats a call that may be repeated while the server is busy or away for a moment, at most so many times. tell,
// which may be nil, hears why and how long it waits.
func patiently(ctx context.Context, tries int, tell func(error, time.Duration), call func() error) error {
	pause := sendPause
	for try := 1; ; try++ {
		err := call()
		if err == nil || try == tries || !worthRepeating(err) {
			return err
		}
		wait := max(pause, retryAfter(err))
		if tell != nil {
			tell(err, wait)
		}
		if err := waitFor(ctx, wait); err != nil {
			return err
		}
		pause = min(2*pause, sendPauseMax)
	}
}

func contentType(mediaType string) string {
	if mediaType == "" {
		return "application/octet-stream" // the server decides by name and content
	}
	return mediaType
}

func worthRepeating(err error) bool {
	var api *apiError
	if errors.As(err, &api) {
		return api.Status == 429 || api.Status == 408 || api.Status >= 500 && api.Status != 507
	}
	return !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

func retryAfter(err error) time.Duration {
	var api *apiError
	if errors.As(err, &api) {
		return api.RetryAfter
	}
	return 0
}

func waitFor(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d + rand.N(d/4+1))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fail records a document's own failure and returns anything else.
func (s *sender) fail(ctx context.Context, uri string, err error) error {
	var api *apiError
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.As(err, &api) && (api.Status >= 500 || api.Status == 401 || api.Status == 403 || api.Status == 429) || errors.Is(err, errUnreachable) {
		return fmt.Errorf("send %s: %w", uri, err)
	}
	f := loadFailure{URI: uri, Code: "unreadable", Message: err.Error()}
	if api != nil {
		f.Code, f.Message = api.Body.Code, api.Body.Message
	}
	s.end(document{URI: uri, Status: "error"}, &f)
	return nil
}

// waitEach takes accepted documents and waits for each one's end.
func (s *sender) waitEach(ctx context.Context, accepted <-chan document) error {
	for d := range accepted {
		if err := s.waitOne(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

func (s *sender) waitOne(ctx context.Context, d document) error {
	pause := sendPause
	for try := 1; !d.ended() && !s.o.noWait; {
		var now document
		err := s.c.getJSON(ctx, "/v1/documents/"+d.ID, url.Values{"wait": {waitTime}}, &now)
		if err == nil {
			d, try = now, 1
			s.tellWaiting(d.Waiting)
			continue
		}
		if try++; try > sendTries || !worthRepeating(err) {
			return fmt.Errorf("wait for %s: %w", d.URI, err)
		}
		if err := waitFor(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, sendPauseMax)
	}
	var f *loadFailure
	if d.Status == "error" {
		f = &loadFailure{URI: d.URI, Code: "unknown", Message: "the server gave no reason"}
		if d.Error != nil {
			f.Code, f.Message = d.Error.Code, d.Error.Message
		}
	}
	s.end(d, f)
	return nil
}

// tellWaiting says why documents do not get on.
func (s *sender) tellWaiting(w *waiting) {
	if w != nil {
		s.tell(w.For, w.Until, w.String())
	}
}

// worthTelling is the shortest wait between tries that is told.
const worthTelling = 2 * time.Second

// tellRepeat says why a document is not taken yet.
func (s *sender) tellRepeat(err error, wait time.Duration) {
	if wait < worthTelling {
		return
	}
	what := "unreachable"
	if api := (*apiError)(nil); errors.As(err, &api) {
		what = api.Body.Code
	}
	s.tell(what, time.Now().Add(wait), fmt.Sprintf("trying again in %v: %v", wait.Round(time.Second), err))
}

// tellEvery is how much later a wait for the same thing must end to be told again.
const tellEvery = time.Minute

// tell writes a line about a wait for something, now and then.
func (s *sender) tell(what string, until time.Time, line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last, known := s.told[what]; known && until.Before(last.Add(tellEvery)) {
		return
	}
	s.told[what] = until
	s.bar.clear()
	s.p.errorf("%s", line)
}

// end counts a document's end.
func (s *sender) end(d document, f *loadFailure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f != nil {
		s.totals.Failed++
		s.failed = append(s.failed, *f)
	} else {
		s.totals.Completed++
		s.totals.Chunks += d.Chunks
		s.totals.Tokens += d.Tokens
	}
	if s.p.json {
		_ = s.lines.Encode(map[string]any{"document": map[string]any{"id": d.ID, "uri": d.URI, "status": d.Status, "chunks": d.Chunks, "tokens": d.Tokens, "error": f}})
	}
	s.bar.add(1)
}
