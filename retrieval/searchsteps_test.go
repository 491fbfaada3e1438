package retrieval_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/footnote-rag/footnote/retrieval"
	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

func TestSearchIsUnderstood(t *testing.T) {
	t.Parallel()
	const (
		followUp   = "When was it launched?"
		byRule     = followUp + " (Corvane ferry)"
		complete   = "When was the Corvane ferry launched?"
		twofold    = "When was the Corvane ferry launched and how much do tickets cost?"
		comparison = "Compare the passengers and the tickets of the ferry"
	)
	for name, c := range map[string]struct {
		request  retrieval.SearchRequest
		thought  string
		steps    []retrieval.Step
		queries  []string
		chats    int
		embedded int
	}{
		"plain query": {retrieval.SearchRequest{Query: ferryQuestion, Messages: aboutFerry, Steps: retrieval.SearchSteps{Think: true, Decompose: true, Translate: true}},
			"", nil, []string{ferryQuestion}, 0, 1},
		"follow-up without a model": {retrieval.SearchRequest{Query: followUp, Messages: aboutFerry}, "",
			[]retrieval.Step{{Step: "rewrite", From: followUp, To: byRule}}, []string{byRule}, 0, 2},
		"follow-up by the model": {retrieval.SearchRequest{Query: followUp, Messages: aboutFerry, Steps: retrieval.SearchSteps{Think: true}}, thoughtOf(complete),
			[]retrieval.Step{{Step: "rewrite", From: followUp, To: complete}}, []string{complete}, 1, 2},
		"follow-up by a model that invents": {retrieval.SearchRequest{Query: followUp, Messages: aboutFerry, Steps: retrieval.SearchSteps{Think: true}}, thoughtOf("When did the Titanic sink?"),
			[]retrieval.Step{{Step: "rewrite", From: followUp, To: byRule, Note: "by rule: the model's version was no use"}}, []string{byRule}, 1, 2},
		"rewriting off":                    {retrieval.SearchRequest{Query: followUp, Messages: aboutFerry, Steps: retrieval.SearchSteps{NoRewrite: true}}, "", nil, []string{followUp}, 0, 1},
		"follow-up without a conversation": {retrieval.SearchRequest{Query: followUp, Steps: retrieval.SearchSteps{Think: true}}, "", nil, []string{followUp}, 0, 1},
		"misspelt word": {retrieval.SearchRequest{Query: "price of ferry tickts"}, "",
			[]retrieval.Step{{Step: "spelling", From: "tickts", To: "tickets"}}, []string{"price of ferry tickets"}, 0, 2},
		"misspelt word, words alone": {retrieval.SearchRequest{Query: "price of ferry tickts", Mode: store.Lexical}, "",
			[]retrieval.Step{{Step: "spelling", From: "tickts", To: "tickets"}}, []string{"price of ferry tickets"}, 0, 0},
		"spelling off":    {retrieval.SearchRequest{Query: "price of ferry tickts", Steps: retrieval.SearchSteps{NoSpelling: true}}, "", nil, []string{"price of ferry tickts"}, 0, 1},
		"parts are whole": {retrieval.SearchRequest{Query: twofold}, "", nil, []string{twofold}, 0, 1},
		"parts": {retrieval.SearchRequest{Query: twofold, Steps: retrieval.SearchSteps{Decompose: true}}, "",
			[]retrieval.Step{{Step: "decompose", From: twofold, Parts: []string{complete, "How much do tickets cost?"}}}, []string{complete, "How much do tickets cost?", twofold}, 0, 3},
		"comparison by the model": {retrieval.SearchRequest{Query: comparison, Steps: retrieval.SearchSteps{Decompose: true}},
			thoughtOf(comparison, "How many passengers does the ferry carry?", "What do ferry tickets cost?"),
			[]retrieval.Step{{Step: "decompose", From: comparison, Parts: []string{"How many passengers does the ferry carry?", "What do ferry tickets cost?"}}},
			[]string{"How many passengers does the ferry carry?", "What do ferry tickets cost?", comparison}, 1, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := rigUp(t, ferryText, thinks(c.thought))
			found, err := r.Search(t.Context(), c.request)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.steps, found.Steps, cmpopts.IgnoreFields(retrieval.Step{}, "MS")); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.queries, found.Queries); diff != "" || found.Query != c.queries[len(c.queries)-1] {
				t.Errorf("query %q, queries (-want +got):\n%s", found.Query, diff)
			}
			if chats, embedded := r.models.Calls(chatModel), r.models.Calls(embedModel); chats != c.chats || embedded > c.embedded {
				t.Errorf("%d calls of the chat model, want %d; %d embeddings, want %d at most", chats, c.chats, embedded, c.embedded)
			}
			if len(found.Passages) == 0 {
				t.Error("no passages")
			}
		})
	}
}

