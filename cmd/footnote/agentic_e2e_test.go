package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// checkAgentic: the small model looks further by itself, coaxed by grammar and bounded; the answer follows.
func checkAgentic(t *testing.T, s *server, collection, question string) {
	t.Helper()
	out, errs, code := s.w.run(s.at(), "ask", "--agentic", "--json", "-c", collection, question)
	if code != 0 {
		t.Fatalf("ask --agentic exits %d: %s", code, errs)
	}
	var order []string
	for line := range strings.Lines(out) {
		var ev struct {
			Event string `json:"event"`
			Data  step   `json:"data"`
		}
		_ = json.Unmarshal([]byte(line), &ev) // other events have other data
		order = append(order, ev.Event)
		if ev.Event == "step" && ev.Data.Tool != "" {
			t.Logf("%s %s: %d passages", ev.Data.Tool, ev.Data.Arguments, len(ev.Data.Found))
			var arguments map[string]any
			if !slices.Contains([]string{"search", "read", "list_collections"}, ev.Data.Tool) || json.Unmarshal(ev.Data.Arguments, &arguments) != nil {
				t.Errorf("step %+v, want a tool with its arguments", ev.Data)
			}
		}
	}
	first, last := slices.Index(order, "step"), len(order)-1
	if first < 0 || first > slices.Index(order, "sources") || order[last] != "done" || strings.Count(strings.Join(order, " "), "step") > 3 {
		t.Errorf("events %v, want one to three steps, sources … done", order)
	}
}
