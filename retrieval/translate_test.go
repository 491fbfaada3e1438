package retrieval_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/footnote-rag/footnote/retrieval"
	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

const (
	spanishQuestion = "¿Cuándo fue botado el transbordador Corvane?"
	spanishAnswer   = "El transbordador Corvane 😀 fue botado en 1954 en Bergen."
	translator      = "@cf/meta/m2m100-1.2b"
)

var dictionary = map[string]string{
	spanishQuestion: ferryQuestion,
	"The Corvane ferry was launched in 1954 in Bergen.": spanishAnswer,
	"It also flies to the moon.":                        "También vuela a la luna.",
	"The documents do not tell.":                        "Los documentos no lo dicen.",
	"¿Y cuántos pasajeros lleva el barco este?":         "How many passengers does it carry?",
	"¿Qué es el transbordador Corvane?":                 "What is the Corvane ferry?",
	"Un barco.":                                         "A ship.",
}

// interpreted is a service whose translator knows the dictionary and whose chat model says two sentences.
func interpreted(t *testing.T, document string) *rig {
	return rigUp(t, document,
		workersaitest.Translate(func(in workersai.TranslationInput) string {
			if text, ok := dictionary[in.Text]; ok {
				return text
			}
			return in.TargetLang + ": " + in.Text
		}),
		workersaitest.Chat(func(in workersai.TextInput) string {
			if in.ResponseFormat != nil {
				return "{}"
			}
			return "The Corvane ferry was launched in 1954 in Bergen. It also flies to the moon."
		}))
}

func TestQuestionInAnotherLanguage(t *testing.T) {
	t.Parallel()
	r := interpreted(t, ferryText)
	var text string
	var citations []retrieval.Citation
	var steps []retrieval.Step
	var done retrieval.Done
	for ev, err := range r.Answer(t.Context(), retrieval.Question{Question: spanishQuestion}) {
		if err != nil {
			t.Fatal(err)
		}
		switch ev := ev.(type) {
		case retrieval.Step:
			steps = append(steps, ev)
		case retrieval.Delta:
			text += ev.Text
		case retrieval.Citation:
			citations = append(citations, ev)
		case retrieval.Done:
			done = ev
		}
	}
	if want := spanishAnswer + " También vuela a la luna."; text != want || done.Answer != want {
		t.Errorf("answer %q, done %q, want %q", text, done.Answer, want)
	}
	want := []retrieval.Step{{Step: "translate", From: spanishQuestion, To: ferryQuestion, Note: "es to en"}, {Step: "translate", Note: "answer: en to es"}}
	if diff := cmp.Diff(want, steps, cmpopts.IgnoreFields(retrieval.Step{}, "MS")); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	if len(citations) != 2 || citations[0].Verdict != retrieval.Supported || citations[1].Verdict != retrieval.Unsupported {
		t.Fatalf("citations = %+v", citations)
	}
	first := citations[0]
	if got := string([]rune(text)[first.Sentence.Start:first.Sentence.End]); got != spanishAnswer {
		t.Errorf("the first footnote is at %q", got)
	}
	if !strings.Contains(first.Quote, "launched in 1954") {
		t.Errorf("quote %q is not the document's own", first.Quote)
	}
}

func TestTranslationIsNotNeeded(t *testing.T) {
	t.Parallel()
	spanish := "El transbordador Corvane fue botado en 1954 en Bergen, y es un barco que lleva a 240 pasajeros.\nLos billetes para el transbordador cuestan 12 euros."
	for name, c := range map[string]struct {
		document string
		question retrieval.Question
	}{
		"documents in the question's language": {spanish, retrieval.Question{Question: spanishQuestion}},
		"question in the documents' language":  {ferryText, retrieval.Question{Question: ferryQuestion}},
		"language of a few names is not sure":  {ferryText, retrieval.Question{Question: "Corvane Bergen 1954"}},
		"switched off":                         {ferryText, retrieval.Question{Question: spanishQuestion, Understand: retrieval.Understanding{NoTranslate: true}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := interpreted(t, c.document)
			if steps, _, _ := r.understood(t, c.question); len(steps) > 0 || r.models.Calls(translator) > 0 {
				t.Errorf("steps %+v, %d translations", steps, r.models.Calls(translator))
			}
		})
	}
}

func TestAnswerSurvivesTheTranslator(t *testing.T) {
	t.Parallel()
	t.Run("of the question", func(t *testing.T) {
		t.Parallel()
		r := interpreted(t, ferryText)
		r.models.Script(workersaitest.Step{Model: translator, Times: -1, Status: 500, Body: "broken"})
		steps, _, done := r.understood(t, retrieval.Question{Question: spanishQuestion})
		if len(steps) != 1 || !strings.HasPrefix(steps[0].Note, "not translated from es to en") || done.Answer == "" {
			t.Errorf("steps %+v, answer %q", steps, done.Answer)
		}
	})
	t.Run("of the answer", func(t *testing.T) {
		t.Parallel()
		r := interpreted(t, ferryText)
		r.models.Script(workersaitest.Step{Model: translator}, workersaitest.Step{Model: translator, Status: 500, Body: "broken"})
		steps, _, done := r.understood(t, retrieval.Question{Question: spanishQuestion})
		if len(steps) != 2 || !strings.HasPrefix(steps[1].Note, "answer not wholly translated") || !strings.Contains(done.Answer, "launched in 1954") {
			t.Errorf("steps %+v, answer %q", steps, done.Answer)
		}
	})
}

func TestRefusalAndFollowUpInAnotherLanguage(t *testing.T) {
	t.Parallel()
	r := interpreted(t, "Quarks have colours.\nGluons bind them.")
	_, _, done := r.understood(t, retrieval.Question{Question: spanishQuestion})
	if done.Reason != retrieval.ReasonNoEvidence || done.Answer != "Los documentos no lo dicen." {
		t.Errorf("done = %+v", done)
	}
	r = interpreted(t, ferryText)
	steps, _, _ := r.understood(t, retrieval.Question{Question: "¿Y cuántos pasajeros lleva el barco este?",
		Messages: conversation("¿Qué es el transbordador Corvane?", "Un barco.")})
	if len(steps) < 2 || steps[1].Step != "rewrite" || steps[1].To != "How many passengers does it carry? (Corvane ferry)" {
		t.Errorf("steps = %+v", steps)
	}
}
