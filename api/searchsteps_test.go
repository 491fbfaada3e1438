package api_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/api"
	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

type stepView struct {
	Step, From, To, Note string
	Parts                []string
}

type searchReply struct {
	Passages []struct{ Text string }
	Query    string
	Queries  []string
	Steps    []stepView
	Timings  map[string]float64
}

// thinking models complete follow-ups about visas, and translate one question.
func thinking(_ *api.Config, models *[]workersaitest.Option) {
	*models = append(*models,
		workersaitest.ChatOutput(func(in workersai.TextInput) workersai.TextOutput {
			if in.ResponseFormat != nil {
				return workersaitest.Text(`{"question":"How many photographs does the visa need?","parts":[]}`)
			}
			return workersaitest.Text("A visa for Japan takes five working days.")
		}),
		workersaitest.Translate(func(workersai.TranslationInput) string { return "How long does a visa for Japan take?" }))
}

func (w *world) searched(body string) (r searchReply) {
	w.Helper()
	w.into(w.post("/v1/search", body), 200, &r)
	return r
}

func TestSearchTakesTheStepsOfAnAnswer(t *testing.T) {
	t.Parallel()
	w := setup(t, thinking)
	w.add("travel.md", handbook)
	const earlier = `"messages":[{"role":"user","content":"How long does a visa for Japan take?"},{"role":"assistant","content":"Five working days."}]`
	for name, c := range map[string]struct{ body, steps, query string }{
		"plain":                {`{"query":"When are expenses refunded?",` + earlier + `,"understand":{"rewrite":true,"decompose":true,"translate":true}}`, "", "When are expenses refunded?"},
		"follow-up by rule":    {`{"query":"How many photographs does it need?",` + earlier + `}`, "rewrite", "How many photographs does it need? (visa Japan)"},
		"follow-up by a model": {`{"query":"How many photographs does it need?",` + earlier + `,"understand":{"rewrite":true}}`, "rewrite", "How many photographs does the visa need?"},
		"follow-up as it is":   {`{"query":"How many photographs does it need?",` + earlier + `,"understand":{"rewrite":false}}`, "", "How many photographs does it need?"},
		"misspelt":             {`{"query":"consulate photografphs"}`, "spelling", "consulate photographs"},
		"misspelt as it is":    {`{"query":"consulate photografphs","understand":{"spelling":false}}`, "", "consulate photografphs"},
		"two questions":        {`{"query":"How long does a visa take and how long are receipts kept?","understand":{"decompose":true}}`, "decompose", "How long does a visa take and how long are receipts kept?"},
		"Spanish":              {`{"query":"¿Cuánto tiempo se tarda en obtener un visado para el Japón?","understand":{"translate":true}}`, "translate", "How long does a visa for Japan take?"},
		"null switches":        {`{"query":"visa for Japan","understand":null,"messages":null}`, "", "visa for Japan"},
	} {
		t.Run(name, func(t *testing.T) {
			got := w.searched(c.body)
			var steps []string
			for _, s := range got.Steps {
				steps = append(steps, s.Step)
			}
			if strings.Join(steps, " ") != c.steps || got.Query != c.query {
				t.Errorf("steps %+v, query %q, want %q and %q", got.Steps, got.Query, c.steps, c.query)
			}
			if n := len(got.Queries); n == 0 || got.Queries[n-1] != c.query || (n == 3) != (c.steps == "decompose") {
				t.Errorf("queries %q", got.Queries)
			}
			if len(got.Passages) == 0 {
				t.Error("no passages")
			}
		})
	}
}

func TestSearchStepsAreEmptyLists(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.add("travel.md", handbook)
	r := w.post("/v1/search", `{"query":"visa"}`)
	if !strings.Contains(string(r.body), `"steps":[]`) || !strings.Contains(string(r.body), `"queries":["visa"]`) {
		t.Errorf("reply %s", r.body)
	}
}

func TestSearchInAConversation(t *testing.T) {
	t.Parallel()
	w := setup(t, thinking)
	w.into(w.post("/v1/documents?wait=60s", `{"collection":"trips","uri":"travel.md","text":"`+strings.ReplaceAll(handbook, "\n", `\n`)+`","media_type":"text/markdown"}`), 200, nil)
	w.add("other.md", "Nothing about travel.")
	var kept struct{ ID, Thread string }
	w.into(w.post("/v1/answer", `{"collection":"trips","question":"How long does a visa for Japan take?","thread":"new"}`), 200, &kept)
	const query = `"query":"How many photographs does it need?"`
	const want = "How many photographs does it need? (visa Japan)"
	for _, named := range []string{`"thread":"` + kept.Thread + `"`, `"previous_id":"` + kept.ID + `"`, `"collection":"trips","thread":"` + kept.Thread + `","previous_id":"` + kept.ID + `"`} {
		if got := w.searched(`{` + query + `,` + named + `}`); got.Query != want || len(got.Passages) == 0 {
			t.Errorf("with %s: query %q, want %q; %d passages", named, got.Query, want, len(got.Passages))
		}
	}
	var thread struct{ Answers []json.RawMessage }
	w.into(w.get("/v1/threads/"+kept.Thread), 200, &thread)
	if len(thread.Answers) != 1 {
		t.Errorf("%d answers in the thread after searches, want 1", len(thread.Answers))
	}

	for name, c := range map[string]struct {
		body   string
		status int
		code   string
		says   string
	}{
		"new thread":         {`"thread":"new"`, 400, "invalid_request", "keeps no conversation"},
		"no such thread":     {`"thread":"none"`, 404, "thread_not_found", "/v1/threads"},
		"no such answer":     {`"previous_id":"none"`, 404, "answer_not_found", "no answer"},
		"other collection":   {`"collection":"default","thread":"` + kept.Thread + `"`, 400, "invalid_request", "trips"},
		"both conversations": {`"thread":"` + kept.Thread + `","messages":[{"role":"user","content":"x"}]`, 400, "invalid_request", "not both"},
		"a system's message": {`"messages":[{"role":"system","content":"x"}]`, 400, "invalid_request", "user or assistant"},
		"too many messages":  {`"messages":[` + strings.Repeat(`{"role":"user","content":"x"},`, 100) + `{"role":"user","content":"x"}]`, 400, "invalid_request", "at most the last 100"},
		"no list":            {`"messages":"x"`, 400, "invalid_request", "a list"},
		"no switch":          {`"understand":{"rewrite":"yes"}`, 400, "invalid_request", "true or false"},
		"no object":          {`"understand":true`, 400, "invalid_request", "an object"},
		"unknown step":       {`"understand":{"expand":true}`, 400, "unknown_field", "expand"},
	} {
		t.Run(name, func(t *testing.T) {
			search := w.refused(w.post("/v1/search", `{"query":"x",`+c.body+`}`), c.status, c.code)
			if !strings.Contains(search.Error.Message, c.says) {
				t.Errorf("message %q does not say %q", search.Error.Message, c.says)
			}
			if name == "new thread" || name == "unknown step" {
				return
			}
			if answer := w.refused(w.post("/v1/answer", `{"question":"x",`+c.body+`}`), c.status, c.code); answer.Error.Message != search.Error.Message {
				t.Errorf("a search says %q, an answer %q", search.Error.Message, answer.Error.Message)
			}
		})
	}
}
