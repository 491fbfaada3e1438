package api_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/api"
	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

// bgePrefix is what the English bge models were trained to see before a question, by their model card.
const bgePrefix = "Represent this sentence for searching relevant passages: "

// Through the HTTP API with the default embedding model: a question is embedded behind its prefix, and nothing else is ever
// sent with it; all is pooled alike.
func TestQuestionsAloneAreEmbeddedWithAPrefix(t *testing.T) {
	t.Parallel()
	const bge, ranker = "@cf/baai/bge-base-en-v1.5", "@cf/baai/bge-reranker-base"
	const sought, asked = "How long are receipts kept?", "How long does a visa for Japan take?"
	const answer = "A visa for Japan takes five working days. Expenses come back within thirty days once the receipt has arrived."
	w := setup(t, func(_ *api.Config, o *[]workersaitest.Option) {
		*o = append(*o, workersaitest.Chat(func(workersai.TextInput) string { return answer }), workersaitest.Embed(bagOfLongWords))
	})
	w.add("travel.md", handbook)
	loaded := len(w.models.Requests())
	w.into(w.post("/v1/search", `{"query":"`+sought+`","rerank":{"model":"`+ranker+`"}}`), 200, nil)
	var a answerReply
	w.into(w.post("/v1/answer", `{"question":"`+asked+`"}`), 200, &a)
	if a.Answer != answer {
		t.Fatalf("answer = %+v, want what the chat model says", a)
	}

	var ingested, plain, prefixed []string
	reranked, chatted := 0, 0
	for i, r := range w.models.Requests() {
		if r.Model != bge && strings.Contains(string(r.Body), bgePrefix) {
			t.Errorf("%s was sent the prefix: %s", r.Model, r.Body)
		}
		switch r.Model {
		case bge:
			var in workersai.EmbeddingInput
			if err := json.Unmarshal(r.Body, &in); err != nil {
				t.Fatal(err)
			}
			if in.Pooling != "cls" {
				t.Errorf("request %d asks for pooling %q, want cls: %q", i, in.Pooling, in.Text)
			}
			for _, text := range in.Text {
				question, found := strings.CutPrefix(text, bgePrefix)
				switch {
				case i < loaded:
					ingested = append(ingested, text)
				case found:
					prefixed = append(prefixed, question)
				default:
					plain = append(plain, text)
				}
			}
		case ranker:
			reranked++
		default:
			chatted++
		}
	}
	if len(ingested) == 0 || reranked == 0 || chatted == 0 {
		t.Fatalf("%d texts embedded by the load, %d reranking calls, %d of the chat model: want some of each", len(ingested), reranked, chatted)
	}
	for _, text := range ingested {
		if strings.Contains(text, bgePrefix) {
			t.Errorf("a document was embedded as a question: %q", text)
		}
	}
	for _, q := range []string{sought, asked} {
		if !slices.Contains(prefixed, q) || slices.Contains(plain, q) {
			t.Errorf("%q was embedded with the prefix: %v, without: %v; want with alone", q, slices.Contains(prefixed, q), slices.Contains(plain, q))
		}
	}
	for _, q := range prefixed { // the others are those that calibrate the model
		if !strings.HasSuffix(q, "?") || strings.Contains(answer, q) || strings.Contains(handbook, q) {
			t.Errorf("embedded with the prefix: %q, which is no question", q)
		}
	}
	if !slices.ContainsFunc(plain, func(text string) bool { return strings.Contains(answer, strings.TrimSpace(text)) }) {
		t.Errorf("no sentence of the answer was embedded: the checker's texts were not seen; plain: %q", plain)
	}
}

// bagOfLongWords tells subjects apart well enough for sentences to be compared: neither the prefix nor small words count.
func bagOfLongWords(text string, dims int) []float32 {
	words := strings.Fields(strings.TrimPrefix(text, bgePrefix))
	return bagOfWords(strings.Join(slices.DeleteFunc(words, func(w string) bool { return len(w) < 5 }), " "), dims)
}
