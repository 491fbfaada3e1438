package retrieval_test

import (
	"testing"

	"github.com/footnote-rag/footnote/retrieval"
	"github.com/footnote-rag/footnote/store"
)

// TestTranslatedPassages: what is judged is the translation, what is quoted the sentence that it stands for.
func TestTranslatedPassages(t *testing.T) {
	t.Parallel()
	p := store.Passage{DocumentID: "d", Title: "Torre", Heading: []string{"La torre de Pisa"}, Start: 100, End: 100 + len([]rune("La torre se inclina porque el suelo es blando. Se construyó en 1173. ¿Quién la visita?")),
		Text:        "La torre se inclina porque el suelo es blando. Se construyó en 1173. ¿Quién la visita?",
		Translation: "The tower of Pisa\n\nThe tower leans because the soil is soft. It was built in 1173. Who visits it?"}
	c := retrieval.NewChecker("Why does the tower lean?", []store.Passage{p})
	for claim, want := range map[string]struct {
		verdict retrieval.Verdict
		quote   string
	}{
		"The tower leans because its soil is soft.": {retrieval.Supported, "La torre se inclina porque el suelo es blando."},
		"The tower was built in 1173.":              {retrieval.Supported, "La torre se inclina porque el suelo es blando. Se construyó en 1173."},
		"The bridge is painted orange every year.":  {retrieval.Unsupported, ""},
	} {
		f := c.Check(claim)
		if f.Verdict != want.verdict || f.Verdict == retrieval.Supported && f.Quote != want.quote {
			t.Errorf("Check(%q) = %s %q, want %s %q", claim, f.Verdict, f.Quote, want.verdict, want.quote)
		}
		if f.Verdict != retrieval.Supported {
			continue
		}
		if got := string([]rune(p.Text)[f.Span.Start-p.Start : f.Span.End-p.Start]); got != f.Quote {
			t.Errorf("Check(%q): the text has %q at its span, the quote is %q", claim, got, f.Quote)
		}
	}
}
