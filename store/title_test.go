package store_test

import (
	"testing"

	"github.com/footnote-rag/footnote/store"
)

// A title that its text begins with is no more of a word than one that stands apart.
func TestTitleCountsOnce(t *testing.T) {
	t.Parallel()
	s, c := setup(t)
	load(t, s, c, "apart", "oil it weekly")
	load(t, s, c, "within", "Title of  within oil it weekly")
	ps, err := s.Search(t.Context(), store.SearchQuery{Collection: fresh(t, s), Text: "title oil", Mode: store.Lexical})
	if err != nil {
		t.Fatal(err)
	}
	if len(ps) != 2 || ps[0].Score != ps[1].Score || ps[0].Lexical.Score != ps[1].Lexical.Score {
		t.Errorf("found %d passages, want both with the same score: %+v", len(ps), ps)
	}
}
