package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"
)

// described is a document as far as a filter sees it.
type described struct {
	URI, Title, MediaType, Language string
	Metadata                        string
}

// matching returns the indexes of the documents that Postgres finds.
func matching(ctx context.Context, s *Store, f Filter, docs []described) ([]int, error) {
	columns := make([][]string, 5)
	for i := range columns {
		columns[i] = []string{}
	}
	for _, d := range docs {
		for i, v := range []string{d.URI, d.Title, d.MediaType, d.Language, d.Metadata} {
			columns[i] = append(columns[i], v)
		}
	}
	where, args := f.where(6)
	rows, err := s.pool.Query(ctx, `SELECT d.n FROM (
			SELECT uri, title, media_type, language, metadata::jsonb AS metadata, n::int - 1 AS n
			FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) WITH ORDINALITY AS u(uri, title, media_type, language, metadata, n)
		) d WHERE `+where+` ORDER BY d.n`,
		append([]any{columns[0], columns[1], columns[2], columns[3], columns[4]}, args...)...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int])
}

func TestFilterTable(t *testing.T) {
	t.Parallel()
	s := inside(t, Config{})
	docs := []described{
		0: {URI: "a.md", Title: "Alpha", MediaType: "text/markdown", Language: "en", Metadata: `{"team":"x","year":2024,"tags":["red","blue"],"deep":{"er":{"n":1}}}`},
		1: {URI: "b.md", Title: "Beta", MediaType: "text/plain", Language: "", Metadata: `{"team":"y","year":2025.5,"tags":["blue"],"draft":true}`},
		2: {URI: "c.pdf", Title: "Gamma", MediaType: "application/pdf", Language: "de", Metadata: `{"team":null,"year":"2024","tags":[],"deep":[{"er":{"n":1}}]}`},
		3: {URI: "d.pdf", Title: "", MediaType: "application/pdf", Language: "de", Metadata: `{}`},
		4: {URI: "e", Title: "x' OR true --", MediaType: "text/plain", Language: "en", Metadata: `{"team":["x",["y"]],"year":[1,3000],"$odd":1,"a.b":2,"quo\"te":"it's"}`},
	}
	for _, tt := range []struct {
		filter string
		want   []int
	}{
		{`{}`, []int{0, 1, 2, 3, 4}},
		{`null`, []int{0, 1, 2, 3, 4}},
		{``, []int{0, 1, 2, 3, 4}},
		{`{"team":"x"}`, []int{0, 4}},
		{`{"team":{"$eq":"x"}}`, []int{0, 4}},
		{`{"team":{"$ne":"x"}}`, []int{1, 2, 3}},
		{`{"team":"y"}`, []int{1}}, // not an element of an element
		{`{"team":null}`, []int{2, 3}},
		{`{"team":{"$exists":true}}`, []int{0, 1, 2, 4}},
		{`{"team":{"$exists":false}}`, []int{3}},
		{`{"team":{"$in":["y",null]}}`, []int{1, 2, 3}},
		{`{"team":{"$nin":["y",null]}}`, []int{0, 4}},
		{`{"team":{"$in":[]}}`, nil},
		{`{"team":{"$nin":[]}}`, []int{0, 1, 2, 3, 4}},
		{`{"tags":"blue"}`, []int{0, 1}},
		{`{"tags":{"$in":["red","green"]}}`, []int{0}},
		{`{"year":2024}`, []int{0}},
		{`{"year":2024.0}`, []int{0}},
		{`{"year":2.024e3}`, []int{0}},
		{`{"year":"2024"}`, []int{2}},
		{`{"year":{"$gt":2024}}`, []int{1, 4}},
		{`{"year":{"$gte":2024}}`, []int{0, 1, 4}},
		{`{"year":{"$lt":2025}}`, []int{0, 4}},
		{`{"year":{"$gt":2024,"$lt":2026}}`, []int{1, 4}}, // as in Mongo, each bound may be met by another element
		{`{"year":{"$gte":"2"}}`, []int{2}},
		{`{"year":{"$not":{"$gte":2024}}}`, []int{2, 3}},
		{`{"draft":true}`, []int{1}},
		{`{"draft":false}`, nil},
		{`{"deep.er.n":1}`, []int{0}},
		{`{"deep.er":{"$exists":true}}`, []int{0}},
		{`{"deep.er.n":{"$lte":1}}`, []int{0}},
		{`{"deep.0":{"$exists":true}}`, nil},
		{`{"quo\"te":"it's"}`, []int{4}},
		{`{"$uri":"a.md"}`, []int{0}},
		{`{"$uri":{"$gte":"b","$lt":"d"}}`, []int{1, 2}},
		{`{"$title":"x' OR true --"}`, []int{4}},
		{`{"$title":{"$exists":false}}`, []int{3}},
		{`{"$media_type":{"$in":["text/plain","text/markdown",3]}}`, []int{0, 1, 4}},
		{`{"$media_type":3}`, nil},
		{`{"$media_type":{"$gt":3}}`, nil},
		{`{"$language":null}`, []int{1}},
		{`{"$language":{"$ne":"en"}}`, []int{1, 2, 3}},
		{`{"$or":[{"team":"y"},{"$uri":"d.pdf"}]}`, []int{1, 3}},
		{`{"$and":[{"team":"x"},{"tags":"red"}]}`, []int{0}},
		{`{"$not":{"team":"x"}}`, []int{1, 2, 3}},
		{`{"team":"x","tags":"red","$language":"en"}`, []int{0}},
	} {
		f, err := ParseFilter(json.RawMessage(tt.filter))
		if err != nil {
			t.Errorf("ParseFilter(%s) = %v", tt.filter, err)
			continue
		}
		got, err := matching(t.Context(), s, f, docs)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s matches %v, %v, want %v", tt.filter, got, err, tt.want)
		}
	}
}

