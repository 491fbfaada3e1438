// Package workersai is a client of the Cloudflare Workers AI REST API, with its wire types and error codes.
package workersai

import (
	"context"
	"errors"
	"iter"
)

// Client is safe for concurrent use.
type Client struct{}

// Message is one turn of a conversation.
type Message struct {
	Role       string     `json:"role"` // system, user, assistant, tool
	Content    string     `json:"content"`
	ToolCalls  []ToolCall `json:"tool_calls,omitempty"`
	ToolCallID string     `json:"tool_call_id,omitempty"`
	Name       string     `json:"name,omitempty"`
}

// ToolCall is a function call the model asks for.
type ToolCall struct {
	ID        string
	Name      string
	Arguments string // the text of a JSON object
}

// Usage counts tokens.
type Usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
}

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
