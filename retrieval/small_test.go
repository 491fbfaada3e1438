package retrieval

import (
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/workersai/prompt"
)

func TestSmallModel(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ says, want, reason string }{
		"repeats itself":    {"The Arden bridge was opened in 1931. The Arden bridge was opened in 1931. It spans 412 metres.", "The Arden bridge was opened in 1931.", ""},
		"rambles on":        {"It spans 412 metres. Queen Mary opened the Arden bridge. The bridge was opened in 1931. Tolls were abolished in 1967. More", "It spans 412 metres. Queen Mary opened the Arden bridge. The bridge was opened in 1931.", ""},
		"is wrong at times": {"Elephants invented jazz. It spans 412 metres. Jazz is loud", "It spans 412 metres.", ""},
		"is wrong":          {"The Arden bridge was never opened.", "The Arden bridge was opened in 1931 by Queen Mary.", ReasonModelless},
	} {
		w := setup(t, bridgeWorld(c.says))
		w.cfg.ChatStrength = Small
		_, text, citations, done, err := collect(t, w, Question{Question: bridgeQuestion})
		if err != nil || text != c.want || done.Reason != c.reason || !done.Grounded {
			t.Errorf("%s: text %q, want %q; Done %+v, error %v", name, text, c.want, done, err)
		}
		checkCitations(t, text, w.text, citations)
	}
}

func TestDigestIsBounded(t *testing.T) {
	t.Parallel()
	p := store.Passage{Text: strings.Repeat("The Arden bridge was painted again in the spring. ", 400) + "The Arden bridge was opened in 1931."}
	got := NewChecker(bridgeQuestion, []store.Passage{p, p, p, p, p}).digest(bridgeQuestion, digestTokens)
	n := 0
	for _, d := range got {
		n += prompt.Tokens(d.Text)
	}
	if len(got) == 0 || len(got) > digestPassages || n > digestTokens+digestPassages || !strings.Contains(got[0].Text, "opened in 1931") {
		t.Errorf("digest of %d passages, %d tokens: %.200v", len(got), n, got)
	}
}

// TestQuotesHoldWhatIsAskedFor: of sentences with the same words of the question the one with a time, a number or a name is
// quoted first, and the one that says what something is.
func TestQuotesHoldWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	for question, c := range map[string]struct{ other, asked string }{
		"When was the Arden bridge opened?":    {"The Arden bridge may be opened by boats.", "The Arden bridge was opened in May 1931."},
		"How many lanes has the Arden bridge?": {"The Arden bridge has lanes for everyone.", "The Arden bridge has lanes, six of them."},
		"Who painted the old Arden bridge?":    {"The old Arden bridge was painted again.", "The old Arden bridge was painted by Mary."},
		"What is the Arden bridge?":            {"Boats pass below the old Arden bridge.", "The Arden bridge is an old landmark."},
	} {
		got := NewChecker(question, []store.Passage{{Text: c.other + " " + c.asked}}).extract([]string{question}, 1)
		if len(got) != 1 || got[0].Quote != c.asked {
			t.Errorf("%s %+v, want %q quoted", question, got, c.asked)
		}
	}
}
