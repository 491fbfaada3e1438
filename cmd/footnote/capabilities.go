package main

import (
	"context"
	wire "encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/footnote-rag/footnote/workersai"
)

// capability is one thing that models do, and how doctor tries it.
type capability struct {
	part   string
	model  string
	needed bool   // without it the service does not do its work
	remedy string // where trying it fails
	try    func(ctx context.Context) (detail string, err error)
}

// capabilities are all of the model host's, tried at Cloudflare or here, whichever is set.
func capabilities(c *workersai.Client, set settings) []capability {
	return []capability{
		{part: "embeddings", model: set.embedModel(), needed: true, remedy: "see the message; docs/configuration.md lists the settings", try: func(ctx context.Context) (string, error) {
			r, err := c.Embed(ctx, workersai.EmbedRequest{Model: set.embedModel(), Texts: []string{"Is this machine ready?"}})
			if err != nil {
				return "", err
			}
			return fmt.Sprintf("%d dimensions", len(r.Vectors[0])), nil
		}},
		{part: "answers", model: set.chatModel(), needed: true, remedy: "without a chat model, answers are put together from the best sentences", try: func(ctx context.Context) (string, error) {
			return tryChat(ctx, c, set.chatModel())
		}},
		{part: "reranking", model: bgeReranker, try: func(ctx context.Context) (string, error) {
			s, err := c.Rerank(ctx, bgeReranker, "where do cats sleep", []string{"the price of oil", "cats sleep on the sofa"}, 0)
			return fmt.Sprintf("%d texts scored", len(s)), err
		}},
		{part: "translation", model: set.TranslateModel, try: func(ctx context.Context) (string, error) {
			text, err := c.Translate(ctx, set.TranslateModel, "Hello", "en", "es")
			return fmt.Sprintf("Hello is %q in Spanish", text), err
		}},
		{part: "speech", model: set.SpeechModel, try: func(ctx context.Context) (string, error) {
			_, err := c.Transcribe(ctx, workersai.TranscribeRequest{Model: set.SpeechModel, Audio: silence()})
			return "heard a second of silence", err
		}},
		{part: "images", model: set.ImageModel, try: func(ctx context.Context) (string, error) {
			steps := 1
			m, err := c.Image(ctx, set.ImageModel, workersai.ImageInput{Prompt: "a red circle", Width: 256, Height: 256, NumSteps: &steps})
			if err != nil {
				return "", err
			}
			return fmt.Sprintf("drew %d bytes of %s", len(m.Data), m.ContentType), nil
		}},
	}
}

func tryChat(ctx context.Context, c *workersai.Client, model string) (string, error) {
	words := 0
	for ev, err := range c.ChatStream(ctx, workersai.ChatRequest{Model: model, MaxTokens: 16, Messages: []workersai.Message{{Role: "user", Content: "Say hello."}}}) {
		if err != nil {
			return "", err
		}
		words += len(strings.Fields(ev.Text))
	}
	return fmt.Sprintf("streamed %d words", words), nil
}

// check tries it. What is not needed and not set up is off, with what to do; what is set up and fails is bad.
func (c capability) check(ctx context.Context) check {
	start := time.Now()
	detail, err := c.try(ctx)
	switch {
	case err == nil:
		return check{Part: c.part, OK: true, Detail: fmt.Sprintf("%s: %s, %s", c.model, detail, time.Since(start).Round(time.Millisecond))}
	case !c.needed && errors.Is(err, workersai.ErrModelNotFound):
		return check{Part: c.part, OK: true, Off: true, Detail: c.model + " is not served here", Remedy: setupOf(err)}
	}
	remedy := c.remedy
	if remedy == "" {
		remedy = "docs/engines.md says how this engine is set up"
	}
	return check{Part: c.part, Detail: err.Error(), Remedy: remedy}
}

// setupOf is what a model host says about a model that nothing serves: what to do.
func setupOf(err error) string {
	var e *workersai.Error
	if !errors.As(err, &e) {
		return err.Error()
	}
	if _, todo, told := strings.Cut(e.Message, "nothing here serves it: "); told {
		return todo
	}
	return e.Message
}

// silence is a WAV file of one second: 16,000 samples of 16 bits.
func silence() []byte {
	const samples = 2 * 16000 // bytes
	le := wire.LittleEndian
	b := append(le.AppendUint32([]byte("RIFF"), 36+samples), "WAVEfmt "...)
	b = le.AppendUint16(le.AppendUint16(le.AppendUint32(b, 16), 1), 1) // PCM, one channel
	b = le.AppendUint32(le.AppendUint32(b, 16000), 32000)
	b = le.AppendUint16(le.AppendUint16(b, 2), 16)
	return append(le.AppendUint32(append(b, "data"...), samples), make([]byte, samples)...)
}
