package retrieval_test

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/footnote-rag/footnote/retrieval"
	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

// patient waits longer for vectors than any test does.
var patient = retrieval.Config{CheckTimeout: time.Minute}

// meanings is a model that knows some synonyms and tells what has nothing to do with each other.
func meanings(text string, dims int) []float32 {
	text = strings.NewReplacer("vessel", "ferry", "entered service", "was launched").Replace(text)
	return bagOfWords(shortWords.ReplaceAllString(text, ""), dims)
}

var shortWords = regexp.MustCompile(`\b[a-z]{1,3}\b`)

const ferryParaphrase = "The Corvane vessel entered service in 1954 in Bergen."

func one(t *testing.T, h heard) retrieval.Citation {
	t.Helper()
	if h.err != nil || len(h.citations) != 1 {
		t.Fatalf("events %q, %d citations, error %v, want one citation", h.kinds, len(h.citations), h.err)
	}
	return h.citations[0]
}

func TestVectorsFindAParaphrase(t *testing.T) {
	t.Parallel()
	ask := func(cfg retrieval.Config, answer string) retrieval.Citation {
		r := rigWith(t, ferryText, cfg, says(answer), workersaitest.Embed(meanings))
		h := r.ask(t.Context(), retrieval.Question{Question: ferryQuestion})
		r.checkExact(t, h)
		return one(t, h)
	}
	words, both := ask(retrieval.Config{CheckTimeout: -1}, ferryParaphrase), ask(patient, ferryParaphrase)
	if words.Verdict != retrieval.Unsupported || both.Verdict == retrieval.Unsupported {
		t.Errorf("a paraphrase is %s (%.2f) by words and %s (%.2f) with vectors, want unsupported only by words", words.Verdict, words.Score, both.Verdict, both.Score)
	}
	for _, wrong := range []string{"The Corvane ferry was launched in 1945 in Bergen.", "The Corvane ferry was not launched in 1954 in Bergen.", "The Corvane ferry was launched in 1954 in Oslo."} {
		if c := ask(patient, wrong); c.Verdict == retrieval.Supported {
			t.Errorf("%q is supported (%.2f) by %q, want the conflict to cap it", wrong, c.Score, c.Quote)
		}
	}
}

func TestVerdictsAreTheSameAndVectorsCached(t *testing.T) {
	t.Parallel()
	r := rigWith(t, ferryText, patient, says(ferryParaphrase), workersaitest.Embed(meanings))
	first := one(t, r.ask(t.Context(), retrieval.Question{Question: ferryQuestion}))
	calls := r.models.Calls(embedModel)
	again := one(t, r.ask(t.Context(), retrieval.Question{Question: ferryQuestion}))
	if first.Score != again.Score || first.Span != again.Span {
		t.Errorf("asked again: %.4f %v, first %.4f %v", again.Score, again.Span, first.Score, first.Span)
	}
	if n := r.models.Calls(embedModel); n != calls {
		t.Errorf("%d more embedding calls for the same answer, want none", n-calls)
	}
}

// TestVerdictsDelayNoText: the vectors of the first sentence come only after the last word of the answer was shown.
func TestVerdictsDelayNoText(t *testing.T) {
	t.Parallel()
	r := rigWith(t, ferryText, patient, says("The Corvane ferry was launched in 1954 in Bergen. It carries 240 passengers."), workersaitest.Embed(meanings))
	r.ask(t.Context(), retrieval.Question{Question: ferryQuestion, Extractive: true}) // the question and the scale are known
	release := make(chan struct{})
	r.models.Script(workersaitest.Step{Model: embedModel, Hold: release})
	kinds, text := "", ""
	for e, err := range r.Answer(t.Context(), retrieval.Question{Question: ferryQuestion}) {
		if err != nil {
			t.Fatal(err)
		}
		switch e := e.(type) {
		case retrieval.Delta:
			if text += e.Text; strings.HasSuffix(text, "passengers.") {
				close(release)
			}
			kinds += "t"
		case retrieval.Citation:
			kinds += "c"
		}
	}
	if !strings.HasSuffix(kinds, "tcc") || strings.Count(kinds, "c") != 2 {
		t.Errorf("events %q, want all text before both citations", kinds)
	}
}

func TestWordsDecideWithoutVectors(t *testing.T) {
	t.Parallel()
	lexical := one(t, rigWith(t, ferryText, retrieval.Config{CheckTimeout: -1}, says(ferryParaphrase)).ask(t.Context(), retrieval.Question{Question: ferryQuestion}))
	for name, c := range map[string]struct {
		timeout time.Duration
		step    workersaitest.Step
	}{
		"the model is down":         {time.Minute, workersaitest.Step{Model: embedModel, Status: 500, Body: "down", Times: -1}},
		"a vector is missing":       {time.Minute, workersaitest.MissingRow(0)},
		"the model takes too long":  {50 * time.Millisecond, workersaitest.Step{Model: embedModel, Hold: make(chan struct{}), Times: -1}},
		"the model is rate limited": {time.Minute, workersaitest.Step{Model: embedModel, Status: 429, Body: "slow down", Times: -1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := rigWith(t, ferryText, retrieval.Config{CheckTimeout: c.timeout}, says(ferryParaphrase), workersaitest.Embed(meanings))
			r.ask(t.Context(), retrieval.Question{Question: ferryQuestion, Extractive: true})
			c.step.Model = embedModel
			r.models.Script(c.step)
			h := r.ask(t.Context(), retrieval.Question{Question: ferryQuestion})
			if got := one(t, h); got.Score != lexical.Score || got.Verdict != lexical.Verdict || h.done == nil {
				t.Errorf("%s (%.4f), want the verdict by words: %s (%.4f)", got.Verdict, got.Score, lexical.Verdict, lexical.Score)
			}
		})
	}
}

