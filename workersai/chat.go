package workersai

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
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

	// Each 0 to 2. RepetitionPenalty divides: 1 changes nothing. The others subtract: 0 changes nothing.
	RepetitionPenalty, FrequencyPenalty, PresencePenalty *float64

	Tools      []ToolSpec
	ToolChoice json.RawMessage // "auto" (with its quotes), "none", "required" or a function
	MaxRounds  int             // of calls, in ChatWithTools and ChatWithToolsStream; default 8
	Format     *ResponseFormat // JSON mode, not with streaming
}

// ChatEvent is one piece of a streamed answer.
type ChatEvent struct {
	Text      string
	ToolCalls []ToolCall
	Usage     *Usage // set on the last event, and only there

	// FinishReason is stop, length or tool_calls, on the last event only; "" where the model told none and its count of
	// tokens does not tell either.
	FinishReason string
}

// errStopped: the caller left the loop. errEmpty: a stream was asked for, and an empty answer came.
var (
	errStopped = errors.New("stopped")
	errEmpty   = errors.New("empty answer")
)

// ChatStream streams; the last error is io.ErrUnexpectedEOF if the stream was cut before [DONE].
// Breaking out of the loop closes the body and cancels the request.
func (c *Client) ChatStream(ctx context.Context, r ChatRequest) iter.Seq2[ChatEvent, error] {
	return func(yield func(ChatEvent, error) bool) {
		err := r.check()
		if err == nil {
			err = c.stream(ctx, r, true, yield)
		}
		if errors.Is(err, errEmpty) { // some models cannot stream
			err = c.stream(ctx, r, false, yield)
		}
		if errors.Is(err, errEmpty) {
			err = &ReplyError{Model: r.Model, Row: -1, Reason: "neither a stream nor an answer"}
		}
		if err != nil && !errors.Is(err, errStopped) {
			yield(ChatEvent{}, err)
		}
	}
}

func (c *Client) stream(ctx context.Context, r ChatRequest, stream bool, yield func(ChatEvent, error) bool) error {
	in := r.input(stream)
	q, err := runCall(r.Model, "", in)
	if err != nil {
		return err
	}
	q.stream = stream
	q.read = func(resp *http.Response) error {
		s := &chatStream{client: c, model: r.Model, yield: yield, maxTokens: in.MaxTokens}
		err := s.read(ctx, resp)
		if err != nil && (s.delivered || errors.Is(err, errEmpty)) {
			return final{err}
		}
		return err
	}
	return c.withFallback(ctx, q)
}

// chatStream turns frames into events.
type chatStream struct {
	client    *Client
	model     string
	yield     func(ChatEvent, error) bool
	delivered bool
	usage     Usage
	calls     callList
	finished  string // finish_reason, where a frame had one
	maxTokens int    // asked for
}

func (s *chatStream) read(ctx context.Context, resp *http.Response) error {
	switch kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";"); kind {
	case "application/json":
		return s.readWhole(ctx, resp)
	case "text/html":
		return &ReplyError{Model: s.model, Row: -1, Reason: "a web page instead of a stream: check the base URL"}
	}
	frames := newSSE(resp.Body)
	for {
		data, err := frames.next()
		if err != nil {
			return brokenOff(ctx, s.model+": stream cut before its end", err)
		}
		if string(data) == "[DONE]" {
			return s.finish()
		}
		if err := s.frame(data); err != nil {
			return err
		}
	}
}

// readWhole takes an answer that came at once.
func (s *chatStream) readWhole(ctx context.Context, resp *http.Response) error {
	data, err := readBody(ctx, resp, s.model)
	if err != nil {
		return err
	}
	env, err := s.client.decodeEnvelope(data, s.model)
	if err != nil {
		return err
	}
	if err := s.frame(env.Result); err != nil {
		return err
	}
	if !s.delivered && len(s.calls) == 0 {
		return errEmpty
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
		Delta   choiceText `json:"delta"`
		Message choiceText `json:"message"` // whole, from models that answer at once
		Finish  string     `json:"finish_reason"`
	} `json:"choices"`
}

// choiceText leaves out reasoning_content: that is not the answer.
type choiceText struct {
	Content   json.RawMessage   `json:"content"`
	ToolCalls []json.RawMessage `json:"tool_calls"`
}

// frame reads the text of a frame from one place, since hybrid frames carry it twice.
func (s *chatStream) frame(data []byte) error {
	var f streamFrame
	if err := json.Unmarshal(data, &f); err != nil {
		return &ReplyError{Model: s.model, Row: -1, Reason: "a frame is not JSON of the API", Err: err}
	}
	if len(f.Errors) > 0 || (len(f.Error) > 0 && string(f.Error) != "null") {
		return s.client.parseError(http.StatusOK, data)
	}
	if f.Usage != nil {
		s.usage.merge(*f.Usage)
	}
	text, calls := rawText(f.Response), f.ToolCalls
	if len(f.Choices) > 0 {
		s.finished = cmp.Or(f.Choices[0].Finish, s.finished)
		first := f.Choices[0].Delta
		if m := f.Choices[0].Message; !s.delivered && len(s.calls) == 0 && (len(m.Content) > 0 || len(m.ToolCalls) > 0) {
			first = m
		}
		if t := rawText(first.Content); t != "" {
			text = t
		}
		if len(first.ToolCalls) > 0 {
			calls = first.ToolCalls
		}
	}
	for _, raw := range calls {
		p, err := readCallPiece(raw)
		if err != nil {
			return &ReplyError{Model: s.model, Row: -1, Reason: "tool call", Err: err}
		}
		s.calls.join(p)
	}
	if text == "" {
		return nil
	}
	return s.emit(ChatEvent{Text: text})
}

func (s *chatStream) emit(e ChatEvent) error {
	s.delivered = true
	if !s.yield(e, nil) {
		return errStopped
	}
	return nil
}

func (s *chatStream) finish() error {
	calls, err := s.calls.whole()
	if err != nil {
		return &ReplyError{Model: s.model, Row: -1, Reason: "tool call", Err: err}
	}
	return s.emit(ChatEvent{ToolCalls: calls, Usage: &s.usage, FinishReason: s.finishReason(len(calls) > 0)})
}

// finishReason is what the model told, else what can be seen: native streams tell none, but an answer with as many
// tokens as were allowed was cut.
func (s *chatStream) finishReason(calls bool) string {
	switch {
	case calls:
		return "tool_calls"
	case s.finished != "":
		return s.finished
	case s.usage.CompletionTokens == 0:
		return ""
	case s.usage.CompletionTokens >= s.maxTokens:
		return "length"
	}
	return "stop"
}
