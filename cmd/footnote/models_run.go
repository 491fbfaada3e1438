package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/footnote-rag/footnote/workersai"
)

// modelsRunFlags are what a call may set.
type modelsRunFlags struct {
	file, out, source, target string
	maxTokens                 int
	steps                     int
}

func (p *program) modelsRunCommand() *cobra.Command {
	var o modelsRunFlags
	cmd := &cobra.Command{
		Use:   "run MODEL [TEXT…|-]",
		Short: "Call a model once",
		Long: `Call a model once: a text is answered as a stream, or embedded, translated or drawn; a recording (--file) becomes text.
"-", or no text, reads standard input. --json prints the whole result as the API has it.`,
		Example: `  footnote models run @cf/meta/llama-3.1-8b-instruct "Say hello."
  footnote models run @cf/baai/bge-base-en-v1.5 tea
  footnote models run @cf/openai/whisper --file talk.wav
  footnote models run @cf/meta/m2m100-1.2b --to es Hello
  footnote models run @cf/stabilityai/stable-diffusion-xl-base-1.0 --out sunset.png "Mountain sunset"`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error { return p.modelsRun(cmd.Context(), a[0], a[1:], o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.file, "file", "", "a recording, for speech recognition")
	f.StringVarP(&o.out, "out", "o", "", "where a picture is written; default standard output")
	f.StringVar(&o.source, "from", "en", "language of the text, for translation")
	f.StringVar(&o.target, "to", "", "language to translate to")
	f.IntVar(&o.maxTokens, "max-tokens", workersai.DefaultMaxTokens, "the longest answer, in tokens")
	f.IntVar(&o.steps, "steps", 0, "of a picture, 1 to 20; default the model's")
	return cmd
}

func (p *program) modelsRun(ctx context.Context, model string, words []string, o modelsRunFlags) error {
	if o.maxTokens < 1 {
		return usagef("--max-tokens is %d: give 1 or more", o.maxTokens)
	}
	input, err := p.modelInput(words, o.file)
	if err != nil {
		return err
	}
	c, done, err := p.connectModels(ctx, false)
	if err != nil {
		return err
	}
	defer done()
	task, err := taskOf(ctx, c, model)
	if err != nil {
		return err
	}
	switch task {
	case "Automatic Speech Recognition":
		return p.runSpeech(ctx, c, model, input)
	case "Text-to-Image":
		return p.runImage(ctx, c, model, string(input), o)
	case "Translation":
		return p.runTranslation(ctx, c, model, string(input), o)
	case "Text Embeddings":
		return p.runPlain(ctx, c, model, workersai.EmbeddingInput{Text: workersai.Strings{string(input)}})
	case "Text Generation":
		return p.runText(ctx, c, model, string(input), o)
	}
	return usagef("%s is for %s, which takes more than a text: send its input to the API", model, task)
}

// modelInput is the file, the words, or standard input.
func (p *program) modelInput(words []string, file string) ([]byte, error) {
	if file != "" && len(words) > 0 {
		return nil, usagef("give a text or --file, not both")
	}
	if file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, usagef("--file: %v", err)
		}
		return data, nil
	}
	if len(words) > 0 && words[0] != "-" {
		return []byte(strings.Join(words, " ")), nil
	}
	data, err := io.ReadAll(p.stdin)
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, usagef("give a text, or one on standard input")
	}
	return data, nil
}

// taskOf asks the catalogue what a model is for. An alias is not listed by itself: its model is asked as text generation,
// which every alias we know is for, and an unknown name gets the host's own answer.
func taskOf(ctx context.Context, c *workersai.Client, model string) (string, error) {
	found, err := c.SearchModels(ctx, workersai.ModelQuery{Search: model})
	if err != nil {
		return "", err
	}
	for _, m := range found {
		if strings.EqualFold(m.Name, model) {
			return m.Task.Name, nil
		}
	}
	return "Text Generation", nil
}

// runText streams the answer; with --json it prints the result when it is whole.
func (p *program) runText(ctx context.Context, c *workersai.Client, model, text string, o modelsRunFlags) error {
	if p.json {
		return p.runPlain(ctx, c, model, workersai.TextInput{Prompt: text, MaxTokens: o.maxTokens})
	}
	r := workersai.ChatRequest{Model: model, MaxTokens: o.maxTokens, Messages: []workersai.Message{{Role: "user", Content: text}}}
	for ev, err := range c.ChatStream(ctx, r) {
		if err != nil {
			return err
		}
		if _, err := io.WriteString(p.stdout, ev.Text); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(p.stdout)
	return err
}

// runPlain prints the result as the API has it.
func (p *program) runPlain(ctx context.Context, c *workersai.Client, model string, input any) error {
	var out json.RawMessage
	if err := c.Run(ctx, model, input, &out); err != nil {
		return err
	}
	_, err := fmt.Fprintln(p.stdout, string(out))
	return err
}

func (p *program) runSpeech(ctx context.Context, c *workersai.Client, model string, audio []byte) error {
	out, err := c.Transcribe(ctx, workersai.TranscribeRequest{Model: model, Audio: audio})
	if err != nil {
		return err
	}
	return p.printResult(out, out.Text)
}

func (p *program) runTranslation(ctx context.Context, c *workersai.Client, model, text string, o modelsRunFlags) error {
	if o.target == "" {
		return usagef("give the language to translate to with --to, such as --to es")
	}
	out, err := c.Translate(ctx, model, text, o.source, o.target)
	if err != nil {
		return err
	}
	return p.printResult(workersai.TranslationOutput{TranslatedText: out}, out)
}

// printResult prints the whole result, or its text.
func (p *program) printResult(whole any, text string) error {
	if p.json {
		return json.NewEncoder(p.stdout).Encode(whole)
	}
	_, err := fmt.Fprintln(p.stdout, text)
	return err
}

// runImage writes the picture's bytes to the file, or to standard output where that is no terminal.
func (p *program) runImage(ctx context.Context, c *workersai.Client, model, prompt string, o modelsRunFlags) error {
	if o.out == "" && !p.json && isTerminal(p.stdout) {
		return usagef("a picture is not for a terminal: give a file with --out, or send the output elsewhere")
	}
	in := workersai.ImageInput{Prompt: prompt}
	if o.steps != 0 {
		in.NumSteps = &o.steps
	}
	img, err := c.Image(ctx, model, in)
	if err != nil {
		return err
	}
	if o.out != "" {
		if err := os.WriteFile(o.out, img.Data, 0o644); err != nil {
			return err
		}
	}
	switch {
	case p.json:
		return json.NewEncoder(p.stdout).Encode(map[string]any{"content_type": img.ContentType, "bytes": len(img.Data), "file": o.out})
	case o.out != "":
		p.errorf("%s: %s, %s", o.out, img.ContentType, byteSize(int64(len(img.Data))))
		return nil
	}
	_, err = p.stdout.Write(img.Data)
	return err
}
