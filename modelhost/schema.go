package modelhost

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
	"unicode/utf16"
)

//go:embed schemas/*.json
var schemaFiles embed.FS

// schema is the part of JSON Schema that the models' inputs need. check answers with the texts of Cloudflare's
// validator, github.com/cloudflare/cabidela.
type schema struct {
	Title       string          `json:"title,omitempty"`
	Description string          `json:"description,omitempty"`
	Type        string          `json:"type,omitempty"`
	Properties  orderedSchemas  `json:"properties,omitempty"`
	Required    []string        `json:"required,omitempty"`
	Items       *schema         `json:"items,omitempty"`
	OneOf       []*schema       `json:"oneOf,omitempty"`
	AnyOf       []*schema       `json:"anyOf,omitempty"`
	Enum        []string        `json:"enum,omitempty"`
	MinLength   *int            `json:"minLength,omitempty"`
	MaxLength   *int            `json:"maxLength,omitempty"`
	Minimum     *float64        `json:"minimum,omitempty"`
	Maximum     *float64        `json:"maximum,omitempty"`
	Default     json.RawMessage `json:"default,omitempty"`
}

// orderedSchemas keeps the file's order, so that the first broken property named is always the same.
type orderedSchemas struct {
	names []string
	by    map[string]*schema
}

func (o *orderedSchemas) UnmarshalJSON(data []byte) error {
	if err := json.Unmarshal(data, &o.by); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	for depth := 0; ; {
		tok, err := dec.Token()
		if err != nil {
			return nil // the end of what Unmarshal has already accepted
		}
		switch t := tok.(type) {
		case json.Delim:
			if t == '{' || t == '[' {
				depth++
			} else {
				depth--
			}
		case string:
			if depth == 1 && o.by[t] != nil && !slices.Contains(o.names, t) {
				o.names = append(o.names, t)
				var skip json.RawMessage
				if err := dec.Decode(&skip); err != nil {
					return err
				}
			}
		}
	}
}

// taskSchema is the input and the output of one task, as /ai/models/schema tells them.
type taskSchema struct {
	Input  json.RawMessage `json:"input"`
	Output json.RawMessage `json:"output"`
	input  *schema
}

// loadSchemas reads schemas/<task>.json for every task.
func loadSchemas() (map[string]*taskSchema, error) {
	files, err := schemaFiles.ReadDir("schemas")
	if err != nil {
		return nil, err
	}
	out := make(map[string]*taskSchema, len(files))
	for _, f := range files {
		data, err := schemaFiles.ReadFile(path.Join("schemas", f.Name()))
		if err != nil {
			return nil, err
		}
		t := &taskSchema{}
		if err := json.Unmarshal(data, t); err != nil {
			return nil, fmt.Errorf("schema %s: %w", f.Name(), err)
		}
		if err := json.Unmarshal(t.Input, &t.input); err != nil {
			return nil, fmt.Errorf("schema %s: %w", f.Name(), err)
		}
		out[strings.TrimSuffix(f.Name(), ".json")] = t
	}
	return out, nil
}

// decodeBody checks body against s and reads it into out. Unknown keys are ignored.
func decodeBody(body []byte, s *schema, out any) error {
	var value any
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	if err := dec.Decode(&value); err != nil {
		return invalid("Invalid JSON", "the body is not JSON: "+err.Error())
	}
	if dec.More() {
		return invalid("Invalid JSON", "the body holds more than one JSON value")
	}
	if text := s.check(value, ""); text != "" {
		return invalid(text, "")
	}
	if err := json.Unmarshal(body, out); err != nil {
		return invalid(err.Error(), "")
	}
	return nil
}

// check returns "" if value fits, else the validator's text.
func (s *schema) check(value any, at string) string {
	if len(s.OneOf) > 0 {
		return s.checkOneOf(value, at)
	}
	if len(s.AnyOf) > 0 {
		return s.checkAnyOf(value, at)
	}
	if len(s.Enum) > 0 {
		if text, ok := value.(string); !ok || !slices.Contains(s.Enum, text) {
			return fmt.Sprintf("enum %v not in %s at '%s'", value, strings.Join(s.Enum, ","), pointer(at))
		}
	}
	if s.Type != "" && !slices.Contains(jsonTypes(value), s.Type) {
		return fmt.Sprintf("Type mismatch of '%s', '%s' not in '%s'", pointer(at), s.Type, strings.Join(jsonTypes(value), "','"))
	}
	switch v := value.(type) {
	case map[string]any:
		return s.checkObject(v, at)
	case []any:
		return s.checkItems(v, at)
	case string:
		return s.checkLength(v, at)
	case json.Number:
		return s.checkRange(v, at)
	}
	return ""
}

