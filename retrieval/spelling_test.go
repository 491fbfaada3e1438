package retrieval

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/store"
)

// spelled knows some corrections.
type spelled struct {
	right map[string]string
	asked []string
	err   error
}

func (s *spelled) Corrections(_ context.Context, _ store.Collection, words []string) (map[string]string, error) {
	s.asked = append(s.asked, words...)
	return s.right, s.err
}

func TestSpellingIsCorrected(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		question string
		off      bool
		err      error
		asked    string
		steps    string
		searched string
	}{
		"two words":     {"Opned was the briidge when?", false, nil, "opned briidge", "Opned>Opened briidge>bridge", "Opened was the bridge when?"},
		"nothing wrong": {"When was the bridge opened?", false, nil, "bridge opened", "", "When was the bridge opened?"},
		"names, identifiers, short and empty words": {"Does Briidge use pg_opned or v2opned in the ark?", false, nil, "", "", "Does Briidge use pg_opned or v2opned in the ark?"},
		"a word that documents need not have":       {"Was the blue briidge painted?", false, nil, "briidge painted", "briidge>bridge", "Was the blue bridge painted?"},
		"words in quotation marks":                  {`When was the "grand briidge" or “opned door” or the briidge opened?`, false, nil, "briidge opened", "briidge>bridge", `When was the "grand briidge" or “opned door” or the bridge opened?`},
		"switched off":                              {"When was the briidge opened?", true, nil, "", "", "When was the briidge opened?"},
		"speller fails":                             {"When was the briidge opened?", false, errors.New("no words"), "briidge opened", ">the words could not be looked up", "When was the briidge opened?"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t, bridgeWorld("The Arden bridge was opened in 1931."))
			s := &spelled{right: map[string]string{"opned": "opened", "briidge": "bridge", "bridge": "bridge"}, err: c.err}
			w.speller = s
			w.cfg.Word = func(word string) bool { return word == "blue" }
			var steps []string
			for ev, err := range w.Answer(t.Context(), Question{Question: c.question, Understand: Understanding{NoSpelling: c.off}}) {
				if err != nil {
					t.Fatal(err)
				}
				if step, ok := ev.(Step); ok {
					steps = append(steps, step.From+">"+step.To+step.Note)
				}
			}
			if got := strings.Join(steps, " "); got != c.steps {
				t.Errorf("steps %q, want %q", got, c.steps)
			}
			if got := strings.Join(s.asked, " "); got != c.asked {
				t.Errorf("asked about %q, want %q", got, c.asked)
			}
			if len(w.prompts) > 0 && !strings.Contains(w.prompts[0], c.searched) {
				t.Errorf("the model was asked %q, want %q", w.prompts[0], c.searched)
			}
		})
	}
}
