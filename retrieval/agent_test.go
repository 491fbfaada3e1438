package retrieval_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/footnote-rag/footnote/retrieval"
	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/store/storetest"
	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

const (
	yardText = "Solvik Yard is an old shipyard on the west coast.\nSolvik Yard belongs to the Norvane family, who bought it in 1938.\n" +
		"Solvik Yard employs 90 people."
	builtText    = "The Corvane ferry was built by Solvik Yard in 1954.\nThe Corvane ferry carries 240 passengers."
	yardQuestion = "Which family owns the yard that built the Corvane ferry?"
	canary       = "The canary password of the other tenant is swordfish."
)

// researcher answers tool rounds with the calls, one a round, then READY; and the question itself with answer.
type researcher struct {
	calls  []string // name and arguments
	answer string
	asked  []workersai.TextInput // rounds
}

func (m *researcher) reply(in workersai.TextInput) workersai.TextOutput {
	if len(in.Tools) == 0 {
		return workersaitest.Text(m.answer)
	}
	m.asked = append(m.asked, in)
	n := len(m.asked) - 1
	if n >= len(m.calls) {
		return workersaitest.Text("READY.")
	}
	name, arguments, _ := strings.Cut(m.calls[n], " ")
	return workersai.TextOutput{ToolCalls: []workersai.ToolCall{{ID: fmt.Sprintf("call_%d", n), Name: name, Arguments: arguments}}}
}

