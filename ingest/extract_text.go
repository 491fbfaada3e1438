package ingest

import (
	"strings"
	"unicode/utf8"
)

// extractPlain makes a block of every paragraph: lines up to a blank one. The text stays as it is.
func extractPlain(text string) (Extracted, error) {
	e := Extracted{Text: strings.TrimRight(text, " \t\n")}
	start, end, at := -1, 0, 0 // of the open paragraph (none: -1), and of the line, in code points
	for line := range strings.Lines(e.Text) {
		blank := strings.TrimSpace(line) == ""
		if blank && start >= 0 {
			e.Blocks = append(e.Blocks, Block{Kind: Paragraph, Start: start, End: end})
			start = -1
		}
		if !blank && start < 0 {
			start = at
		}
		if !blank {
			end = at + utf8.RuneCountInString(strings.TrimSuffix(line, "\n"))
		}
		at += utf8.RuneCountInString(line)
	}
	if start >= 0 {
		e.Blocks = append(e.Blocks, Block{Kind: Paragraph, Start: start, End: end})
	}
	return e, nil
}

// extractCode keeps a program, a configuration or data as one block, which is cut at lines.
func extractCode(text string) (Extracted, error) { return verbatim(Code, text) }

// extractTable keeps rows, one a line, as one block.
func extractTable(text string) (Extracted, error) { return verbatim(Table, text) }

func verbatim(kind BlockKind, text string) (Extracted, error) {
	text = strings.TrimRight(text, " \t\n")
	return Extracted{Text: text, Blocks: []Block{{Kind: kind, End: utf8.RuneCountInString(text)}}}, nil
}
