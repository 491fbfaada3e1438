package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/footnote-rag/footnote/eval"
)

// evalOptions are the flags of eval.
type evalOptions struct {
	collection  string
	split       string
	join        bool
	load        bool
	chunking    string
	mode        string
	limit       int
	window      int
	ranking     string
	sample      int
	answers     bool
	extractive  bool
	concurrency int
	perQuery    bool
	save        string
	compare     string
	report      string
	trec        string
	min         []string
}

const evalHelp = `Ask a test collection's questions of a collection of the server and score the replies.

PATH is a folder in the layout of BEIR (corpus.jsonl, queries.jsonl, qrels/test.tsv), a folder in that of Chroma's chunking
evaluation (questions_df.csv beside its texts), or a file of questions: JSONL, or CSV with a header. A question has the fields
question, document or documents (URIs that answer it), quote or quotes (words that a good passage holds), answerable
(true or false), answers (right ones, for exact match and F1). With --load the folder's documents are loaded first; what is
there already is left, so that an interrupted load goes on. With --join the folder's documents are parts of longer ones:
paragraphs of an article (ids a_0, a_1, …) or sections of a page (addresses that differ after #). They are loaded as these
longer ones, Markdown with the titles as headings, and a question's quotes are the parts that answer it: a measure of chunking.

A document is scored by its best passage. ndcg@10, mrr@10 and recall equal ir-measures'; span_recall@5, span_precision@5 and
span_iou@5 are Chroma's, by characters. With --answers each question is also answered: citation_precision and
citation_recall compare citations with what was expected, supported is the share of sentences that the checker supports,
quotes_exact the share of quotes that stand in the stored text at their offsets; refusal_* compare refusals with
"answerable"; em and f1 are SQuAD's.

--compare tests each metric against a saved run with the paired randomisation test; * marks p < 0.05.
The exit code is 1 if a --min is not reached or a question got an error instead of a reply.`

