package eval_test

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/footnote-rag/footnote/eval"
	"github.com/footnote-rag/footnote/ingest"
)

// Two articles by paragraph, and two pages by section, with all that could be taken for Markdown.
var partsOfDocuments = map[string]string{
	"corpus.jsonl": `{"_id":"d0_0","title":"Normans","text":"They came   from Norway."}
{"_id":"d0_1","title":"Normans","text":"Normans\n\n1. Rollo *swore*\n2. fealty\n\n- and_so_on"}
{"_id":"d1_0","title":"Other","text":"They came from Norway."}
{"_id":"https://x.org/page#a","title":"Get [started]","text":"Get [started]\n\n\nRun <b>it</b> &amp; wait:\n` + "```" + `\nif a {\n\n\t# b\n}\n` + "```" + `\nThen\n    stop.\n===\nhttp://x.org/ a@x.org www.x.org\n"}
{"_id":"https://x.org/page#b","title":"Größe","text":"Größe\nRun <b>it</b> &amp; wait:\n` + "```" + `\nnever closed"}
{"_id":"https://x.org/page#c","title":"Models","text":"Models\n"}
{"_id":"https://x.org/other#a","title":"Get [started]","text":"Get [started] with a title that goes on."}
{"_id":"alone","title":"","text":"alone"}
{"_id":"empty","title":"","text":" "}
`,
	"queries.jsonl": `{"_id":"q1","text":"Where did they come from?"}
{"_id":"q2","text":"Who swore?"}
{"_id":"q3","text":"How is it run?"}
{"_id":"q4","text":"Which models?"}
{"_id":"q5","text":"What goes on?"}
`,
	"qrels/test.tsv":     "query-id\tcorpus-id\tscore\nq1\td0_0\t1\nq1\td1_0\t1\nq2\td0_1\t1\nq2\td0_0\t0\nq3\thttps://x.org/page#b\t1\nq3\thttps://x.org/page#a\t2\nq4\thttps://x.org/page#c\t1\nq5\thttps://x.org/other#a\t1\n",
	"unanswerable.jsonl": `{"_id":"u1","text":"who knows?"}` + "\n",
}

// readJoined tells what the joined collection's documents read as, once extracted, and fails if a quote is not where it claims.
func readJoined(t *testing.T, c eval.Collection) map[string]ingest.Extracted {
	t.Helper()
	documents, ok := c.Documents()
	if !ok {
		t.Fatal("the collection has no documents")
	}
	read := map[string]ingest.Extracted{}
	for d, err := range documents {
		if err != nil {
			t.Fatal(err)
		}
		if read[d.URI], err = ingest.Extract(d.MediaType, []byte(d.Text)); err != nil {
			t.Fatalf("Extract(%s) = %v", d.URI, err)
		}
	}
	for _, q := range c.Questions {
		for _, quote := range q.Quotes {
			text := []rune(read[quote.Document].Text)
			if quote.Start < 0 || quote.Start >= quote.End || quote.End > len(text) || string(text[quote.Start:quote.End]) != quote.Text {
				t.Errorf("question %s: %q does not have, from %d to %d, %.80q…", q.ID, quote.Document, quote.Start, quote.End, quote.Text)
			}
		}
	}
	return read
}

