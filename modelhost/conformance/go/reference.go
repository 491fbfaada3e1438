package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/footnote-rag/footnote/workersai"
)

// referenceChecks are the examples of ../reference.md, in Go.
func referenceChecks(base string) []check {
	client, err := workersai.New(workersai.Config{BaseURL: base, AccountID: os.Getenv("ACCOUNT_ID"), Token: os.Getenv("TOKEN"), MaxRetries: -1, Timeout: -1, HeaderTimeout: -1, IdleTimeout: -1})
	if err != nil {
		return []check{{"client", func(context.Context) (string, error) { return "", err }}}
	}
	r := reference{client}
	return []check{
		{"text", r.text}, {"streaming", r.streaming}, {"embeddings", r.embeddings}, {"tools", r.tools}, {"image", r.image},
		{"speech", r.speech}, {"translation", r.translation}, {"error 7502", r.unknown}, {"error 7504", r.invalid}, {"error 7506", r.long},
	}
}

type reference struct{ *workersai.Client }

func (r reference) text(ctx context.Context) (string, error) {
	temperature := 0.7
	result, err := r.Chat(ctx, workersai.ChatRequest{Model: chat, Temperature: &temperature, MaxTokens: 100, Messages: []workersai.Message{
		{Role: "system", Content: "You are helpful"},
		{Role: "user", Content: "Hello"},
	}})
	if err != nil {
		return "", err
	}
	return result.Text, wanted(result.Text != "", result)
}

func (r reference) streaming(ctx context.Context) (string, error) {
	var text strings.Builder
	for event, err := range r.ChatStream(ctx, workersai.ChatRequest{Model: chat, MaxTokens: 20, Messages: []workersai.Message{{Role: "user", Content: "Count to three."}}}) {
		if err != nil {
			return "", err
		}
		text.WriteString(event.Text)
	}
	return text.String(), wanted(text.Len() > 0, "an empty stream")
}

func (r reference) embeddings(ctx context.Context) (string, error) {
	result, err := r.Embed(ctx, workersai.EmbedRequest{Model: embedder, Texts: []string{"Query", "Doc 1", "Doc 2"}})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("3 vectors of %d", len(result.Vectors[0])), wanted(len(result.Vectors) == 3, len(result.Vectors))
}

func (r reference) tools(ctx context.Context) (string, error) {
	type where struct {
		Location string `json:"location"`
	}
	var asked []string
	getWeather, err := workersai.NewTool("getWeather", "Get weather for location", func(_ context.Context, in where) (any, error) {
		asked = append(asked, in.Location)
		return "It is 12 degrees.", nil
	})
	if err != nil {
		return "", err
	}
	result, err := r.ChatWithTools(ctx, workersai.ChatRequest{Model: chat, MaxTokens: 128, Messages: []workersai.Message{{Role: "user", Content: "What is the weather in Oslo?"}}}, getWeather)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%q → %s", asked, result.Text), wanted(len(asked) > 0 && result.Text != "", asked)
}

func (r reference) image(ctx context.Context) (string, error) {
	if err := r.served(ctx, painter); err != nil {
		return "", err
	}
	steps, guidance := 20, 7.5
	image, err := r.Image(ctx, painter, workersai.ImageInput{Prompt: "Mountain sunset", NumSteps: &steps, Guidance: &guidance})
	if err != nil {
		return "", err
	}
	return image.ContentType, wanted(bytes.HasPrefix(image.Data, []byte("\x89PNG")), image.ContentType)
}

func (r reference) speech(ctx context.Context) (string, error) {
	if err := r.served(ctx, whisper); err != nil {
		return "", err
	}
	audio, err := os.ReadFile(os.Getenv("RECORDING"))
	if err != nil {
		return "", err
	}
	result, err := r.Transcribe(ctx, workersai.TranscribeRequest{Model: whisper, Audio: audio})
	if err != nil {
		return "", err
	}
	heard, err := regexp.MatchString("(?i)"+os.Getenv("RECORDED"), result.Text)
	return result.Text, errors.Join(err, wanted(heard, result.Text))
}

func (r reference) translation(ctx context.Context) (string, error) {
	if err := r.served(ctx, translate); err != nil {
		return "", err
	}
	text, err := r.Translate(ctx, translate, "Hello", "en", "es")
	if err != nil {
		return "", err
	}
	return text, wanted(strings.Contains(strings.ToLower(text), "hola"), text)
}

func (r reference) unknown(ctx context.Context) (string, error) {
	_, err := r.Chat(ctx, workersai.ChatRequest{Model: "@cf/none/such", Messages: []workersai.Message{{Role: "user", Content: "Hello"}}})
	return "", wanted(errors.Is(err, workersai.ErrModelNotFound), err)
}

func (r reference) invalid(ctx context.Context) (string, error) {
	err := r.Run(ctx, embedder, map[string]int{"text": 1}, &json.RawMessage{})
	return "", wanted(errors.Is(err, workersai.ErrInvalidInput), err)
}

func (r reference) long(ctx context.Context) (string, error) {
	_, err := r.Embed(ctx, workersai.EmbedRequest{Model: embedder, Texts: []string{strings.Repeat("tea ", 600)}})
	return "", wanted(errors.Is(err, workersai.ErrContextExceeded), err)
}

// served is errNotServed where the host has no engine for the model.
func (r reference) served(ctx context.Context, model string) error {
	found, err := r.SearchModels(ctx, workersai.ModelQuery{Search: model})
	if err != nil {
		return err
	}
	for _, m := range found {
		if m.Name == model && m.Property("served") == "false" {
			return fmt.Errorf("%w: %s", errNotServed, m.Property("setup"))
		}
	}
	return nil
}

func wanted(ok bool, seen any) error {
	if ok {
		return nil
	}
	return differs("%+v", seen)
}
