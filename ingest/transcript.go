package ingest

import (
	"cmp"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/workersai"
)

const (
	// A transcript's paragraph ends at a long pause, or at a sentence's end with a shorter one or when it is long.
	longPause       = 2.0 // seconds
	shortPause      = 0.8
	longParagraph   = 600 // bytes
	maxSeconds      = 1e6 // a word that begins later is noise
	wordSearchBytes = 400 // how far ahead in the text a word is searched that the words before it did not lead to
)

// heard is what was understood of one stretch of a recording.
type heard struct {
	workersai.SpeechOutput
	start, end float64 // of the stretch, in seconds; end 0 if not known
}

// spoken is a word at its place in the text.
type spoken struct {
	at         int // byte
	start, end float64
}

// transcript puts a recording together: paragraphs of whole sentences, and when each word was spoken. Times are nil where the
// model told none.
func transcript(parts []heard) (Extracted, *store.Times) {
	var text strings.Builder
	var words []spoken
	var language string
	for _, p := range parts {
		t := strings.Join(strings.Fields(clean(p.Text)), " ")
		if t == "" {
			continue
		}
		if text.Len() > 0 {
			text.WriteByte(' ')
		}
		for _, w := range align(t, p) {
			w.at += text.Len()
			words = append(words, w)
		}
		text.WriteString(t)
		if p.Info != nil {
			language = cmp.Or(language, p.Info.Language)
		}
	}
	e, times := paragraphs(text.String(), words)
	e.Language = language
	return e, times
}

// align finds the words of a stretch in its text. Without words the stretch is one.
func align(text string, p heard) []spoken {
	var all []spoken
	at := 0
	for _, w := range wordsOf(p.SpeechOutput) {
		word := strings.TrimSpace(w.Word)
		if word == "" || !(w.Start >= 0 && w.Start < maxSeconds) || !(w.End >= w.Start && w.End < maxSeconds) {
			continue
		}
		found := strings.Index(text[at:min(len(text), at+wordSearchBytes+len(word))], word)
		if found < 0 {
			continue
		}
		all = append(all, spoken{at + found, p.start + w.Start, p.start + w.End})
		at += found + len(word)
	}
	if len(all) == 0 && p.end > p.start {
		all = []spoken{{0, p.start, p.end}}
	}
	return all
}

// wordsOf are the words with their times, or phrases where the model timed only those.
func wordsOf(out workersai.SpeechOutput) []workersai.Word {
	if len(out.Words) > 0 {
		return out.Words
	}
	var all []workersai.Word
	for _, s := range out.Segments {
		if len(s.Words) > 0 {
			all = append(all, s.Words...)
			continue
		}
		all = append(all, workersai.Word{Word: strings.Join(strings.Fields(s.Text), " "), Start: s.Start, End: s.End})
	}
	return all
}

// paragraphs breaks a text of one line into paragraphs. Each break is one byte longer than the blank that it replaces.
func paragraphs(text string, words []spoken) (Extracted, *store.Times) {
	var e Extracted
	var out strings.Builder
	times := &store.Times{}
	next, start, runes, from := 0, 0, 0, 0 // word; paragraph's first byte; code points written; paragraph's first code point
	at := 0                                // bytes of text written
	write := func(to int) {
		out.WriteString(text[at:to])
		runes += utf8.RuneCountInString(text[at:to])
		at = to
	}
	end := func() {
		if runes > from {
			e.Blocks = append(e.Blocks, Block{Kind: Paragraph, Start: from, End: runes})
		}
	}
	for i := 0; i <= len(text); i++ {
		for next < len(words) && words[next].at == i {
			write(i)
			times.Char = append(times.Char, int32(runes))
			times.StartMS = append(times.StartMS, milliseconds(words[next].start))
			times.EndMS = append(times.EndMS, milliseconds(words[next].end))
			next++
		}
		if i < len(text) && text[i] == ' ' && breaks(text, i, i-start, words, next) {
			write(i)
			end()
			out.WriteString("\n\n")
			runes, at, start = runes+2, i+1, i+1
			from = runes
		}
	}
	write(len(text))
	end()
	e.Text = out.String()
	if len(times.Char) == 0 {
		times = nil
	}
	return e, times
}

func milliseconds(seconds float64) int32 { return int32(math.Round(seconds * 1000)) }

// breaks tells that a paragraph of a length ends before the blank at i; next is the first word that is not before i.
func breaks(text string, i, length int, words []spoken, next int) bool {
	gap := 0.0
	if next > 0 && next < len(words) && words[next].at == i+1 {
		gap = words[next].start - words[next-1].end
	}
	last, _ := utf8.DecodeLastRuneInString(text[:i])
	sentence := strings.ContainsRune(".?!…。？！", last)
	return gap >= longPause || sentence && (gap >= shortPause || length >= longParagraph)
}
