package retrieval

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/footnote-rag/footnote/store"
)

// minSpelledRunes: shorter words have too many neighbours, and are mostly meant.
const minSpelledRunes = 4

// speller knows the words of a collection.
type speller interface {
	// Corrections maps those of the words, in lower case, that occur in no document to the nearest one that does. Words
	// without a near one are left out.
	Corrections(ctx context.Context, c store.Collection, words []string) (map[string]string, error)
}

// respell corrects words that occur nowhere. Names, identifiers and common words stay as they are written: what is not in the documents
// must not become something that is.
func (a *answering) respell(ctx context.Context, c store.Collection) error {
	if a.q.Understand.NoSpelling || a.s.speller == nil || c.Chunks == 0 {
		return nil
	}
	words := a.s.misspellable(a.q.Question)
	if len(words) == 0 || foreign(a.q.Question, c) != "" {
		return nil
	}
	start := time.Now()
	var asked []string
	for _, w := range words {
		asked = append(asked, strings.ToLower(w.text))
	}
	corrections, err := a.s.speller.Corrections(ctx, c, asked)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		a.s.cfg.Logger.WarnContext(ctx, "spelling not looked at", "error", err)
		return a.emit(Step{Step: StepSpelling, Note: "the words could not be looked up", MS: milliseconds(start)})
	}
	question, steps := a.q.Question, []Step(nil)
	for i := len(words) - 1; i >= 0; i-- { // from the end, so that places stay true
		w := words[i]
		right := corrections[asked[i]]
		if right == "" || right == asked[i] {
			continue
		}
		right = likeWritten(right, w.text)
		question = question[:w.at] + right + question[w.at+len(w.text):]
		steps = append([]Step{{Step: StepSpelling, From: w.text, To: right, MS: milliseconds(start)}}, steps...)
	}
	a.q.Question = question
	for _, step := range steps {
		if err := a.emit(step); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) misspellable(question string) (words []word) {
	quoted := store.Quoted.FindAllStringIndex(question, -1)
	for _, w := range wordsOf(question) {
		plain := !strings.ContainsFunc(w.text, func(r rune) bool { return !unicode.IsLetter(r) })
		inMarks := slices.ContainsFunc(quoted, func(q []int) bool { return w.at > q[0] && w.at < q[1] })
		if plain && !inMarks && w.content() && !w.name && utf8.RuneCountInString(w.text) >= minSpelledRunes &&
			(s.cfg.Word == nil || !s.cfg.Word(strings.ToLower(w.text))) {
			words = append(words, w)
		}
	}
	return words
}

// likeWritten gives a word the capital that another begins with.
func likeWritten(word, as string) string {
	first, _ := utf8.DecodeRuneInString(as)
	if !unicode.IsUpper(first) {
		return word
	}
	r, size := utf8.DecodeRuneInString(word)
	return string(unicode.ToUpper(r)) + word[size:]
}
