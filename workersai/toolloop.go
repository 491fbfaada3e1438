package workersai

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
)

// ErrToolRounds: the model asked for tools in every round it had, and again when it was told to answer.
var ErrToolRounds = errors.New("too many rounds of tool calls")

// maxToolRounds is enough for a few lookups in a row; a model that needs more goes in circles, as a rule.
const maxToolRounds = 8

// ToolEvent is one piece of a conversation with tools: a piece of text, or a call that was made, or the end.
type ToolEvent struct {
	Text string

	Call   *ToolCall // that was made, whole, with the model's arguments
	Result string    // what the model reads of it

	// On the last event, and only there.
	Usage        *Usage // of all rounds
	FinishReason string
	Messages     []Message // the conversation, with the calls, their results and the answer
}

// ChatWithTools asks for an answer and makes the calls the model asks for, one after another, until it answers without.
// After r.MaxRounds rounds of calls it is told to answer; ErrToolRounds if it calls even then. What a tool returns as its
// error the model reads too, and may mend; only the context's end stops the conversation. A ToolChoice that forces a call
// holds for the first round.
func (c *Client) ChatWithTools(ctx context.Context, r ChatRequest, tools ...Tool) (*ChatResponse, error) {
	l := newToolLoop(r, tools)
	for l.next() {
		got, err := c.Chat(ctx, l.request)
		if err != nil {
			return nil, err
		}
		l.usage.add(got.Usage)
		if l.took(got.Text, got.ToolCalls) {
			got.Usage, got.Messages = l.usage, l.request.Messages
			return got, nil
		}
		for _, call := range got.ToolCalls {
			if _, err := l.call(ctx, call); err != nil {
				return nil, err
			}
		}
	}
	return nil, l.err()
}

// ChatWithToolsStream is ChatWithTools in pieces: text as it comes, each call when it has been made, and a last event with
// the usage and the conversation. Streamed calls are joined before they are made. Breaking out of the loop cancels the
// request. Errors are those of ChatStream and ChatWithTools, last.
func (c *Client) ChatWithToolsStream(ctx context.Context, r ChatRequest, tools ...Tool) iter.Seq2[ToolEvent, error] {
	return func(yield func(ToolEvent, error) bool) {
		l := newToolLoop(r, tools)
		for l.next() {
			done, err := c.streamRound(ctx, l, yield)
			if err != nil && !errors.Is(err, errStopped) {
				yield(ToolEvent{}, err)
			}
			if done || err != nil {
				return
			}
		}
		yield(ToolEvent{}, l.err())
	}
}

// streamRound asks once and makes the calls; errStopped: the caller left the loop.
func (c *Client) streamRound(ctx context.Context, l *toolLoop, yield func(ToolEvent, error) bool) (done bool, err error) {
	var text string
	var last ChatEvent
	for e, err := range c.ChatStream(ctx, l.request) {
		if err != nil {
			return false, err
		}
		if e.Text != "" && !yield(ToolEvent{Text: e.Text}, nil) {
			return false, errStopped
		}
		text, last = text+e.Text, e
	}
	if last.Usage != nil {
		l.usage.add(*last.Usage)
	}
	if l.took(text, last.ToolCalls) {
		if text == "" {
			return false, &ReplyError{Model: l.request.Model, Row: -1, Reason: "an answer without text"}
		}
		yield(ToolEvent{Usage: &l.usage, FinishReason: last.FinishReason, Messages: l.request.Messages}, nil)
		return true, nil
	}
	for _, call := range last.ToolCalls {
		result, err := l.call(ctx, call)
		if err != nil {
			return false, err
		}
		if !yield(ToolEvent{Call: &call, Result: result}, nil) {
			return false, errStopped
		}
	}
	return false, nil
}

// toolLoop is a conversation with tools.
type toolLoop struct {
	request ChatRequest
	tools   map[string]Tool
	rounds  int // that may call
	round   int
	usage   Usage
}

func newToolLoop(r ChatRequest, tools []Tool) *toolLoop {
	if r.Prompt != "" && len(r.Messages) == 0 {
		r.Messages, r.Prompt = []Message{{Role: "user", Content: r.Prompt}}, ""
	}
	l := &toolLoop{tools: map[string]Tool{}, rounds: cmp.Or(r.MaxRounds, maxToolRounds)}
	r.Tools, r.Messages = slices.Clone(r.Tools), slices.Clone(r.Messages)
	for _, t := range tools {
		l.tools[t.Spec.Name] = t
		r.Tools = append(r.Tools, t.Spec)
	}
	l.request = r
	return l
}

// next prepares a round. The one after the last that may call is for the answer.
func (l *toolLoop) next() bool {
	l.round++
	switch forced := len(l.request.ToolChoice) > 0 && string(l.request.ToolChoice) != `"auto"`; {
	case l.round == l.rounds+1:
		l.request.ToolChoice = json.RawMessage(`"none"`)
	case l.round > 1 && forced && string(l.request.ToolChoice) != `"none"`:
		l.request.ToolChoice = nil
	}
	return l.round <= l.rounds+1
}

// took adds the model's turn; done if it made no calls.
func (l *toolLoop) took(text string, calls []ToolCall) (done bool) {
	if l.round > l.rounds && len(calls) > 0 {
		return false // it calls although it was told to answer
	}
	l.request.Messages = append(l.request.Messages, Message{Role: "assistant", Content: text, ToolCalls: calls})
	return len(calls) == 0
}

// call makes a call and adds its result.
func (l *toolLoop) call(ctx context.Context, call ToolCall) (string, error) {
	if l.round > l.rounds {
		return "", l.err()
	}
	result := l.tools[call.Name].run(ctx, call)
	if ctx.Err() != nil {
		return "", fmt.Errorf("tool %s: %w", call.Name, ctx.Err())
	}
	l.request.Messages = append(l.request.Messages, result)
	return result.Content, nil
}

func (l *toolLoop) err() error {
	return fmt.Errorf("%s: %w: it asked for tools %d times", l.request.Model, ErrToolRounds, l.rounds)
}
