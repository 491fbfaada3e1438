package workersai

import (
	"bytes"
	"context"
	"encoding/json"
	"net/url"
	"strconv"
)

// ModelQuery filters the catalogue. Zero fields do not filter.
type ModelQuery struct {
	Search  string // part of a name or description
	Task    string // such as Text Embeddings
	Author  string
	Page    int // from 1; default 1
	PerPage int // default: the server's
}

func (q ModelQuery) values() url.Values {
	v := url.Values{}
	for key, text := range map[string]string{"search": q.Search, "task": q.Task, "author": q.Author} {
		if text != "" {
			v.Set(key, text)
		}
	}
	if q.Page > 0 {
		v.Set("page", strconv.Itoa(q.Page))
	}
	if q.PerPage > 0 {
		v.Set("per_page", strconv.Itoa(q.PerPage))
	}
	return v
}

// ModelInfo describes a model of the catalogue.
type ModelInfo struct {
	ID          string          `json:"id"`
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Task        ModelTask       `json:"task"`
	Tags        []string        `json:"tags,omitempty"`
	Properties  []ModelProperty `json:"properties,omitempty"`
}

// ModelTask is what a model is for.
type ModelTask struct {
	ID          string `json:"id,omitempty"`
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
}

// UnmarshalJSON also takes the name alone.
func (t *ModelTask) UnmarshalJSON(data []byte) error {
	if data = bytes.TrimSpace(data); len(data) > 0 && data[0] == '"' {
		*t = ModelTask{}
		return json.Unmarshal(data, &t.Name)
	}
	type bare ModelTask
	return json.Unmarshal(data, (*bare)(t))
}

// ModelProperty is one fact about a model, such as context_window or planned_deprecation_date. Value is a string or any
// other JSON (a price is a list).
type ModelProperty struct {
	ID    string          `json:"property_id"`
	Value json.RawMessage `json:"value"`
}

// Property is the value of the property of that name, "" if there is none. A string comes without its quotes, anything
// else as its JSON.
func (m ModelInfo) Property(name string) string {
	for _, p := range m.Properties {
		if p.ID == name {
			return rawText(p.Value)
		}
	}
	return ""
}

// SearchModels lists one page of the models that match, in the server's order.
func (c *Client) SearchModels(ctx context.Context, q ModelQuery) ([]ModelInfo, error) {
	var list []ModelInfo
	return list, c.get(ctx, "/models/search", q.values(), &list)
}

// ModelSchema holds the JSON Schemas of a model's input and output.
type ModelSchema struct {
	Input  json.RawMessage `json:"input"`
	Output json.RawMessage `json:"output"`
}

// ModelSchema asks for the schemas of a model.
func (c *Client) ModelSchema(ctx context.Context, model string) (ModelSchema, error) {
	var out ModelSchema
	return out, c.get(ctx, "/models/schema", url.Values{"model": {model}}, &out)
}
