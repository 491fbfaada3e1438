package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/workersai"
)

// translationsAtOnce bounds one document's calls; several documents are under way.
const translationsAtOnce = 4

// translate gives the chunks of a document their translations, where the collection asks for a language that is not the
// document's. What was translated is kept until the document is complete.
func (s *Service) translate(ctx context.Context, work store.Work, e Extracted, chunks []store.Chunk) error {
	from, to := primaryLanguage(e.Language), primaryLanguage(work.Collection.TranslateTo)
	if to == "" || from == "" || from == to {
		return nil
	}
	staged, err := s.cfg.Store.StagedResults(ctx, work.Document.ID)
	if err != nil {
		return err
	}
	calls, ctx := errgroup.WithContext(ctx)
	calls.SetLimit(translationsAtOnce)
	for i := range chunks {
		calls.Go(func() error {
			t, err := s.translateText(ctx, work.Document.ID, textWithContext(chunks[i]), from, to, staged)
			chunks[i].Translation = fitTokens(t, maxChunkTokens-WordPiece().count(chunks[i].Summary))
			return err
		})
	}
	if err := calls.Wait(); err != nil {
		return translateError(s.cfg.TranslateModel, from, to, err)
	}
	return nil
}

// primaryLanguage is the language of a tag such as es-MX.
func primaryLanguage(tag string) string {
	primary, _, _ := strings.Cut(strings.ToLower(tag), "-")
	return primary
}

// translateText asks the model, unless it has been asked before.
func (s *Service) translateText(ctx context.Context, documentID, text, from, to string, staged map[[32]byte]json.RawMessage) (translation string, err error) {
	key := sha256.Sum256(fmt.Appendf(nil, "translate %s %s %s\n%s", s.cfg.TranslateModel, from, to, text))
	if r, ok := staged[key]; ok && json.Unmarshal(r, &translation) == nil {
		return translation, nil
	}
	err = s.translator.ask(ctx, func(ctx context.Context) error {
		t, err := s.cfg.Models.Translate(ctx, s.cfg.TranslateModel, text, from, to)
		translation = t
		return err
	})
	if err != nil {
		return "", err
	}
	translation = strings.TrimSpace(clean(translation))
	if translation == "" {
		return "", extractErrorf(CodeTranslationFailed, "the translation model %s answered nothing for %.80q; put the document again, or the collection's translate_to away", s.cfg.TranslateModel, text)
	}
	result, err := json.Marshal(translation)
	if err != nil {
		return "", err
	}
	return translation, s.cfg.Store.StageResult(ctx, documentID, key, storable(result))
}

// fitTokens cuts a text of models that has more tokens, with the special ones, than there is room for; its start says what it
// is about.
func fitTokens(text string, limit int) string {
	tok := WordPiece()
	for tok.Count(text) > limit {
		fields := strings.Fields(text)
		if len(fields) < 2 {
			return text[:byteOffset(text, (limit-specialTokens)/3)] // a character has at most three tokens
		}
		text = strings.Join(fields[:len(fields)*9/10], " ")
	}
	return text
}

// translateError words what a model cannot do for the document.
func translateError(model, from, to string, err error) error {
	var api *workersai.Error
	switch {
	case errors.Is(err, workersai.ErrModelNotFound):
		return &ExtractError{CodeNoTranslator, fmt.Sprintf("the collection's documents are translated to %s, and the translation model %s is not to be had: %v. Set it up, or choose one with FOOTNOTE_TRANSLATE_MODEL, and put the document again", to, model, err)}
	case errors.Is(err, workersai.ErrInvalidInput), errors.Is(err, workersai.ErrContextExceeded), errors.Is(err, workersai.ErrBadReply), errors.As(err, &api) && api.Status >= 500:
		return &ExtractError{CodeTranslationFailed, fmt.Sprintf("the translation model %s could not translate the document from %s to %s: %v. Mend the cause, or name the document's true language, and put it again", model, from, to, err)}
	}
	return err
}