func TestOpenJoined(t *testing.T) {
	t.Parallel()
	c, err := eval.OpenJoined(folder(t, partsOfDocuments), "")
	if err != nil {
		t.Fatal(err)
	}
	read := readJoined(t, c)
	wantTexts := map[string]string{
		"d0":                  "Normans\n\nThey came from Norway.\n\n1. Rollo *swore*\n2. fealty\n\n- and_so_on",
		"d1":                  "Other\n\nThey came from Norway.",
		"https://x.org/page":  "Get [started]\n\nRun <b>it</b> &amp; wait:\n\nif a {\n\n\t# b\n}\n\nThen\nstop.\n===\nhttp://x.org/ a@x.org www.x.org\n\nGröße\n\nRun <b>it</b> &amp; wait:\n\n```\nnever closed\n\nModels",
		"https://x.org/other": "Get [started]\n\nGet [started] with a title that goes on.",
		"alone":               "alone",
	}
	texts, headings := map[string]string{}, map[string][]string{}
	for uri, e := range read {
		texts[uri] = e.Text
		for _, b := range e.Blocks {
			if b.Kind == ingest.Heading {
				headings[uri] = append(headings[uri], string([]rune(e.Text)[b.Start:b.End]))
			}
		}
	}
	if diff := cmp.Diff(wantTexts, texts); diff != "" {
		t.Errorf("joined documents read as (-want +got):\n%s", diff)
	}
	wantHeadings := map[string][]string{"d0": {"Normans"}, "d1": {"Other"}, "https://x.org/page": {"Get [started]", "Größe", "Models"}, "https://x.org/other": {"Get [started]"}}
	if diff := cmp.Diff(wantHeadings, headings); diff != "" {
		t.Errorf("headings (-want +got):\n%s", diff)
	}
	wantQuotes := map[string][]string{
		"q1": {"d0: They came from Norway.", "d1: They came from Norway."},
		"q2": {"d0: 1. Rollo *swore*\n2. fealty\n\n- and_so_on"},
		"q3": {"https://x.org/page: Run <b>it</b> &amp; wait:\n\nif a {\n\n\t# b\n}\n\nThen\nstop.\n===\nhttp://x.org/ a@x.org www.x.org", "https://x.org/page: Run <b>it</b> &amp; wait:\n\n```\nnever closed"},
		"q4": {"https://x.org/page: Models"},
		"q5": {"https://x.org/other: Get [started] with a title that goes on."},
	}
	quotes := map[string][]string{}
	for _, q := range c.Questions {
		if len(q.Grades) > 0 {
			t.Errorf("question %s has grades %v of documents that are not there", q.ID, q.Grades)
		}
		for _, quote := range q.Quotes {
			quotes[q.ID] = append(quotes[q.ID], quote.Document+": "+quote.Text)
		}
	}
	if diff := cmp.Diff(wantQuotes, quotes); diff != "" {
		t.Errorf("quotes (-want +got):\n%s", diff)
	}
}

func TestOpenJoinedRefuses(t *testing.T) {
	t.Parallel()
	for name, files := range map[string]map[string]string{
		"no corpus":               {"queries.jsonl": `{"_id":"a","text":"b"}`, "qrels/test.tsv": "a\td_0\t1\n"},
		"a corpus that is no":     {"corpus.jsonl": "{", "queries.jsonl": `{"_id":"a","text":"b"}`, "qrels/test.tsv": "a\td_0\t1\n"},
		"a judged part is gone":   {"corpus.jsonl": `{"_id":"d_1","text":"x"}`, "queries.jsonl": `{"_id":"a","text":"b"}`, "qrels/test.tsv": "a\td_0\t1\n"},
		"a judged part is empty":  {"corpus.jsonl": `{"_id":"d_0","text":" "}`, "queries.jsonl": `{"_id":"a","text":"b"}`, "qrels/test.tsv": "a\td_0\t1\n"},
		"nothing to be asked":     {"corpus.jsonl": `{"_id":"d_0","text":"x"}`, "queries.jsonl": "", "qrels/test.tsv": ""},
		"a file instead of parts": {"x": ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c, err := eval.OpenJoined(folder(t, files), ""); !errors.Is(err, eval.ErrCollection) {
				t.Errorf("OpenJoined = %v, %v; want ErrCollection", c.Questions, err)
			}
		})
	}
}

// Of the real collections every part that answers a question stands where it is looked for.
func TestOpenJoinedCollections(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct{ documents, questions int }{"squad2": {36, 2910}, "anthropic-docs-rag": {45, 100}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := eval.OpenJoined(filepath.Join(evalData(t), name), "")
			if err != nil {
				t.Fatal(err)
			}
			read := readJoined(t, c)
			if len(read) != want.documents || len(c.Questions) != want.questions {
				t.Errorf("%d documents and %d questions, want %d and %d", len(read), len(c.Questions), want.documents, want.questions)
			}
		})
	}
}

// Whatever a part says, it is read as it was written, white space apart.
func FuzzOpenJoined(f *testing.F) {
	f.Add("T", "T\n\n```\ncode\n```\ntext *x*")
	f.Add("a", "```\n```\n---\n\\\n&nbsp;")
	f.Add("#", "[^1]: x\n\n| a |\n|---|\n<script>")
	f.Fuzz(func(t *testing.T, title, text string) {
		title, text = strings.ToValidUTF8(title, ""), strings.ToValidUTF8(text, "")
		if strings.TrimSpace(title+text) == "" || strings.ContainsFunc(title+text, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r >= 0x7f }) {
			t.Skip()
		}
		c, err := eval.OpenJoined(folder(t, map[string]string{
			"corpus.jsonl":   jsonLine(t, map[string]string{"_id": "d_0", "title": title, "text": text}),
			"queries.jsonl":  `{"_id":"q","text":"?"}`,
			"qrels/test.tsv": "q\td_0\t1\n",
		}), "")
		if err == nil {
			readJoined(t, c)
		}
	})
}

func jsonLine(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b) + "\n"
}
