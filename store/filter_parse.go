package store

import (
	"encoding/json"
	"fmt"
	"strings"
)

// filterParser counts what is bounded.
type filterParser struct{ conditions, values int }

// object reads names with conditions, all of which must hold.
func (p *filterParser) object(at string, object filterObject, depth int) (filterNode, error) {
	if len(object) == 0 && at != "" {
		return filterNode{}, wrongFilter(at, "the object is empty: want %s", filterNames)
	}
	all := filterNode{op: "$and"}
	for _, m := range object {
		part, err := p.member(join(at, m.name), m, depth)
		if err != nil {
			return filterNode{}, err
		}
		all.parts = append(all.parts, part)
	}
	return all, nil
}

func join(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}

func (p *filterParser) member(at string, m filterMember, depth int) (filterNode, error) {
	switch m.name {
	case "$and", "$or":
		return p.list(at, m, depth)
	case "$not":
		object, ok := m.value.(filterObject)
		if !ok {
			return filterNode{}, wrongFilter(at, "want an object, got %s", kindOf(m.value))
		}
		if err := deeper(at, &depth); err != nil {
			return filterNode{}, err
		}
		part, err := p.object(at, object, depth)
		return filterNode{op: "$not", parts: []filterNode{part}}, err
	}
	field, err := fieldOf(at, m.name)
	if err != nil {
		return filterNode{}, err
	}
	return p.field(at, field, m.value, depth)
}

func deeper(at string, depth *int) error {
	if *depth++; *depth > maxFilterDepth {
		return wrongFilter(at, "$and, $or and $not are inside each other more than %d times", maxFilterDepth)
	}
	return nil
}

func (p *filterParser) list(at string, m filterMember, depth int) (filterNode, error) {
	list, ok := m.value.([]any)
	if !ok || len(list) == 0 {
		return filterNode{}, wrongFilter(at, "want a list of at least one object, got %s", kindOf(m.value))
	}
	if err := deeper(at, &depth); err != nil {
		return filterNode{}, err
	}
	node := filterNode{op: m.name}
	for i, v := range list {
		at := fmt.Sprintf("%s[%d]", at, i)
		object, ok := v.(filterObject)
		if !ok {
			return filterNode{}, wrongFilter(at, "want an object, got %s", kindOf(v))
		}
		part, err := p.object(at, object, depth)
		if err != nil {
			return filterNode{}, err
		}
		node.parts = append(node.parts, part)
	}
	return node, nil
}

func fieldOf(at, name string) (filterField, error) {
	if column, ok := filterColumns[name]; ok {
		return filterField{column: column}, nil
	}
	if strings.HasPrefix(name, "$") {
		return filterField{}, wrongFilter(at, "%.100q is not known here: want %s", name, filterNames)
	}
	path := strings.Split(name, ".")
	for _, key := range path {
		if key == "" {
			return filterField{}, wrongFilter(at, "the field %.100q has an empty name", name)
		}
	}
	if len(path) > maxFilterDepth {
		return filterField{}, wrongFilter(at, "the field has %d names: at most %d are allowed", len(path), maxFilterDepth)
	}
	return filterField{path: path}, nil
}

// field reads a bare value or an object of operators, all of which must hold.
func (p *filterParser) field(at string, field filterField, v any, depth int) (filterNode, error) {
	object, ok := v.(filterObject)
	if !ok {
		return p.comparison(at, field, "$eq", v)
	}
	if len(object) == 0 {
		return filterNode{}, wrongFilter(at, "the object is empty: want %s", filterOperators)
	}
	all := filterNode{op: "$and"}
	for _, m := range object {
		part, err := p.operator(join(at, m.name), field, m, depth)
		if err != nil {
			return filterNode{}, err
		}
		all.parts = append(all.parts, part)
	}
	return all, nil
}

func (p *filterParser) operator(at string, field filterField, m filterMember, depth int) (filterNode, error) {
	if m.name != "$not" {
		return p.comparison(at, field, m.name, m.value)
	}
	if _, ok := m.value.(filterObject); !ok {
		return filterNode{}, wrongFilter(at, `want an object of operators like {"$gt":1}, got %s`, kindOf(m.value))
	}
	if err := deeper(at, &depth); err != nil {
		return filterNode{}, err
	}
	part, err := p.field(at, field, m.value, depth)
	return filterNode{op: "$not", parts: []filterNode{part}}, err
}

func (p *filterParser) comparison(at string, field filterField, op string, v any) (filterNode, error) {
	values, err := operands(at, op, v)
	if err != nil {
		return filterNode{}, err
	}
	if p.conditions++; p.conditions > maxFilterConditions {
		return filterNode{}, wrongFilter(at, "there are more than %d conditions: use $in for many values of one field", maxFilterConditions)
	}
	if p.values += len(values); p.values > maxFilterValues {
		return filterNode{}, wrongFilter(at, "there are more than %d values", maxFilterValues)
	}
	node := filterNode{op: op, field: field, values: values}
	for negative, positive := range map[string]string{"$ne": "$eq", "$nin": "$in"} {
		if op == negative {
			node.op = positive
			return filterNode{op: "$not", parts: []filterNode{node}}, nil
		}
	}
	return node, nil
}

// operands checks what an operator may take.
func operands(at, op string, v any) ([]any, error) {
	switch op {
	case "$eq", "$ne":
		if !isScalar(v) {
			return nil, wrongFilter(at, "want a string, a number, true, false or null, got %s%s", kindOf(v), adviceFor(v))
		}
	case "$gt", "$gte", "$lt", "$lte":
		switch v.(type) {
		case string, json.Number:
		default:
			return nil, wrongFilter(at, "want a string or a number, got %s", kindOf(v))
		}
	case "$exists":
		if _, ok := v.(bool); !ok {
			return nil, wrongFilter(at, "want true or false, got %s", kindOf(v))
		}
	case "$in", "$nin":
		list, ok := v.([]any)
		if !ok {
			return nil, wrongFilter(at, "want a list of values, got %s", kindOf(v))
		}
		for i, item := range list {
			if !isScalar(item) {
				return nil, wrongFilter(fmt.Sprintf("%s[%d]", at, i), "want a string, a number, true, false or null, got %s", kindOf(item))
			}
		}
		return list, nil
	default:
		if !strings.HasPrefix(op, "$") {
			return nil, wrongFilter(at, "want an operator (%s); a field inside a field is written with a dot", filterOperators)
		}
		return nil, wrongFilter(at, "the operator %.100q is not known: want %s", op, filterOperators)
	}
	return []any{v}, nil
}

func adviceFor(v any) string {
	if _, list := v.([]any); list {
		return ": for one of several values use $in"
	}
	return ""
}

func isScalar(v any) bool {
	switch v.(type) {
	case nil, string, bool, json.Number:
		return true
	}
	return false
}

func kindOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return "a string"
	case bool:
		return "true or false"
	case json.Number:
		return "a number"
	case []any:
		if len(v) == 0 {
			return "an empty list"
		}
		return "a list"
	}
	return "an object"
}