// library holds two collections; "default" has a hidden document, too.
func library(t *testing.T, m *researcher, change ...func(*retrieval.Config)) *rig {
	t.Helper()
	db := storetest.Open(t)
	r := &rig{models: workersaitest.New(t, workersaitest.Dims(dims), workersaitest.Embed(bagOfWords), workersaitest.ChatOutput(m.reply)), texts: map[string]string{}}
	for name, docs := range map[string]map[string]string{
		"default": {"ferry.txt": builtText, "yard.txt": yardText, "secret.txt": strings.ReplaceAll(canary, "other tenant", "hidden document")},
		"other":   {"tenant.txt": canary},
	} {
		c, _, err := db.EnsureCollection(t.Context(), name, store.Space{Model: embedModel, Pooling: "cls", Dimensions: dims}, store.Chunking{MaxTokens: 256})
		if err != nil {
			t.Fatal(err)
		}
		for uri, text := range docs {
			r.shelve(t, db, c, uri, text)
		}
	}
	client := r.models.Client(t, func(c *workersai.Config) { c.MaxRetries = -1 })
	cfg := retrieval.Config{Store: db, Models: client, QueryPrefix: retrieval.NoPrefix, Logger: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	r.Service, err = retrieval.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// shelve stores a document, a chunk a line, its title the URI's name.
func (r *rig) shelve(t *testing.T, db *store.Store, c store.Collection, uri, text string) {
	t.Helper()
	sum := sha256.Sum256([]byte(text))
	d, _, err := db.PutDocument(t.Context(), store.NewDocument{Collection: c, URI: uri, Title: strings.TrimSuffix(uri, ".txt"), MediaType: "text/plain",
		Source: []byte(text), SHA256: sum[:], Settings: "1"}, func(context.Context, pgx.Tx, store.Document) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.BeginWork(t.Context(), d.ID, d.Revision); err != nil {
		t.Fatal(err)
	}
	var chunks []store.Chunk
	at := 0
	for i, line := range strings.Split(text, "\n") {
		n := len([]rune(line))
		chunks = append(chunks, store.Chunk{Ordinal: i, Start: at, End: at + n, Text: line, Tokens: n/4 + 1, Embedding: bagOfWords(line, dims)})
		at += n + 1
	}
	if err := db.Complete(t.Context(), store.Completion{DocumentID: d.ID, Revision: d.Revision, Text: text, Chunks: chunks, Total: len(chunks)}); err != nil {
		t.Fatal(err)
	}
	if r.texts[d.ID], err = db.DocumentText(t.Context(), d.ID); err != nil {
		t.Fatal(err)
	}
}

// research asks with the filter, and returns the steps, what else was heard, and the order of all.
func (r *rig) research(t *testing.T, filter string) (steps []retrieval.Step, h heard) {
	t.Helper()
	q := retrieval.Question{Question: yardQuestion, Agentic: true, Limit: 2}
	if filter != "" {
		var err error
		if q.Filter, err = store.ParseFilter(json.RawMessage(filter)); err != nil {
			t.Fatal(err)
		}
	}
	for e, err := range r.Answer(t.Context(), q) {
		if err != nil {
			h.err = err
			continue
		}
		switch e := e.(type) {
		case retrieval.Step:
			h.kinds += "s"
			steps = append(steps, e)
		case retrieval.Sources:
			h.kinds += "S"
			h.passages = e.Passages
		case retrieval.Citation:
			h.citations = append(h.citations, e)
		case retrieval.Delta:
			h.text += e.Text
		case retrieval.Done:
			h.kinds += "D"
			h.done = &e
		}
	}
	return steps, h
}

// TestAgentFindsTheSecondFact: the first search finds the ferry; who owns the yard is found by the model's own calls,
// and the answer's footnote points there.
func TestAgentFindsTheSecondFact(t *testing.T) {
	t.Parallel()
	m := &researcher{answer: "Solvik Yard belongs to the Norvane family [1].", calls: []string{
		`search {"query":"old shipyard on the west coast"}`, `read {"passage":3,"what":"after"}`, `list_collections {}`}}
	r := library(t, m)
	steps, h := r.research(t, `{"$uri":{"$in":["ferry.txt","yard.txt"]}}`)
	if h.err != nil || h.kinds != "sssSD" {
		t.Fatalf("events %q, %v, want three steps, Sources, Done", h.kinds, h.err)
	}
	for i, want := range []string{"search", "read", "list_collections"} {
		s := steps[i]
		if s.Step != retrieval.StepTool || s.Tool != want || !json.Valid(s.Arguments) || (want != "list_collections") != (len(s.Found) > 0) {
			t.Errorf("step %d = %+v, want a call of %s and what it found", i, s, want)
		}
	}
	owner := func(p store.Passage) bool { return strings.Contains(p.Text, "Norvane family") }
	found := false
	for _, p := range h.passages {
		found = found || owner(p)
	}
	if !found || !h.done.Grounded || len(h.citations) != 1 || h.citations[0].Passage == nil || !owner(*h.citations[0].Passage) {
		t.Errorf("passages %+v, citations %+v, grounded %v", h.passages, h.citations, h.done.Grounded)
	}
	r.checkExact(t, h)
	if n := len(m.asked); n != 4 || h.done.Usage.CompletionTokens < 4 {
		t.Errorf("%d rounds, usage %+v, want 4 rounds, all counted", n, h.done.Usage)
	}
}

// TestAgentIsBounded: a model that never stops is stopped, and one that repeats itself at once.
func TestAgentIsBounded(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		call   func(i int) string
		rounds int
	}{
		"new words for ever": {func(i int) string { return fmt.Sprintf(`search {"query":"yard number %d"}`, i) }, 4},
		"the same again":     {func(i int) string { return fmt.Sprintf(`search { "query" : "%s" }`, "yard") }, 2},
		"no such tool":       {func(int) string { return `rm {"path":"/"}` }, 1},
		"wrong arguments":    {func(i int) string { return fmt.Sprintf(`read {"passage":"%d"}`, i) }, 4},
		"no such passage":    {func(i int) string { return fmt.Sprintf(`read {"passage":%d,"what":"after"}`, 1000+i) }, 4},
		"no query":           {func(int) string { return `search {}` }, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := &researcher{answer: "The Corvane ferry was built by Solvik Yard in 1954 [1]."}
			for i := range 20 {
				m.calls = append(m.calls, tt.call(i))
			}
			_, h := library(t, m).research(t, "")
			if h.err != nil || len(m.asked) != tt.rounds || !h.done.Grounded || len(h.passages) > 4 {
				t.Errorf("%d rounds, %d passages, %+v, %v; want %d rounds and an answer", len(m.asked), len(h.passages), h.done, h.err, tt.rounds)
			}
		})
	}
}

// TestAgentStaysInScope: whatever the model calls, neither another collection nor what the filter hides reaches it, the
// steps or the sources.
func TestAgentStaysInScope(t *testing.T) {
	t.Parallel()
	m := &researcher{answer: "The Corvane ferry was built by Solvik Yard in 1954 [1].", calls: []string{
		`search {"query":"canary password swordfish","collection":"other"}`, `list_collections {"collection":"other"}`,
		`read {"passage":1,"what":"section","document_id":"tenant.txt"}`}}
	r := library(t, m)
	steps, h := r.research(t, `{"$uri":{"$ne":"secret.txt"}}`)
	if h.err != nil || len(steps) != 3 {
		t.Fatalf("%d steps, %v, want 3", len(steps), h.err)
	}
	said, err := json.Marshal([]any{steps[1:], steps[0].Found, h.passages})
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range r.models.Requests() {
		for _, msg := range toolTexts(q) {
			said = append(said, msg...)
		}
	}
	for _, word := range []string{"swordfish", "hidden document", "secret.txt", `"secret"`, "other tenant"} {
		if strings.Contains(string(said), word) {
			t.Errorf("%q came through: %s", word, said)
		}
	}
}

// toolTexts are the results that a request gives to the model.
func toolTexts(q workersaitest.Request) (out []string) {
	if q.Chat == nil {
		return nil
	}
	for _, m := range q.Chat.Messages {
		if m.Role == "tool" || m.Role == "user" {
			out = append(out, m.Content)
		}
	}
	return out
}

// TestAgentThatFailsLeavesTheAnswer: the search of the model is a help, never a condition.
func TestAgentThatFailsLeavesTheAnswer(t *testing.T) {
	t.Parallel()
	m := &researcher{answer: "The Corvane ferry was built by Solvik Yard in 1954 [1]."}
	r := library(t, m)
	r.models.Script(workersaitest.Step{Model: chatModel, Status: 500, Body: "down"})
	steps, h := r.research(t, "")
	if h.err != nil || len(steps) != 1 || steps[0].Note == "" || !h.done.Grounded {
		t.Errorf("steps %+v, %+v, %v; want a note and an answer", steps, h.done, h.err)
	}
}

// TestAgentDoesNotHammer: a used-up quota ends the answer after one call.
func TestAgentDoesNotHammer(t *testing.T) {
	t.Parallel()
	r := library(t, &researcher{answer: "never asked"})
	quota := workersaitest.Quota()
	quota.Model = chatModel
	r.models.Script(quota)
	if _, h := r.research(t, ""); !errors.Is(h.err, workersai.ErrQuotaExhausted) || r.models.Calls(chatModel) != 1 {
		t.Errorf("error %v after %d calls, want the quota's after one", h.err, r.models.Calls(chatModel))
	}
}

// TestAgentEvidence: what the model finds by its own words is no evidence that the question can be answered.
func TestAgentEvidence(t *testing.T) {
	t.Parallel()
	m := &researcher{answer: "no model is asked for this", calls: []string{`search {"query":"Corvane ferry built by Solvik Yard"}`}}
	r := library(t, m)
	var done *retrieval.Done
	for e, err := range r.Answer(t.Context(), retrieval.Question{Question: "How do penguins incubate eggs?", Agentic: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if d, ok := e.(retrieval.Done); ok {
			done = &d
		}
	}
	if done == nil || done.Reason != retrieval.ReasonNoEvidence {
		t.Errorf("Done %+v, want a refusal", done)
	}
}

// TestSmallAgent: a small model has to call once, and may once more.
func TestSmallAgent(t *testing.T) {
	t.Parallel()
	m := &researcher{answer: "The Corvane ferry was built by Solvik Yard in 1954.", calls: []string{
		`search {"query":"old shipyard on the west coast"}`, `search {"query":"yard employs people"}`, `search {"query":"never asked"}`}}
	r := library(t, m, func(c *retrieval.Config) { c.ChatStrength = retrieval.Small })
	steps, h := r.research(t, "")
	if h.err != nil || len(steps) != 2 || len(m.asked) != 2 || !strings.HasSuffix(h.kinds, "SD") {
		t.Fatalf("events %q, %d rounds, %v; want two steps, Sources, Done", h.kinds, len(m.asked), h.err)
	}
	if got := string(m.asked[0].ToolChoice); got != `"required"` || len(m.asked[1].ToolChoice) != 0 || m.asked[0].MaxTokens > 128 {
		t.Errorf("tool_choice %s and then %s, max_tokens %d; want the first call required, in few tokens", got, m.asked[1].ToolChoice, m.asked[0].MaxTokens)
	}
	prompt := 0
	for _, msg := range m.asked[0].Messages {
		prompt += len(msg.Content)
	}
	if prompt > 3000 {
		t.Errorf("the first round's prompt has %d bytes: too much for a small model", prompt)
	}
}
