package workersai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
)

// ToolSpec describes a function to the model, as it is on the wire.
type ToolSpec struct {
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Parameters  json.RawMessage `json:"parameters,omitempty"` // JSON Schema of an object
}

// MarshalJSON writes {type:"function",function:{…}}.
func (t ToolSpec) MarshalJSON() ([]byte, error) {
	type bare ToolSpec
	return json.Marshal(struct {
		Type     string `json:"type"`
		Function bare   `json:"function"`
	}{"function", bare(t)})
}

// UnmarshalJSON also takes the native form, {name,description,parameters}.
func (t *ToolSpec) UnmarshalJSON(data []byte) error {
	type bare ToolSpec
	var w struct {
		bare
		Function *bare `json:"function"`
	}
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	*t = ToolSpec(w.bare)
	if w.Function != nil {
		*t = ToolSpec(*w.Function)
	}
	return nil
}

// Tool is a Go function that a model may call.
type Tool struct {
	Spec ToolSpec
	// Call gets the arguments, the text of a JSON object, and returns what the model reads.
	Call func(ctx context.Context, arguments string) (string, error)
}

// NewTool makes a tool of a function. Its parameters are those of SchemaOf[In], where In is a struct; its result goes to
// the model as JSON, a string as it is.
func NewTool[In any](name, description string, f func(context.Context, In) (any, error)) (Tool, error) {
	parameters, err := SchemaOf[In]()
	if err != nil {
		return Tool{}, fmt.Errorf("tool %s: %w", name, err)
	}
	if reflect.TypeFor[In]().Kind() != reflect.Struct {
		return Tool{}, fmt.Errorf("tool %s: its input is a %v, want a struct", name, reflect.TypeFor[In]())
	}
	call := func(ctx context.Context, arguments string) (string, error) {
		var in In
		if err := json.Unmarshal([]byte(arguments), &in); err != nil {
			return "", fmt.Errorf("arguments: %w", err)
		}
		out, err := f(ctx, in)
		if err != nil {
			return "", err
		}
		if s, ok := out.(string); ok {
			return s, nil
		}
		text, err := json.Marshal(out)
		return string(text), err
	}
	return Tool{Spec: ToolSpec{Name: name, Description: description, Parameters: parameters}, Call: call}, nil
}

// run makes one call. Its error is the model's to read.
func (t Tool) run(ctx context.Context, call ToolCall) Message {
	m := Message{Role: "tool", ToolCallID: call.ID, Name: call.Name}
	err := errors.New("there is no such tool")
	if t.Call != nil {
		m.Content, err = t.Call(ctx, call.Arguments)
	}
	if err != nil {
		text, _ := json.Marshal(map[string]string{"error": err.Error()}) // a string always encodes
		m.Content = string(text)
	}
	return m
}
