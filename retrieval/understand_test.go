package retrieval_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/footnote-rag/footnote/retrieval"
	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

// thinks answers what is asked in JSON mode with reply, and everything else from the passages.
func thinks(reply string) workersaitest.Option {
	return workersaitest.ChatOutput(func(in workersai.TextInput) workersai.TextOutput {
		if in.ResponseFormat != nil {
			return workersaitest.Text(reply)
		}
		return workersaitest.Text("The Corvane ferry was launched in 1954 in Bergen.")
	})
}

// understood asks and returns the steps and the answer's end.
func (r *rig) understood(t *testing.T, q retrieval.Question) (steps []retrieval.Step, sources []string, done retrieval.Done) {
	t.Helper()
	for ev, err := range r.Answer(t.Context(), q) {
		if err != nil {
			t.Fatal(err)
		}
		switch ev := ev.(type) {
		case retrieval.Step:
			steps = append(steps, ev)
		case retrieval.Sources:
			for _, p := range ev.Passages {
				sources = append(sources, p.Text)
			}
		case retrieval.Done:
			done = ev
		}
	}
	return steps, sources, done
}

func conversation(turns ...string) (messages []workersai.Message) {
	for i, text := range turns {
		messages = append(messages, workersai.Message{Role: []string{"user", "assistant"}[i%2], Content: text})
	}
	return messages
}

var aboutFerry = conversation("What is the Corvane ferry?", "A ship in Bergen.")

func thoughtOf(question string, parts ...string) string {
	b, _ := json.Marshal(map[string]any{"question": question, "parts": parts})
	return string(b)
}

func TestQuestionIsUnderstood(t *testing.T) {
	t.Parallel()
	const followUp = "When was it launched?"
	const twofold = "When was the Corvane ferry launched and how much do tickets cost?"
	for name, c := range map[string]struct {
		model    string
		question retrieval.Question
		want     []retrieval.Step
		calls    int // of the chat model, with the answer
	}{
		"plain question": {"", retrieval.Question{Question: ferryQuestion, Messages: aboutFerry}, nil, 1},
		"follow-up by the model": {thoughtOf("When was the Corvane ferry launched?"), retrieval.Question{Question: followUp, Messages: aboutFerry},
			[]retrieval.Step{{Step: "rewrite", From: followUp, To: "When was the Corvane ferry launched?"}}, 2},
		"model that wraps its JSON": {"Here:\n```json\n" + thoughtOf("When was the Corvane ferry launched?") + "\n```", retrieval.Question{Question: followUp, Messages: aboutFerry},
			[]retrieval.Step{{Step: "rewrite", From: followUp, To: "When was the Corvane ferry launched?"}}, 2},
		"model that invents a name": {thoughtOf("When was the Titanic ferry launched?"), retrieval.Question{Question: followUp, Messages: aboutFerry},
			[]retrieval.Step{{Step: "rewrite", From: followUp, To: followUp + " (Corvane ferry)", Note: "by rule: the model's version was no use"}}, 2},
		"model that answers": {"It was launched in 1954.", retrieval.Question{Question: followUp, Messages: aboutFerry},
			[]retrieval.Step{{Step: "rewrite", From: followUp, To: followUp + " (Corvane ferry)", Note: "by rule: the model's version was no use"}}, 2},
		"rewriting off": {thoughtOf("x"), retrieval.Question{Question: followUp, Messages: aboutFerry, Understand: retrieval.Understanding{NoRewrite: true}}, nil, 1},
		"two questions by rule": {"", retrieval.Question{Question: twofold},
			[]retrieval.Step{{Step: "decompose", From: twofold, Parts: []string{"When was the Corvane ferry launched?", "How much do tickets cost?"}}}, 1},
		"splitting off": {"", retrieval.Question{Question: twofold, Understand: retrieval.Understanding{NoDecompose: true}}, nil, 1},
		"comparison by the model": {thoughtOf("Compare the ferry's passengers and tickets", "How many passengers does the ferry carry?", "What do ferry tickets cost?"),
			retrieval.Question{Question: "Compare the passengers and the tickets of the ferry"},
			[]retrieval.Step{{Step: "decompose", From: "Compare the passengers and the tickets of the ferry",
				Parts: []string{"How many passengers does the ferry carry?", "What do ferry tickets cost?"}}}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := rigUp(t, ferryText, thinks(c.model))
			steps, _, done := r.understood(t, c.question)
			if diff := cmp.Diff(c.want, steps, cmpopts.IgnoreFields(retrieval.Step{}, "MS")); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
			if calls := r.models.Calls(chatModel); calls != c.calls || done.Answer == "" {
				t.Errorf("%d calls of the chat model, want %d; answer %q", calls, c.calls, done.Answer)
			}
		})
	}
}

func TestUnderstandingSurvivesTheModel(t *testing.T) {
	t.Parallel()
	r := rigUp(t, ferryText, thinks(""))
	r.models.Script(workersaitest.Step{Model: chatModel, Status: 500, Body: "broken"})
	steps, _, done := r.understood(t, retrieval.Question{Question: "When was it launched?", Messages: aboutFerry})
	if len(steps) != 1 || steps[0].Note != "by rule: the model did not help" || !strings.Contains(done.Answer, "1954") {
		t.Errorf("steps %+v, answer %q", steps, done.Answer)
	}
}

func TestPartsAreSearchedForInTurn(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("The Corvane ferry was launched in 1954 in Bergen again.\n", 12) + "Tickets cost 12 euros."
	r := rigUp(t, text, thinks(""))
	_, sources, _ := r.understood(t, retrieval.Question{Question: "When was the Corvane ferry launched and how much do tickets cost?", Limit: 4})
	if !strings.Contains(strings.Join(sources, "\n"), "12 euros") {
		t.Errorf("the second part is in none of %q", sources)
	}
}
