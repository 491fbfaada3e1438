package store

import (
	"strings"
	"testing"
)

func FuzzPhrases(f *testing.F) {
	f.Add(`what is "red  Lights" and “京都の天”`)
	f.Add("\"\xff\" \"it's\"")
	f.Fuzz(func(t *testing.T, text string) {
		phrases := phrasesOf(text, []string{"en", "es"})
		if len(phrases) > maxPhrases {
			t.Errorf("%d phrases", len(phrases))
		}
		for _, p := range phrases {
			if !strings.HasPrefix(p.words, " ") || !strings.HasSuffix(p.words, " ") || strings.Contains(p.words, "  ") || !strings.Contains(spaced(text), p.words) {
				t.Errorf("phrasesOf(%q) has %q", text, p.words)
			}
		}
	})
}
