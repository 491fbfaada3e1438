package retrieval

import (
	"strings"

	"github.com/footnote-rag/footnote/store"
)

// reading is a passage as models and the checker read it: its translation where there is one. Citations point into the
// passage's own text all the same.
func reading(p store.Passage) string {
	if p.Translation != "" {
		return p.Translation
	}
	return p.Text
}

// inOwnWords leaves the translations of passages away that are in the question's language.
func inOwnWords(question string, passages []store.Passage) {
	asked := ""
	for i := range passages {
		if passages[i].Translation == "" {
			continue
		}
		if asked == "" {
			asked = store.DetectLanguage(question)
		}
		if asked != "" && asked == store.DetectLanguage(passages[i].Text) {
			passages[i].Translation = ""
		}
	}
}

// readSentence is a sentence of a passage as it is read, and where it stands in the passage's own text.
type readSentence struct {
	Sentence
	read string // the translation; "" where the sentence is read as it is
}

// sentencesOf pairs the sentences of a translation with those of the text in their order: translators keep it, and seldom
// join or split sentences.
func sentencesOf(p store.Passage) []readSentence {
	own := Sentences(p.Text)
	if p.Translation == "" || len(own) == 0 {
		all := make([]readSentence, len(own))
		for i, s := range own {
			all[i] = readSentence{Sentence: s}
		}
		return all
	}
	translation := p.Translation
	if _, text, found := strings.Cut(translation, "\n\n"); found && len(p.Heading) > 0 {
		translation = text // headings were translated with the text
	}
	read := Sentences(translation)
	all := make([]readSentence, len(read))
	for i, s := range read {
		all[i] = readSentence{Sentence{own[i*len(own)/len(read)].Span, s.Text}, s.Text}
	}
	return all
}
