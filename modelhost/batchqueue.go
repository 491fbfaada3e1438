package modelhost

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/footnote-rag/footnote/workersai"
)

const (
	maxQueuedBytes = 10 << 20       // of one batch, as Cloudflare takes
	maxBatches     = 100            // kept at a time: answers stay in memory
	batchKept      = 24 * time.Hour // an answer nobody fetched is forgotten then
)

// batchQueue runs asynchronous batches one after another, in the order of their arrival, and keeps their answers in
// memory: they end with the host.
type batchQueue struct {
	host *Host
	wg   sync.WaitGroup
	turn chan struct{} // held by the batch that runs

	mu      sync.Mutex
	batches map[string]*batch
	closed  bool
}

type batch struct {
	account, model string
	status         string // queued, running, done
	at             time.Time
	requests       []json.RawMessage
	responses      []batchResponse
}

type batchResponse struct {
	ID        int                `json:"id"`
	Result    json.RawMessage    `json:"result"`
	Success   bool               `json:"success"`
	Errors    []workersai.Notice `json:"errors,omitempty"`
	Reference string             `json:"external_reference,omitempty"`
}

func newBatchQueue(h *Host) *batchQueue {
	return &batchQueue{host: h, turn: make(chan struct{}, 1), batches: map[string]*batch{}}
}

// close takes no more batches and waits for the end of what runs, which the host has told to stop.
func (q *batchQueue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.wg.Wait()
}

// serve takes a batch, or tells how one is doing.
func (q *batchQueue) serve(c *call, b *backend, body []byte) error {
	var in struct {
		RequestID string            `json:"request_id"`
		Requests  []json.RawMessage `json:"requests"`
	}
	if err := decodeBody(body, openAISchema, &in); err != nil {
		return err
	}
	switch {
	case in.RequestID != "":
		return q.tell(c, in.RequestID)
	case len(in.Requests) == 0:
		return invalid("required properties at '/' are 'requests'", "a batch needs requests, or the request_id of one that was sent")
	case len(body) >= maxQueuedBytes:
		return tooLarge(maxQueuedBytes)
	}
	id, err := q.add(c.account, b, in.Requests)
	if err != nil {
		return err
	}
	answer(c, map[string]string{"status": "queued", "request_id": id, "model": b.Name})
	return nil
}

func (q *batchQueue) add(account string, b *backend, requests []json.RawMessage) (string, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.host.cfg.Now()
	for id, old := range q.batches {
		if old.status == "done" && now.Sub(old.at) > batchKept {
			delete(q.batches, id)
		}
	}
	if len(q.batches) >= maxBatches {
		return "", tooBusy(fmt.Sprintf("%d batches are queued or wait to be fetched: fetch them, or try again later", maxBatches), time.Minute)
	}
	if q.closed {
		return "", context.Canceled
	}
	id := uuid.NewString()
	job := &batch{account: account, model: b.Name, status: "queued", at: now, requests: requests}
	q.batches[id] = job
	q.wg.Go(func() { q.run(q.host.stopping, job, b) })
	return id, nil
}

// tell answers the status, or the responses. Another account's batch is not there.
func (q *batchQueue) tell(c *call, id string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	job := q.batches[id]
	if job == nil || job.account != c.account {
		return invalid("no such request_id", "no batch "+id+" here: it is unknown, older than a day, or the host was started again since")
	}
	if job.status != "done" {
		answer(c, map[string]string{"status": job.status, "request_id": id, "model": job.model})
		return nil
	}
	answer(c, map[string]any{"responses": job.responses})
	return nil
}

func (q *batchQueue) run(ctx context.Context, job *batch, b *backend) {
	select {
	case q.turn <- struct{}{}:
		defer func() { <-q.turn }()
	case <-ctx.Done():
		return
	}
	q.set(job, "running", nil)
	responses := make([]batchResponse, 0, len(job.requests))
	for i, one := range job.requests {
		if ctx.Err() != nil {
			return
		}
		responses = append(responses, q.host.runQueued(ctx, job, b, i, one))
	}
	q.set(job, "done", responses)
}

func (q *batchQueue) set(job *batch, status string, responses []batchResponse) {
	q.mu.Lock()
	defer q.mu.Unlock()
	job.status, job.responses, job.at = status, responses, q.host.cfg.Now()
}

// runQueued runs one request as if it had come alone, and waits for capacity as long as it takes.
func (h *Host) runQueued(ctx context.Context, job *batch, b *backend, i int, body []byte) batchResponse {
	out := batchResponse{ID: i, Result: json.RawMessage("null")}
	var ref struct {
		Reference string `json:"external_reference"`
	}
	_ = json.Unmarshal(body, &ref) // no object: the model refuses it below
	out.Reference = ref.Reference
	ctx, cancel := context.WithTimeout(ctx, b.Timeout)
	defer cancel()
	w, err := h.runPatiently(ctx, job, b, body)
	var env workersai.Envelope[json.RawMessage]
	if err == nil {
		if err = json.Unmarshal(w.body.Bytes(), &env); err != nil {
			err = invalid("only JSON answers can be queued", "only requests with JSON answers can be queued: leave out stream")
		}
	}
	if err != nil {
		f := asFailure(err)
		out.Errors = []workersai.Notice{{Code: f.code, Message: f.message}}
		return out
	}
	out.Result, out.Success = env.Result, true
	return out
}

// runPatiently runs one request, again while there is no capacity.
func (h *Host) runPatiently(ctx context.Context, job *batch, b *backend, body []byte) (*memoryWriter, error) {
	for {
		w := &memoryWriter{header: http.Header{}}
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "/ai/run/"+job.model, http.NoBody)
		if err != nil {
			return w, err
		}
		err = h.runTask(&call{id: uuid.NewString(), path: "run/" + job.model, account: job.account, w: w, r: r}, b, job.model, body)
		var f *failure
		if !errors.As(err, &f) || f.code != workersai.CodeRateLimited || wait(ctx, f.retryAfter) != nil {
			return w, err
		}
	}
}

// memoryWriter keeps an answer.
type memoryWriter struct {
	header http.Header
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (w *memoryWriter) Header() http.Header { return w.header }

// Write implements http.ResponseWriter.
func (w *memoryWriter) Write(p []byte) (int, error) { return w.body.Write(p) }

// WriteHeader implements http.ResponseWriter.
func (w *memoryWriter) WriteHeader(int) {}
