package store

import (
	"encoding/json"
	"fmt"
	"strings"
)

// where renders the filter as a condition over the alias d of documents, which is true or false and never NULL. Everything
// the caller wrote is in args, whose parameters are numbered from next.
func (f Filter) where(next int) (sql string, args []any) {
	if f.root == nil {
		return "true", nil
	}
	r := filterSQL{next: next}
	return r.node(*f.root), r.args
}

type filterSQL struct {
	next int
	args []any
}

// parameter returns the placeholder of a value.
func (r *filterSQL) parameter(value any, sqlType string) string {
	r.args = append(r.args, value)
	return fmt.Sprintf("$%d::%s", r.next+len(r.args)-1, sqlType)
}

func (r *filterSQL) node(n filterNode) string {
	switch {
	case n.op == "$not":
		return "NOT " + r.node(n.parts[0])
	case n.op == "$and" || n.op == "$or":
		parts := make([]string, len(n.parts))
		for i, part := range n.parts {
			parts[i] = r.node(part)
		}
		return "(" + strings.Join(parts, map[string]string{"$and": " AND ", "$or": " OR "}[n.op]) + ")"
	case n.field.column != "":
		return r.column(n)
	}
	return r.metadata(n)
}

var filterComparisons = map[string]string{"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}

// column compares one of the document's own fields, a text that is never NULL; null means empty.
func (r *filterSQL) column(n filterNode) string {
	name := "d." + n.field.column
	if n.op == "$exists" {
		return fmt.Sprintf("((%s <> '') = %s)", name, r.parameter(n.values[0], "boolean"))
	}
	texts := []string{}
	for _, v := range n.values {
		switch v := v.(type) {
		case string:
			texts = append(texts, v)
		case nil:
			texts = append(texts, "")
		}
	}
	if operator, ok := filterComparisons[n.op]; ok {
		if len(texts) == 0 {
			return "false"
		}
		return fmt.Sprintf(`(%s COLLATE "C" %s %s)`, name, operator, r.parameter(texts[0], "text"))
	}
	return fmt.Sprintf("(%s = ANY(%s))", name, r.parameter(texts, "text[]"))
}

// metadata compares a metadata field. Equality is containment, which the GIN index of documents.metadata serves.
func (r *filterSQL) metadata(n filterNode) string {
	switch n.op {
	case "$exists":
		return fmt.Sprintf("((%s IS NOT NULL) = %s)", r.value(n.field), r.parameter(n.values[0], "boolean"))
	case "$eq", "$in":
		return r.equal(n)
	}
	// A jsonpath comparison of different types is unknown, which strict mode and silent (the last argument) turn into no match;
	// strict mode too keeps arrays inside arrays from being looked into.
	value := r.value(n.field)
	test := fmt.Sprintf("? (@ %s $x)'::jsonpath, jsonb_build_object('x', %s), true)", filterComparisons[n.op], r.parameter(jsonOf(n.values[0]), "jsonb"))
	return fmt.Sprintf("coalesce(jsonb_path_exists(%[1]s, 'strict $ %[2]s OR jsonb_path_exists(%[1]s, 'strict $[*] %[2]s, false)", value, test)
}

// value is the field's jsonb, NULL if absent.
func (r *filterSQL) value(f filterField) string {
	sql := "d.metadata"
	for _, key := range f.path {
		sql += " -> " + r.parameter(key, "text")
	}
	return "(" + sql + ")"
}

// equal matches {"path": value} and {"path": [value]}: a container contains its own primitive elements only.
func (r *filterSQL) equal(n filterNode) string {
	documents := []string{}
	null := false
	for _, v := range n.values {
		null = null || v == nil
		documents = append(documents, nested(n.field.path, jsonOf(v)), nested(n.field.path, "["+jsonOf(v)+"]"))
	}
	contains := fmt.Sprintf("(d.metadata @> ANY(%s::jsonb[]))", r.parameter(documents, "text[]"))
	if null {
		return fmt.Sprintf("(%s IS NULL OR %s)", r.value(n.field), contains)
	}
	return contains
}

// nested is the object that holds the value at the path.
func nested(path []string, value string) string {
	open, end := "", ""
	for _, key := range path {
		open += "{" + jsonOf(key) + ":"
		end += "}"
	}
	return open + value + end
}

// jsonOf encodes a scalar that checkedScalar has passed.
func jsonOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // scalars of a JSON text encode
	}
	return string(b)
}
