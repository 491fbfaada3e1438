package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/workersai"
)

// Codes of ExtractError for documents that need a model of speech or translation.
const (
	CodeNoSpeechEngine    = "no_speech_engine"   // no model transcribes here
	CodeAudioTooLarge     = "audio_too_large"    // a recording that cannot be cut, and is too large for one call
	CodeInvalidAudio      = "invalid_audio"      // the model cannot read the recording
	CodeNoSpeech          = "no_speech"          // nothing was said in it
	CodeSpeechFailed      = "speech_failed"      // the model failed again and again
	CodeNoTranslator      = "no_translator"      // no model translates here
	CodeTranslationFailed = "translation_failed" // the model failed again and again
)

// speechQueue is the queue of recordings: there may be many, each takes long, and texts do not wait for them.
const speechQueue = "speech"

// isAudio tells documents that are transcribed from those that are extracted.
func isAudio(mediaType string) bool { return strings.HasPrefix(mediaType, "audio/") }

// maxFailures is how often a model may fail (5xx) on one input before that is the document's error: about three minutes.
const maxFailures = 10

// asker makes calls of one kind of model, one document's at a time, waiting as long as the provider wants.
type asker struct {
	gate   gate
	budget *store.Budget
	log    *slog.Logger

	// patient waits for a model that is not there, and for one that fails again and again, as for anything else.
	patient bool
}

func newAsker(cfg Config, kind store.BudgetKind, perMinute int) *asker {
	return &asker{gate: gate{pauses: defaultPauses}, log: cfg.Logger,
		budget: cfg.Store.Budget(store.BudgetConfig{Provider: cfg.Provider, Kind: kind, PerMinute: perMinute})}
}

// ask calls until it succeeds or fails for good.
func (a *asker) ask(ctx context.Context, call func(context.Context) error) error {
	for bad, failures := 0, 0; ; {
		err := a.try(ctx, call)
		var api *workersai.Error
		switch {
		case err == nil || ctx.Err() != nil || a.final(err):
			return err
		case errors.Is(err, workersai.ErrBadReply):
			if bad++; bad == maxBadReplies {
				return err
			}
		case errors.As(err, &api) && api.Status >= 500 && !a.patient:
			if failures++; failures == maxFailures {
				return err
			}
		}
	}
}

// final tells errors that the same call meets again. A model that is not there is one: others of the kind are none.
func (a *asker) final(err error) bool {
	return errors.Is(err, workersai.ErrModelNotFound) && !a.patient || errors.Is(err, workersai.ErrInvalidInput) || errors.Is(err, workersai.ErrContextExceeded)
}

func (a *asker) try(ctx context.Context, call func(context.Context) error) error {
	leave, err := a.gate.wait(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if err = a.budget.Wait(ctx, false); err == nil {
		err = call(ctx)
	}
	if err == nil || a.final(err) || errors.Is(err, workersai.ErrBadReply) {
		a.gate.open()
	} else if ctx.Err() == nil {
		a.gate.shut(ctx, err, a.budget, a.log)
	}
	return err
}

// listen transcribes a recording. What was understood of each stretch is kept until the document is complete.
func (s *Service) listen(ctx context.Context, documentID string, source []byte) (Extracted, *store.Times, error) {
	staged, err := s.cfg.Store.StagedResults(ctx, documentID)
	if err != nil {
		return Extracted{}, nil, err
	}
	var parts []heard
	for _, r := range recordings(source) {
		if len(r.audio) > maxSpeechBytes+1<<10 {
			return Extracted{}, nil, extractErrorf(CodeAudioTooLarge, "the recording has %d MiB; a compressed one may have %d: cut it, or send it as WAV, which is cut here", len(r.audio)>>20, maxSpeechBytes>>20)
		}
		out, err := s.transcribe(ctx, documentID, r.audio, staged)
		if err != nil {
			return Extracted{}, nil, speechError(s.cfg.SpeechModel, err)
		}
		h := heard{SpeechOutput: out, start: r.offset.Seconds()}
		if r.length > 0 {
			h.end = (r.offset + r.length).Seconds()
		}
		parts = append(parts, h)
	}
	e, times := transcript(parts)
	if strings.TrimSpace(e.Text) == "" {
		return e, nil, extractErrorf(CodeNoSpeech, "no speech was recognised in the recording; check that something is said in it")
	}
	return e, times, nil
}

// transcribe asks the model, unless it has been asked before.
func (s *Service) transcribe(ctx context.Context, documentID string, audio []byte, staged map[[32]byte]json.RawMessage) (out workersai.SpeechOutput, err error) {
	key := sha256.Sum256(append([]byte("speech "+s.cfg.SpeechModel+"\n"), audio...))
	if r, ok := staged[key]; ok && json.Unmarshal(r, &out) == nil {
		return out, nil
	}
	err = s.speech.ask(ctx, func(ctx context.Context) error {
		r, err := s.cfg.Models.Transcribe(ctx, workersai.TranscribeRequest{Model: s.cfg.SpeechModel, Audio: audio})
		if err == nil {
			out = *r
		}
		return err
	})
	if err != nil {
		return out, err
	}
	out.VTT = "" // says the same again
	result, err := json.Marshal(out)
	if err != nil {
		return out, err
	}
	return out, s.cfg.Store.StageResult(ctx, documentID, key, storable(result))
}

// storable removes what jsonb does not take.
func storable(result []byte) []byte {
	return []byte(strings.ReplaceAll(strings.ToValidUTF8(string(result), "\ufffd"), `\u0000`, `\ufffd`))
}

// speechError words what a model cannot do for the document.
func speechError(model string, err error) error {
	var api *workersai.Error
	code := ""
	switch {
	case errors.Is(err, workersai.ErrModelNotFound):
		return &ExtractError{CodeNoSpeechEngine, fmt.Sprintf("recordings need a speech model, and %s is not to be had: %v. Set it up, or choose one with FOOTNOTE_SPEECH_MODEL, and put the document again", model, err)}
	case errors.Is(err, workersai.ErrContextExceeded):
		code = CodeAudioTooLarge
	case errors.Is(err, workersai.ErrInvalidInput):
		code = CodeInvalidAudio
	case errors.Is(err, workersai.ErrBadReply), errors.As(err, &api) && api.Status >= 500:
		code = CodeSpeechFailed
	default:
		return err
	}
	return &ExtractError{code, fmt.Sprintf("the speech model %s could not transcribe the recording: %v. Mend the cause and put the document again", model, err)}
}
