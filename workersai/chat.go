package workersai

import (
	"context"
	"errors"
	"iter"
)

// ChatRequest is the input of a text generation model. Zero fields are not sent.
type ChatRequest struct {
	Model       string
	Messages    []Message
	Prompt      string
	MaxTokens   int // always sent; default 256
	Temperature *float64
	TopP        *float64
	TopK        *int
	Seed        *int64
	Stop        []string
}

// ChatEvent is one piece of a streamed answer.
type ChatEvent struct {
	Text      string
	ToolCalls []ToolCall
	Usage     *Usage // set on the last event
}

// ChatStream streams; the last error is io.ErrUnexpectedEOF if the stream was cut before [DONE].
func (c *Client) ChatStream(ctx context.Context, r ChatRequest) iter.Seq2[ChatEvent, error] {
	return func(yield func(ChatEvent, error) bool) { yield(ChatEvent{}, errors.New("not built yet")) }
}
