package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A small collection in BEIR's layout, asked of a real server with real engines.
func beirFolder(t *testing.T, w *world) string {
	t.Helper()
	dir := filepath.Join(w.dir, "kitchen")
	writeFile(t, filepath.Join(dir, "corpus.jsonl"), `{"_id":"bread","title":"Sourdough","text":"Sourdough bread rises for twelve hours at room temperature before it is baked."}
{"_id":"tea","title":"Green tea","text":"Green tea is brewed for two minutes with water of eighty degrees."}
{"_id":"knife","title":"Knives","text":"A kitchen knife is sharpened on a wet stone at an angle of fifteen degrees."}
{"_id":"rice","title":"","text":"Rice is washed three times and then boiled for eighteen minutes."}
`)
	writeFile(t, filepath.Join(dir, "queries.jsonl"), `{"_id":"q1","text":"How long does sourdough bread rise?"}
{"_id":"q2","text":"At which angle is a kitchen knife sharpened?"}
{"_id":"q3","text":"How hot is the water for green tea?"}
{"_id":"q4","text":"How often is rice washed?"}
`)
	writeFile(t, filepath.Join(dir, "qrels", "test.tsv"), "query-id\tcorpus-id\tscore\nq1\tbread\t1\nq2\tknife\t1\nq3\ttea\t1\nq4\trice\t1\n")
	writeFile(t, filepath.Join(dir, "unanswerable.jsonl"), `{"_id":"u1","text":"Which moon of Jupiter has volcanoes?"}`+"\n")
	return dir
}

func TestEval(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	dir := beirFolder(t, w)
	saved, page, trec := filepath.Join(w.dir, "run.json"), filepath.Join(w.dir, "run.html"), filepath.Join(w.dir, "run.trec")

	out, errs, code := w.run(s.at(), "eval", "--load", "--answers", "--extractive", "--json", "--per-query", "--save", saved,
		"--report", page, "--trec", trec, "--min", "ndcg@10=0.99", "--min", "quotes_exact=1", dir)
	if code != 0 {
		t.Fatalf("eval exits %d: %s%s", code, out, errs)
	}
	if !strings.Contains(errs, "+4 new") {
		t.Errorf("eval --load: %s", errs)
	}
	var run struct {
		Questions int                `json:"questions"`
		Means     map[string]float64 `json:"means"`
		PerQuery  []any              `json:"per_query"`
		Latency   map[string]any     `json:"latency_ms"`
	}
	if err := json.Unmarshal([]byte(out), &run); err != nil {
		t.Fatalf("stdout is not one JSON object: %v: %s", err, out)
	}
	if run.Questions != 5 || len(run.PerQuery) != 5 || run.Latency["search"] == nil || run.Latency["answer"] == nil {
		t.Errorf("the run: %s", out)
	}
	for name, least := range map[string]float64{"recall@5": 1, "citation_precision": 0.9, "citation_recall": 0.9, "supported": 0.9, "refusal_recall": 1, "refusal_precision": 1, "refusal_auc": 1} {
		if run.Means[name] < least {
			t.Errorf("%s is %v, want at least %v: %s", name, run.Means[name], least, out)
		}
	}
	b, err := os.ReadFile(trec)
	if err != nil || !strings.Contains(string(b), "q1 Q0 bread 1 ") {
		t.Errorf("the rankings in TREC's form: %v %s", err, b)
	}
	b, err = os.ReadFile(page)
	if err != nil || !strings.Contains(string(b), s.url+"/v1/documents/") {
		t.Errorf("the page has no link to a document: %v", err)
	}

	out, errs, code = w.run(s.at(), "eval", "--load", "--mode", "lexical", "--compare", saved, "--min", "ndcg@10=1.01", dir)
	if code != exitFailed || !strings.Contains(errs, "4 unchanged") || !strings.Contains(errs, "below the minimum of 1.01") {
		t.Errorf("a minimum that is not reached: exit %d: %s", code, errs)
	}
	if !strings.Contains(out, "paired randomisation test") || !strings.Contains(out, "p 1.0000; 0 better, 0 worse of 4") {
		t.Errorf("compared with the saved run: %s", out)
	}
	checkEvalRefusals(t, w, s, dir)
}

func checkEvalRefusals(t *testing.T, w *world, s *server, dir string) {
	t.Helper()
	questions := filepath.Join(w.dir, "asked.csv")
	writeFile(t, questions, "question,document\nHow long is tea brewed?,tea\n")
	wrong := filepath.Join(w.dir, "wrong.csv")
	writeFile(t, wrong, "question,document,quote\nHow long is tea brewed?,tea,for an hour\n")
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no such collection":     {[]string{dir, "-c", "nowhere"}, exitFailed, "nowhere"},
		"no such folder":         {[]string{filepath.Join(w.dir, "gone")}, exitFailed, "gone"},
		"a minimum of nothing":   {[]string{dir, "--min", "beauty=1"}, exitUsage, "no minimum"},
		"a file has no corpus":   {[]string{questions, "-c", "kitchen", "--load"}, exitUsage, "brings no documents"},
		"a quote that is wrong":  {[]string{wrong, "-c", "kitchen"}, exitFailed, "does not hold the quote"},
		"chunking without load":  {[]string{dir, "--chunking", "{}"}, exitUsage, "--load"},
		"a ranking":              {[]string{dir, "-c", "kitchen", "--answers", "--extractive", "--ranking", `{"fusion":"rrf","smoothing":0,"mmr":0.1}`, "--min", "mrr@10=1"}, exitOK, ""},
		"a ranking of nothing":   {[]string{dir, "-c", "kitchen", "--ranking", `{"fusion":"best"}`}, exitFailed, "max, minmax, zscore, rrf"},
		"a ranking that is none": {[]string{dir, "-c", "kitchen", "--ranking", `["rrf"]`}, exitUsage, "no JSON object"},
		"a flag of its own":      {[]string{dir, "-c", "kitchen", "--ranking", `{"limit":5}`}, exitUsage, "flag of this name"},
		"a run that is not one":  {[]string{dir, "--compare", questions}, exitFailed, "read the run"},
		"questions from a table": {[]string{questions, "-c", "kitchen", "--min", "mrr@10=1"}, exitOK, ""},
	} {
		_, errs, code := w.run(s.at(), append([]string{"eval"}, c.args...)...)
		if code != c.code || !strings.Contains(errs, c.says) {
			t.Errorf("%s: exit %d, want %d with %q: %s", name, code, c.code, c.says, errs)
		}
	}
}
