package eval_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/footnote-rag/footnote/eval"
)

func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestOpenBEIR(t *testing.T) {
	t.Parallel()
	dir := folder(t, map[string]string{
		"corpus.jsonl":       "{\"_id\":\"d1\",\"title\":\"T\",\"text\":\"one\"}\n\n{\"_id\":\"d2\",\"title\":\"\",\"text\":\"\"}\n{\"_id\":\"d3\",\"title\":\"Alone\",\"text\":\"\"}\n",
		"queries.jsonl":      "{\"_id\":\"q1\",\"text\":\"first\"}\n{\"_id\":\"q2\",\"text\":\"not judged\"}\n",
		"qrels/test.tsv":     "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td3\t0\n",
		"unanswerable.jsonl": "{\"_id\":\"u1\",\"text\":\"who knows?\",\"paragraph\":\"d1\"}\n",
	})
	c, err := eval.Open(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	want := []eval.Question{{ID: "q1", Text: "first", Grades: map[string]int{"d1": 2, "d3": 0}}, {ID: "u1", Text: "who knows?", Unanswerable: true}}
	if diff := cmp.Diff(want, c.Questions); diff != "" {
		t.Errorf("questions (-want +got):\n%s", diff)
	}
	documents, ok := c.Documents()
	if !ok {
		t.Fatal("the collection has no documents")
	}
	var got []eval.Document
	for d, err := range documents {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, d)
	}
	wantDocs := []eval.Document{{URI: "d1", Title: "T", Text: "one", MediaType: "text/plain"}, {URI: "d3", Title: "Alone", Text: "Alone", MediaType: "text/plain"}}
	if diff := cmp.Diff(wantDocs, got); diff != "" {
		t.Errorf("documents (-want +got):\n%s", diff)
	}
}

func TestOpenSpans(t *testing.T) {
	t.Parallel()
	dir := folder(t, map[string]string{
		"speech.md":        "My fellow citizens.",
		"questions_df.csv": "question,references,corpus_id\n\"Who, then?\",\"[{\"\"content\"\": \"\"fellow\"\", \"\"start_index\"\": 3, \"\"end_index\"\": 9}]\",speech\n",
	})
	c, err := eval.Open(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	want := []eval.Question{{ID: "2", Text: "Who, then?", Quotes: []eval.Quote{{Document: "speech.md", Text: "fellow", Start: 3, End: 9}}}}
	if diff := cmp.Diff(want, c.Questions); diff != "" {
		t.Errorf("questions (-want +got):\n%s", diff)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for name, files := range map[string]map[string]string{
		"an empty folder":           {"x": ""},
		"a judged query is missing": {"queries.jsonl": `{"_id":"a","text":"b"}`, "qrels/test.tsv": "h\th\th\nz\td\t1\n"},
		"no judgements":             {"queries.jsonl": `{"_id":"a","text":"b"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := eval.Open(folder(t, files), ""); !errors.Is(err, eval.ErrCollection) {
				t.Errorf("Open = %v, want ErrCollection", err)
			}
		})
	}
}

func TestQuestionsRefuse(t *testing.T) {
	t.Parallel()
	for _, line := range []string{`{`, `{}`, `{"question":" "}`, `{"question":"q","quote":"x"}`, `{"question":"q","documents":["a","b"],"quote":"x"}`,
		`{"question":"q","answerable":false,"answers":["x"]}`, `{"question":"q","anwserable":true}`, `{"question":"q"} {"question":"r"}`} {
		if got, err := eval.ParseQuestions(strings.NewReader(line)); !errors.Is(err, eval.ErrCollection) || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("ParseQuestions(%s) = %v, %v; want an error that names line 1", line, got, err)
		}
	}
	for _, text := range []string{"", "question,colour\nq,red\n", "question,answerable\nq,perhaps\n", "question,references\nq,[]\n", "question,references,corpus_id\nq,{,c\n", "question\n\"open\n"} {
		if got, err := eval.ParseQuestionsCSV(strings.NewReader(text)); !errors.Is(err, eval.ErrCollection) {
			t.Errorf("ParseQuestionsCSV(%q) = %v, %v; want ErrCollection", text, got, err)
		}
	}
}

func ExampleParseQuestionsCSV() {
	questions, err := eval.ParseQuestionsCSV(strings.NewReader(`question,documents,answers,answerable
When was it founded?,history.md|about.md,1969,
Who will buy it?,,,false
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, q := range questions {
		fmt.Println(q.ID, q.Text, len(q.Grades), q.References, q.Unanswerable)
	}
	// Output:
	// 2 When was it founded? 2 [1969] false
	// 3 Who will buy it? 0 [] true
}

func FuzzParseQrels(f *testing.F) {
	f.Add("query-id\tcorpus-id\tscore\nq\td\t1\n")
	f.Add("q 0 d 2\n")
	f.Add("a\tb")
	f.Fuzz(func(t *testing.T, s string) {
		grades, err := eval.ParseQrels(strings.NewReader(s))
		if err != nil {
			return
		}
		for q, documents := range grades {
			if q == "" || len(documents) == 0 || documents[""] != 0 {
				t.Errorf("ParseQrels(%q) = %v: an empty name", s, grades)
			}
		}
	})
}

func FuzzParseQuestions(f *testing.F) {
	f.Add(`{"question":"q","document":"d","quote":"x"}`)
	f.Add("question,documents,quotes\nq,d,x|y\n")
	f.Add("question,references,corpus_id\nq,\"[{\"\"content\"\":\"\"c\"\",\"\"start_index\"\":1,\"\"end_index\"\":2}]\",t\n")
	f.Fuzz(func(t *testing.T, s string) {
		for name, parse := range map[string]func() ([]eval.Question, error){
			"JSONL": func() ([]eval.Question, error) { return eval.ParseQuestions(strings.NewReader(s)) },
			"CSV":   func() ([]eval.Question, error) { return eval.ParseQuestionsCSV(strings.NewReader(s)) },
		} {
			questions, err := parse()
			for _, q := range questions {
				if err == nil && (q.ID == "" || strings.TrimSpace(q.Text) == "" || q.Unanswerable && len(q.Grades) > 0) {
					t.Errorf("%s of %q: question %+v", name, s, q)
				}
			}
		}
	})
}

func FuzzReadRun(f *testing.F) {
	f.Add(`{"version":1,"results":[{"id":"a","ranking":[["d",1]],"metrics":{"em":1}}]}`)
	f.Fuzz(func(t *testing.T, s string) {
		run, err := eval.ReadRun(strings.NewReader(s))
		if err != nil {
			return
		}
		if err := eval.Report(new(strings.Builder), run); err != nil {
			t.Errorf("Report of a run that was read: %v", err)
		}
		_, _ = eval.Compare(run, run)
	})
}
