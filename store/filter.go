package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Bounds of a filter. Nobody writes more by hand, and a program that does wants a collection of its own.
const (
	maxFilterBytes      = 64 << 10
	maxFilterDepth      = 8   // $and, $or and $not inside each other; names in a dotted path
	maxFilterConditions = 100 // field comparisons
	maxFilterValues     = 1000
)

// Filter is a parsed Mongo-style metadata filter; the zero value matches everything.
//
// A metadata field matches $eq, $in, $gt, $gte, $lt and $lte if its value, or one element of it if it is an array, does.
// Numbers compare as numbers, strings by code point; values of different types never match. null equals null and an absent
// field. $ne, $nin and $not are the exact opposites of $eq, $in and their operand, so they match absent fields too.
type Filter struct{ root *filterNode }

// filterNode is $and, $or or $not of its parts, or a comparison of a field with values.
type filterNode struct {
	op     string
	parts  []filterNode
	field  filterField
	values []any // string, json.Number, bool or nil
}

// filterField is a column of documents, or the names that lead to a metadata field.
type filterField struct {
	column string
	path   []string
}

// filterColumns are the document's own fields; "$exists" of one means that it is not empty.
var filterColumns = map[string]string{"$uri": "uri", "$title": "title", "$media_type": "media_type", "$language": "language"}

const (
	filterOperators = "$eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $exists, $not"
	filterNames     = "a metadata field, $uri, $title, $media_type, $language, $and, $or or $not"
)

// ParseFilter reads {"team":{"$eq":"x"}}: $eq $ne $gt $gte $lt $lte $in $nin $exists $and $or $not, a bare value means $eq.
// Field names address document metadata with dots; "uri", "title", "media_type", "language" with a leading "$" the document's own ($uri …).
// Nothing, null and {} match everything. ErrInvalidFilter says where it is wrong and what is allowed there.
func ParseFilter(raw json.RawMessage) (Filter, error) {
	if len(raw) > maxFilterBytes {
		return Filter{}, wrongFilter("", "it has %d bytes: at most %d are allowed", len(raw), maxFilterBytes)
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return Filter{}, nil
	}
	v, err := decodeFilter(raw)
	if err != nil || v == nil {
		return Filter{}, err
	}
	object, ok := v.(filterObject)
	if !ok {
		return Filter{}, wrongFilter("", `want an object like {"team":"x"}, got %s`, kindOf(v))
	}
	if len(object) == 0 {
		return Filter{}, nil
	}
	var p filterParser
	root, err := p.object("", object, 0)
	if err != nil {
		return Filter{}, err
	}
	return Filter{&root}, nil
}

// IsZero tells that the filter matches everything.
func (f Filter) IsZero() bool { return f.root == nil }

// maxFilterPlace bounds how much of the caller's own text an error repeats.
const maxFilterPlace = 200

func wrongFilter(at, format string, args ...any) error {
	if len(at) > maxFilterPlace {
		at = strings.ToValidUTF8(at[:maxFilterPlace], "") + "…"
	}
	if at != "" {
		at = "at " + at + ": "
	}
	return fmt.Errorf("%w: %s%s", ErrInvalidFilter, at, fmt.Sprintf(format, args...))
}

// filterObject is a JSON object in its order, which encoding/json's map would lose together with repeated names.
type filterObject []filterMember

type filterMember struct {
	name  string
	value any
}

func decodeFilter(raw []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	v, err := decodeValue(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, wrongFilter("", "there is text after its end, at byte %d", d.InputOffset())
	}
	return v, nil
}

// maxFilterNesting is what maxFilterDepth logical operators need: an array and an object each, and the field's object and list.
const maxFilterNesting = 2*maxFilterDepth + 3

func decodeValue(d *json.Decoder, depth int) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, wrongFilter("", "not JSON at byte %d: %v", d.InputOffset(), err)
	}
	open, ok := token.(json.Delim)
	if !ok {
		return checkedScalar(token, d)
	}
	if depth == maxFilterNesting {
		return nil, wrongFilter("", "it is nested deeper than %d at byte %d", maxFilterNesting, d.InputOffset())
	}
	var list []any
	var object filterObject
	for d.More() {
		if open == '[' {
			v, err := decodeValue(d, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
			continue
		}
		if object, err = decodeMember(d, depth, object); err != nil {
			return nil, err
		}
	}
	if _, err := d.Token(); err != nil { // the closing one
		return nil, wrongFilter("", "not JSON at byte %d: %v", d.InputOffset(), err)
	}
	if open == '[' {
		return list, nil
	}
	return object, nil
}

func decodeMember(d *json.Decoder, depth int, object filterObject) (filterObject, error) {
	name, err := decodeValue(d, depth+1)
	if err != nil {
		return nil, err
	}
	key, ok := name.(string)
	if !ok {
		return nil, wrongFilter("", "not JSON at byte %d: want a name", d.InputOffset())
	}
	if len(object) == maxFilterConditions {
		return nil, wrongFilter("", "an object has more than %d names at byte %d", maxFilterConditions, d.InputOffset())
	}
	if slices.ContainsFunc(object, func(m filterMember) bool { return m.name == key }) {
		return nil, wrongFilter("", "%.100q is there twice at byte %d: join conditions by $and", key, d.InputOffset())
	}
	v, err := decodeValue(d, depth+1)
	return append(object, filterMember{key, v}), err
}

// checkedScalar refuses what jsonb cannot hold.
func checkedScalar(v any, d *json.Decoder) (any, error) {
	switch v := v.(type) {
	case string:
		if strings.ContainsRune(v, 0) {
			return nil, wrongFilter("", "a string before byte %d holds the character NUL", d.InputOffset())
		}
	case json.Number:
		f, err := v.Float64()
		if err != nil || f == 0 && strings.ContainsAny(mantissa(v), "123456789") {
			return nil, wrongFilter("", "the number %.40s is out of range", v)
		}
	}
	return v, nil
}

func mantissa(n json.Number) string {
	m, _, _ := strings.Cut(strings.ToLower(string(n)), "e")
	return m
}
