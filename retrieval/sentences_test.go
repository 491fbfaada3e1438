package retrieval_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/footnote-rag/footnote/retrieval"
	"github.com/footnote-rag/footnote/store"
)

func ExampleSentences() {
	for _, s := range retrieval.Sentences("Dr. Smith paid $3.50. Was it e.g. too much?") {
		fmt.Println(s.Span, s.Text)
	}
	// Output:
	// {0 21} Dr. Smith paid $3.50.
	// {22 43} Was it e.g. too much?
}

func TestSentences(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"plain":         {"One is here. Two is there! Three?", []string{"One is here.", "Two is there!", "Three?"}},
		"abbreviations": {"Mr. J. R. Low of the U.S. Army saw Fig. 3, vol. 2. He left.", []string{"Mr. J. R. Low of the U.S. Army saw Fig. 3, vol. 2.", "He left."}},
		"decimals":      {"It is 3.14 or v1.2.3 now. Good.", []string{"It is 3.14 or v1.2.3 now.", "Good."}},
		"quotes":        {"He said \"Stop.\" Then (he ran.) Done.", []string{"He said \"Stop.\"", "Then (he ran.)", "Done."}},
		"list":          {"- first item\n- second item\n3. third one", []string{"- first item", "- second item", "3. third one"}},
		"lead-in":       {"Do this:\n1. Open it.\n2. Close it.", []string{"Do this:\n1. Open it.", "2. Close it."}},
		"code":          {"Run this now.\n```\na.b. C\n```\nThen `x. Y` ends.", []string{"Run this now.", "```\na.b. C\n```", "Then `x. Y` ends."}},
		"chinese":       {"你好。再见！「好。」完", []string{"你好。", "再见！", "「好。」", "完"}},
		"headings":      {"Introduction\nThe text starts here.\n\nNext", []string{"Introduction", "The text starts here.", "Next"}},
		"wrapped":       {"This line is long enough to be wrapped prose in\nParis and goes on.", []string{"This line is long enough to be wrapped prose in\nParis and goes on."}},
		"spaced dots":   {"the flow is slow . it is hot .", []string{"the flow is slow .", "it is hot ."}},
		"yes":           {"Yes. It can.", []string{"Yes. It can."}},
		"blank":         {" \n\t ", nil},
	} {
		var got []string
		for _, s := range retrieval.Sentences(c.text) {
			got = append(got, s.Text)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// FuzzSplitter: spans are exact, in order and lose no visible rune, and do not depend on how the text was cut.
func FuzzSplitter(f *testing.F) {
	for _, seed := range []string{"A. B c. D.", "```\nx\n``` y", "1. a\n2. b", "你。好", "Mr. X.\n\n- y: \n z", "`a\n```b\n"} {
		f.Add(seed, 3)
	}
	f.Fuzz(func(t *testing.T, text string, cut int) {
		if !utf8.ValidString(text) {
			return
		}
		want := retrieval.Sentences(text)
		runes, last := []rune(text), 0
		for _, s := range want {
			if s.Span.Start < last || s.Text != string(runes[s.Span.Start:s.Span.End]) || strings.TrimSpace(string(runes[last:s.Span.Start])) != "" {
				t.Fatalf("sentence %+v of %q after %d", s, text, last)
			}
			last = s.Span.End
		}
		if strings.TrimSpace(string(runes[last:])) != "" {
			t.Fatalf("%q lost", string(runes[last:]))
		}
		step := cut%7 + 1
		if step < 1 {
			step = 1
		}
		var sp retrieval.Splitter
		var got []retrieval.Sentence
		for at := 0; at < len(runes); at += step {
			got = append(got, sp.Feed(string(runes[at:min(at+step, len(runes))]))...)
		}
		got = append(got, sp.Flush()...)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%q in steps of %d (-whole +pieces):\n%s", text, step, diff)
		}
	})
}

// TestQuotesAreExact: whatever the passages and the claim, the quote stands at its offsets.
func TestQuotesAreExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		alphabet := rapid.SampledFrom([]rune("abc ABC é你 . ! \n 1 2 - ` 😀 ' \" 's"))
		document := []rune(rapid.StringOfN(alphabet, 1, 400, -1).Draw(t, "document"))
		from := rapid.IntRange(0, len(document)-1).Draw(t, "from")
		to := rapid.IntRange(from+1, len(document)).Draw(t, "to")
		passage := store.Passage{Start: from, End: to, Text: string(document[from:to])}
		f := retrieval.NewChecker("a", []store.Passage{passage}).Check(rapid.StringOfN(alphabet, 0, 80, -1).Draw(t, "claim"))
		if f.Score < 0 || f.Score > 1 {
			t.Fatalf("score %v", f.Score)
		}
		if f.Source > 0 && string(document[f.Span.Start:f.Span.End]) != f.Quote {
			t.Fatalf("quote %q, document has %q", f.Quote, string(document[f.Span.Start:f.Span.End]))
		}
	})
}

func BenchmarkChecker(b *testing.B) {
	text := strings.Repeat("The server writes 16 kB blocks to the log before it answers. It was started in 1996 at Berkeley. Readers do not block writers. ", 12)
	var passages []store.Passage
	for range 8 {
		passages = append(passages, store.Passage{Text: text})
	}
	b.Run("prepare", func(b *testing.B) {
		for b.Loop() {
			retrieval.NewChecker("when was it started?", passages)
		}
	})
	checker := retrieval.NewChecker("when was it started?", passages)
	b.Run("sentence", func(b *testing.B) {
		for b.Loop() {
			checker.Check("The server was started in 1996 at Berkeley and does not block its writers.")
		}
	})
}