func (p *program) evalCommand() *cobra.Command {
	var o evalOptions
	cmd := &cobra.Command{
		Use:   "eval PATH",
		Short: "Measure search and answers on a test collection",
		Long:  evalHelp,
		Example: `  footnote eval --load ~/beir/scifact
  footnote eval questions.csv -c handbook --answers --report run.html
  footnote eval questions.csv -c handbook --save before.json
  footnote eval questions.csv -c handbook --compare before.json --min ndcg@10=0.70 --min recall@10=0.9`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error { return p.eval(cmd.Context(), o, a[0]) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.collection, "collection", "c", "", "the collection to ask (default: the test collection's name)")
	f.StringVar(&o.split, "split", "test", "which judgements of a folder in BEIR's layout")
	f.BoolVar(&o.join, "join", false, "join the documents of a folder in BEIR's layout that are parts of one, and measure spans")
	f.BoolVar(&o.load, "load", false, "load the folder's documents first")
	f.StringVar(&o.chunking, "chunking", "", `with --load: make the collection with these settings, e.g. '{"max_tokens":128,"overlap":16}'`)
	f.StringVar(&o.mode, "mode", "hybrid", "hybrid, vector or lexical")
	f.IntVarP(&o.limit, "limit", "n", 100, "passages asked of a search")
	f.IntVar(&o.window, "window", -1, "tokens of a passage around the chunk that was found (default: the collection's setting)")
	f.StringVar(&o.ranking, "ranking", "", `controls of the ranking in each search and answer, e.g. '{"fusion":"rrf","smoothing":0}'`)
	f.IntVar(&o.sample, "sample", 0, "ask only this many questions, spread evenly")
	f.BoolVar(&o.answers, "answers", false, "ask for answers too")
	f.BoolVar(&o.extractive, "extractive", false, "with --answers: answers quoted from the documents, without a chat model")
	f.IntVar(&o.concurrency, "concurrency", 1, "questions asked at once; latencies are one user's with 1")
	f.BoolVar(&o.perQuery, "per-query", false, "list every question with its metrics")
	f.StringVar(&o.save, "save", "", "write the run to this file")
	f.StringVar(&o.compare, "compare", "", "compare with the run in this file")
	f.StringVar(&o.report, "report", "", "write a page that shows which questions failed, and what was found")
	f.StringVar(&o.trec, "trec", "", "write the rankings in TREC's form")
	f.StringArrayVar(&o.min, "min", nil, "a metric that must be reached, e.g. ndcg@10=0.70 (repeatable)")
	return cmd
}

func (p *program) eval(ctx context.Context, o evalOptions, path string) error {
	minimums, err := o.check()
	if err != nil {
		return err
	}
	tests, err := openTests(o, path)
	if err != nil {
		return err
	}
	if o.collection == "" {
		o.collection = tests.Name
	}
	var before *eval.Run
	if o.compare != "" {
		if before, err = readRun(o.compare); err != nil {
			return err
		}
	}
	c, done, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer done()
	if o.load {
		if err := p.loadTests(ctx, c, o, tests); err != nil {
			return err
		}
	}
	run, err := p.measure(ctx, c, o, tests)
	if err != nil {
		return err
	}
	return p.reportRun(o, run, before, minimums)
}

func openTests(o evalOptions, path string) (eval.Collection, error) {
	open := eval.Open
	if o.join {
		open = eval.OpenJoined
	}
	tests, err := open(path, o.split)
	tests.Questions = sampled(tests.Questions, o.sample)
	return tests, err
}

func (o evalOptions) check() ([]eval.Minimum, error) {
	var all []eval.Minimum
	for _, s := range o.min {
		m, err := eval.ParseMinimum(s)
		if err != nil {
			return nil, usagef("--min %v", err)
		}
		all = append(all, m)
	}
	if o.limit < 1 || o.limit > 100 {
		return nil, usagef("--limit is %d: give 1 to 100", o.limit)
	}
	if o.concurrency < 1 || o.concurrency > 64 {
		return nil, usagef("--concurrency is %d: give 1 to 64", o.concurrency)
	}
	if o.chunking != "" && !o.load {
		return nil, usagef("--chunking makes a collection: it goes with --load")
	}
	if _, err := jsonFlag("--chunking", o.chunking); err != nil {
		return nil, err
	}
	_, err := o.rankingFields()
	return all, err
}

// rankingFields are those of --ranking; what has a flag of its own is not among them.
func (o evalOptions) rankingFields() (fields map[string]json.RawMessage, err error) {
	if o.ranking == "" {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(o.ranking), &fields); err != nil {
		return nil, usagef("--ranking is no JSON object: %s", o.ranking)
	}
	for _, taken := range []string{"collection", "query", "question", "limit", "mode", "window", "extractive"} {
		if _, ok := fields[taken]; ok {
			return nil, usagef("--ranking has %q, which is not of the ranking: give the flag of this name", taken)
		}
	}
	return fields, nil
}

// sampled takes n questions spread evenly; 0 takes all.
func sampled(all []eval.Question, n int) []eval.Question {
	if n <= 0 || n >= len(all) {
		return all
	}
	out := make([]eval.Question, n)
	for i := range out {
		out[i] = all[i*len(all)/n]
	}
	return out
}

func readRun(path string) (*eval.Run, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	run, err := eval.ReadRun(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return run, nil
}

// loadTests loads the collection's documents as footnote load would: what is there already is not sent again.
func (p *program) loadTests(ctx context.Context, c *client, o evalOptions, tests eval.Collection) error {
	documents, ok := tests.Documents()
	if !ok {
		return usagef("%s brings no documents: load them with footnote load", tests.Name)
	}
	var found foundSources
	for d, err := range documents {
		if err != nil {
			return err
		}
		found.sources = append(found.sources, bytesSource(d.URI, d.Title, d.MediaType, nil, []byte(d.Text)))
	}
	lo := loadOptions{collection: o.collection, chunking: o.chunking, concurrency: 8}
	if err := lo.makeCollection(ctx, c); err != nil {
		return err
	}
	plan, err := makePlan(ctx, c, lo, found)
	if err != nil {
		return err
	}
	p.errorf("loading %s: %s", o.collection, plan)
	quiet := *p
	quiet.json = false // stdout is for the run
	return quiet.carryOut(ctx, c, lo, plan)
}

func (p *program) measure(ctx context.Context, c *client, o evalOptions, tests eval.Collection) (*eval.Run, error) {
	ranking, err := o.rankingFields()
	if err != nil {
		return nil, err
	}
	server := &evalServer{c: c, collection: o.collection, mode: o.mode, window: o.window, extractive: o.extractive, ranking: ranking}
	settings, err := server.settings(ctx)
	if err != nil {
		return nil, err
	}
	bar := newProgressBar(p.stderr, "asking", len(tests.Questions))
	run, err := eval.Collect(ctx, server, tests, eval.Options{Limit: o.limit, Answers: o.answers, Concurrency: o.concurrency,
		Done: func(int, int) { bar.add(1) }})
	bar.finish()
	if err != nil {
		return nil, err
	}
	run.Collection, run.Server, run.Settings = o.collection, c.base, settings
	return run, nil
}

// reportRun writes and prints the run in every form that was asked for, and fails if it is not good enough.
func (p *program) reportRun(o evalOptions, run, before *eval.Run, minimums []eval.Minimum) error {
	for path, write := range map[string]func(io.Writer) error{o.save: run.Save, o.trec: run.WriteTREC,
		o.report: func(w io.Writer) error { return eval.Report(w, run) }} {
		if path != "" {
			if err := writeTo(path, write); err != nil {
				return err
			}
		}
	}
	var differences []eval.Difference
	if before != nil {
		var err error
		if differences, err = eval.Compare(before, run); err != nil {
			return err
		}
	}
	if p.json {
		if err := p.runJSON(o, run, differences); err != nil {
			return err
		}
	} else {
		p.printRun(o, run, differences)
	}
	bad := run.Failed > 0
	if bad {
		p.errorf("%d questions got an error instead of a reply; the first: %s", run.Failed, firstError(run))
	}
	for _, m := range minimums {
		if problem := m.Check(run); problem != "" {
			bad = true
			p.errorf("%s", problem)
		}
	}
	if bad {
		return &quietError{exitFailed}
	}
	return nil
}

func firstError(run *eval.Run) string {
	for _, r := range run.Results {
		if r.Error != "" {
			return r.Error
		}
	}
	return ""
}

func writeTo(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// runJSON prints the run without its rankings, which --save and --trec keep.
func (p *program) runJSON(o evalOptions, run *eval.Run, differences []eval.Difference) error {
	type question struct {
		ID      string             `json:"id"`
		Text    string             `json:"text"`
		Metrics map[string]float64 `json:"metrics"`
		Error   string             `json:"error,omitempty"`
	}
	out := struct {
		Name       string                  `json:"name"`
		Collection string                  `json:"collection"`
		Settings   map[string]string       `json:"settings"`
		Questions  int                     `json:"questions"`
		Failed     int                     `json:"failed"`
		Means      map[string]float64      `json:"means"`
		Latency    map[string]eval.Latency `json:"latency_ms"`
		Compared   []eval.Difference       `json:"compared,omitempty"`
		PerQuery   []question              `json:"per_query,omitempty"`
	}{run.Name, run.Collection, run.Settings, len(run.Results), run.Failed, run.Means, run.Latency, differences, nil}
	if o.perQuery {
		for _, r := range run.Results {
			out.PerQuery = append(out.PerQuery, question{r.ID, r.Text, r.Metrics, r.Error})
		}
	}
	return json.NewEncoder(p.stdout).Encode(out)
}

func (p *program) printRun(o evalOptions, run *eval.Run, differences []eval.Difference) {
	if o.perQuery {
		for _, r := range run.Results {
			fmt.Fprintf(p.stdout, "%s\t%s\t%s\n", r.ID, metricsLine(r.Metrics), clip(oneLine(r.Text), 100))
		}
		fmt.Fprintln(p.stdout)
	}
	fmt.Fprintf(p.stdout, "%s: %d questions asked of %s (%s)\n", run.Name, len(run.Results), run.Collection, run.Settings["mode"])
	for _, name := range eval.SortedMetrics(run.Means) {
		fmt.Fprintf(p.stdout, "  %-20s %.4f\n", name, run.Means[name])
	}
	for _, name := range eval.SortedMetrics(run.Latency) {
		l := run.Latency[name]
		fmt.Fprintf(p.stdout, "  %-20s p50 %.1f ms, p90 %.1f ms, p99 %.1f ms\n", name, l.P50, l.P90, l.P99)
	}
	if len(differences) == 0 {
		return
	}
	fmt.Fprintf(p.stdout, "\ncompared with %s, paired randomisation test, * p < 0.05:\n", o.compare)
	for _, d := range differences {
		mark := " "
		if d.Significant() {
			mark = "*"
		}
		fmt.Fprintf(p.stdout, "%s %-20s %.4f → %.4f  (%+.4f, p %.4f; %d better, %d worse of %d)\n", mark, d.Metric, d.Before, d.After,
			d.After-d.Before, d.P, d.Better, d.Worse, d.Pairs)
	}
}

func metricsLine(m map[string]float64) string {
	var parts []string
	for _, name := range eval.SortedMetrics(m) {
		parts = append(parts, fmt.Sprintf("%s=%.3f", name, m[name]))
	}
	return strings.Join(parts, " ")
}
