package retrieval

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/workersai"
)

// NoTranslation as TranslateModel leaves questions and answers in their languages.
const NoTranslation = "\x00none"

const (
	// probedPassages tell the language of a collection's documents where a question is in another.
	probedPassages = 5
	// defaultLanguage of documents that do not say theirs.
	defaultLanguage = "en"
)

// interpreter speaks the asker's language. Sentences go through it one by one, after they were judged in the documents'
// language.
type interpreter struct {
	a        *answering
	ctx      context.Context // of the answer: a sentence is translated in the middle of its stream
	from, to string          // of the documents, of the asker
	took     time.Duration
	failed   error // the first failure; later sentences are left as they are
}

// translateQuestion brings a question into the documents' language, where it is in another, and the conversation with it
// as far as the question needs it. The answer is then translated back.
func (a *answering) translateQuestion(ctx context.Context, c store.Collection) error {
	if a.q.Understand.NoTranslate || a.s.thinker == nil || a.s.cfg.TranslateModel == NoTranslation || c.Chunks == 0 {
		return nil
	}
	asked := foreign(a.q.Question, c)
	if asked == "" {
		return nil
	}
	written, err := a.writtenIn(ctx, c, languagesOf(c)[0])
	if err != nil || written == asked {
		return err
	}
	start := time.Now()
	in := &interpreter{a: a, ctx: ctx, from: written, to: asked}
	question, err := in.translate(a.q.Question, asked, written)
	if err == nil {
		err = checkQuestion(question)
	}
	step := Step{Step: StepTranslate, From: a.q.Question, To: question, Note: asked + " to " + written, MS: milliseconds(start)}
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		step.To, step.Note = "", "not translated from "+asked+" to "+written+": "+in.excuse(err)
		return a.emit(step)
	}
	a.q.Question, a.interpreter = question, in
	a.translateConversation(in)
	return a.emit(step)
}

// foreign is the language of a question that is surely none of the collection's; "" of any other.
func foreign(question string, c store.Collection) string {
	if l := store.DetectLanguage(question); !slices.Contains(languagesOf(c), l) {
		return l
	}
	return ""
}

func languagesOf(c store.Collection) []string {
	if len(c.Languages) == 0 {
		return []string{defaultLanguage}
	}
	return c.Languages
}

// writtenIn looks at passages for the question as it is: documents often do not say their language.
func (a *answering) writtenIn(ctx context.Context, c store.Collection, otherwise string) (string, error) {
	found, err := a.s.search(ctx, c, SearchRequest{Query: a.q.Question, Limit: probedPassages, Filter: a.q.Filter, Mode: a.q.Mode, Ranking: a.q.Ranking})
	if err != nil {
		return "", err
	}
	n := map[string]int{}
	best := otherwise
	for _, p := range found.Passages {
		if l := store.DetectLanguage(p.Text); l != "" {
			if n[l]++; n[l] > n[best] {
				best = l
			}
		}
	}
	return best, nil
}

// translateConversation keeps of the conversation what a follow-up needs, the last question and answer. What cannot be
// translated is left out: mixed languages lead models astray.
func (a *answering) translateConversation(in *interpreter) {
	history := a.q.Messages
	a.q.Messages = nil
	if len(history) == 0 || !isFollowUp(a.q.Question) {
		return
	}
	from := len(history) - 1
	for from > 0 && history[from].Role != "user" {
		from--
	}
	var kept []workersai.Message
	for _, m := range history[from:] {
		text, err := in.translate(shorten(m.Content, mergedTokens), in.to, in.from)
		if err != nil {
			return
		}
		kept = append(kept, workersai.Message{Role: m.Role, Content: text})
	}
	a.q.Messages = kept
}

func (in *interpreter) translate(text, from, to string) (string, error) {
	start := time.Now()
	defer func() { in.took += time.Since(start) }()
	s := in.a.s
	ctx, cancel := context.WithTimeout(in.ctx, understandTimeout)
	defer cancel()
	if err := s.translateBudget.Wait(ctx, true); err != nil {
		return "", fmt.Errorf("wait for the translator's rate limit: %w", err)
	}
	out, err := s.thinker.Translate(ctx, s.cfg.TranslateModel, text, from, to)
	if err != nil {
		s.obey(ctx, s.translateBudget, err)
		s.cfg.Logger.WarnContext(ctx, "not translated", "model", s.cfg.TranslateModel, "from", from, "to", to, "error", err)
	}
	return out, err
}

// excuse says in a few words why there is no translation.
func (in *interpreter) excuse(err error) string {
	switch {
	case errors.Is(err, workersai.ErrModelNotFound):
		return "no model translates here"
	case errors.Is(err, workersai.ErrInvalidInput):
		return "the model does not know the language"
	}
	return "the model failed"
}

// speak puts a sentence into the asker's language. Programs stay as they are, and everything after a failure.
func (a *answering) speak(text string) string {
	in := a.interpreter
	if in == nil || in.failed != nil || text == "" || strings.Contains(text, "```") {
		return text
	}
	out, err := in.translate(text, in.from, in.to)
	if err != nil || out == "" {
		in.failed = errors.Join(err, errNoTranslation)
		return text
	}
	return out
}

var errNoTranslation = errors.New("no translation")

// told ends an interpreted answer with the step that says so.
func (a *answering) told() error {
	in := a.interpreter
	if in == nil {
		return nil
	}
	note := fmt.Sprintf("answer: %s to %s", in.from, in.to)
	if in.failed != nil {
		note = fmt.Sprintf("answer not wholly translated from %s to %s: %s", in.from, in.to, in.excuse(in.failed))
	}
	return a.emit(Step{Step: StepTranslate, Note: note, MS: float64(in.took.Microseconds()) / 1000})
}