func TestSearchOfPartsTakesOfEachInTurn(t *testing.T) {
	t.Parallel()
	r := rigUp(t, ferryText)
	request := retrieval.SearchRequest{Query: "When was the Corvane ferry launched and how much do tickets cost?", Limit: 2, Steps: retrieval.SearchSteps{Decompose: true}}
	found, err := r.Search(t.Context(), request)
	if err != nil || len(found.Passages) != 2 || found.Passages[0].Ordinal == found.Passages[1].Ordinal {
		t.Fatalf("Search = %+v, error %v, want two passages", found.Passages, err)
	}
	request.Ranking.Rerank.Model = "@cf/baai/bge-reranker-base"
	r.models.Script(workersaitest.Step{Model: request.Ranking.Rerank.Model, Times: -1, Status: 500, Body: "broken"})
	if found, err = r.Search(t.Context(), request); err != nil || found.Reranked || len(found.Passages) != 2 {
		t.Errorf("with a broken reranker: reranked %v, %d passages, error %v", found.Reranked, len(found.Passages), err)
	}
}

func TestSearchInAnotherLanguage(t *testing.T) {
	t.Parallel()
	r := interpreted(t, ferryText)
	found, err := r.Search(t.Context(), retrieval.SearchRequest{Query: spanishQuestion})
	if err != nil || len(found.Steps) > 0 || found.Query != spanishQuestion || r.models.Calls(translator) > 0 {
		t.Errorf("by default: steps %+v, query %q, %d translations, error %v", found.Steps, found.Query, r.models.Calls(translator), err)
	}
	found, err = r.Search(t.Context(), retrieval.SearchRequest{Query: spanishQuestion, Steps: retrieval.SearchSteps{Translate: true}})
	want := []retrieval.Step{{Step: "translate", From: spanishQuestion, To: ferryQuestion, Note: "es to en"}}
	if diff := cmp.Diff(want, found.Steps, cmpopts.IgnoreFields(retrieval.Step{}, "MS")); diff != "" || err != nil || found.Query != ferryQuestion {
		t.Errorf("query %q, error %v, steps (-want +got):\n%s", found.Query, err, diff)
	}
	r.models.Script(workersaitest.Step{Model: translator, Times: -1, Status: 500, Body: "broken"})
	found, err = r.Search(t.Context(), retrieval.SearchRequest{Query: "¿" + spanishQuestion, Steps: retrieval.SearchSteps{Translate: true}})
	if err != nil || len(found.Steps) != 1 || found.Steps[0].Note == "" || len(found.Passages) == 0 {
		t.Errorf("with a broken translator: steps %+v, %d passages, error %v", found.Steps, len(found.Passages), err)
	}
}

// A search asks no model but the embedding's where only that is there.
func TestSearchWithoutAChatModel(t *testing.T) {
	t.Parallel()
	r := rigUp(t, ferryText)
	r.models.Script(workersaitest.Step{Model: chatModel, Times: -1, Status: 404, Body: "absent"})
	found, err := r.Search(t.Context(), retrieval.SearchRequest{Query: "When was it launched?", Messages: []workersai.Message{{Role: "user", Content: "What is the Corvane ferry?"}},
		Steps: retrieval.SearchSteps{Think: true, Decompose: true, Translate: true}})
	if err != nil || len(found.Steps) != 1 || found.Steps[0].Note != "by rule: the model did not help" || len(found.Passages) == 0 {
		t.Errorf("steps %+v, %d passages, error %v", found.Steps, len(found.Passages), err)
	}
}
