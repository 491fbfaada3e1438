package store_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/store"
)

// Lines of one document, six tokens each with the special ones, are its chunks; between two stands a line feed that no chunk has.
func TestWiden(t *testing.T) {
	t.Parallel()
	s, c := setup(t)
	var lines []string
	for i := range 10 {
		lines = append(lines, fmt.Sprintf("größe number n%d here", i))
	}
	text := strings.Join(lines, "\n")
	load(t, s, c, "a", text)
	load(t, s, c, "b", "some other document entirely")
	found := func(words string, limit int) []store.Passage {
		t.Helper()
		ps, err := s.Search(t.Context(), store.SearchQuery{Collection: fresh(t, s), Text: words, Mode: store.Lexical, Limit: limit})
		if err != nil {
			t.Fatal(err)
		}
		return ps
	}
	for name, c := range map[string]struct {
		words  string
		limit  int // of the passages; as many again are found
		window int
		want   []string
	}{
		"no window":                       {"n4", 1, 0, []string{lines[4]}},
		"smaller than the chunk":          {"n4", 1, 3, []string{lines[4]}},
		"one more follows":                {"n4", 1, 12, []string{strings.Join(lines[4:6], "\n")}},
		"then one before":                 {"n4", 1, 18, []string{strings.Join(lines[3:6], "\n")}},
		"at the end, only before":         {"n9", 1, 18, []string{strings.Join(lines[7:], "\n")}},
		"the whole document":              {"n4", 1, 1000, []string{text}},
		"two that were found, together":   {"n4 n4 n3", 1, 12, []string{strings.Join(lines[3:5], "\n")}},
		"a chunk is shown once":           {"n4 n4 n5", 2, 12, []string{strings.Join(lines[4:6], "\n")}},
		"its place goes to the next":      {"n4 n4 n4 n5 n5 n9", 2, 12, []string{strings.Join(lines[4:6], "\n"), strings.Join(lines[8:], "\n")}},
		"no window, no more than asked":   {"n4 n4 n5", 1, 0, []string{lines[4]}},
		"what one shows the next has not": {"n2 n2 n4", 2, 12, []string{strings.Join(lines[2:4], "\n"), strings.Join(lines[4:6], "\n")}},
		"a document of one chunk":         {"entirely", 1, 1000, []string{"some other document entirely"}},
	} {
		t.Run(name, func(t *testing.T) {
			wide, err := s.Widen(t.Context(), found(c.words, 2*c.limit), c.window, c.limit)
			if err != nil {
				t.Fatal(err)
			}
			if got := texts(wide); fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("Widen to %d tokens = %q, want %q", c.window, got, c.want)
			}
			for _, p := range wide {
				whole, err := s.DocumentText(t.Context(), p.DocumentID)
				if err != nil {
					t.Fatal(err)
				}
				if got := string([]rune(whole)[p.Start:p.End]); got != p.Text {
					t.Errorf("the passage %q is %q at its offsets", p.Text, got)
				}
			}
		})
	}
}

func TestWidenStaysInItsSection(t *testing.T) {
	t.Parallel()
	s, c := setup(t)
	d, _, err := s.PutDocument(t.Context(), newDocument(c, "a", "x"), noQueue)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.BeginWork(t.Context(), d.ID, d.Revision); err != nil {
		t.Fatal(err)
	}
	text := "before\nfirst\nsecond\nafter"
	chunks := chunksOf(text)
	for i, section := range []string{"A", "B", "B", "C"} {
		chunks[i].Heading = []string{"Top", section}
	}
	if err := s.Complete(t.Context(), store.Completion{DocumentID: d.ID, Revision: d.Revision, Text: text, Chunks: chunks, Total: len(chunks)}); err != nil {
		t.Fatal(err)
	}
	ps, err := s.Search(t.Context(), store.SearchQuery{Collection: fresh(t, s), Text: "second", Mode: store.Lexical, Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	wide, err := s.Widen(t.Context(), ps, 100, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got := texts(wide); len(got) != 1 || got[0] != "first\nsecond" {
		t.Errorf("Widen = %q, want the section alone", got)
	}
}

func TestWidenAfterTheDocumentChanged(t *testing.T) {
	t.Parallel()
	s, c := setup(t)
	load(t, s, c, "a", "old one\nold two\nold three")
	ps, err := s.Search(t.Context(), store.SearchQuery{Collection: fresh(t, s), Text: "two", Mode: store.Lexical, Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	load(t, s, c, "a", "new wordings altogether\nof quite another length")
	wide, err := s.Widen(t.Context(), ps, 100, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got := texts(wide); len(got) != 1 || got[0] != "old two" {
		t.Errorf("Widen of a passage whose document changed = %q, want what was found", got)
	}
}
