package workersai

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
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
	Tools       []ToolSpec
}

// ChatEvent is one piece of a streamed answer.
type ChatEvent struct {
	Text      string
	ToolCalls []ToolCall
	Usage     *Usage // set on the last event, and only there
}

func (r ChatRequest) body(stream bool) ([]byte, error) {
	in := TextInput{Prompt: r.Prompt, Messages: r.Messages, Stream: stream, MaxTokens: r.MaxTokens, Temperature: r.Temperature,
		TopP: r.TopP, TopK: r.TopK, Seed: r.Seed, Stop: r.Stop, Tools: r.Tools}
	if in.MaxTokens == 0 {
		in.MaxTokens = DefaultMaxTokens
	}
	body, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("encode chat request: %w", err)
	}
	return body, nil
}

// errStopped: the caller left the loop.
var errStopped = errors.New("stopped")

// ChatStream streams; the last error is io.ErrUnexpectedEOF if the stream was cut before [DONE].
// Breaking out of the loop closes the body and cancels the request.
func (c *Client) ChatStream(ctx context.Context, r ChatRequest) iter.Seq2[ChatEvent, error] {
	return func(yield func(ChatEvent, error) bool) {
		body, err := r.body(true)
		if err == nil {
			err = c.run(ctx, r.Model, body, true, func(resp *http.Response) error {
				s := &chatStream{model: r.Model, yield: yield}
				err := s.read(resp)
				if err != nil && ctx.Err() != nil {
					err = ctx.Err()
				}
				if err != nil && s.delivered {
					return delivered{err}
				}
				return err
			})
		}
		if err != nil && !errors.Is(err, errStopped) {
			yield(ChatEvent{}, err)
		}
	}
}

// chatStream turns frames into events.
type chatStream struct {
	model     string
	yield     func(ChatEvent, error) bool
	delivered bool
	usage     Usage
	calls     []*callPiece
}

func (s *chatStream) read(resp *http.Response) error {
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		return s.readWhole(resp.Body)
	}
	frames := newSSE(resp.Body)
	for {
		data, err := frames.next()
		if err != nil {
			return fmt.Errorf("%w: %s: stream cut before its end: %w", ErrUnreachable, s.model, err)
		}
		if string(data) == "[DONE]" {
			return s.finish()
		}
		if err := s.frame(data); err != nil {
			return err
		}
	}
}

// readWhole takes an answer that came at once, although a stream was asked for.
func (s *chatStream) readWhole(body io.Reader) error {
	data, err := io.ReadAll(body)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnreachable, s.model, err)
	}
	env, err := decodeEnvelope(data, s.model)
	if err != nil {
		return err
	}
	if err := s.frame(env.Result); err != nil {
		return err
	}
	if !s.delivered && len(s.calls) == 0 {
		return &ReplyError{Model: s.model, Row: -1, Reason: "neither a stream nor an answer"}
	}
	return s.finish()
}

type streamFrame struct {
	Response  json.RawMessage   `json:"response"`
	ToolCalls []json.RawMessage `json:"tool_calls"`
	Usage     *Usage            `json:"usage"`
	Errors    []Notice          `json:"errors"`
	Error     json.RawMessage   `json:"error"`
	Choices   []struct {
		Delta struct {
			Content   json.RawMessage   `json:"content"`
			ToolCalls []json.RawMessage `json:"tool_calls"`
		} `json:"delta"`
	} `json:"choices"`
}

func (s *chatStream) frame(data []byte) error {
	var f streamFrame
	if err := json.Unmarshal(data, &f); err != nil {
		return &ReplyError{Model: s.model, Row: -1, Reason: "a frame is not JSON", Err: err}
	}
	if len(f.Errors) > 0 || (len(f.Error) > 0 && string(f.Error) != "null") {
		return parseError(http.StatusOK, data)
	}
	if f.Usage != nil {
		s.usage.merge(*f.Usage)
	}
	text, calls := "", f.ToolCalls
	if len(f.Choices) > 0 {
		text = rawText(f.Choices[0].Delta.Content)
		if d := f.Choices[0].Delta.ToolCalls; len(d) > 0 {
			calls = d
		}
	}
	if text == "" { // one or the other: hybrid frames carry the text twice
		text = rawText(f.Response)
	}
	for _, raw := range calls {
		p, err := readCallPiece(raw)
		if err != nil {
			return &ReplyError{Model: s.model, Row: -1, Reason: "tool call", Err: err}
		}
		s.join(p)
	}
	if text == "" {
		return nil
	}
	return s.emit(ChatEvent{Text: text})
}

// join adds a piece to its call. A piece with no id, name or arguments is an end marker.
func (s *chatStream) join(p callPiece) {
	if p.id == "" && p.name == "" && p.args == "" {
		return
	}
	for _, c := range s.calls {
		sameIndex := p.index != nil && c.index != nil && *p.index == *c.index && (p.id == "" || p.id == c.id)
		if sameIndex || (p.id != "" && p.id == c.id) {
			c.extend(p)
			return
		}
	}
	if p.name == "" && p.id == "" && p.index == nil && len(s.calls) > 0 {
		s.calls[len(s.calls)-1].extend(p)
		return
	}
	s.calls = append(s.calls, &p)
}

func (c *callPiece) extend(p callPiece) {
	if c.name == "" {
		c.name = p.name
	}
	if !(json.Valid([]byte(c.args)) && c.args == p.args) { // a whole call, repeated
		c.args += p.args
	}
}

func (s *chatStream) emit(e ChatEvent) error {
	s.delivered = true
	if !s.yield(e, nil) {
		return errStopped
	}
	return nil
}

func (s *chatStream) finish() error {
	last := ChatEvent{Usage: &s.usage}
	for i, c := range s.calls {
		args, err := objectText(c.args)
		if err != nil || c.name == "" {
			return &ReplyError{Model: s.model, Row: -1, Reason: fmt.Sprintf("tool call %q", c.name), Err: err}
		}
		call := ToolCall{ID: c.id, Name: c.name, Arguments: args, Native: c.id == ""}
		if call.Native {
			call.ID = fmt.Sprintf("call_%d", i+1)
		}
		last.ToolCalls = append(last.ToolCalls, call)
	}
	return s.emit(last)
}

// sse reads server-sent events: comments, CRLF, several data lines an event, lines of any length up to the body's limit.
type sse struct{ r *bufio.Reader }

func newSSE(r io.Reader) *sse { return &sse{bufio.NewReader(r)} }

// next returns the data of the next event. The end of the body is io.ErrUnexpectedEOF; an event without its empty line
// is not one.
func (s *sse) next() ([]byte, error) {
	var data []byte
	found := false
	for {
		line, err := s.r.ReadBytes('\n')
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 && found {
			return data, nil
		}
		value, ok := bytes.CutPrefix(line, []byte("data:"))
		if !ok {
			continue
		}
		if found {
			data = append(data, '\n')
		}
		found = true
		data = append(data, bytes.TrimPrefix(value, []byte(" "))...)
	}
}
