package workersai

import (
	"context"
	"fmt"
	"net/http"
	"strings"
)

// EmbedRequest asks for one vector a text.
type EmbedRequest struct {
	Model          string
	Texts          []string
	Pooling        string // "cls" or "mean"; "" sends the model's default explicitly
	TruncateInputs bool
	Dimensions     int // checked if > 0
}

// EmbedResponse holds Vectors in the order of the texts.
type EmbedResponse struct {
	Vectors [][]float32
	Pooling string // what the server says it did: a stand-in for a model may pool otherwise than asked
	Usage   Usage
	Notices []Notice // such as which texts were cut
}

// Embed embeds any number of texts in requests of at most 100. A reply with other than one finite, non-zero vector of
// one length for each text is a *ReplyError.
func (c *Client) Embed(ctx context.Context, r EmbedRequest) (*EmbedResponse, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	pooling := r.Pooling
	if pooling == "" {
		pooling = defaultPooling(r.Model)
	}
	out := &EmbedResponse{Pooling: pooling, Vectors: make([][]float32, 0, len(r.Texts))}
	for start := 0; start < len(r.Texts); start += MaxEmbedTexts {
		texts := r.Texts[start:min(start+MaxEmbedTexts, len(r.Texts))]
		in := EmbeddingInput{Text: texts, Pooling: pooling, TruncateInputs: r.TruncateInputs}
		if err := c.embedBatch(ctx, r, in, out); err != nil {
			return nil, fmt.Errorf("embed texts %d to %d: %w", start, start+len(texts)-1, err)
		}
	}
	return out, nil
}

// defaultPooling: the bge models were trained with cls; bge-m3 takes no pooling.
func defaultPooling(model string) string {
	switch {
	case strings.Contains(model, "bge-m3"):
		return ""
	case strings.Contains(model, "bge-"):
		return "cls"
	}
	return "mean"
}

func (c *Client) embedBatch(ctx context.Context, r EmbedRequest, in EmbeddingInput, out *EmbedResponse) error {
	q, err := runCall(r.Model, "", in)
	if err != nil {
		return err
	}
	var got embedReply
	var notices []Notice
	q.read = func(resp *http.Response) error {
		data, err := readBody(ctx, resp, r.Model)
		if err != nil {
			return err
		}
		got, notices, err = c.readVectors(data, r.Model)
		return err
	}
	if err := c.withFallback(ctx, q); err != nil {
		return err
	}
	return out.take(r, len(in.Text), got, notices)
}

// take checks the vectors of n texts and adds them.
func (out *EmbedResponse) take(r EmbedRequest, n int, got embedReply, notices []Notice) error {
	if len(got.rows) != n {
		return &ReplyError{Model: r.Model, Row: -1, Reason: fmt.Sprintf("%d vectors for %d texts", len(got.rows), n)}
	}
	dims := r.Dimensions
	if len(out.Vectors) > 0 {
		dims = len(out.Vectors[0])
	}
	for i, row := range got.rows {
		if reason := checkVector(row, dims); reason != "" {
			return &ReplyError{Model: r.Model, Row: i, Reason: fmt.Sprintf("vector %d: %s", i, reason)}
		}
		dims = len(row)
		out.Vectors = append(out.Vectors, row)
	}
	if got.Usage != nil {
		out.Usage.add(*got.Usage)
	}
	if got.Pooling != "" {
		out.Pooling = got.Pooling
	}
	out.Notices = append(out.Notices, notices...)
	return nil
}
