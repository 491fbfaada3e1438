package modelhost

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/footnote-rag/footnote/workersai"
)

// generate serves a text generation model on the run endpoint.
func (h *Host) generate(c *call, b *backend, body []byte) error {
	var in workersai.TextInput
	if err := decodeBody(body, h.schemas[b.Task].input, &in); err != nil {
		return err
	}
	if err := checkText(&in); err != nil {
		return err
	}
	q, err := b.textRequest(c.r.Context(), in)
	if err != nil {
		return err
	}
	leave, err := b.gate.enter(c.r.Context(), in.Options != nil && in.Options.RejectIfBusy)
	if err != nil {
		return err
	}
	defer leave()
	if in.Stream {
		return h.stream(c, b, q, &nativeFrames{})
	}
	got, err := b.complete(c.r.Context(), q)
	if err != nil {
		return err
	}
	out, err := got.native(in.ResponseFormat)
	if err != nil {
		return err
	}
	answer(c, out)
	return nil
}

// checkText refuses what the schema cannot express.
func checkText(in *workersai.TextInput) error {
	switch {
	case present(in.LoRA):
		return invalid("Additional or unevaluated properties '/lora' at '/' not allowed", "lora is not served here: leave it out")
	case present(in.Functions):
		return invalid("Additional or unevaluated properties '/functions' at '/' not allowed", "functions is not served here: send tools")
	case in.ResponseFormat != nil && in.Stream:
		return invalid("JSON Mode is not supported with streaming", "response_format and stream exclude each other: ask without stream")
	case in.ResponseFormat != nil && in.ResponseFormat.Type == "json_schema" && len(in.ResponseFormat.Schema) == 0:
		return invalid("required properties at '/response_format' are 'json_schema'", "")
	case in.Prompt == "" && len(in.Messages) == 0:
		return invalid("Length of '/messages' must be >= 1 not met", "messages is empty")
	}
	for i, t := range in.Tools {
		if t.Name == "" {
			return invalid(fmt.Sprintf("required properties at '/tools/%d/function' are 'name'", i), "")
		}
	}
	return checkToolChoice(in)
}

