package api_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/api"
	"github.com/footnote-rag/footnote/retrieval"
	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

// wantedCitations of the whole measurement (make eval); the tests take fewer.
const wantedCitations = 2000

// realText is a document with questions about it.
type realText struct {
	name, text string
	questions  []string
}

// realTexts are paragraphs of the evaluation collection squad2 with their questions.
func realTexts(t *testing.T, most int) (out []realText) {
	t.Helper()
	dir := os.Getenv("FOOTNOTE_EVAL_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "data")
	}
	dir = filepath.Join(dir, "squad2")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no %s: set FOOTNOTE_EVAL_DATA to a folder with squad2 in BEIR layout", dir)
	}
	type entry struct {
		ID   string `json:"_id"`
		Text string `json:"text"`
	}
	asked := map[string]string{}
	eachLine(t, filepath.Join(dir, "queries.jsonl"), func(line string) {
		var e entry
		_ = json.Unmarshal([]byte(line), &e)
		asked[e.ID] = e.Text
	})
	about := map[string][]string{}
	eachLine(t, filepath.Join(dir, "qrels", "test.tsv"), func(line string) {
		if f := strings.Fields(line); len(f) > 2 && asked[f[0]] != "" {
			about[f[1]] = append(about[f[1]], asked[f[0]])
		}
	})
	eachLine(t, filepath.Join(dir, "corpus.jsonl"), func(line string) {
		var e entry
		_ = json.Unmarshal([]byte(line), &e)
		if len(about[e.ID]) > 0 && len(out) < most {
			out = append(out, realText{e.ID, e.Text, about[e.ID]})
		}
	})
	return out
}

func eachLine(t *testing.T, name string, f func(string)) {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	sc := bufio.NewScanner(file)
	sc.Buffer(nil, 1<<24)
	for sc.Scan() {
		f(sc.Text())
	}
}

var passagePattern = regexp.MustCompile(`(?s)<passage n="(\d+)"[^>]*>\n(.*?)\n</passage>`)

// retell answers as models do: sentences of the passages, whole, shortened, joined and changed, with citation marks of which
// some are wrong, and a sentence of its own.
func retell(in workersai.TextInput) string {
	prompt := string(in.Messages[len(in.Messages)-1].Content)
	if s, err := decodeString(prompt); err == nil {
		prompt = s
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(prompt))
	n := int(h.Sum32() % 97)
	var said []string
	for i, m := range passagePattern.FindAllStringSubmatch(prompt, 4) {
		sentences := retrieval.Sentences(m[2])
		if len(sentences) == 0 {
			continue
		}
		s := sentences[(n+i)%len(sentences)].Text
		switch (n + i) % 4 {
		case 1:
			if first, rest, ok := strings.Cut(s, ", "); ok && len(rest) > 40 {
				s = strings.ToUpper(rest[:1]) + rest[1:]
				_ = first
			}
		case 2:
			s = strings.Replace(s, " the ", " a ", 1)
		case 3:
			s = strings.Replace(s, "1", "7", 1)
		}
		said = append(said, fmt.Sprintf("%s [%d][%d]", s, i+1, (n+i)%9+1))
	}
	return strings.Join(said, " ") + " The moon is made of green cheese — naïvely 😀 said."
}

func decodeString(raw string) (s string, err error) {
	err = json.Unmarshal([]byte(raw), &s)
	return s, err
}

// TestEveryQuoteIsInItsDocument streams answers over real documents, extractive ones and a scripted model's, strict and not,
// and looks up every citation's quote at its offsets in the stored text.
func TestEveryQuoteIsInItsDocument(t *testing.T) {
	t.Parallel()
	documents, wanted := 12, 60
	if os.Getenv("FOOTNOTE_EVAL") != "" {
		documents, wanted = 200, wantedCitations
	}
	texts := realTexts(t, documents)
	w := setup(t, func(_ *api.Config, o *[]workersaitest.Option) { *o = append(*o, workersaitest.Chat(retell)) })
	stored := map[string][]rune{}
	for _, d := range texts {
		w.add(d.name+".md", d.text)
	}
	var citations, quoted int
	verdicts := map[string]int{}
	modes := []string{`"threshold":0`, `"threshold":0,"strict":true`, `"threshold":0,"extractive":true`}
	for round := 0; citations < wanted && round < 40; round++ {
		for i, d := range texts {
			q, _ := json.Marshal(d.questions[round%len(d.questions)])
			body := fmt.Sprintf(`{"question":%s,%s}`, q, modes[(round+i)%len(modes)])
			for _, c := range w.citationsOf(body) {
				citations++
				verdicts[c.Verdict]++
				if c.Source == 0 {
					if c.Verdict != "unsupported" || c.Quote != "" {
						t.Errorf("%s: %+v has no source", body, c)
					}
					continue
				}
				quoted++
				w.lookUp(stored, c)
			}
			if citations >= wanted {
				break
			}
		}
	}
	t.Logf("| citations | with a quote | verdicts | quotes found at their offsets |")
	t.Log("|---|---|---|---|")
	t.Logf("| %d | %d | %v | %v |", citations, quoted, verdicts, map[bool]string{true: "all", false: "not all"}[!t.Failed()])
	if citations < wanted || quoted < wanted/2 {
		t.Errorf("%d citations, %d with a quote: too few", citations, quoted)
	}
}

// citationsOf streams one answer and checks that each sentence lies in the text as it was streamed.
func (w *world) citationsOf(body string) (out []citationReply) {
	w.Helper()
	events, _, err := readEvents(w.stream("/v1/answer", body).Body)
	if err != nil || len(events) == 0 || events[len(events)-1].name != "done" {
		w.Fatalf("%s: %d events, error %v", body, len(events), err)
	}
	var text strings.Builder
	for _, e := range events {
		switch e.name {
		case "delta":
			var d struct{ Text string }
			_ = json.Unmarshal([]byte(e.data), &d)
			text.WriteString(d.Text)
		case "citation":
			var c citationReply
			if err := json.Unmarshal([]byte(e.data), &c); err != nil {
				w.Fatal(err)
			}
			if n := len([]rune(text.String())); c.Sentence.Start < 0 || c.Sentence.Start >= c.Sentence.End || c.Sentence.End > n {
				w.Errorf("%s: sentence %+v in a text of %d characters", body, c.Sentence, n)
			}
			out = append(out, c)
		}
	}
	return out
}

// lookUp compares a quote with the stored text, which is read once.
func (w *world) lookUp(stored map[string][]rune, c citationReply) {
	w.Helper()
	text, known := stored[c.Document.ID]
	if !known {
		text = []rune(string(w.get("/v1/documents/" + c.Document.ID + "/text").body))
		stored[c.Document.ID] = text
	}
	if c.Start < 0 || c.End > len(text) || c.Start >= c.End || string(text[c.Start:c.End]) != c.Quote {
		w.Errorf("quote %q is not at %d:%d of %s", c.Quote, c.Start, c.End, c.Document.URI)
	}
}