func TestExtractiveComparesNoVectors(t *testing.T) {
	t.Parallel()
	r := rigWith(t, ferryText, patient, workersaitest.Embed(meanings))
	r.ask(t.Context(), retrieval.Question{Question: ferryQuestion, Extractive: true})
	if n := r.models.Calls(embedModel); n != 2 {
		t.Errorf("%d embedding calls, want 2: the question and the scale", n)
	}
}

// TestLeaverEndsChecks: a consumer that leaves while vectors are awaited waits for none of them.
func TestLeaverEndsChecks(t *testing.T) {
	t.Parallel()
	r := rigWith(t, ferryText, patient, says(strings.Repeat("The Corvane ferry was launched in 1954. ", 5)), workersaitest.Embed(meanings))
	r.ask(t.Context(), retrieval.Question{Question: ferryQuestion, Extractive: true})
	r.models.Script(workersaitest.Step{Model: embedModel, Hold: make(chan struct{}), Times: -1})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	calls := len(r.models.Requests())
	go func() {
		r.models.WaitCalls(t, calls+2) // the answer and the first sentence's vectors
		cancel()
	}()
	if h := r.ask(ctx, retrieval.Question{Question: ferryQuestion}); h.err == nil || h.done != nil {
		t.Errorf("error %v, Done %v, want an error and no Done", h.err, h.done)
	}
	r.models.WaitAborts(t, 1)
}

// judging answers questions with answer and the second judge's with verdict.
func judging(answer, verdict string) workersaitest.Option {
	return workersaitest.Chat(func(in workersai.TextInput) string {
		if strings.HasPrefix(string(in.Messages[0].Content), "You check one sentence") {
			return verdict
		}
		return answer
	})
}

func TestSecondJudge(t *testing.T) {
	t.Parallel()
	const vague = "The ferry of Corvane began its work during the fifties in a Norwegian town."
	for name, c := range map[string]struct {
		answer, reply string
		want          retrieval.Verdict // "": the checker's
	}{
		"supported":              {vague, `{"verdict":"supported","excerpt":1}`, retrieval.Supported},
		"partly":                 {vague, `{"verdict":"partly","excerpt":1}`, retrieval.Partly},
		"unsupported":            {vague, `{"verdict":"unsupported","excerpt":0}`, retrieval.Unsupported},
		"fenced":                 {vague, "```json\n{\"verdict\":\"supported\",\"excerpt\":1}\n```", retrieval.Supported},
		"no such excerpt":        {vague, `{"verdict":"supported","excerpt":17}`, ""},
		"no excerpt":             {vague, `{"verdict":"supported"}`, ""},
		"no verdict":             {vague, `{"verdict":"certainly","excerpt":1}`, ""},
		"no JSON":                {vague, `Yes, it is supported.`, ""},
		"another number":         {"The Corvane ferry was launched in 1945 in Bergen.", `{"verdict":"supported","excerpt":1}`, retrieval.Partly},
		"judged without need":    {"The Corvane ferry was launched in 1954 in Bergen.", `{"verdict":"unsupported","excerpt":0}`, ""},
		"nothing to show to him": {"Elephants invented jazz.", `{"verdict":"supported","excerpt":1}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := rigWith(t, ferryText, retrieval.Config{CheckTimeout: -1}, judging(c.answer, c.reply))
			plain := one(t, r.ask(t.Context(), retrieval.Question{Question: ferryQuestion}))
			h := r.ask(t.Context(), retrieval.Question{Question: ferryQuestion, Judge: true})
			got, want := one(t, h), c.want
			if want == "" {
				want = plain.Verdict
			}
			if got.Verdict != want || got.Judged != (c.want != "") || plain.Judged {
				t.Errorf("%s (%.2f), judged %v, want %s; without the judge %s (%.2f)", got.Verdict, got.Score, got.Judged, want, plain.Verdict, plain.Score)
			}
			r.checkExact(t, h)
		})
	}
}

// TestSecondJudgeIsBounded: eight sentences of an answer at most, none without being asked, and no word of a document is an
// order.
func TestSecondJudgeIsBounded(t *testing.T) {
	t.Parallel()
	sentence := "The ferry of Corvane began its work during the fifties in a Norwegian town. "
	r := rigWith(t, ferryText, retrieval.Config{CheckTimeout: -1}, judging(strings.Repeat(sentence, 12), `{"verdict":"partly","excerpt":1}`))
	h := r.ask(t.Context(), retrieval.Question{Question: ferryQuestion, Judge: true})
	judged := 0
	for _, c := range h.citations {
		if c.Judged {
			judged++
		}
	}
	if n := r.models.Calls(chatModel); h.err != nil || judged != 8 || n != 9 || len(h.citations) != 12 {
		t.Errorf("%d of %d sentences judged with %d calls, error %v, want 8 of 12 with 9", judged, len(h.citations), n, h.err)
	}
	if h.done.Usage.PromptTokens == 0 {
		t.Error("the judge's tokens are not counted")
	}
}

func TestJudgeDownLeavesTheVerdict(t *testing.T) {
	t.Parallel()
	r := rigWith(t, ferryText, retrieval.Config{CheckTimeout: -1, Judge: true}, says(ferryParaphrase))
	r.models.Script(workersaitest.Step{Model: chatModel}, workersaitest.Step{Model: chatModel, Status: 500, Body: "down", Times: -1})
	h := r.ask(t.Context(), retrieval.Question{Question: ferryQuestion})
	if c := one(t, h); c.Judged || h.done == nil {
		t.Errorf("judged %v, Done %v, want the checker's verdict", c.Judged, h.done)
	}
}
