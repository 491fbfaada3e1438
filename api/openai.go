package api

import (
	"encoding/json"
	"iter"
	"net/http"
	"strings"
	"time"

	"context"

	"github.com/labstack/echo/v4"

	"github.com/footnote-rag/footnote/retrieval"
)

// openAIModel names this service to OpenAI clients; "footnote:handbook" asks the collection handbook.
const openAIModel = "footnote"

// chatInput is the part of OpenAI's request that has a meaning here; the rest (temperature and the like) is ignored, as
// clients send it unasked.
type chatInput struct {
	Model         string     `json:"model"`
	Messages      []chatTurn `json:"messages"`
	Stream        bool       `json:"stream"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
}

type chatTurn struct {
	Role    string      `json:"role"`
	Content chatContent `json:"content"`
}

// chatContent is a string or a list of text parts.
type chatContent string

func (t *chatContent) UnmarshalJSON(raw []byte) error {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		*t = chatContent(text)
		return nil
	}
	var parts []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	if err := json.Unmarshal(raw, &parts); err != nil {
		return err
	}
	for _, p := range parts {
		text += p.Text
	}
	*t = chatContent(text)
	return nil
}

// question takes the last user message as the question and those before as the conversation. System messages have no
// say: the prompt is the service's own.
func (in chatInput) question(c echo.Context) (retrieval.Question, error) {
	name, collection, _ := strings.Cut(in.Model, ":")
	if name != openAIModel {
		return retrieval.Question{}, &problem{status: 404, Code: "model_not_found", Message: `the model is "footnote", or "footnote:" and a collection's name: GET /v1/models lists them`}
	}
	var turns []turn
	for _, m := range in.Messages {
		if m.Role == "user" || m.Role == "assistant" {
			turns = append(turns, turn{m.Role, string(m.Content)})
		}
	}
	if len(turns) == 0 || turns[len(turns)-1].Role != "user" {
		return retrieval.Question{}, invalid("the last message must be the user's question")
	}
	last := len(turns) - 1
	return answerInput{Collection: collection, Question: turns[last].Content,
		conversationInput: conversationInput{Messages: turns[max(0, last-maxTurns):last]}}.ask(c)
}

// chatCompletions is POST /v1/chat/completions as OpenAI's clients speak it. Citations are annotations.
func (s *Server) chatCompletions(c echo.Context) error {
	body, err := readAll(c.Request().Body, c.Request().ContentLength)
	if err != nil {
		return err
	}
	var in chatInput
	if err := json.Unmarshal(body, &in); err != nil {
		return describeJSON(err, body, in)
	}
	q, err := in.question(c)
	if err != nil {
		return err
	}
	d := &chatDialect{id: "chatcmpl-" + requestID(c), created: time.Now().Unix(), model: in.Model, usage: in.StreamOptions.IncludeUsage}
	if in.Stream {
		return s.stream(c, q, d)
	}
	return s.completeWhole(c, q, d)
}

