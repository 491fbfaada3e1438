package retrieval_test

import (
	"testing"

	"github.com/footnote-rag/footnote/retrieval"
	"github.com/footnote-rag/footnote/store"
)

// claimCase is a sentence, and whether the passages support it.
type claimCase struct {
	claim     string
	supported bool
}

// wantSupported checks each; what is unsupported points to nothing.
func wantSupported(t *testing.T, checker *retrieval.Checker, cases []claimCase) {
	t.Helper()
	for _, c := range cases {
		f := checker.Check(c.claim)
		if got := f.Verdict == retrieval.Supported; got != c.supported {
			t.Errorf("Check(%q) = %s %.2f by %q %+v, supported want %v", c.claim, f.Verdict, f.Score, f.Quote, f.Signals, c.supported)
		}
		if f.Verdict == retrieval.Unsupported && (f.Source != 0 || f.Quote != "" || f.Span != retrieval.Span{}) {
			t.Errorf("Check(%q): unsupported, but with source %d and quote %q", c.claim, f.Source, f.Quote)
		}
	}
}

const vacuumText = `The standard form of VACUUM removes dead row versions in tables and indexes and marks the space available for future reuse. However, it will not return the space to the operating system, except in the special case where one or more pages at the end of a table become entirely free and an exclusive table lock can be easily obtained. VACUUM FULL writes a new version of the table with no dead row versions in it. ANALYZE never locks tables against writes.`

func TestCheckNegation(t *testing.T) {
	t.Parallel()
	checker := retrieval.NewChecker("What does VACUUM do with dead row versions?", []store.Passage{{Title: "Routine Vacuuming", Text: vacuumText, Start: 7}})
	wantSupported(t, checker, []claimCase{
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
	})
}

const commitText = `Asynchronous commit introduces the risk of losing the most recent transactions. Synchronous commit waits for the WAL records of a transaction to be flushed to disk. Anna beat Ben in the final of 1998. The pipe is 12 km long. The server must be restarted.`

func TestCheckPlaces(t *testing.T) {
	t.Parallel()
	checker := retrieval.NewChecker("", []store.Passage{{Text: commitText}})
	wantSupported(t, checker, []claimCase{
		{"Asynchronous commit introduces the risk of losing recent transactions.", true},
		{"Synchronous commit introduces the risk of losing the most recent transactions.", false},
		{"Asynchronous commit waits for the WAL records to be flushed to disk.", false},
		{"Anna beat Ben in the final of 1998.", true},
		{"Ben beat Anna in the final of 1998.", false},
		{"Anna beat Ben in the final of 1989.", false},
		{"The pipe is 12 km long.", true},
		{"The pipe is 12 miles long.", false},
		{"The pipe is 14 km long.", false},
	})
}

const isolationText = `Read Committed is the default isolation level in PostgreSQL. When a transaction uses this isolation level, a SELECT query sees only data committed before the query began; it never sees uncommitted data. Read Uncommitted behaves like Read Committed. The Repeatable Read isolation level only sees data committed before the transaction began. The strictest level is Serializable. The largest lake of the region is Lake Onega. Lake Seliger is a popular destination.`

// "A is B" says the same as "B is A", about A alone.
func TestCheckTurnedRound(t *testing.T) {
	t.Parallel()
	checker := retrieval.NewChecker("", []store.Passage{{Text: isolationText}})
	wantSupported(t, checker, []claimCase{
		{"Read Committed is the default isolation level.", true},
		{"The default isolation level is Read Committed.", true},
		{"The default isolation level in PostgreSQL is Read Committed.", true},
		{"The default isolation level is Read Uncommitted.", false},
		{"The default isolation level in PostgreSQL is Read Uncommitted.", false},
		{"The default isolation level is Repeatable Read.", false},
		{"The default isolation level in PostgreSQL is Serializable.", false},
		{"The strictest level is Serializable.", true},
		{"Serializable is the strictest level.", true},
		{"Read Uncommitted is the strictest level.", false},
		{"Lake Onega is the largest lake of the region.", true},
		{"Lake Seliger is the largest lake of the region.", false},
		{"The largest lake of the region is Lake Seliger.", false},
	})
}

const plantText = `The plant opened in May 2013 with 40 workers. It closed in October 2016 after a long strike. The warm months last from May through September. A large ship and a small boat sank near the coast. Halford Mackinder of Britain wrote the book that Friedrich Ratzel of Germany reviewed. Ratzel met Weber in Leipzig.`

// What the passages tell of something else is no support where it stands, and no obstacle where it belongs.
func TestCheckInAnothersPlace(t *testing.T) {
	t.Parallel()
	checker := retrieval.NewChecker("", []store.Passage{{Text: plantText}})
	wantSupported(t, checker, []claimCase{
		{"The plant opened in May 2013.", true},
		{"The plant opened in May 2016 with 40 workers.", false},
		{"The plant closed in October 2013 after a long strike.", false},
		{"The plant opened in May 2013 with 40 workers, and it closed in October 2016 after a long strike.", true},
		{"The plant, which opened in May 2013 with 40 workers, closed in October 2016.", true},
		{"The warm months last from May through September.", true},
		{"The warm months last from September through May.", false},
		{"A large ship and a small boat sank.", true},
		{"A small boat and a large ship sank.", true},
		{"A small ship and a small boat sank.", false},
		{"Halford Mackinder of Britain wrote the book.", true},
		{"Halford Weber of Britain wrote the book that Friedrich Ratzel of Germany reviewed.", false},
		{"Weber met Ratzel in Leipzig.", false},
	})
}
