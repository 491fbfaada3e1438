package modelhost

import (
	"encoding/binary"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/footnote-rag/footnote/workersai"
)

// writeOpenAIFailure answers in OpenAI's shape, which the clients of /ai/v1 read.
func writeOpenAIFailure(w http.ResponseWriter, f *failure, id string) {
	f.setHeaders(w.Header())
	writeJSON(w, f.status, openAIError(f, id))
}

func openAIError(f *failure, id string) any {
	kind := "invalid_request_error"
	if f.status >= http.StatusInternalServerError {
		kind = "server_error"
	}
	return map[string]any{"error": map[string]any{"message": f.message + " (" + id + ")", "type": kind, "code": f.code}}
}

// openAIEmbeddings serves POST /ai/v1/embeddings.
func (h *Host) openAIEmbeddings(c *call) error {
	var in struct {
		Model string            `json:"model"`
		Input workersai.Strings `json:"input"`

		EncodingFormat string `json:"encoding_format"` // float or base64, which OpenAI's own packages ask for
	}
	b, err := h.openAIBody(c, &in, &in.Model, TaskEmbeddings)
	if err != nil {
		return err
	}
	if !slices.Contains([]string{"", "float", "base64"}, in.EncodingFormat) {
		return invalid("enum "+in.EncodingFormat+" not in float,base64 at '/encoding_format'", "")
	}
	out, err := h.embedding(c.r.Context(), b, workersai.EmbeddingInput{Text: in.Input}, embedOptions{})
	if err != nil {
		return err
	}
	type row struct {
		Object    string `json:"object"`
		Index     int    `json:"index"`
		Embedding any    `json:"embedding"`
	}
	rows := make([]row, len(out.Data))
	for i, v := range out.Data {
		rows[i] = row{"embedding", i, v}
		if in.EncodingFormat == "base64" {
			rows[i].Embedding = packedVector(v)
		}
	}
	writeJSON(c.w, http.StatusOK, map[string]any{"object": "list", "model": in.Model, "data": rows, "usage": out.Usage})
	return nil
}

// packedVector is OpenAI's base64 form: the numbers as little-endian float32, which encoding/json writes as base64.
func packedVector(v []float32) []byte {
	out := make([]byte, 0, 4*len(v))
	for _, f := range v {
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(f))
	}
	return out
}

// openAISchema lets the typed decoder judge the rest.
var openAISchema = &schema{Type: "object"}

// openAIBody reads a body and resolves its model, which must be of task.
func (h *Host) openAIBody(c *call, in any, model *string, task string) (*backend, error) {
	body, err := h.readBody(c)
	if err != nil {
		return nil, err
	}
	if err := decodeBody(body, openAISchema, in); err != nil {
		return nil, err
	}
	b, err := h.find(*model)
	if err != nil {
		return nil, err
	}
	if b.Task != task {
		return nil, invalid("model "+*model+" is not for "+taskNames[task], "")
	}
	h.announce(c, b)
	return b, h.limits.take(c.account, b.Task)
}

// openAIChat serves POST /ai/v1/chat/completions.
func (h *Host) openAIChat(c *call) error {
	var in struct {
		workersai.TextInput
		Model               string `json:"model"`
		MaxCompletionTokens int    `json:"max_completion_tokens"`
		StreamOptions       struct {
			IncludeUsage bool `json:"include_usage"`
		} `json:"stream_options"`
	}
	b, err := h.openAIBody(c, &in, &in.Model, TaskTextGeneration)
	if err != nil {
		return err
	}
	if in.MaxTokens = max(in.MaxTokens, in.MaxCompletionTokens); in.MaxTokens < 0 {
		return invalid("'/max_tokens' must be >= 1", "")
	}
	if err := checkText(&in.TextInput); err != nil {
		return err
	}
	q, err := b.textRequest(c.r.Context(), in.TextInput)
	if err != nil {
		return err
	}
	leave, err := b.gate.enter(c.r.Context(), false)
	if err != nil {
		return err
	}
	defer leave()
	head := openAIFrames{id: "chatcmpl-" + c.id, model: in.Model, created: time.Now().Unix(), usage: in.StreamOptions.IncludeUsage}
	if in.Stream {
		return h.stream(c, b, q, &head)
	}
	g, err := b.complete(c.r.Context(), q)
	if err != nil {
		return err
	}
	writeJSON(c.w, http.StatusOK, head.whole(g))
	return nil
}

// openAIFrames is OpenAI's dialect: chunks with one choice each; the usage chunk only where it was asked for.
type openAIFrames struct {
	id, model string
	created   int64
	usage     bool
}

func (o *openAIFrames) object(kind string, choices []any) map[string]any {
	return map[string]any{"id": o.id, "object": kind, "created": o.created, "model": o.model, "choices": choices}
}

func (o *openAIFrames) chunk(delta map[string]any, reason any) map[string]any {
	return o.object("chat.completion.chunk", []any{map[string]any{"index": 0, "delta": delta, "finish_reason": reason}})
}

func (o *openAIFrames) text(buf []byte, piece string) []byte {
	return appendEvent(buf, o.chunk(map[string]any{"role": "assistant", "content": piece}, nil))
}

func (o *openAIFrames) end(buf []byte, g *completion) []byte {
	if len(g.calls) > 0 {
		calls := make([]any, len(g.calls))
		for i, t := range g.calls {
			calls[i] = map[string]any{"index": i, "id": t.ID, "type": "function", "function": map[string]any{"name": t.Name, "arguments": t.Arguments}}
		}
		buf = appendEvent(buf, o.chunk(map[string]any{"role": "assistant", "tool_calls": calls}, nil))
	}
	buf = appendEvent(buf, o.chunk(map[string]any{}, finishReason(g)))
	if o.usage {
		last := o.object("chat.completion.chunk", []any{})
		last["usage"] = g.usage
		buf = appendEvent(buf, last)
	}
	return append(buf, "data: [DONE]\n\n"...)
}

func (o *openAIFrames) failure(buf []byte, f *failure, id string) []byte {
	return appendEvent(buf, openAIError(f, id))
}

func (o *openAIFrames) whole(g *completion) any {
	message := map[string]any{"role": "assistant", "content": g.text}
	if len(g.calls) > 0 {
		message["tool_calls"] = g.calls
	}
	out := o.object("chat.completion", []any{map[string]any{"index": 0, "message": message, "finish_reason": finishReason(g)}})
	out["usage"] = g.usage
	return out
}

func finishReason(g *completion) string {
	switch {
	case len(g.calls) > 0:
		return "tool_calls"
	case g.finishReason == "":
		return "stop"
	}
	return g.finishReason
}

// openAIModels serves GET /ai/v1/models: what can be called now.
func (h *Host) openAIModels(c *call) error {
	var data []any
	for _, name := range h.served() {
		m := map[string]any{"id": name, "object": "model", "created": 0, "owned_by": owner(name)}
		if s := h.models[name].servedBy(); s != "" {
			m["served_by"] = s
		}
		data = append(data, m)
	}
	writeJSON(c.w, http.StatusOK, map[string]any{"object": "list", "data": data})
	return nil
}

func (h *Host) served() []string {
	names := make([]string, 0, len(h.models))
	for name := range h.models {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// owner is the middle of @cf/owner/name.
func owner(name string) string {
	if parts := strings.Split(name, "/"); len(parts) == 3 {
		return parts[1]
	}
	return "local"
}