func present(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// checkToolChoice takes auto, none, required, and a function that is among the tools.
func checkToolChoice(in *workersai.TextInput) error {
	if !present(in.ToolChoice) {
		return nil
	}
	var word string
	if json.Unmarshal(in.ToolChoice, &word) == nil {
		if word == "auto" || word == "none" || word == "required" {
			return nil
		}
		f := invalid("enum "+word+" not in auto,none,required at '/tool_choice'", "")
		return f
	}
	var named struct{ Function struct{ Name string } }
	_ = json.Unmarshal(in.ToolChoice, &named) // what it is not leaves the name empty
	for _, t := range in.Tools {
		if t.Name == named.Function.Name {
			return nil
		}
	}
	return invalid("tool_choice names no function of tools", "tool_choice must be auto, none, required, or {\"type\":\"function\",\"function\":{\"name\":…}} with one of the tools")
}

// textRequest builds what the engine gets, and checks the context window.
func (b *backend) textRequest(ctx context.Context, in workersai.TextInput) (textRequest, error) {
	if in.MaxTokens == 0 {
		in.MaxTokens = workersai.DefaultMaxTokens
	}
	q := textRequest{path: "/v1/chat/completions", stream: in.Stream, fields: b.sampling(in)}
	if in.Raw {
		q.path, q.fields["prompt"] = "/v1/completions", rawPrompt(in)
	} else {
		messages, err := engineMessages(in)
		if err != nil {
			return textRequest{}, err
		}
		if b.Tools == "grammar" {
			messages = plainTurns(messages)
		}
		q.fields["messages"] = messages
	}
	if f := in.ResponseFormat; f != nil {
		q.fields["response_format"] = engineFormat(f)
	}
	if len(in.Tools) > 0 && !in.Raw {
		b.offerTools(&q, in)
	}
	if b.Tools == "grammar" && !in.Raw && !q.calls && in.ResponseFormat == nil && answersResult(in.Messages) {
		askAgain(q.fields["messages"].([]workersai.Message), in.Messages)
	}
	return q, b.checkWindow(ctx, q, in.MaxTokens)
}

// textRequest is a generation for the engine. calls says that the answer is an object of the tool grammar.
type textRequest struct {
	path   string
	fields map[string]any
	stream bool
	calls  bool
}

// sampling translates the parameters.
func (b *backend) sampling(in workersai.TextInput) map[string]any {
	f := map[string]any{"model": b.Backend.Model, "max_tokens": in.MaxTokens, "temperature": 0.6}
	if in.Temperature != nil {
		f["temperature"] = *in.Temperature
	}
	if in.TopP != nil {
		f["top_p"] = min(*in.TopP, 1) // a share of the probability: over 1 is all of it
	}
	if in.TopK != nil {
		f["top_k"] = *in.TopK
	}
	if in.Seed != nil {
		f["seed"] = *in.Seed % (1<<32 - 1) // 32 bits at the engine, where all ones mean random
	}
	if in.FrequencyPenalty != nil {
		f["frequency_penalty"] = *in.FrequencyPenalty
	}
	if in.PresencePenalty != nil {
		f["presence_penalty"] = *in.PresencePenalty
	}
	if p := in.RepetitionPenalty; p != nil && *p > 0 { // a divisor: 0 means none
		name := "repetition_penalty"
		if b.Kind == "llama" {
			name = "repeat_penalty"
		}
		f[name] = *p
	}
	if len(in.Stop) > 0 {
		f["stop"] = in.Stop
	}
	if in.Stream {
		f["stream"], f["stream_options"] = true, map[string]any{"include_usage": true}
	}
	return f
}

func rawPrompt(in workersai.TextInput) string {
	if in.Prompt != "" {
		return in.Prompt
	}
	var texts []string
	for _, m := range in.Messages {
		texts = append(texts, m.Content)
	}
	return strings.Join(texts, "\n")
}

// engineFormat wraps the schema as OpenAI does.
func engineFormat(f *workersai.ResponseFormat) any {
	if f.Type == "json_object" {
		return map[string]any{"type": "json_object"}
	}
	return map[string]any{"type": "json_schema", "json_schema": map[string]any{"name": "response", "schema": f.Schema, "strict": true}}
}

// engineMessages turns every accepted shape of a tool turn into OpenAI's.
func engineMessages(in workersai.TextInput) ([]workersai.Message, error) {
	if in.Prompt != "" {
		return []workersai.Message{{Role: "user", Content: in.Prompt}}, nil
	}
	out := make([]workersai.Message, len(in.Messages))
	lastID := ""
	for i, m := range in.Messages {
		if m.Role == "assistant" {
			m = namedCalls(m, len(in.Tools) > 0)
			if n := len(m.ToolCalls); n > 0 {
				lastID = m.ToolCalls[n-1].ID
			}
		}
		if m.Role == "tool" && m.ToolCallID == "" {
			m.ToolCallID = lastID
		}
		out[i] = m
	}
	return out, nil
}

// namedCalls gives native calls an id, and reads a call that an older model wrote as its text.
func namedCalls(m workersai.Message, tools bool) workersai.Message {
	if tools && len(m.ToolCalls) == 0 && strings.HasPrefix(strings.TrimSpace(m.Content), `{"name"`) {
		var call workersai.ToolCall
		if json.Unmarshal([]byte(m.Content), &call) == nil {
			m.ToolCalls, m.Content = []workersai.ToolCall{call}, ""
		}
	}
	for i := range m.ToolCalls {
		m.ToolCalls[i].Native = false
		if m.ToolCalls[i].ID == "" {
			m.ToolCalls[i].ID = newCallID()
		}
	}
	return m
}

func newCallID() string { return "call_" + strings.ReplaceAll(uuid.NewString(), "-", "")[:24] }

// checkWindow counts only what could be over: a token has at least one byte. Then the engine counts, with its template.
func (b *backend) checkWindow(ctx context.Context, q textRequest, maxTokens int) error {
	if b.ContextWindow == 0 {
		return nil
	}
	body := string(appendJSON(nil, []any{q.fields["messages"], q.fields["prompt"], q.fields["tools"]}))
	if len(body)+maxTokens <= b.ContextWindow {
		return nil
	}
	n, err := b.promptTokens(ctx, q, body)
	if err != nil {
		return err
	}
	if n+maxTokens > b.ContextWindow {
		return overContext(n+maxTokens, b.ContextWindow, fmt.Sprintf(
			"%d input tokens and max_tokens %d make %d, the context window is %d: shorten the input or lower max_tokens", n, maxTokens, n+maxTokens, b.ContextWindow))
	}
	return nil
}

func (b *backend) promptTokens(ctx context.Context, q textRequest, body string) (int, error) {
	if b.Kind != "llama" {
		return len(body) / 4, nil // characters a token, as Cloudflare estimates
	}
	prompt, ok := q.fields["prompt"].(string)
	if !ok {
		var out struct {
			Prompt string `json:"prompt"`
		}
		in := map[string]any{"messages": q.fields["messages"]}
		if tools := q.fields["tools"]; tools != nil { // the template writes them into the prompt
			in["tools"] = tools
		}
		if err := b.call(ctx, "/apply-template", in, &out); err != nil {
			return 0, err
		}
		prompt = out.Prompt
	}
	return b.countTokens(ctx, prompt)
}

// completion is an engine's whole answer.
type completion struct {
	text         string
	calls        []workersai.ToolCall
	usage        workersai.Usage
	finishReason string
}

// complete asks without streaming.
func (b *backend) complete(ctx context.Context, q textRequest) (*completion, error) {
	var out struct {
		Choices []struct {
			Text         string            `json:"text"`
			Message      workersai.Message `json:"message"`
			FinishReason string            `json:"finish_reason"`
		} `json:"choices"`
		Usage workersai.Usage `json:"usage"`
	}
	if err := b.call(ctx, q.path, q.fields, &out); err != nil {
		return nil, err
	}
	if len(out.Choices) == 0 {
		return nil, engineFailed("the engine of "+b.Name+" gave no answer", nil)
	}
	first := out.Choices[0]
	got := &completion{text: first.Message.Content + first.Text, calls: first.Message.ToolCalls, usage: out.Usage, finishReason: first.FinishReason}
	b.metrics.used(b.Name, got.usage)
	for i := range got.calls {
		got.calls[i].Native = false
		if got.calls[i].ID == "" {
			got.calls[i].ID = newCallID()
		}
	}
	if q.calls {
		got.text, got.calls = readGrammarAnswer(got.text)
	}
	return got, nil
}

// runResult is what the run endpoint answers. In JSON mode response is the object itself.
type runResult struct {
	Response  json.RawMessage  `json:"response"`
	ToolCalls []runCall        `json:"tool_calls,omitempty"`
	Usage     *workersai.Usage `json:"usage"`
}

// native is the result of the run endpoint.
func (g *completion) native(format *workersai.ResponseFormat) (*runResult, error) {
	out := &runResult{ToolCalls: runCalls(g.calls), Usage: &g.usage, Response: appendJSON(nil, g.text)}
	if format == nil {
		return out, nil
	}
	if !json.Valid([]byte(g.text)) {
		why := "the answer is not JSON"
		if g.finishReason == "length" {
			why = "the answer was cut at max_tokens: raise it"
		}
		return nil, invalid("JSON Mode couldn't be met", "JSON Mode couldn't be met: "+why)
	}
	out.Response = json.RawMessage(g.text)
	return out, nil
}

// open starts a streamed generation.
func (b *backend) open(ctx context.Context, q textRequest) (*reply, error) {
	body, err := json.Marshal(q.fields)
	if err != nil {
		return nil, fmt.Errorf("encode for the engine of %s: %w", b.Name, err)
	}
	r, err := b.do(ctx, request{path: q.path, body: body})
	if err != nil {
		return nil, err
	}
	if kind := r.Header.Get("Content-Type"); !strings.HasPrefix(kind, "text/event-stream") {
		text, _ := io.ReadAll(io.LimitReader(r.Body, maxEngineError))
		r.Close()
		return nil, b.readError(&http.Response{StatusCode: http.StatusBadGateway, Header: http.Header{}}, text)
	}
	return r, nil
}
