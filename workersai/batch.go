package workersai

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// maxBatchBytes is what the API takes in one batch.
const maxBatchBytes = 10 << 20

// BatchItem is one input of an asynchronous batch. Reference comes back with its result.
type BatchItem struct {
	Input     any
	Reference string
}

// MarshalJSON writes the input with external_reference among its fields.
func (b BatchItem) MarshalJSON() ([]byte, error) {
	raw, err := json.Marshal(b.Input)
	if err != nil || b.Reference == "" {
		return raw, err
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, fmt.Errorf("input of %q is not an object: %w", b.Reference, err)
	}
	if fields["external_reference"], err = json.Marshal(b.Reference); err != nil {
		return nil, err
	}
	return json.Marshal(fields)
}

// BatchResult is the outcome of one item.
type BatchResult struct {
	ID        int             `json:"id"`
	Success   bool            `json:"success"`
	Result    json.RawMessage `json:"result"`
	Reference string          `json:"external_reference"`
	Errors    []Notice        `json:"errors"` // why it failed, where the server says so
}

// Queue hands over a batch, under 10 MB, to be run when there is capacity, and returns its request id. An answer that is
// lost is asked for again, which can queue a batch twice.
func (c *Client) Queue(ctx context.Context, model string, items []BatchItem) (string, error) {
	if len(items) == 0 {
		return "", invalid(model, "an empty batch", "give at least one item")
	}
	q, err := runCall(model, "queueRequest=true", map[string]any{"requests": items})
	if err != nil {
		return "", err
	}
	if len(q.body) >= maxBatchBytes {
		return "", invalid(model, fmt.Sprintf("a batch of %d bytes, want under %d", len(q.body), maxBatchBytes), "split it")
	}
	var out struct {
		RequestID string `json:"request_id"`
	}
	if _, err := c.envelope(ctx, q, &out); err != nil {
		return "", err
	}
	if out.RequestID == "" {
		return "", &ReplyError{Model: model, Row: -1, Reason: "a queued batch without request_id"}
	}
	return out.RequestID, nil
}

// BatchResults asks once for the results of a batch; done is false while it is queued or runs.
func (c *Client) BatchResults(ctx context.Context, model, requestID string) (results []BatchResult, done bool, err error) {
	var out struct {
		Status    string        `json:"status"`
		Responses []BatchResult `json:"responses"`
	}
	_, err = c.runEnvelope(ctx, model, "queueRequest=true", map[string]string{"request_id": requestID}, &out)
	switch {
	case err != nil:
		return nil, false, err
	case out.Responses != nil:
		return out.Responses, true, nil
	case out.Status == "queued" || out.Status == "running":
		return nil, false, nil
	}
	return nil, false, &ReplyError{Model: model, Row: -1, Reason: fmt.Sprintf("batch %s: status %q without responses", requestID, out.Status)}
}

// WaitBatch asks for the results every so often (default 5 s) until they are there or the context ends.
func (c *Client) WaitBatch(ctx context.Context, model, requestID string, every time.Duration) ([]BatchResult, error) {
	if every <= 0 {
		every = 5 * time.Second
	}
	for {
		results, done, err := c.BatchResults(ctx, model, requestID)
		if err != nil || done {
			return results, err
		}
		if err := sleep(ctx, every); err != nil {
			return nil, fmt.Errorf("batch %s: %w", requestID, err)
		}
	}
}
