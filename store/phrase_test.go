package store_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/store"
)

func TestPhrasesComeFirst(t *testing.T) {
	t.Parallel()
	s, c := setup(t)
	var lines []string
	for i := range 300 { // more than the legs' candidates, all better by words than the one that is meant
		lines = append(lines, fmt.Sprintf("lights red lights red at night %d", i))
	}
	lines = append(lines, strings.Repeat("the harbour has a long pier and many boats of all kinds ", 5)+"where red lights burn every day of the year",
		"To be, or not to be: Hamlet asks.", "It’s the pg_stat_activity view.", "東京都の天気です", "Le café noir", "a lightning reds")
	load(t, s, c, "a.md", strings.Join(lines, "\n"))
	c = fresh(t, s)
	for name, tt := range map[string]struct {
		query, want string
		mode        store.Mode
	}{
		"hybrid":               {`night "red lights burn"`, "red lights burn", store.Hybrid},
		"lexical":              {`night "red lights burn"`, "red lights burn", store.Lexical},
		"typographic marks":    {`“Red  Lights, burn”?`, "red lights burn", store.Lexical},
		"stop words":           {`night hamlet "to be or not to be"`, "To be", store.Hybrid},
		"apostrophe":           {`lights "it's the"`, "It’s", store.Hybrid},
		"identifier":           {`red lights "stat_activity view"`, "pg_stat", store.Hybrid},
		"without spaces":       {`lights "京都の天"`, "東京都", store.Hybrid},
		"accents":              {`red lights "cafe noir"`, "café", store.Hybrid},
		"two phrases are more": {`"red lights" "lights burn every"`, "red lights burn", store.Lexical},
	} {
		got, err := s.Search(t.Context(), store.SearchQuery{Collection: c, Vector: vectorOf("x"), Text: tt.query, Mode: tt.mode, Limit: 5})
		if err != nil {
			t.Fatal(err)
		}
		first := got[0]
		if first.Phrases == nil || !strings.Contains(first.Text, tt.want) || *first.Phrases == 0 || first.Score > 1 {
			t.Fatalf("%s: Search(%s) begins with %q (%v), want %q", name, tt.query, first.Text, first.Phrases, tt.want)
		}
		for i := 1; i < len(got); i++ {
			if got[i].Score > got[i-1].Score || *got[i].Phrases > *got[i-1].Phrases {
				t.Errorf("%s: not in order at %d", name, i)
			}
		}
	}
}

func TestPhrasesThatAreNowhereChangeNothing(t *testing.T) {
	t.Parallel()
	s, c := setup(t)
	load(t, s, c, "a.md", "red lights burn\nlights are red\nburning red lights\nnothing of that")
	c = fresh(t, s)
	search := func(query string) []store.Passage {
		got, err := s.Search(t.Context(), store.SearchQuery{Collection: c, Vector: vectorOf("x"), Text: query})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	plain := search("lights burn red")
	for _, query := range []string{`"lights burn red"`, `lights "burn red`, `"" lights burn "?!" red`, `'lights burn' red`} {
		got := search(query)
		if !slices.Equal(texts(got), texts(plain)) || got[0].Score != plain[0].Score || got[0].Phrases != nil {
			t.Errorf("Search(%s) = %q, want %q", query, texts(got), texts(plain))
		}
	}
}

func TestOneQuotedWordOfALongQuestionIsAWordLikeAny(t *testing.T) {
	t.Parallel()
	s, c := setup(t)
	load(t, s, c, "a.md", "how modules and types of modules are checked for their contexts\nit matches")
	c = fresh(t, s)
	first := func(query string) store.Passage {
		got, err := s.Search(t.Context(), store.SearchQuery{Collection: c, Text: query, Mode: store.Lexical})
		if err != nil {
			t.Fatal(err)
		}
		return got[0]
	}
	if got := first(`modules checked "matches"`); got.Text != "it matches" || got.Phrases == nil {
		t.Errorf("a short question's first passage is %q, phrases %v", got.Text, got.Phrases)
	}
	if got := first(`how are types of modules checked when a context "matches" them`); got.Text == "it matches" || got.Phrases != nil {
		t.Errorf("a long question's first passage is %q, phrases %v", got.Text, got.Phrases)
	}
}
