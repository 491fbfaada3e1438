package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/routers/legacy"

	"github.com/footnote-rag/footnote/api"
	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

// lookUp calls search once where it is offered tools, and else repeats what the documents say.
func lookUp(in workersai.TextInput) workersai.TextOutput {
	last := in.Messages[len(in.Messages)-1]
	switch {
	case len(in.Tools) == 0:
		return workersaitest.Text("A visa for Japan takes five working days. ")
	case last.Role == "tool":
		return workersaitest.Text("READY.")
	}
	return workersai.TextOutput{ToolCalls: []workersai.ToolCall{{ID: "call_1", Name: "search", Arguments: `{"query":"refunds of expenses"}`}}}
}

type stepReply struct {
	Step, Tool, Note string
	Arguments        struct{ Query string }
	Found            []struct {
		URI string
		End int
	}
}

func (s stepReply) check(t *testing.T) {
	t.Helper()
	if s.Step != "tool" || s.Tool != "search" || s.Arguments.Query != "refunds of expenses" || len(s.Found) == 0 || s.Found[0].URI != "travel.md" || s.Found[0].End == 0 {
		t.Errorf("step %+v, want the search and what it found", s)
	}
}

func TestAgenticAnswer(t *testing.T) {
	t.Parallel()
	w := setup(t, func(_ *api.Config, o *[]workersaitest.Option) { *o = append(*o, workersaitest.ChatOutput(lookUp)) })
	w.add("travel.md", handbook)
	doc := description(t, w.get("/openapi.yaml").body)
	doc.Servers = nil // the router takes "/" for a host
	router, err := legacy.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	w.client = &http.Client{Transport: &validator{T: t, router: router, next: w.client.Transport, seen: map[string]bool{}}}
	const ask = `{"question":"How long does a visa for Japan take?","agentic":true}`

	var whole struct {
		answerReply
		Steps []stepReply
	}
	w.into(w.post("/v1/answer", ask), 200, &whole)
	if len(whole.Steps) != 1 || !whole.Grounded {
		t.Fatalf("answer %+v, want one step and an answer that is grounded", whole)
	}
	whole.Steps[0].check(t)

	events, _, err := readEvents(w.stream("/v1/answer", ask).Body)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range events {
		names = append(names, e.name)
	}
	if got := strings.Join(names, " "); !strings.HasPrefix(got, "step sources delta") || !strings.HasSuffix(got, "done") {
		t.Fatalf("events %s, want step, sources, delta … done", got)
	}
	var s stepReply
	if err := json.Unmarshal([]byte(events[0].data), &s); err != nil {
		t.Fatal(err)
	}
	s.check(t)

	asked := w.models.Calls("")
	w.into(w.post("/v1/answer", strings.Replace(ask, "true", "false", 1)), 200, &whole)
	if len(whole.Steps) != 0 || w.models.Calls("") != asked+1 {
		t.Errorf("without agentic: %d steps, %d calls of the model, want none and one", len(whole.Steps), w.models.Calls("")-asked)
	}
}
