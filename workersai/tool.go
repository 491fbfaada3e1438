package workersai

import "encoding/json"

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