func TestFilterErrors(t *testing.T) {
	t.Parallel()
	many := func(n int, item string) string { return strings.Repeat(item+",", n-1) + item }
	for _, tt := range []struct{ filter, says string }{
		{`[]`, `want an object like {"team":"x"}, got an empty list`},
		{`"x"`, "got a string"},
		{`{`, "not JSON at byte"},
		{`{"a":1} {}`, "text after its end"},
		{`{"a":1,"a":2}`, `"a" is there twice`},
		{`{"a":{"$regex":"x"}}`, `at a.$regex: the operator "$regex" is not known: want $eq`},
		{`{"$where":"x"}`, "at $where"},
		{`{"$text":{"$eq":1}}`, "$uri, $title"},
		{`{"a":{"b":1}}`, "written with a dot"},
		{`{"a":{}}`, "the object is empty"},
		{`{"a":[1]}`, "use $in"},
		{`{"a":{"$eq":{}}}`, "got an object"},
		{`{"a":{"$gt":true}}`, "want a string or a number, got true or false"},
		{`{"a":{"$gt":null}}`, "got null"},
		{`{"a":{"$in":"x"}}`, "want a list of values"},
		{`{"a":{"$in":["x",[1]]}}`, "at a.$in[1]"},
		{`{"a":{"$exists":1}}`, "want true or false"},
		{`{"a":{"$not":1}}`, "object of operators"},
		{`{"$and":[]}`, "at least one object, got an empty list"},
		{`{"$or":[{"a":1},3]}`, "at $or[1]: want an object, got a number"},
		{`{"$or":[{}]}`, "at $or[0]: the object is empty"},
		{`{"$not":{}}`, "the object is empty"},
		{`{"a..b":1}`, "empty name"},
		{`{"":1}`, "empty name"},
		{`{"a.b.c.d.e.f.g.h.i":1}`, "9 names: at most 8"},
		{`{"a":"x\u0000"}`, "NUL"},
		{`{"\u0000":1}`, "NUL"},
		{`{"a":1e400}`, "out of range"},
		{`{"a":1e-400}`, "out of range"},
		{`{"$and":[` + many(101, `{"a":1}`) + `]}`, "more than 100 conditions"},
		{`{"a":{"$in":[` + many(1001, "1") + `]}}`, "more than 1000 values"},
		{strings.Repeat(`{"$not":`, 9) + `{"a":1}` + strings.Repeat("}", 9), "more than 8 times"},
		{strings.Repeat(`[`, 30), "nested deeper"},
		{`{"a":"` + strings.Repeat("x", 64<<10) + `"}`, "at most 65536"},
	} {
		_, err := ParseFilter(json.RawMessage(tt.filter))
		if !errors.Is(err, ErrInvalidFilter) || !strings.Contains(fmt.Sprint(err), tt.says) {
			t.Errorf("ParseFilter(%.60s) = %v, want ErrInvalidFilter with %q", tt.filter, err, tt.says)
		}
	}
	deepest := strings.Repeat(`{"$and":[`, 8) + `{"a":{"$in":[1]}}` + strings.Repeat("]}", 8)
	if _, err := ParseFilter(json.RawMessage(deepest)); err != nil {
		t.Errorf("ParseFilter(%s) = %v, want it allowed", deepest, err)
	}
}

