package workersai

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Message is one turn of a conversation.
type Message struct {
	Role       string // system, user, assistant or tool
	Content    string
	Parts      []ContentPart // instead of Content, for models that see pictures
	ToolCalls  []ToolCall    // of an assistant
	ToolCallID string        // of a tool: the call it answers
	Name       string        // of a tool
}

// ContentPart is one part of a message's content.
type ContentPart struct {
	Type     string    `json:"type"` // text or image_url
	Text     string    `json:"text,omitempty"`
	ImageURL *ImageURL `json:"image_url,omitempty"`
}

// ImageURL points to a picture, as a data URL as a rule.
type ImageURL struct {
	URL string `json:"url"`
}

// ToolCall is a function call the model asks for.
type ToolCall struct {
	ID        string // made up by the client where the model gave none
	Name      string
	Arguments string // the text of a JSON object
	Native    bool   // the model gave no id: the answer goes back in the native shape
}

// message is the JSON of a Message. Content is never null: models refuse that.
type message struct {
	Role       string          `json:"role"`
	Content    json.RawMessage `json:"content"`
	ToolCalls  []ToolCall      `json:"tool_calls,omitempty"`
	ToolCallID string          `json:"tool_call_id,omitempty"`
	Name       string          `json:"name,omitempty"`
}

// MarshalJSON writes content as a string, or as a list if the message has parts. Native calls go out as models that
// make them expect them back: their JSON is the content.
func (m Message) MarshalJSON() ([]byte, error) {
	if m.allNative() {
		text, err := m.nativeContent()
		if err != nil {
			return nil, err
		}
		m.Content, m.ToolCalls = text, nil
	}
	var content any = m.Content
	if len(m.Parts) > 0 {
		content = m.Parts
	}
	raw, err := json.Marshal(content)
	if err != nil {
		return nil, err
	}
	return json.Marshal(message{m.Role, raw, m.ToolCalls, m.ToolCallID, m.Name})
}

func (m Message) allNative() bool {
	for _, c := range m.ToolCalls {
		if !c.Native {
			return false
		}
	}
	return len(m.ToolCalls) > 0
}

// nativeContent is the JSON of the call, or a list of several; text that came with them stands before it.
func (m Message) nativeContent() (string, error) {
	var calls any = m.ToolCalls
	if len(m.ToolCalls) == 1 {
		calls = m.ToolCalls[0]
	}
	raw, err := json.Marshal(calls)
	if err != nil || m.Content == "" {
		return string(raw), err
	}
	return m.Content + "\n" + string(raw), nil
}

// UnmarshalJSON takes content that is a string, null, absent, or a list of parts, whose texts it also joins in Content.
func (m *Message) UnmarshalJSON(data []byte) error {
	var w message
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	*m = Message{Role: w.Role, ToolCalls: w.ToolCalls, ToolCallID: w.ToolCallID, Name: w.Name}
	raw := bytes.TrimSpace(w.Content)
	switch {
	case len(raw) == 0 || string(raw) == "null":
		return nil
	case raw[0] == '"':
		return json.Unmarshal(raw, &m.Content)
	case raw[0] == '[':
		return m.readParts(raw)
	}
	return fmt.Errorf("content of a %s message: want a string or a list of parts", w.Role)
}

func (m *Message) readParts(raw []byte) error {
	if err := json.Unmarshal(raw, &m.Parts); err != nil {
		return fmt.Errorf("content of a %s message: %w", m.Role, err)
	}
	var texts []string
	for _, p := range m.Parts {
		if p.Type == "text" {
			texts = append(texts, p.Text)
		}
	}
	m.Content = strings.Join(texts, "\n")
	return nil
}

// functionCall is the inner part of a call in the reference's shape, and the whole of one in the native shape.
type functionCall struct {
	Name      string          `json:"name"`
	Arguments json.RawMessage `json:"arguments"`
}

// MarshalJSON writes {id,type,function:{name,arguments: string}}, or {name,arguments: object} for a native call.
func (t ToolCall) MarshalJSON() ([]byte, error) {
	args := t.Arguments
	if strings.TrimSpace(args) == "" {
		args = "{}"
	}
	if t.Native {
		if !json.Valid([]byte(args)) {
			return nil, fmt.Errorf("call of %s: arguments are not JSON", t.Name)
		}
		return json.Marshal(functionCall{t.Name, json.RawMessage(args)})
	}
	text, err := json.Marshal(args)
	if err != nil {
		return nil, err
	}
	return json.Marshal(struct {
		ID       string       `json:"id"`
		Type     string       `json:"type"`
		Function functionCall `json:"function"`
	}{t.ID, "function", functionCall{t.Name, text}})
}

// UnmarshalJSON takes both shapes, and arguments that are an object or a string that holds one. A call without an id
// is Native.
func (t *ToolCall) UnmarshalJSON(data []byte) error {
	p, err := readCallPiece(data)
	if err != nil {
		return err
	}
	if p.name == "" {
		return errors.New("tool call without a name")
	}
	args, err := objectText(p.args)
	if err != nil {
		return fmt.Errorf("call of %s: %w", p.name, err)
	}
	*t = ToolCall{ID: p.id, Name: p.name, Arguments: args, Native: p.id == ""}
	return nil
}

// objectText checks that args is the text of a JSON object. Nothing at all is an empty one.
func objectText(args string) (string, error) {
	args = strings.TrimSpace(args)
	if args == "" || args == "null" {
		return "{}", nil
	}
	if args[0] != '{' || !json.Valid([]byte(args)) {
		return "", errors.New("arguments are not the text of a JSON object")
	}
	return args, nil
}

// callPiece is a tool call, or a part of a streamed one.
type callPiece struct {
	index *int
	id    string
	name  string
	args  string
}

// readCallPiece reads either shape.
func readCallPiece(data []byte) (callPiece, error) {
	var w struct {
		functionCall
		Index    *int          `json:"index"`
		ID       *string       `json:"id"`
		Function *functionCall `json:"function"`
	}
	if err := json.Unmarshal(data, &w); err != nil {
		return callPiece{}, fmt.Errorf("tool call: %w", err)
	}
	call := w.functionCall
	if w.Function != nil {
		call = *w.Function
	}
	p := callPiece{index: w.Index, name: call.Name, args: rawText(call.Arguments)}
	if w.ID != nil {
		p.id = *w.ID
	}
	return p, nil
}
