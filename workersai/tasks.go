package workersai

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
)

// Limits of image requests.
const (
	MinImageSide = 256
	MaxImageSide = 2048
	MaxSteps     = 20
	MaxGuidance  = 20
)

// Rerank scores contexts for a query, best first. Scores are logits or sigmoids, by the model: sort by them, and do not
// threshold blindly. topK 0 returns all.
func (c *Client) Rerank(ctx context.Context, model, query string, contexts []string, topK int) ([]RerankScore, error) {
	if strings.TrimSpace(query) == "" || len(contexts) == 0 || topK < 0 {
		return nil, invalid(model, "rerank wants a query and contexts, and topK not negative", "correct the request")
	}
	in := RerankInput{Query: query, TopK: topK}
	for _, text := range contexts {
		in.Contexts = append(in.Contexts, RerankContext{Text: text})
	}
	var out RerankOutput
	if err := c.Run(ctx, model, in, &out); err != nil {
		return nil, err
	}
	if reason := checkScores(out.Response, len(contexts), topK); reason != "" {
		return nil, &ReplyError{Model: model, Row: -1, Reason: reason}
	}
	slices.SortStableFunc(out.Response, func(a, b RerankScore) int { return cmp.Compare(b.Score, a.Score) })
	return out.Response, nil
}

func checkScores(scores []RerankScore, contexts, topK int) string {
	want := contexts
	if topK > 0 {
		want = min(topK, contexts)
	}
	if len(scores) != want {
		return fmt.Sprintf("%d scores, want %d", len(scores), want)
	}
	seen := make([]bool, contexts)
	for _, s := range scores {
		if s.ID < 0 || s.ID >= contexts || seen[s.ID] {
			return fmt.Sprintf("score for context %d, which is none of %d or has one already", s.ID, contexts)
		}
		if math.IsNaN(s.Score) || math.IsInf(s.Score, 0) {
			return fmt.Sprintf("score of context %d is not finite", s.ID)
		}
		seen[s.ID] = true
	}
	return ""
}

// Image is a picture. ContentType is what its bytes say: JPEG has been seen where PNG is documented.
type Image struct {
	Data        []byte
	ContentType string
}

// Image draws a picture.
func (c *Client) Image(ctx context.Context, model string, in ImageInput) (*Image, error) {
	if fault := in.fault(); fault != "" {
		return nil, invalid(model, fault, "correct the request")
	}
	data, err := c.RunRaw(ctx, model, in)
	if err != nil {
		return nil, err
	}
	if len(data) > 0 && data[0] == '{' {
		env, err := c.decodeEnvelope(data, model)
		if err != nil {
			return nil, err
		}
		var out struct {
			Image []byte `json:"image"`
		}
		if err := json.Unmarshal(env.Result, &out); err != nil {
			return nil, &ReplyError{Model: model, Row: -1, Reason: "result has no image in base64", Err: err}
		}
		data = out.Image
	}
	kind := http.DetectContentType(data)
	if !strings.HasPrefix(kind, "image/") {
		return nil, &ReplyError{Model: model, Row: -1, Reason: fmt.Sprintf("%d bytes of %s, want an image", len(data), kind)}
	}
	return &Image{Data: data, ContentType: kind}, nil
}

func (in ImageInput) fault() string {
	side := func(n int) bool { return n != 0 && (n < MinImageSide || n > MaxImageSide) }
	steps := func(p *int) bool { return p != nil && (*p < 1 || *p > MaxSteps) }
	switch {
	case strings.TrimSpace(in.Prompt) == "":
		return "prompt is empty"
	case side(in.Width) || side(in.Height):
		return fmt.Sprintf("%d x %d pixels, want sides from %d to %d", in.Width, in.Height, MinImageSide, MaxImageSide)
	case steps(in.NumSteps) || steps(in.Steps):
		return fmt.Sprintf("steps outside 1 to %d", MaxSteps)
	case outside(in.Guidance, 1, MaxGuidance):
		return fmt.Sprintf("guidance is %v, want 1 to %d", *in.Guidance, MaxGuidance)
	case outside(in.Strength, 0, 1):
		return fmt.Sprintf("strength is %v, want 0 to 1", *in.Strength)
	}
	return ""
}

// TranscribeRequest holds a recording. The fields after Audio are for whisper-large-v3-turbo alone.
type TranscribeRequest struct {
	Model         string
	Audio         []byte // a file: WAV, MP3, …
	Language      string
	Task          string // transcribe or translate
	VADFilter     bool
	InitialPrompt string
}

// Transcribe turns speech into text. The file is the request's body, but for the turbo model, which takes base64 alone.
func (c *Client) Transcribe(ctx context.Context, r TranscribeRequest) (*SpeechOutput, error) {
	if len(r.Audio) == 0 {
		return nil, invalid(r.Model, "no audio", "give the bytes of a recording")
	}
	var input any = struct{}{}
	turbo := strings.Contains(r.Model, "turbo")
	if turbo {
		input = TurboSpeechInput{Audio: r.Audio, Language: r.Language, Task: r.Task, VADFilter: r.VADFilter, InitialPrompt: r.InitialPrompt}
	}
	q, err := runCall(r.Model, "", input)
	if err != nil {
		return nil, err
	}
	if !turbo {
		q.body, q.contentType = r.Audio, "application/octet-stream"
	}
	var out struct {
		SpeechOutput
		Text *string `json:"text"`
	}
	if _, err := c.envelope(ctx, q, &out); err != nil {
		return nil, err
	}
	if out.Text == nil {
		return nil, &ReplyError{Model: r.Model, Row: -1, Reason: "no text"}
	}
	out.SpeechOutput.Text = *out.Text
	return &out.SpeechOutput, nil
}

// Translate translates a text. Languages are codes (en) or English names (english); source "" is English.
func (c *Client) Translate(ctx context.Context, model, text, source, target string) (string, error) {
	if text == "" || target == "" {
		return "", invalid(model, "translate wants a text and a target language", "give both")
	}
	var out struct {
		Text *string `json:"translated_text"`
	}
	if err := c.Run(ctx, model, TranslationInput{Text: text, SourceLang: source, TargetLang: target}, &out); err != nil {
		return "", err
	}
	if out.Text == nil {
		return "", &ReplyError{Model: model, Row: -1, Reason: "no translated text"}
	}
	return *out.Text, nil
}
