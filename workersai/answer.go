package workersai

import (
	"context"
	"encoding/json"
	"strings"
)

// ChatResponse is a whole answer.
type ChatResponse struct {
	Text      string // in JSON mode the text of the JSON
	ToolCalls []ToolCall
	Usage     Usage
	Messages  []Message // of ChatWithTools: the conversation, with the calls, their results and the answer

	// Cut: the answer has as many tokens as were allowed, so it most likely stops in mid-sentence. The API tells no
	// finish reason.
	Cut bool
}

// Chat asks for a whole answer. One with neither text nor calls is a *ReplyError.
func (c *Client) Chat(ctx context.Context, r ChatRequest) (*ChatResponse, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	in := r.input(false)
	env, err := c.runEnvelope(ctx, r.Model, "", in, nil)
	if err != nil {
		return nil, err
	}
	out := &ChatResponse{}
	s := &chatStream{client: c, model: r.Model, yield: func(e ChatEvent, _ error) bool {
		out.Text += e.Text
		out.ToolCalls = e.ToolCalls
		return true
	}}
	if err := s.frame(env.Result); err != nil {
		return nil, err
	}
	if err := s.finish(); err != nil {
		return nil, err
	}
	if out.Text == "" && len(out.ToolCalls) == 0 {
		return nil, &ReplyError{Model: r.Model, Row: -1, Reason: "an answer without text"}
	}
	out.Usage, out.Cut = s.usage, s.usage.CompletionTokens >= in.MaxTokens
	return out, nil
}

// ChatAs asks for an answer in JSON of T's shape and decodes it. The schema is r.Format's, by default SchemaOf[T]. The
// API promises the shape at best: an answer of another is a *ReplyError.
func ChatAs[T any](ctx context.Context, c *Client, r ChatRequest) (T, error) {
	var out T
	if r.Format == nil {
		schema, err := SchemaOf[T]()
		if err != nil {
			return out, invalid(r.Model, err.Error(), "give a schema in Format")
		}
		r.Format = &ResponseFormat{Type: "json_schema", Schema: schema}
	}
	got, err := c.Chat(ctx, r)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal([]byte(unfence(got.Text)), &out); err != nil {
		reason := "the answer is not JSON of the schema"
		if got.Cut {
			reason += ", it was cut: raise MaxTokens"
		}
		return out, &ReplyError{Model: r.Model, Row: -1, Reason: reason, Err: err}
	}
	return out, nil
}

// unfence takes JSON out of the Markdown fence that some models put around it.
func unfence(s string) string {
	s = strings.TrimSpace(s)
	if !strings.HasPrefix(s, "```") || !strings.HasSuffix(s, "```") || len(s) < 6 {
		return s
	}
	s = strings.TrimSuffix(s, "```")
	_, s, _ = strings.Cut(s, "\n") // the first line is the fence and a language
	return s
}
