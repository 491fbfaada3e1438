package workersai

import (
	"context"
	"errors"
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
}

// Embed embeds any number of texts in requests of at most 100.
func (c *Client) Embed(ctx context.Context, r EmbedRequest) (*EmbedResponse, error) {
	return nil, errors.New("not built yet")
}
