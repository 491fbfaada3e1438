package ingest_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/footnote-rag/footnote/ingest"
	"github.com/footnote-rag/footnote/store"
)

func FuzzChunker(f *testing.F) {
	for _, text := range generatedTexts(40) {
		f.Add(text, uint8(40), uint8(8))
	}
	f.Add(strings.Repeat("東京", 800)+strings.Repeat("x", 9000)+" "+strings.Repeat("Some words here. ", 300), uint8(64), uint8(16))
	f.Fuzz(func(t *testing.T, text string, size, overlap uint8) {
		if !utf8.ValidString(text) {
			return
		}
		settings := store.Chunking{MaxTokens: 32 + int(size), Overlap: int(overlap) % 16}
		checkChunks(t, ingest.Extracted{Text: text}, settings)
		settings.Context = store.ContextSummary
		checkChunks(t, ingest.Extracted{Text: text}, settings)
	})
}

// checkChunks checks that chunks are slices within limits and that they hold all text that is not blank.
func checkChunks(t *testing.T, e ingest.Extracted, settings store.Chunking) {
	t.Helper()
	runes := []rune(e.Text)
	covered := 0
	for i, c := range ingest.Chunk(e, settings) {
		if c.Ordinal != i || c.Text != string(runes[c.Start:c.End]) {
			t.Fatalf("chunk %d is not the text at %d to %d", i, c.Start, c.End)
		}
		if n := ingest.WordPiece().Count(ingest.EmbedText(c)); n != c.Tokens || n > settings.MaxTokens {
			t.Fatalf("chunk %d has %d tokens, says %d, may have %d: %q", i, n, c.Tokens, settings.MaxTokens, c.Text)
		}
		for ; covered < c.Start; covered++ {
			if !unicode.IsSpace(runes[covered]) {
				t.Fatalf("character %d (%q) is in no chunk", covered, runes[covered])
			}
		}
		covered = max(covered, c.End)
	}
	for ; covered < len(runes); covered++ {
		if !unicode.IsSpace(runes[covered]) {
			t.Fatalf("character %d (%q) is in no chunk", covered, runes[covered])
		}
	}
}

func TestChunkPacksChineseWithoutSpaces(t *testing.T) {
	t.Parallel()
	e := ingest.Extracted{Text: strings.Repeat("東京都", 2000)}
	checkChunks(t, e, ingest.DefaultChunking)
	if got, most := len(ingest.Chunk(e, ingest.DefaultChunking)), 30; got > most {
		t.Errorf("6000 characters become %d chunks, want at most %d", got, most)
	}
}

func TestChunkSettings(t *testing.T) {
	t.Parallel()
	e := ingest.Extracted{Title: "Manual of Pumps", Text: "Care\n\nOil it weekly. Clean it daily.", Blocks: []ingest.Block{{Kind: ingest.Heading, Level: 1, Start: 0, End: 4}}}
	for name, c := range map[string]struct {
		settings store.Chunking
		title    string
		want     string // what is embedded for the last chunk
	}{
		"title and heading":             {store.Chunking{MaxTokens: 64}, "Manual of Pumps", "Manual of Pumps > Care\n\nCare\n\nOil it weekly. Clean it daily."},
		"the text alone":                {store.Chunking{MaxTokens: 64, Context: store.ContextNone}, "Manual of Pumps", "Care\n\nOil it weekly. Clean it daily."},
		"the text begins with it":       {store.Chunking{MaxTokens: 64}, "Care", "Care\n\nCare\n\nOil it weekly. Clean it daily."},
		"a title that takes too much":   {store.Chunking{MaxTokens: 32}, strings.Repeat("very long title ", 9), "Care\n\nCare\n\nOil it weekly. Clean it daily."},
		"fixed takes whatever is there": {store.Chunking{MaxTokens: 64, Split: store.SplitFixed}, "Manual of Pumps", "Care\n\nOil it weekly. Clean it daily."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := e
			e.Title = c.title
			chunks := ingest.Chunk(e, c.settings)
			if got := ingest.EmbedText(chunks[len(chunks)-1]); got != c.want {
				t.Errorf("embedded %q, want %q", got, c.want)
			}
			checkChunks(t, e, c.settings)
		})
	}
}

func TestEveryChunkIsToldTheTitleOnce(t *testing.T) {
	t.Parallel()
	e := ingest.Extracted{Title: "All about pumps", Text: "\nAll about\npumps\n\n" + strings.Repeat("one two three four. ", 60)}
	settings := store.Chunking{MaxTokens: 128, Overlap: 16}
	checkChunks(t, e, settings)
	for i, c := range ingest.Chunk(e, settings) {
		if got := strings.Count(strings.Join(strings.Fields(ingest.EmbedText(c)), " "), e.Title); got != 1 {
			t.Errorf("chunk %d has the title %d times:\n%s", i, got, ingest.EmbedText(c))
		}
	}
}

func TestFixedChunks(t *testing.T) {
	t.Parallel()
	e := ingest.Extracted{Text: strings.Repeat("one two three four. ", 100)}
	chunks := ingest.Chunk(e, store.Chunking{MaxTokens: 52, Split: store.SplitFixed})
	checkChunks(t, e, store.Chunking{MaxTokens: 52, Split: store.SplitFixed})
	if got, want := len(chunks), 10; got != want { // 500 tokens, 50 a chunk beside the two special ones
		t.Errorf("%d chunks, want %d", got, want)
	}
}

func TestTheLastTwoChunksOfASectionShareItsTextEvenly(t *testing.T) {
	t.Parallel()
	e := ingest.Extracted{Text: strings.Repeat("one two three four. ", 60)} // 300 tokens
	for _, overlap := range []int{0, 32} {
		settings := store.Chunking{MaxTokens: 256, Overlap: overlap}
		checkChunks(t, e, settings)
		chunks := ingest.Chunk(e, settings)
		if len(chunks) != 2 || chunks[0].Tokens < 140 || chunks[1].Tokens < 140 || chunks[0].End+1 < chunks[1].Start || chunks[0].End-chunks[1].Start > 20*overlap/5 {
			t.Errorf("overlap %d: %d chunks, %d and %d tokens", overlap, len(chunks), chunks[0].Tokens, chunks[len(chunks)-1].Tokens)
		}
	}
	two := ingest.Extracted{Text: "A\n\n" + strings.Repeat("one two three four. ", 40) + "\n\nB\n\nshort.", Blocks: []ingest.Block{{Kind: ingest.Heading, Level: 1, Start: 0, End: 1}}}
	b := strings.Index(two.Text, "B\n\nshort")
	two.Blocks = append(two.Blocks, ingest.Block{Kind: ingest.Heading, Level: 1, Start: b, End: b + 1})
	chunks := ingest.Chunk(two, ingest.DefaultChunking)
	checkChunks(t, two, ingest.DefaultChunking)
	if last := chunks[len(chunks)-1]; last.Text != "B\n\nshort." {
		t.Errorf("the last chunk takes of another section: %q", last.Text)
	}
}
