package ingest

import (
	"time"

	"github.com/footnote-rag/footnote/store"
)

// Pause says that this process makes no calls of one kind of model until a time, and why: what the provider answered last.
type Pause struct {
	Kind   store.BudgetKind // embed, translate, chat or speech
	Until  time.Time        // UTC
	Reason string
}

// Pauses are those under way, the one that holds most documents first.
func (s *Service) Pauses() []Pause {
	var out []Pause
	for _, g := range []struct {
		kind store.BudgetKind
		gate *gate
	}{
		{store.EmbedBudget, &s.batches.gate},
		{store.TranslateBudget, &s.translator.gate},
		{store.ChatBudget, &s.summaries.calls.gate},
		{store.SpeechBudget, &s.speech.gate},
	} {
		if until, why := g.gate.state(); time.Now().Before(until) {
			out = append(out, Pause{g.kind, until.UTC(), why})
		}
	}
	return out
}

// Holds tells whether a queued or running document of collection c waits for the pause's end, as far as is known before it is read.
func (p Pause) Holds(d store.Document, c store.Collection) bool {
	switch p.Kind {
	case store.EmbedBudget:
		return true
	case store.SpeechBudget:
		return isAudio(d.MediaType)
	case store.ChatBudget:
		return c.Chunking.Context == store.ContextSummary
	case store.TranslateBudget:
		return c.TranslateTo != "" && primaryLanguage(d.Language) != primaryLanguage(c.TranslateTo)
	}
	return false
}
