package workersai

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// maxSchemaDepth ends types that contain themselves: models take no references.
const maxSchemaDepth = 12

// SchemaOf is the JSON Schema of a Go type: structs, lists, maps with string keys, strings, numbers, bools, and pointers
// to them. A field takes its name from its json tag, its text from a description tag and its values from an enum tag
// ("a,b"). It is required unless it is a pointer or has omitempty.
func SchemaOf[T any]() (json.RawMessage, error) {
	s, err := schemaOf(reflect.TypeFor[T](), 0)
	if err != nil {
		return nil, fmt.Errorf("schema of %v: %w", reflect.TypeFor[T](), err)
	}
	return json.Marshal(s)
}

type schema struct {
	Type        string             `json:"type,omitempty"`
	Description string             `json:"description,omitempty"`
	Enum        []string           `json:"enum,omitempty"`
	Items       *schema            `json:"items,omitempty"`
	Properties  map[string]*schema `json:"properties,omitempty"`
	Required    []string           `json:"required,omitempty"`
	Additional  *schema            `json:"additionalProperties,omitempty"`
}

func schemaOf(t reflect.Type, depth int) (*schema, error) {
	if depth > maxSchemaDepth {
		return nil, fmt.Errorf("%v contains itself, or more than %d levels", t, maxSchemaDepth)
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem(), depth+1)
	case reflect.String:
		return &schema{Type: "string"}, nil
	case reflect.Bool:
		return &schema{Type: "boolean"}, nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return &schema{Type: "integer"}, nil
	case reflect.Float32, reflect.Float64:
		return &schema{Type: "number"}, nil
	case reflect.Slice, reflect.Array:
		items, err := schemaOf(t.Elem(), depth+1)
		return &schema{Type: "array", Items: items}, err
	case reflect.Map:
		if t.Key().Kind() != reflect.String {
			return nil, fmt.Errorf("%v has keys that are no strings", t)
		}
		values, err := schemaOf(t.Elem(), depth+1)
		return &schema{Type: "object", Additional: values}, err
	case reflect.Struct:
		return structSchema(t, depth)
	}
	return nil, fmt.Errorf("%v has no JSON Schema", t)
}

func structSchema(t reflect.Type, depth int) (*schema, error) {
	out := &schema{Type: "object", Properties: map[string]*schema{}}
	for _, f := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "-" || (f.Anonymous && name == "") || len(f.Index) > 1 && hiddenBy(t, f) {
			continue
		}
		if name == "" {
			name = f.Name
		}
		s, err := schemaOf(f.Type, depth+1)
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", f.Name, err)
		}
		s.Description = f.Tag.Get("description")
		if values := f.Tag.Get("enum"); values != "" {
			s.Enum = strings.Split(values, ",")
		}
		out.Properties[name] = s
		if f.Type.Kind() != reflect.Pointer && !strings.Contains(options, "omit") {
			out.Required = append(out.Required, name)
		}
	}
	return out, nil
}

// hiddenBy: a field of an embedded struct with a json name belongs to that name.
func hiddenBy(t reflect.Type, f reflect.StructField) bool {
	outer := t.Field(f.Index[0])
	name, _, _ := strings.Cut(outer.Tag.Get("json"), ",")
	return name != ""
}
