package workersai

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
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
	Pooling string
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
	var got struct {
		Data    [][]*float64 `json:"data"` // pointers: a null must not read as 0
		Pooling string       `json:"pooling"`
		Usage   *Usage       `json:"usage"`
	}
	env, err := c.runEnvelope(ctx, r.Model, "", in, nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(env.Result, &got); err != nil {
		return &ReplyError{Model: r.Model, Row: -1, Reason: "vectors are not lists of numbers", Err: err}
	}
	if len(got.Data) != len(in.Text) {
		return &ReplyError{Model: r.Model, Row: -1, Reason: fmt.Sprintf("%d vectors for %d texts", len(got.Data), len(in.Text))}
	}
	dims := r.Dimensions
	if len(out.Vectors) > 0 {
		dims = len(out.Vectors[0])
	}
	for i, row := range got.Data {
		v, reason := checkVector(row, dims)
		if reason != "" {
			return &ReplyError{Model: r.Model, Row: i, Reason: fmt.Sprintf("vector %d: %s", i, reason)}
		}
		dims = len(v)
		out.Vectors = append(out.Vectors, v)
	}
	if got.Usage != nil {
		out.Usage.add(*got.Usage)
	}
	if got.Pooling != "" {
		out.Pooling = got.Pooling
	}
	out.Notices = append(out.Notices, env.Messages...)
	return nil
}

// checkVector converts a row, or says what is wrong with it. dims 0 takes any length.
func checkVector(row []*float64, dims int) ([]float32, string) {
	if len(row) == 0 || (dims > 0 && len(row) != dims) {
		return nil, fmt.Sprintf("%d dimensions, want %d", len(row), dims)
	}
	v, norm := make([]float32, len(row)), 0.0
	for i, p := range row {
		if p == nil {
			return nil, fmt.Sprintf("element %d is null", i)
		}
		if v[i] = float32(*p); math.IsInf(float64(v[i]), 0) || math.IsNaN(float64(v[i])) {
			return nil, fmt.Sprintf("element %d is not finite", i)
		}
		norm += float64(v[i]) * float64(v[i])
	}
	if norm == 0 {
		return nil, "all zeros"
	}
	return v, ""
}
