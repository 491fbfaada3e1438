package workersaitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"

	"github.com/footnote-rag/footnote/workersai"
)

func (s *Server) text(model string, body []byte) reply {
	var in workersai.TextInput
	if err := json.Unmarshal(body, &in); err != nil {
		return refuse(workersai.CodeInvalidInput, "body: "+err.Error())
	}
	if (in.Prompt == "") == (len(in.Messages) == 0) {
		return refuse(workersai.CodeInvalidInput, "oneOf at '/' not met: want prompt or messages")
	}
	prompt := in.Prompt
	for _, m := range in.Messages {
		prompt += " " + m.Content
	}
	if in.MaxTokens == 0 {
		in.MaxTokens = workersai.DefaultMaxTokens
	}
	tokens, limit := s.count(model, prompt)
	if all := tokens + in.MaxTokens; limit > 0 && all > limit {
		return refuse(workersai.CodeContextExceeded, fmt.Sprintf("input and max_tokens are %d tokens, the model takes %d", all, limit))
	}
	out := s.answer(in)
	if out.Usage == nil {
		n := countWords(string(out.Response))
		out.Usage = &workersai.Usage{PromptTokens: tokens, CompletionTokens: n, TotalTokens: tokens + n}
	}
	if in.Stream {
		return reply{contentType: "text/event-stream", body: Frames(streamed(out)...)}
	}
	return succeed(out)
}

// streamed is the native stream of an answer: text in words, tool calls whole in one frame, usage, end.
func streamed(out workersai.TextOutput) []string {
	var frames []string
	var text string
	if json.Unmarshal(out.Response, &text) != nil {
		text = string(out.Response)
	}
	for _, p := range pieces(text) {
		frames = append(frames, fmt.Sprintf(`{"response":%s,"p":"abcdefgh"}`, jsonString(p)))
	}
	if len(out.ToolCalls) > 0 {
		calls, _ := json.Marshal(map[string]any{"response": "", "tool_calls": out.ToolCalls}) // they came from JSON or a test's literal
		frames = append(frames, string(calls))
	}
	usage, _ := json.Marshal(out.Usage) // numbers alone
	return append(frames, fmt.Sprintf(`{"response":"","usage":%s}`, usage), "[DONE]")
}

// Frames are events of a stream, one for each data.
func Frames(data ...string) []byte {
	var b bytes.Buffer
	for _, d := range data {
		fmt.Fprintf(&b, "data: %s\n\n", d)
	}
	return b.Bytes()
}

func succeed(result any) reply {
	body, err := json.Marshal(workersai.Success(result))
	if err != nil {
		return refuse(workersai.CodeInvalidInput, "encode answer: "+err.Error())
	}
	return reply{status: http.StatusOK, contentType: "application/json", body: body}
}

func refuse(code int, message string) reply {
	status, env := workersai.ErrorEnvelope(code, message, "AiError: Ai: "+message)
	body, _ := json.Marshal(env) // numbers and strings
	r := reply{status: status, contentType: "application/json", body: body}
	if code == workersai.CodeRateLimited {
		r.retryAfter = "1"
	}
	return r
}

// batch queues requests; they are done when they are first asked for.
func (s *Server) batch(model string, body []byte) reply {
	var in struct {
		RequestID string            `json:"request_id"`
		Requests  []json.RawMessage `json:"requests"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return refuse(workersai.CodeInvalidInput, "body: "+err.Error())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if in.RequestID == "" {
		id := fmt.Sprintf("batch-%d", len(s.jobs)+1)
		s.jobs[id] = body
		return succeed(map[string]string{"status": "queued", "request_id": id, "model": model})
	}
	job, ok := s.jobs[in.RequestID]
	if !ok || json.Unmarshal(job, &in) != nil {
		return refuse(workersai.CodeInvalidInput, "no such request_id")
	}
	var all []map[string]any
	for i, one := range in.Requests {
		var ref struct {
			Reference string `json:"external_reference"`
		}
		_ = json.Unmarshal(one, &ref) // no reference is fine
		got := s.answerOne(model, one)
		var env workersai.Envelope[json.RawMessage]
		_ = json.Unmarshal(got.body, &env) // an image is no envelope, and fails here as it does there
		all = append(all, map[string]any{"id": i, "success": env.Success, "result": env.Result, "external_reference": ref.Reference})
	}
	return succeed(map[string]any{"responses": all})
}

func (s *Server) schema(w http.ResponseWriter, r *http.Request) {
	_, st, ok := s.take(w, r, "")
	if !ok {
		return
	}
	s.play(w, r, st, func() reply {
		for _, m := range s.models {
			if m.Name == r.URL.Query().Get("model") {
				return succeed(map[string]any{"input": map[string]any{"type": "object"}, "output": map[string]any{"type": "object"}})
			}
		}
		return refuse(workersai.CodeModelNotFound, "no such model")
	})
}

// markdown answers each file's text; one that is not text is that file's error.
func (s *Server) markdown(w http.ResponseWriter, r *http.Request) {
	req, st, ok := s.take(w, r, "")
	if !ok {
		return
	}
	s.play(w, r, st, func() reply {
		_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if err != nil {
			return refuse(workersai.CodeInvalidInput, "want multipart/form-data")
		}
		type doc struct {
			Name     string `json:"name"`
			MimeType string `json:"mimeType"`
			Format   string `json:"format"`
			Tokens   string `json:"tokens"`
			Data     string `json:"data,omitempty"`
			Error    string `json:"error,omitempty"`
		}
		var docs []doc
		parts := multipart.NewReader(bytes.NewReader(req.Body), params["boundary"])
		for {
			p, err := parts.NextPart()
			if err == io.EOF {
				return succeed(docs)
			}
			if err != nil {
				return refuse(workersai.CodeInvalidInput, "multipart: "+err.Error())
			}
			data, err := io.ReadAll(p)
			d := doc{Name: p.FileName(), MimeType: p.Header.Get("Content-Type"), Format: "markdown", Data: string(data), Tokens: fmt.Sprint(countWords(string(data)))}
			if err != nil || strings.ContainsRune(d.Data, 0) {
				d = doc{Name: d.Name, MimeType: d.MimeType, Format: "error", Tokens: "0", Error: "not a text"}
			}
			docs = append(docs, d)
		}
	})
}
