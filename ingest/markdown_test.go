package ingest_test

import (
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/ingest"
)

func TestExtractMarkdown(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, source string
		want         []string
	}{
		{"marks", "A *b* **c** `d` ~~e~~ [f](http://x) ![g](y) \\*h\\* &amp; <http://i>\nnext", []string{"A b c d e f g *h* & http://i next"}},
		{"headings", "# A #\n\nText\n\nB\n-\n\n### C", []string{"A", "Text", "B", "C"}},
		{"lists", "- a\n- b\n  1. c\n  2. d\n\n1) e", []string{"- a", "- b", "  1. c", "  2. d", "1. e"}},
		{"tasks", "- [x] done\n- [ ] open", []string{"- [x] done", "- [ ] open"}},
		{"fenced code", "```go\nif *a* {\n\n\tb\n}\n```\n", []string{"if *a* {\n\n\tb\n}"}},
		{"indented code", "a\n\n    b\n      c\n", []string{"a", "b\n  c"}},
		{"table", "| a | b |\n|---|:-:|\n| `1` | **2** |\n", []string{"a | b\n1 | 2"}},
		{"quotation", "> a\n> b\n\nc", []string{"a b", "c"}},
		{"HTML", "a <b>c</b> <span hidden>d</span>\n\n<div>e</div>\n\n<!-- f -->\n\n<script>\ng\n</script>\n\nh", []string{"a c", "e", "h"}},
		{"footnote", "Word[^a] more.\n\n[^a]: The note.", []string{"Word[1] more.", "1. The note."}},
		{"hard break", "a  \nb", []string{"a\nb"}},
		{"front matter", "---\ntitle: T\ntags: [a]\n---\nText", []string{"Text"}},
		{"rule at the start", "---\n\nno: [yaml\n\n---\nText", []string{"no: [yaml", "Text"}},
		{"dashes without end", "---\na: b\n", []string{"a: b"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			wantBlocks(t, extract(t, "text/markdown", test.source), test.want...)
		})
	}
}

func TestExtractMarkdownTitle(t *testing.T) {
	t.Parallel()
	for source, want := range map[string][2]string{
		"Text\n\n## First *heading*\n\n# Second":             {"First heading", ""},
		"---\ntitle: \" From\\nmatter\"\nlang: fr\n---\n# H": {"From matter", "fr"},
		"---\ntitle: [1]\nlang: 7\n---\n# H":                 {"H", ""},
		"only text":                                          {"", ""},
	} {
		if e := extract(t, "text/markdown", source); e.Title != want[0] || e.Language != want[1] {
			t.Errorf("title and language of %q = %q, %q, want %q", source, e.Title, e.Language, want)
		}
	}
}

func TestExtractMarkdownRefuses(t *testing.T) {
	t.Parallel()
	_, err := ingest.Extract("text/markdown", []byte(strings.Repeat("> ", 600)+"x"))
	wantCode(t, err, ingest.CodeTooComplex)
	_, err = ingest.Extract("text/markdown", []byte("---\ntitle: T\n---\n<!-- nothing -->"))
	wantCode(t, err, ingest.CodeNoText)
}

func FuzzMarkdownText(f *testing.F) {
	for _, seed := range []string{"# a\n\n- b\n  > c", "| a |\n|-|\n| b |", "[^1]\n\n[^1]: x", "---\na: b\n---\n<div>\n\n*c", "```\n&#1;"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, source string) {
		if e, err := ingest.Extract("text/markdown", []byte(source)); err == nil {
			blockTexts(t, e)
		}
	})
}