func (s *schema) checkOneOf(value any, at string) string {
	var matches int
	var texts []string
	for _, option := range s.OneOf {
		if text := option.check(value, at); text == "" {
			matches++
		} else if !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	if matches == 1 {
		return ""
	}
	return withReasons(fmt.Sprintf("oneOf at '%s' not met, %d matches", pointer(at), matches), texts)
}

func (s *schema) checkAnyOf(value any, at string) string {
	var texts []string
	for _, option := range s.AnyOf {
		text := option.check(value, at)
		if text == "" {
			return ""
		}
		texts = append(texts, text)
	}
	return withReasons(fmt.Sprintf("anyOf at '%s' not met", pointer(at)), texts)
}

func withReasons(text string, reasons []string) string {
	if len(reasons) == 0 {
		return text
	}
	return text + ": " + strings.Join(reasons, ", ")
}

func (s *schema) checkObject(object map[string]any, at string) string {
	for _, name := range s.Properties.names {
		if v, ok := object[name]; ok {
			if text := s.Properties.by[name].check(v, at+"/"+name); text != "" {
				return text
			}
		}
	}
	for _, name := range s.Required {
		if _, ok := object[name]; !ok {
			return fmt.Sprintf("required properties at '%s' are '%s'", pointer(at), strings.Join(s.Required, ","))
		}
	}
	return ""
}

func (s *schema) checkItems(list []any, at string) string {
	if s.Items == nil {
		return ""
	}
	for i, v := range list {
		if text := s.Items.check(v, fmt.Sprintf("%s/%d", at, i)); text != "" {
			return text
		}
	}
	return ""
}

// checkLength counts UTF-16 units, as the original does.
func (s *schema) checkLength(text, at string) string {
	if s.MaxLength != nil && utf16Len(text) > *s.MaxLength {
		return fmt.Sprintf("Length of '%s' must be <= %d", pointer(at), *s.MaxLength)
	}
	if s.MinLength != nil && utf16Len(text) < *s.MinLength {
		return fmt.Sprintf("Length of '%s' must be >= %d not met", pointer(at), *s.MinLength)
	}
	return ""
}

func utf16Len(text string) int {
	n := 0
	for _, r := range text {
		n += max(1, utf16.RuneLen(r))
	}
	return n
}

func (s *schema) checkRange(n json.Number, at string) string {
	f, err := n.Float64()
	if err != nil {
		return fmt.Sprintf("Type mismatch of '%s', '%s' not in 'Infinity'", pointer(at), s.Type)
	}
	if s.Minimum != nil && f < *s.Minimum {
		return fmt.Sprintf("'%s' must be >= %v", pointer(at), plain(*s.Minimum))
	}
	if s.Maximum != nil && f > *s.Maximum {
		return fmt.Sprintf("'%s' must be <= %v", pointer(at), plain(*s.Maximum))
	}
	return ""
}

// plain writes a limit without an exponent.
func plain(f float64) string {
	raw, _ := json.Marshal(f) // finite: it comes from a JSON file
	return string(raw)
}

// pointer is the path as the texts show it.
func pointer(at string) string {
	if at == "" {
		return "/"
	}
	return at
}

// jsonTypes are the names that JSON Schema has for a decoded value.
func jsonTypes(value any) []string {
	switch v := value.(type) {
	case nil:
		return []string{"null"}
	case bool:
		return []string{"boolean"}
	case string:
		return []string{"string"}
	case []any:
		return []string{"array"}
	case json.Number:
		if f, err := v.Float64(); err == nil && f == math.Trunc(f) {
			return []string{"number", "integer"}
		}
		return []string{"number"}
	}
	return []string{"object"}
}
