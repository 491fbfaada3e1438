package store

import (
	"encoding/json"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestFilterAgreesWithModel compares Postgres's answer with a plain reading of the rules.
func TestFilterAgreesWithModel(t *testing.T) {
	t.Parallel()
	s := inside(t, Config{})
	text := rapid.SampledFrom([]string{"", "a", "b", "B", "1", "ä", "€"})
	rapid.Check(t, func(rt *rapid.T) {
		var docs []described
		var models []map[string]any
		for _, m := range rapid.SliceOfN(anyObject(2), 1, 12).Draw(rt, "metadata") {
			d := described{text.Draw(rt, "uri"), text.Draw(rt, "title"), text.Draw(rt, "media type"), text.Draw(rt, "language"), encoded(m)}
			docs = append(docs, d)
			model := map[string]any{"$uri": d.URI, "$title": d.Title, "$media_type": d.MediaType, "$language": d.Language, "metadata": m}
			models = append(models, model)
		}
		filter := anyFilter(2).Draw(rt, "filter")
		f, err := ParseFilter(json.RawMessage(encoded(filter)))
		if err != nil {
			rt.Fatalf("ParseFilter(%s) = %v", encoded(filter), err)
		}
		got, err := matching(t.Context(), s, f, docs)
		if err != nil {
			rt.Fatal(err)
		}
		var want []int
		for i, m := range models {
			if holds(filter.(map[string]any), m) {
				want = append(want, i)
			}
		}
		if !slices.Equal(got, want) {
			rt.Errorf("%s matches %v, want %v of %v", encoded(filter), got, want, docs)
		}
	})
}

func holds(filter, doc map[string]any) bool {
	for name, v := range filter {
		ok := false
		switch name {
		case "$and", "$or":
			all, some := true, false
			for _, part := range v.([]any) {
				h := holds(part.(map[string]any), doc)
				all, some = all && h, some || h
			}
			ok = name == "$and" && all || name == "$or" && some
		case "$not":
			ok = !holds(v.(map[string]any), doc)
		default:
			value, there := lookUp(doc, name)
			ok = fieldHolds(v, value, there)
		}
		if !ok {
			return false
		}
	}
	return true
}

func lookUp(doc map[string]any, name string) (any, bool) {
	if strings.HasPrefix(name, "$") {
		return doc[name], doc[name] != ""
	}
	v := doc["metadata"]
	for _, key := range strings.Split(name, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		if v, ok = m[key]; !ok {
			return nil, false
		}
	}
	return v, true
}

func fieldHolds(operators, value any, there bool) bool {
	m, ok := operators.(map[string]any)
	if !ok {
		m = map[string]any{"$eq": operators}
	}
	candidates := []any{value}
	if list, ok := value.([]any); ok {
		candidates = list
	}
	equals := func(want any) bool {
		if want == nil && !there {
			return true
		}
		return slices.ContainsFunc(candidates, func(have any) bool {
			order, same := compare(have, want)
			return same && order == 0
		})
	}
	for op, v := range m {
		holds := false
		switch op {
		case "$eq":
			holds = equals(v)
		case "$ne":
			holds = !equals(v)
		case "$in":
			holds = slices.ContainsFunc(v.([]any), equals)
		case "$nin":
			holds = !slices.ContainsFunc(v.([]any), equals)
		case "$exists":
			holds = there == v.(bool)
		case "$not":
			holds = !fieldHolds(v, value, there)
		default:
			holds = slices.ContainsFunc(candidates, func(have any) bool {
				order, same := compare(have, v)
				return same && map[string]bool{"$gt": order > 0, "$gte": order >= 0, "$lt": order < 0, "$lte": order <= 0}[op]
			})
		}
		if !holds {
			return false
		}
	}
	return true
}

// compare orders two values of one type.
func compare(a, b any) (order int, same bool) {
	switch a := a.(type) {
	case nil:
		return 0, b == nil
	case bool:
		other, ok := b.(bool)
		if !ok || a == other {
			return 0, ok
		}
		return 1, true
	case string:
		other, ok := b.(string)
		return strings.Compare(a, other), ok
	case json.Number:
		other, ok := b.(json.Number)
		if !ok {
			return 0, false
		}
		x, _ := new(big.Rat).SetString(string(a))
		y, _ := new(big.Rat).SetString(string(other))
		return x.Cmp(y), true
	}
	return 0, false
}

// filterVocabulary is all that the SQL of a filter is made of.
var filterVocabulary = regexp.MustCompile(`\b(d\.(uri|title|media_type|language|metadata)|jsonb_path_exists|jsonb_build_object|coalesce|AND|OR|NOT|IS|NULL|ANY|COLLATE "C"|` +
	`boolean|text|jsonb|jsonpath|true|false)\b|COLLATE "C"|'x'|'strict \$(\[\*\])? \? \(@ [<>]=? \$x\)'|\$[0-9]+::|<> ''|->|@>|[<>=]+|[(), ]|::|\[\]`)

// FuzzFilter: whatever is accepted runs, and nothing that the caller wrote gets into the SQL text.
func FuzzFilter(f *testing.F) {
	for _, seed := range []string{`{"team":{"$eq":"x"}}`, `{"$or":[{"a.b":{"$in":[1,null,"q"]}},{"$uri":{"$gt":"m"}}]}`, `{"marker' OR true --":{"$exists":true}}`,
		`{"a":{"$not":{"$lt":1e300}}}`, `{"a":1e-300,"b":"\ud800","c":{"$nin":[]}}`, `{"$title":null,"$language":{"$ne":3}}`, `{"a":-0.0e-0}`} {
		f.Add(seed)
	}
	s := inside(f, Config{})
	f.Fuzz(func(t *testing.T, raw string) {
		filter, err := ParseFilter(json.RawMessage(raw))
		if err != nil {
			return
		}
		sql, _ := filter.where(6)
		if rest := filterVocabulary.ReplaceAllString(sql, ""); rest != "" {
			t.Fatalf("where(%s) = %s, in which %q is not ours", raw, sql, rest)
		}
		if _, err := matching(t.Context(), s, filter, []described{{Metadata: `{"a":[1,"x",null,{"b":2}]}`}}); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
	})
}
