package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/footnote-rag/footnote/eval"
)

// baseline is nDCG@10 × 100 of a collection, measured outside with exact search over whole documents and the same
// all-MiniLM-L6-v2 (docs/quality.md says how).
type baseline struct {
	collection               string
	bm25, dense, rrf, minmax float64
}

// baselines of the collections that are looked for in the data folder.
var baselines = []baseline{
	{"cranfield", 37.7, 39.9, 42.7, 42.9},
	{"med", 68.4, 78.3, 78.8, 77.3},
	{"cacm", 49.9, 40.8, 54.7, 57.4},
	{"squad2", 88.2, 78.8, 87.8, 90.9},
	{"anthropic-docs-rag", 62.8, 68.4, 78.0, 77.9},
	{"scifact", 67.7, 64.7, 72.2, 73.0},
}

func (p *program) qualityCommand() *cobra.Command {
	var o qualityOptions
	cmd := &cobra.Command{
		Use:    "quality DATA",
		Short:  "Measure every collection of a folder and write the tables (make eval)",
		Hidden: true,
		Args:   args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return p.quality(cmd.Context(), o, a[0])
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.out, "out", "o", "", "write the tables to this file, too")
	f.StringVar(&o.only, "only", "", "only these tables: search or chunking")
	f.StringVar(&o.prefix, "prefix", "quality-", "what the names of the server's collections begin with")
	f.BoolVar(&o.load, "load", true, "load the collections first; false measures what is there")
	return cmd
}

type qualityOptions struct {
	out, only, prefix string
	load              bool
}

// tables writes Markdown to stdout and to a file.
type tables struct {
	io.Writer
	p    *program
	c    *client
	data string
	o    qualityOptions
}

func (p *program) quality(ctx context.Context, o qualityOptions, data string) error {
	c, done, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer done()
	t := &tables{p.stdout, p, c, data, o}
	if o.out != "" {
		f, err := os.Create(o.out)
		if err != nil {
			return err
		}
		defer f.Close()
		t.Writer = io.MultiWriter(p.stdout, f)
	}
	fmt.Fprintf(t, qualityHead, time.Now().UTC().Format("2 January 2006"), version, p.settings.embedModel())
	var failed []error
	if o.only == "" || o.only == "search" {
		failed = append(failed, t.search(ctx))
	}
	if o.only == "" || o.only == "chunking" {
		failed = append(failed, t.chunking(ctx))
	}
	return errors.Join(failed...)
}

const qualityHead = "# Quality\n\nMeasured %s with version %s and %s, on a machine with two cores, through the HTTP API. `make eval` makes all of it again\n" +
	"from a folder of collections, `FOOTNOTE_EVAL_DATA` (default `../shared/data`); the data are not part of the project.\n"

// run loads a collection and measures it as the options say.
func (t *tables) run(ctx context.Context, o evalOptions, path string) (*eval.Run, error) {
	o.split = "test"
	tests, err := openTests(o, path)
	if err != nil {
		return nil, err
	}
	if o.load {
		if err := t.p.loadTests(ctx, t.c, o, tests); err != nil {
			return nil, err
		}
	}
	r, err := t.p.measure(ctx, t.c, o, tests)
	if err == nil && r.Failed > 0 {
		err = fmt.Errorf("%s: %d questions got an error instead of a reply; the first: %s", tests.Name, r.Failed, firstError(r))
	}
	return r, err
}

// search is the table of collections against their baselines.
func (t *tables) search(ctx context.Context) error {
	fmt.Fprint(t, "\n## Search\n\nnDCG@10 × 100, a document scored by its best chunk, defaults throughout; in brackets the baseline: bm25s (Lucene's form,\n"+
		"Porter, k1 1.2, b 0.75; squad2 and anthropic-docs-rag 0.9/0.4) and exact vectors over whole documents. RRF and min–max fuse\nthose two baselines.\n\n"+
		"| collection | BM25 | vectors | hybrid | RRF(60) | min–max | hybrid: recall@5 / @10 / @100 | MRR@10 | hybrid p50, ms |\n|---|---|---|---|---|---|---|---|---|\n")
	var s standing
	for _, b := range baselines {
		path := filepath.Join(t.data, b.collection)
		if _, err := os.Stat(path); err != nil {
			fmt.Fprintf(t, "| %s | not measured: no such folder | | | | | | | |\n", b.collection)
			continue
		}
		var got [3]*eval.Run
		for i, mode := range []string{"lexical", "vector", "hybrid"} {
			var err error
			o := evalOptions{collection: t.o.prefix + b.collection, load: t.o.load && i == 0, mode: mode, limit: 100, window: -1, concurrency: 1}
			if got[i], err = t.run(ctx, o, path); err != nil {
				return err
			}
		}
		score := func(i int) float64 { return 100 * got[i].Means["ndcg@10"] }
		m := got[2].Means
		fmt.Fprintf(t, "| %s | %.1f (%.1f) | %.1f (%.1f) | **%.1f** | %.1f | %.1f | %.1f / %.1f / %.1f | %.1f | %.0f |\n", b.collection, score(0), b.bm25, score(1), b.dense,
			score(2), b.rrf, b.minmax, 100*m["recall@5"], 100*m["recall@10"], 100*m["recall@100"], 100*m["mrr@10"], got[2].Latency["search"].P50)
		s.add(b, score(0), score(1), score(2))
	}
	s.write(t)
	fmt.Fprint(t, "\nOne row: `footnote eval DATA/NAME --load --mode lexical` (`vector`, `hybrid`). All: `footnote quality DATA --only search`.\n")
	return nil
}

// standing adds up how the collections stand against the targets.
type standing struct {
	n                   float64
	hybrid, rrf, minmax float64
	behind, lexical     []string
}

func (s *standing) add(b baseline, lexical, vector, hybrid float64) {
	s.n++
	s.hybrid, s.rrf, s.minmax = s.hybrid+hybrid, s.rrf+b.rrf, s.minmax+b.minmax
	if better := max(lexical, vector); hybrid < better-0.5 {
		s.behind = append(s.behind, fmt.Sprintf("%s (%.1f below)", b.collection, better-hybrid))
	}
	if lexical < b.bm25-0.5 {
		s.lexical = append(s.lexical, fmt.Sprintf("%s (%.1f below)", b.collection, b.bm25-lexical))
	}
}

func (s *standing) write(w io.Writer) {
	if s.n == 0 {
		return
	}
	h, r, m := s.hybrid/s.n, s.rrf/s.n, s.minmax/s.n
	fmt.Fprintf(w, "\n| target | measured | |\n|---|---|---|\n")
	fmt.Fprintf(w, "| hybrid's mean at least 1.02 × RRF's (%.2f) | %.2f, %.3f × | %s |\n", r, h, h/r, verdict(h >= 1.02*r))
	fmt.Fprintf(w, "| hybrid's mean not below min–max's (%.2f) | %.2f | %s |\n", m, h, verdict(h >= m))
	fmt.Fprintf(w, "| hybrid nowhere more than 0.5 below its better leg | %s | %s |\n", orNone(s.behind), verdict(len(s.behind) == 0))
	fmt.Fprintf(w, "| BM25 nowhere more than 0.5 below bm25s | %s | %s |\n", orNone(s.lexical), verdict(len(s.lexical) == 0))
}

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "**missed**"
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}