func (s *Server) completeWhole(c echo.Context, q retrieval.Question, d *chatDialect) error {
	message := map[string]any{"role": "assistant", "refusal": nil}
	notes := []annotation{}
	var done retrieval.Done
	err := s.events(c, q, func(_ context.Context, events iter.Seq2[retrieval.Event, error]) error {
		for ev, err := range events {
			if err != nil {
				return err
			}
			switch ev := ev.(type) {
			case retrieval.Citation:
				notes = append(notes, annotate(ev)...)
			case retrieval.Done:
				done = ev
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	message["content"], message["annotations"] = done.Answer, notes
	reply := d.object("chat.completion")
	reply["choices"] = []any{map[string]any{"index": 0, "message": message, "finish_reason": finishReason(done), "logprobs": nil}}
	reply["usage"] = chatUsage(done)
	return c.JSON(http.StatusOK, reply)
}

// annotation is OpenAI's url_citation with the document's characters beside it.
type annotation struct {
	Type        string      `json:"type"`
	URLCitation urlCitation `json:"url_citation"`
}

type urlCitation struct {
	StartIndex int               `json:"start_index"` // in the answer
	EndIndex   int               `json:"end_index"`
	URL        string            `json:"url"`
	Title      string            `json:"title"`
	Quote      string            `json:"quote"`
	Document   string            `json:"document_id"`
	Source     retrieval.Span    `json:"document_span"`
	Verdict    retrieval.Verdict `json:"verdict"`
}

func annotate(k retrieval.Citation) []annotation {
	if k.Passage == nil {
		return nil
	}
	return []annotation{{"url_citation", urlCitation{
		StartIndex: k.Sentence.Start, EndIndex: k.Sentence.End, URL: k.Passage.URI, Title: k.Passage.Title,
		Quote: k.Quote, Document: k.Passage.DocumentID, Source: k.Span, Verdict: k.Verdict,
	}}}
}

// chatDialect streams chat.completion.chunk objects, each with one choice, and [DONE]: what the official clients read.
type chatDialect struct {
	id      string
	created int64
	model   string
	usage   bool
	begun   bool
}

func (d *chatDialect) object(kind string) map[string]any {
	return map[string]any{"id": d.id, "object": kind, "created": d.created, "model": d.model}
}

func (d *chatDialect) chunk(delta map[string]any, finish any) map[string]any {
	if !d.begun {
		delta["role"], d.begun = "assistant", true
	}
	o := d.object("chat.completion.chunk")
	o["choices"] = []any{map[string]any{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": nil}}
	return o
}

func (d *chatDialect) event(e *eventStream, ev retrieval.Event) error {
	switch ev := ev.(type) {
	case retrieval.Sources:
		return e.send("", d.chunk(map[string]any{"content": ""}, nil))
	case retrieval.Delta:
		return e.send("", d.chunk(map[string]any{"content": ev.Text}, nil))
	case retrieval.Citation:
		if notes := annotate(ev); notes != nil {
			return e.send("", d.chunk(map[string]any{"annotations": notes}, nil))
		}
	case retrieval.Done:
		return d.finish(e, ev)
	}
	return nil
}

func (d *chatDialect) finish(e *eventStream, done retrieval.Done) error {
	if err := e.send("", d.chunk(map[string]any{}, finishReason(done))); err != nil {
		return err
	}
	if d.usage { // only on request: choices is empty here, which trips clients that did not ask
		o := d.object("chat.completion.chunk")
		o["choices"], o["usage"] = []any{}, chatUsage(done)
		if err := e.send("", o); err != nil {
			return err
		}
	}
	return e.sendRaw("[DONE]")
}

// fail sends the error as the object that OpenAI's clients raise, and no [DONE].
func (d *chatDialect) fail(e *eventStream, p *problem) error { return e.send("", errorBody{p}) }

func finishReason(d retrieval.Done) string {
	if d.Cut {
		return "length"
	}
	return "stop"
}

func chatUsage(d retrieval.Done) map[string]int {
	return map[string]int{
		"prompt_tokens": d.Usage.PromptTokens, "completion_tokens": d.Usage.CompletionTokens,
		"total_tokens": d.Usage.PromptTokens + d.Usage.CompletionTokens,
	}
}

// models lists what chatCompletions takes as model.
func (s *Server) models(c echo.Context) error {
	list, err := s.cfg.Store.Collections(c.Request().Context())
	if err != nil {
		return err
	}
	model := func(id string, created int64) map[string]any {
		return map[string]any{"id": id, "object": "model", "created": created, "owned_by": "footnote"}
	}
	data := []any{model(openAIModel, 0)}
	for _, k := range list {
		data = append(data, model(openAIModel+":"+k.Name, k.CreatedAt.Unix()))
	}
	return c.JSON(http.StatusOK, map[string]any{"object": "list", "data": data})
}
