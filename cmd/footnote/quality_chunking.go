package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// cut is a way of chunking that is measured.
type cut struct{ name, chunking string }

var (
	fixedCut    = cut{"fixed, 400 tokens", `{"max_tokens":400,"overlap":0,"split":"fixed"}`} // what the others are measured against
	slidingCut  = cut{"fixed, 400 tokens, overlap 200", `{"max_tokens":400,"overlap":200,"split":"fixed"}`}
	defaultCut  = cut{"**structure, 256, overlap 32**", `{"max_tokens":256,"overlap":32}`}
	otherCuts   = []cut{{"structure, 128", `{"max_tokens":128,"overlap":0}`}, defaultCut, {"structure, 256, overlap 32, no headings", `{"max_tokens":256,"overlap":32,"context":"none"}`}, {"structure, 400, overlap 64", `{"max_tokens":400,"overlap":64}`}, {"structure, 512", `{"max_tokens":512,"overlap":0}`}}
	spanWindows = []int{0, 512, 768} // in tokens, that each other cut is measured with; 0 returns the chunk
)

// spanTests are collections whose questions are answered by spans of texts.
type spanTests struct {
	collection, about string
	join              bool
	sample            int   // questions; 0: all
	fixed             []cut // cuts without regard to structure, which are measured without a window; fixedCut is the first
}

var chunkingTests = []spanTests{
	{"chunking-eval", "Chroma's chunking evaluation (Smith and Troynikov, “Evaluating Chunking Strategies for Retrieval”, 2024): five plain texts\nwithout headings, and 472 questions with the very words that answer them.", false, 0, []cut{fixedCut, slidingCut}},
	{"squad2", "Wikipedia's articles of SQuAD 2.0: the paragraphs of an article joined again below its title, 36 texts; 600 questions, evenly\nspaced, each answered by one paragraph.", true, 600, []cut{fixedCut}},
	{"anthropic-docs-rag", "Pages of product documentation: the sections of a page joined again, each with its heading, 45 texts; 100 questions, answered by\none to four sections, some far longer than five passages.", true, 0, []cut{fixedCut}},
}

// chunking is the tables of ways to cut texts, on questions with the characters that answer them.
func (t *tables) chunking(ctx context.Context) error {
	fmt.Fprint(t, "\n## Chunking\n\nOf the characters that answer a question, the share in the first five passages (span recall@5); of the passages' characters, the\n"+
		"share that answers (precision); and IoU. A window returns neighbours of the found chunk up to so many tokens. In bold the default cut.\n")
	for _, tests := range chunkingTests {
		if err := t.spans(ctx, tests); err != nil {
			return err
		}
	}
	fmt.Fprint(t, "\nOne row: `footnote eval DATA/chunking-eval --load -c NAME --chunking '{\"max_tokens\":256,\"overlap\":32}' --window 512 --limit 5`,\n"+
		"for the other two with `--join`, for squad2 with `--sample 600`. All: `footnote quality DATA --only chunking`.\n")
	return nil
}

// spans is the table of one collection.
func (t *tables) spans(ctx context.Context, tests spanTests) error {
	fmt.Fprintf(t, "\n### %s\n\n%s\n\n", tests.collection, tests.about)
	path := filepath.Join(t.data, tests.collection)
	if _, err := os.Stat(path); err != nil {
		fmt.Fprint(t, "Not measured: no such folder.\n")
		return nil
	}
	fmt.Fprint(t, "| cut | window | vectors: recall@5 | against the first row | hybrid: recall@5 | against the first row | hybrid: precision | hybrid: IoU |\n|---|---|---|---|---|---|---|---|\n")
	var first [2]float64
	for i, c := range append(tests.fixed, otherCuts...) {
		windows := spanWindows
		if i < len(tests.fixed) {
			windows = []int{0}
		}
		for _, w := range windows {
			o := evalOptions{collection: fmt.Sprintf("%schunking-%s-%d", t.o.prefix, tests.collection, i), join: tests.join, sample: tests.sample,
				load: t.o.load && w == 0, chunking: c.chunking, limit: 5, window: w, concurrency: 1}
			if err := t.spanRow(ctx, o, path, c, &first); err != nil {
				return err
			}
		}
	}
	return nil
}

// spanRow measures one cut with one window in both modes; first is the recall of the first row, which fills it.
func (t *tables) spanRow(ctx context.Context, o evalOptions, path string, c cut, first *[2]float64) error {
	var got [2]map[string]float64
	for j, mode := range []string{"vector", "hybrid"} {
		o.mode = mode
		run, err := t.run(ctx, o, path)
		if err != nil {
			return err
		}
		got[j], o.load = run.Means, false
		if first[j] == 0 {
			first[j] = run.Means["span_recall@5"]
		}
	}
	v, h := got[0]["span_recall@5"], got[1]
	fmt.Fprintf(t, "| %s | %d | %.3f | %.3f × | %.3f | %.3f × | %.3f | %.3f |\n", c.name, o.window, v, v/first[0],
		h["span_recall@5"], h["span_recall@5"]/first[1], h["span_precision@5"], h["span_iou@5"])
	return nil
}
