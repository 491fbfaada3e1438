package modelhost

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/footnote-rag/footnote/workersai"
)

// offerTools gives the tools to an engine whose template knows them. For a model whose template does not, it describes
// them in the system message and lets the grammar allow nothing but a call, or an answer, as JSON.
func (b *backend) offerTools(q *textRequest, in workersai.TextInput) {
	choice := "auto"
	_ = json.Unmarshal(in.ToolChoice, &choice) // an object names a function: below
	if choice == "none" {
		return
	}
	if b.Tools == "native" {
		q.fields["tools"] = in.Tools
		if present(in.ToolChoice) {
			q.fields["tool_choice"] = in.ToolChoice
		}
		return
	}
	tools := chosenTools(in)
	named := len(tools) < len(in.Tools) || strings.HasPrefix(strings.TrimSpace(string(in.ToolChoice)), "{")
	q.calls = true
	q.fields["messages"] = withToolPrompt(q.fields["messages"].([]workersai.Message), tools)
	q.fields["response_format"] = map[string]any{"type": "json_schema", "json_schema": map[string]any{
		"name": "call", "strict": true, "schema": callSchema(tools, !named && choice == "auto"),
	}}
}

// chosenTools is the named one, or all.
func chosenTools(in workersai.TextInput) []workersai.ToolSpec {
	var named struct{ Function struct{ Name string } }
	if json.Unmarshal(in.ToolChoice, &named) != nil || named.Function.Name == "" {
		return in.Tools
	}
	i := slices.IndexFunc(in.Tools, func(t workersai.ToolSpec) bool { return t.Name == named.Function.Name })
	return in.Tools[i : i+1]
}

// callSchema is a call of one of the tools, or with answers {"answer": text}.
func callSchema(tools []workersai.ToolSpec, answers bool) any {
	var options []any
	for _, t := range tools {
		args := any(t.Parameters)
		if len(t.Parameters) == 0 {
			args = map[string]any{"type": "object"}
		}
		options = append(options, map[string]any{
			"type": "object", "required": []string{"name", "arguments"}, "additionalProperties": false,
			"properties": map[string]any{"name": map[string]any{"const": t.Name}, "arguments": args},
		})
	}
	if answers {
		options = append(options, map[string]any{
			"type": "object", "required": []string{"answer"}, "additionalProperties": false,
			"properties": map[string]any{"answer": map[string]any{"type": "string"}},
		})
	}
	return map[string]any{"anyOf": options}
}

// withToolPrompt adds the tools to the system message, and turns tool turns into words that any template takes.
func withToolPrompt(messages []workersai.Message, tools []workersai.ToolSpec) []workersai.Message {
	var p strings.Builder
	p.WriteString("You can call these functions. Answer with JSON only: a call as {\"name\": …, \"arguments\": {…}}, or your answer as {\"answer\": \"…\"}.\n")
	for _, t := range tools {
		p.WriteString("- " + t.Name + ": " + t.Description + " Arguments: " + string(t.Parameters) + "\n")
	}
	out := make([]workersai.Message, 0, len(messages)+1)
	if len(messages) > 0 && messages[0].Role == "system" {
		out = append(out, workersai.Message{Role: "system", Content: messages[0].Content + "\n\n" + p.String()})
		messages = messages[1:]
	} else {
		out = append(out, workersai.Message{Role: "system", Content: p.String()})
	}
	for _, m := range messages {
		out = append(out, plainTurn(m))
	}
	return out
}

func plainTurn(m workersai.Message) workersai.Message {
	switch {
	case m.Role == "tool":
		return workersai.Message{Role: "user", Content: "Result of " + m.Name + ": " + m.Content}
	case len(m.ToolCalls) > 0:
		call := m.ToolCalls[0]
		return workersai.Message{Role: "assistant", Content: `{"name": "` + call.Name + `", "arguments": ` + call.Arguments + `}`}
	}
	return m
}

// readGrammarAnswer reads what callSchema allows. An answer cut by max_tokens is not JSON and stays as it came.
func readGrammarAnswer(text string) (string, []workersai.ToolCall) {
	var w struct {
		Name      string          `json:"name"`
		Arguments json.RawMessage `json:"arguments"`
		Answer    *string         `json:"answer"`
	}
	switch err := json.Unmarshal([]byte(text), &w); {
	case err != nil:
		return text, nil
	case w.Answer != nil:
		return *w.Answer, nil
	case w.Name == "":
		return text, nil
	}
	return "", []workersai.ToolCall{{ID: newCallID(), Name: w.Name, Arguments: string(w.Arguments)}}
}