func TestFilterUsesTheIndex(t *testing.T) {
	t.Parallel()
	s := inside(t, Config{})
	f, err := ParseFilter(json.RawMessage(`{"team":{"$in":["x","y"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	err = pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), "SET LOCAL enable_seqscan = off; "); err != nil {
			return err
		}
		where, args := f.where(1)
		rows, err := tx.Query(t.Context(), "EXPLAIN SELECT d.id FROM documents d WHERE "+where, args...)
		if err != nil {
			return err
		}
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if got := strings.Join(plan, "\n"); err == nil && !strings.Contains(got, "documents_metadata") {
			t.Errorf("the plan does not use the index:\n%s", got)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

var (
	anyKey    = rapid.SampledFrom([]string{"a", "b", "c", "0"})
	anyScalar = rapid.OneOf(
		rapid.Just[any](nil),
		rapid.Map(rapid.Bool(), func(b bool) any { return b }),
		rapid.Map(rapid.SampledFrom([]string{"1", "1.0", "-2", "10", "1e1", "0.5"}), func(n string) any { return json.Number(n) }),
		rapid.Map(rapid.SampledFrom([]string{"", "a", "b", "B", "1", "ä", "'", `"`, "$a", "€"}), func(s string) any { return s }),
	)
	anyRanged = rapid.Map(anyScalar.Filter(func(v any) bool {
		switch v.(type) {
		case string, json.Number:
			return true
		}
		return false
	}), func(v any) any { return v })
)

func anyValue(depth int) *rapid.Generator[any] {
	if depth == 0 {
		return anyScalar
	}
	return rapid.Custom(func(t *rapid.T) any {
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0:
			return anyObject(depth-1).Draw(t, "object")
		case 1:
			return rapid.SliceOfN(anyValue(depth-1), 0, 3).Draw(t, "list")
		}
		return anyScalar.Draw(t, "scalar")
	})
}

func anyObject(depth int) *rapid.Generator[any] {
	return rapid.Map(rapid.MapOfN(anyKey, anyValue(depth), 0, 3), func(m map[string]any) any { return m })
}

func anyFilter(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		m := map[string]any{}
		for range rapid.IntRange(1, 2).Draw(t, "conditions") {
			kind := rapid.IntRange(0, 5).Draw(t, "kind")
			switch {
			case kind == 0 && depth > 0:
				m["$not"] = anyFilter(depth-1).Draw(t, "not")
			case kind == 1 && depth > 0:
				op := rapid.SampledFrom([]string{"$and", "$or"}).Draw(t, "op")
				m[op] = rapid.SliceOfN(anyFilter(depth-1), 1, 3).Draw(t, op)
			case kind == 2:
				m[rapid.SampledFrom([]string{"$uri", "$title", "$media_type", "$language"}).Draw(t, "column")] = anyOperators(depth).Draw(t, "operators")
			default:
				path := rapid.SliceOfN(anyKey, 1, 3).Draw(t, "path")
				m[strings.Join(path, ".")] = anyOperators(depth).Draw(t, "operators")
			}
		}
		return m
	})
}

func anyOperators(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		switch rapid.IntRange(0, 5).Draw(t, "kind") {
		case 0:
			return anyScalar.Draw(t, "bare")
		case 1:
			return map[string]any{rapid.SampledFrom([]string{"$in", "$nin"}).Draw(t, "op"): rapid.SliceOfN(anyScalar, 0, 3).Draw(t, "values")}
		case 2:
			return map[string]any{"$exists": rapid.Bool().Draw(t, "exists")}
		case 3:
			if depth > 0 {
				inner := anyOperators(depth - 1).Filter(func(v any) bool { _, ok := v.(map[string]any); return ok })
				return map[string]any{"$not": inner.Draw(t, "not")}
			}
		case 4:
			return map[string]any{rapid.SampledFrom([]string{"$eq", "$ne"}).Draw(t, "op"): anyScalar.Draw(t, "value")}
		}
		return map[string]any{rapid.SampledFrom([]string{"$gt", "$gte", "$lt", "$lte"}).Draw(t, "op"): anyRanged.Draw(t, "value")}
	})
}

func encoded(v any) string {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(v); err != nil {
		panic(err)
	}
	return strings.TrimSpace(b.String())
}
