package modelhost

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"github.com/footnote-rag/footnote/workersai"
)

// offerTools gives the tools to an engine whose template knows them. For a model whose template does not, which is a small
// one as a rule, it describes them in the system message and lets the grammar allow nothing but a call. Such a model
// chooses badly between calling and answering, so with auto the turn decides: a question is called for, and once a result
// is there the model answers in its own words.
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
	named := strings.HasPrefix(strings.TrimSpace(string(in.ToolChoice)), "{")
	if !named && choice == "auto" && answersResult(in.Messages) {
		return
	}
	q.calls = true
	q.fields["messages"] = withToolPrompt(q.fields["messages"].([]workersai.Message), tools)
	q.fields["response_format"] = map[string]any{"type": "json_schema", "json_schema": map[string]any{
		"name": "call", "strict": true, "schema": callSchema(tools, argumentBound(in.MaxTokens)),
	}}
}

// answersResult tells whether the last turn is a function's result.
func answersResult(messages []workersai.Message) bool {
	return len(messages) > 0 && messages[len(messages)-1].Role == "tool"
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

// callSchema is a call of one of the tools, its strings of at most so many characters.
func callSchema(tools []workersai.ToolSpec, bound int) any {
	var options []any
	for _, t := range tools {
		options = append(options, map[string]any{
			"type": "object", "required": []string{"name", "arguments"}, "additionalProperties": false,
			"properties": map[string]any{"name": map[string]any{"const": t.Name}, "arguments": boundedArguments(t.Parameters, bound)},
		})
	}
	return map[string]any{"anyOf": options}
}

// maxArgument is the length of a string argument, in characters, where its schema has no bound: a small model that has
// begun to ramble would go on until max_tokens cuts the call.
const maxArgument = 120

const (
	// callTokens are those of a call besides its argument: braces, names, blanks.
	callTokens = 48
	// minArgument is the shortest bound: a place, a date, two words.
	minArgument = 16
)

// argumentBound is what fits into maxTokens even at a character a token, so that a call is not cut in its argument.
func argumentBound(maxTokens int) int {
	return min(max(maxTokens-callTokens, minArgument), maxArgument)
}

// boundedArguments is the schema with a bound on every string and no object left open.
func boundedArguments(parameters json.RawMessage, bound int) any {
	var schema map[string]any
	if json.Unmarshal(parameters, &schema) != nil || schema == nil {
		schema = map[string]any{"type": "object"}
	}
	boundStrings(schema, bound)
	return schema
}

func boundStrings(node any, bound int) {
	switch v := node.(type) {
	case []any:
		for _, e := range v {
			boundStrings(e, bound)
		}
	case map[string]any:
		if v["type"] == "string" && v["maxLength"] == nil && v["enum"] == nil && v["const"] == nil && v["pattern"] == nil && v["format"] == nil {
			v["maxLength"] = max(bound, minLength(v))
		}
		closeObject(v)
		for _, e := range v {
			boundStrings(e, bound)
		}
	}
}

// closeObject lets an object have the properties that its schema names and no others. Left open, a small model fills it with
// inventions until max_tokens cuts the call.
func closeObject(schema map[string]any) {
	if schema["type"] != "object" || schema["additionalProperties"] != nil || schema["patternProperties"] != nil {
		return
	}
	if schema["properties"] == nil {
		schema["properties"] = map[string]any{}
	}
	schema["additionalProperties"] = false
}

func minLength(schema map[string]any) int {
	n, _ := schema["minLength"].(float64)
	return int(n)
}

// withToolPrompt adds the tools to the system message.
func withToolPrompt(messages []workersai.Message, tools []workersai.ToolSpec) []workersai.Message {
	var p strings.Builder
	p.WriteString("You can call these functions. Answer with one call, as JSON only: {\"name\": …, \"arguments\": {…}}.\n")
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
	return append(out, messages...)
}

// maxRepeatedBytes is the length of a question that is repeated after a result: a longer one costs more of the window than
// it brings.
const maxRepeatedBytes = 500

// plainTurns turns calls and results into words that any template takes.
func plainTurns(messages []workersai.Message) []workersai.Message {
	out := make([]workersai.Message, len(messages))
	name := ""
	for i, m := range messages {
		switch {
		case m.Role == "tool":
			m = workersai.Message{Role: "user", Content: "Result of " + cmp.Or(m.Name, name) + ": " + m.Content}
		case len(m.ToolCalls) > 0:
			var calls []string
			for _, call := range m.ToolCalls {
				name = call.Name
				calls = append(calls, `{"name": "`+call.Name+`", "arguments": `+call.Arguments+`}`)
			}
			m = workersai.Message{Role: "assistant", Content: strings.Join(calls, "\n")}
		}
		out[i] = m
	}
	return out
}

// askAgain repeats the question after the result that the last of the plain turns is: without it a small model repeats its
// call instead of answering.
func askAgain(plain, original []workersai.Message) {
	question := "what I asked for."
	for _, m := range slices.Backward(original) {
		if m.Role == "user" {
			if m.Content != "" && len(m.Content) <= maxRepeatedBytes {
				question = m.Content
			}
			break
		}
	}
	plain[len(plain)-1].Content += "\n\nWith this result, answer in a sentence: " + question
}

// readGrammarAnswer reads what callSchema allows. A call cut by max_tokens is not JSON and stays as it came.
func readGrammarAnswer(text string) (string, []workersai.ToolCall) {
	var w struct {
		Name      string          `json:"name"`
		Arguments json.RawMessage `json:"arguments"`
	}
	if json.Unmarshal([]byte(text), &w) != nil || w.Name == "" {
		return text, nil
	}
	return "", []workersai.ToolCall{{ID: newCallID(), Name: w.Name, Arguments: string(w.Arguments)}}
}

// runCall is a call as the run endpoint answers it: the API reference's form and, in the same object, Cloudflare's own
// {name, arguments}, so that code written for either reads it.
type runCall struct {
	Index     *int            `json:"index,omitempty"` // in a stream, where clients join calls by it
	ID        string          `json:"id"`
	Type      string          `json:"type"`
	Function  namedArguments  `json:"function"`
	Name      string          `json:"name"`
	Arguments json.RawMessage `json:"arguments,omitempty"` // an object
}

type namedArguments struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"` // JSON
}

func runCalls(calls []workersai.ToolCall) []runCall {
	var out []runCall
	for _, c := range calls {
		call := runCall{ID: c.ID, Type: "function", Function: namedArguments{c.Name, cmp.Or(c.Arguments, "{}")}, Name: c.Name}
		if json.Valid([]byte(call.Function.Arguments)) {
			call.Arguments = json.RawMessage(call.Function.Arguments)
		}
		out = append(out, call)
	}
	return out
}
