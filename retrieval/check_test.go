package retrieval_test

import (
	"testing"

	"github.com/footnote-rag/footnote/retrieval"
	"github.com/footnote-rag/footnote/store"
)

const vacuumText = `The standard form of VACUUM removes dead row versions in tables and indexes and marks the space available for future reuse. However, it will not return the space to the operating system, except in the special case where one or more pages at the end of a table become entirely free and an exclusive table lock can be easily obtained. VACUUM FULL writes a new version of the table with no dead row versions in it. ANALYZE never locks tables against writes.`

func TestCheckNegation(t *testing.T) {
	t.Parallel()
	checker := retrieval.NewChecker("What does VACUUM do with dead row versions?", []store.Passage{{Title: "Routine Vacuuming", Text: vacuumText, Start: 7}})
	for _, c := range []struct {
		claim     string
		supported bool
	}{
		{"VACUUM removes dead row versions in tables and indexes.", true},
		{"VACUUM does not remove dead row versions.", false},
		{"VACUUM does not delete dead row versions.", false},
		{"VACUUM never removes dead row versions in tables.", false},
		{"VACUUM cannot reclaim dead row versions in tables and indexes.", false},
		{"It will not return the space to the operating system.", true},
		{"It will return the space to the operating system.", false},
		{"ANALYZE never locks tables against writes.", true},
		{"ANALYZE does not lock tables against writes.", true},
		{"ANALYZE locks tables against writes.", false},
	} {
		f := checker.Check(c.claim)
		if got := f.Verdict == retrieval.Supported; got != c.supported {
			t.Errorf("Check(%q) = %s %.2f %+v, supported want %v", c.claim, f.Verdict, f.Score, f.Signals, c.supported)
		}
		if f.Verdict == retrieval.Unsupported && (f.Source != 0 || f.Quote != "" || f.Span != retrieval.Span{}) {
			t.Errorf("Check(%q): unsupported, but with source %d and quote %q", c.claim, f.Source, f.Quote)
		}
	}
}
