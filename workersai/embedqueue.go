package workersai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// EmbedQueued is Embed by an asynchronous batch, which the provider runs when it has capacity: for bulk work, where
// nobody waits. It asks for the results every so often (default 5 s). A batch that the server no longer knows is
// ErrUnreachable: ask again.
func (c *Client) EmbedQueued(ctx context.Context, r EmbedRequest, every time.Duration) (*EmbedResponse, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	out := &EmbedResponse{Pooling: r.Pooling, Vectors: make([][]float32, 0, len(r.Texts))}
	if r.Pooling == "" {
		out.Pooling = defaultPooling(r.Model)
	}
	var parts [][]string
	var items []BatchItem
	for start := 0; start < len(r.Texts); start += MaxEmbedTexts {
		texts := r.Texts[start:min(start+MaxEmbedTexts, len(r.Texts))]
		items = append(items, BatchItem{Reference: strconv.Itoa(len(parts)), Input: EmbeddingInput{Text: texts, Pooling: out.Pooling, TruncateInputs: r.TruncateInputs}})
		parts = append(parts, texts)
	}
	if len(parts) == 0 {
		return out, nil
	}
	id, err := c.Queue(ctx, r.Model, items)
	if err != nil {
		return nil, fmt.Errorf("queue %d texts to embed: %w", len(r.Texts), err)
	}
	results, err := c.WaitBatch(ctx, r.Model, id, every)
	if errors.Is(err, ErrInvalidInput) || errors.Is(err, ErrModelNotFound) {
		return nil, fmt.Errorf("%w: batch %s was lost: %s", ErrUnreachable, id, err.Error()) // not of the texts' making
	}
	if err != nil {
		return nil, err
	}
	return out, c.takeBatch(r, parts, results, out)
}

// takeBatch puts the parts' results, which come in any order, in the order of the texts.
func (c *Client) takeBatch(r EmbedRequest, parts [][]string, results []BatchResult, out *EmbedResponse) error {
	byPart := map[string]BatchResult{}
	for _, result := range results {
		byPart[result.Reference] = result
	}
	for i, texts := range parts {
		result, there := byPart[strconv.Itoa(i)]
		switch {
		case !there:
			return &ReplyError{Model: r.Model, Row: -1, Reason: fmt.Sprintf("a batch without part %d of %d", i+1, len(parts))}
		case !result.Success:
			return c.failedPart(r.Model, result)
		}
		got, notices, err := c.readVectors(slices.Concat([]byte(`{"success":true,"result":`), result.Result, []byte("}")), r.Model)
		if err != nil {
			return err
		}
		if err := out.take(r, len(texts), got, notices); err != nil {
			return err
		}
	}
	return nil
}

// failedPart is a failure among a batch's results.
func (c *Client) failedPart(model string, result BatchResult) error {
	body, _ := json.Marshal(map[string]any{"errors": result.Errors}) // numbers and strings
	if len(result.Errors) == 0 {
		body = []byte(`{"error":"a part of the batch failed; the server does not say why"}`)
	}
	e := c.parseError(200, body)
	e.of(model)
	return e
}
