package api_test

import (
	"strings"
	"testing"
)

func TestWrongRankingIsRefused(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.add("a.md", handbook)
	for field, c := range map[string]struct{ code, says string }{
		`"fusion":"best"`:                            {"invalid_ranking", "max, minmax, zscore, rrf"},
		`"fusion":7`:                                 {"invalid_request", "a string"},
		`"weights":{"vector":-1,"lexical":1}`:        {"invalid_ranking", "at least 0"},
		`"weights":{"vector":1e308,"lexical":1e308}`: {"invalid_ranking", "finite"},
		`"weights":{"vector":0,"lexical":0}`:         {"invalid_ranking", "more than 0"},
		`"weights":[1,2]`:                            {"invalid_request", "an object"},
		`"weights":{"vectors":1}`:                    {"unknown_field", "vectors"},
		`"smoothing":-0.1`:                           {"invalid_ranking", "from 0, none"},
		`"smoothing":1`:                              {"invalid_ranking", "less than 1"},
		`"smoothing":"much"`:                         {"invalid_request", "a number"},
		`"candidates":-1`:                            {"invalid_ranking", "1 to 1000"},
		`"candidates":1001`:                          {"invalid_ranking", "1 to 1000"},
		`"candidates":"many"`:                        {"invalid_request", "whole number"},
		`"mmr":-0.1`:                                 {"invalid_ranking", "from 0"},
		`"mmr":1.1`:                                  {"invalid_ranking", "to 1"},
		`"mmr":"high"`:                               {"invalid_request", `"mmr" cannot be string: it takes a number`},
		`"expand":"page"`:                            {"invalid_ranking", "section"},
		`"rerank":{"candidates":-1}`:                 {"invalid_ranking", "1 to 100"},
		`"rerank":{"candidates":101}`:                {"invalid_ranking", "1 to 100"},
		`"rerank":"chat"`:                            {"invalid_request", "an object"},
		`"rerank":{"top_k":3}`:                       {"unknown_field", "top_k"},
		`"boost":{"recency":{"half_life":"30d"}}`:    {"invalid_ranking", "boost.recency.field"},
		`"boost":{"recency":{"field":"date"}}`:       {"invalid_ranking", "30d"},
		`"boost":{"recency":{"field":"date","half_life":"soon"}}`:            {"invalid_ranking", "soon"},
		`"boost":{"recency":{"field":"date","half_life":"-3d"}}`:             {"invalid_ranking", "-3d"},
		`"boost":{"recency":{"field":"date","half_life":"30d","weight":2}}`:  {"invalid_ranking", "from 0 to 1"},
		`"boost":{"recency":{"field":"date","half_life":"30d","weight":-1}}`: {"invalid_ranking", "from 0 to 1"},
		`"boost":{"fields":{"kind":{"guide":-1}}}`:                           {"invalid_ranking", "boost.fields.kind.guide"},
		`"boost":{"fields":{"kind":{"guide":1001}}}`:                         {"invalid_ranking", "1000"},
		`"boost":{"fields":{"kind":2}}`:                                      {"invalid_request", "an object"},
		`"boost":true`:                                                       {"invalid_request", "an object"},
	} {
		t.Run(field, func(t *testing.T) {
			for path, question := range map[string]string{"/v1/search": `"query":"How long is the ferry?"`, "/v1/answer": `"question":"How long is the ferry?"`} {
				e := w.refused(w.send("POST", path, "application/json", strings.NewReader("{"+question+","+field+"}")), 400, c.code)
				if !strings.Contains(e.Error.Message, c.says) {
					t.Errorf("%s says %q, want %q", path, e.Error.Message, c.says)
				}
			}
		})
	}
	for _, window := range []string{`-1`, `1000000`, `1.5`, `"wide"`} {
		e := w.refused(w.send("POST", "/v1/search", "application/json", strings.NewReader(`{"query":"ferry","window":`+window+`}`)), 400, "invalid_request")
		if !strings.Contains(e.Error.Message, "window") {
			t.Errorf("window %s: %q", window, e.Error.Message)
		}
	}
}
