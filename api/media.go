package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/footnote-rag/footnote/ingest"
	"github.com/footnote-rag/footnote/retrieval"
	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/workersai"
)

// maxSpeechBytes bounds a spoken question: what speech services take in one call.
const maxSpeechBytes = 25 << 20

// stepTranscribe is the step that made a question of a recording.
const stepTranscribe = "transcribe"

// Media is what the API needs of models besides answers; *workersai.Client is one.
type Media interface {
	Transcribe(ctx context.Context, r workersai.TranscribeRequest) (*workersai.SpeechOutput, error)
	Image(ctx context.Context, model string, in workersai.ImageInput) (*workersai.Image, error)
}

// MediaConfig says how recordings are heard and pictures drawn. Zero fields mean the documented default.
type MediaConfig struct {
	Models      Media  // nil: neither is offered
	SpeechModel string // default @cf/openai/whisper
	ImageModel  string // default @cf/stabilityai/stable-diffusion-xl-base-1.0
	Provider    string // names the provider's budget, shared with ingest; default "workersai"
	PerMinute   int    // provider budget of each kind; 0: none
}

func (m *MediaConfig) fill() {
	setDefault(&m.SpeechModel, "@cf/openai/whisper")
	setDefault(&m.ImageModel, "@cf/stabilityai/stable-diffusion-xl-base-1.0")
	setDefault(&m.Provider, "workersai")
}

// isSpeech tells bodies that are a recording, or a form with one.
func isSpeech(r *http.Request) bool {
	t := mediaType(r)
	return t == multipartType || strings.HasPrefix(t, "audio/") || strings.HasPrefix(t, "video/") || t == "application/ogg"
}

// decodeQuestion reads a question: JSON into in, or a recording, whose words become *question. A form has the recording as its
// file "audio" and may have the other fields as JSON in its field "request". The steps tell of what was done.
func (s *Server) decodeQuestion(c echo.Context, in any, question *string) ([]retrieval.Step, error) {
	if !isSpeech(c.Request()) {
		return nil, decode(c, in)
	}
	start := time.Now()
	out, err := s.hear(c, in)
	if err != nil {
		return nil, err
	}
	*question = strings.Join(strings.Fields(out.Text), " ")
	return []retrieval.Step{{Step: stepTranscribe, To: *question, MS: milliseconds(time.Since(start))}}, nil
}

// hear reads a recording from the request's body and transcribes it; in takes the fields beside it and may be nil.
func (s *Server) hear(c echo.Context, in any) (*workersai.SpeechOutput, error) {
	if s.cfg.Media.Models == nil {
		return nil, errNoMedia
	}
	ctx := c.Request().Context()
	release, err := s.reserve(ctx, maxSpeechBytes)
	if err != nil {
		return nil, err
	}
	defer release()
	audio, err := readSpeech(c, in)
	if err != nil {
		return nil, err
	}
	if t, err := ingest.DetectMediaType("", "", audio); err != nil || !strings.HasPrefix(t, "audio/") {
		return nil, errNotAudio
	}
	if err := s.budget(ctx, store.SpeechBudget); err != nil {
		return nil, err
	}
	out, err := s.cfg.Media.Models.Transcribe(ctx, workersai.TranscribeRequest{Model: s.cfg.Media.SpeechModel, Audio: audio})
	if err == nil && strings.TrimSpace(out.Text) == "" {
		err = errNoSpeech
	}
	return out, refusedInput(err)
}

// refusedInput tells a caller whose recording or picture the model refuses that it is not our doing.
func refusedInput(err error) error {
	var up *workersai.Error
	if !errors.Is(err, workersai.ErrInvalidInput) || !errors.As(err, &up) {
		return err
	}
	return &problem{status: 400, Code: "refused_by_model", Message: "the model refuses it: " + up.Error(), UpstreamCode: up.Code}
}

// budget takes one request of the provider's budget, before documents do.
func (s *Server) budget(ctx context.Context, kind store.BudgetKind) error {
	m := s.cfg.Media
	return s.cfg.Store.Budget(store.BudgetConfig{Provider: m.Provider, Kind: kind, PerMinute: m.PerMinute}).Wait(ctx, true)
}

func readSpeech(c echo.Context, in any) ([]byte, error) {
	if mediaType(c.Request()) != multipartType {
		return readAll(c.Request().Body, c.Request().ContentLength)
	}
	parts, err := c.Request().MultipartReader()
	if err != nil {
		return nil, invalid("malformed multipart body: %v", err)
	}
	var audio []byte
	for {
		part, err := parts.NextPart()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = readSpeechPart(part, in, &audio)
		}
		if err != nil {
			return nil, multipartError(err)
		}
	}
	if audio == nil {
		return nil, invalid(`the form has no recording: send it as a file named "audio"`)
	}
	return audio, nil
}

func readSpeechPart(part *multipart.Part, in any, audio *[]byte) error {
	raw, err := readAll(part, 0)
	if err != nil {
		return err
	}
	switch name := part.FormName(); {
	case name == "audio" || name == "file":
		*audio = raw
		return nil
	case name == "request" && in != nil:
		return decodeStrict(raw, in)
	default:
		return &problem{status: 400, Code: "unknown_field", Message: fmt.Sprintf("unknown field %q: this form takes audio, and request with the other fields as JSON", name)}
	}
}

// transcription is a recording's text, and its words with their times in seconds.
type transcription struct {
	Text  string           `json:"text"`
	Words []workersai.Word `json:"words"`
}

// transcribe answers what was said in a recording; nothing is stored.
func (s *Server) transcribe(c echo.Context) error {
	if !isSpeech(c.Request()) {
		return errNotAudio
	}
	release, err := s.takeSlot(c.Request().Context())
	if err != nil {
		return err
	}
	defer release()
	out, err := s.hear(c, nil)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, transcription{strings.Join(strings.Fields(out.Text), " "), notNil(out.Words)})
}

// illustrateInput describes a picture: in words, or by a question and its answer.
type illustrateInput struct {
	Prompt         string   `json:"prompt"`
	Question       string   `json:"question"`
	Answer         string   `json:"answer"`
	NegativePrompt string   `json:"negative_prompt"`
	NumSteps       *int     `json:"num_steps"`
	Guidance       *float64 `json:"guidance"`
	Width          int      `json:"width"`
	Height         int      `json:"height"`
	Seed           *int64   `json:"seed"`
}

const (
	maxPromptBytes = 4 << 10
	// drawnBytes is how much of an answer becomes a prompt: image models read about 77 tokens.
	drawnBytes = 300
	// maxPixels bounds the work of one picture, and its size: 1024 by 1024 is what the model was trained for.
	maxPixels = 1024 * 1024
	// maxImageBytes bounds what is passed on: a PNG of maxPixels without compression.
	maxImageBytes = 4*maxPixels + 1<<16
)

// request checks the picture that is asked for.
func (in illustrateInput) request() (workersai.ImageInput, error) {
	prompt := strings.TrimSpace(in.Prompt)
	if prompt == "" {
		prompt = drawable(in.Question, in.Answer)
	}
	out := workersai.ImageInput{Prompt: prompt, NegativePrompt: in.NegativePrompt, NumSteps: in.NumSteps, Guidance: in.Guidance,
		Width: in.Width, Height: in.Height, Seed: in.Seed}
	sides := func(n int) bool { return n == 0 || n >= workersai.MinImageSide && n <= workersai.MaxImageSide }
	width, height := in.Width, in.Height
	setDefault(&width, 1024)
	setDefault(&height, 1024)
	switch {
	case prompt == "":
		return out, invalid("say what to draw: give prompt, or question and answer")
	case !sides(in.Width) || !sides(in.Height):
		return out, invalid("width and height are from %d to %d pixels", workersai.MinImageSide, workersai.MaxImageSide)
	case width*height > maxPixels:
		return out, invalid("%d by %d are %d pixels: a picture has at most %d", width, height, width*height, maxPixels)
	case in.NumSteps != nil && (*in.NumSteps < 1 || *in.NumSteps > workersai.MaxSteps):
		return out, invalid("num_steps is %d: give 1 to %d", *in.NumSteps, workersai.MaxSteps)
	case in.Guidance != nil && !(*in.Guidance >= 1 && *in.Guidance <= workersai.MaxGuidance):
		return out, invalid("guidance is %v: give 1 to %d", *in.Guidance, workersai.MaxGuidance)
	}
	return out, errors.Join(checkText("prompt", prompt, maxPromptBytes), checkText("negative_prompt", in.NegativePrompt, maxPromptBytes))
}

// drawable makes a prompt of a question and its answer: the answer's first words, as the question alone shows nothing.
func drawable(question, answer string) string {
	text := strings.Join(strings.Fields(answer), " ")
	if text == "" {
		text = strings.Join(strings.Fields(question), " ")
	}
	if len(text) > drawnBytes {
		text = strings.ToValidUTF8(text[:drawnBytes], "")
		if i := strings.LastIndexByte(text, ' '); i > 0 {
			text = text[:i]
		}
	}
	if text == "" {
		return ""
	}
	return "An illustration: " + text
}

// illustrate draws a picture and answers its bytes.
func (s *Server) illustrate(c echo.Context) error {
	var body illustrateInput
	if err := decode(c, &body); err != nil {
		return err
	}
	in, err := body.request()
	if err != nil {
		return err
	}
	if s.cfg.Media.Models == nil {
		return errNoMedia
	}
	ctx := c.Request().Context()
	release, err := s.takeSlot(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := s.budget(ctx, store.ImageBudget); err != nil {
		return err
	}
	img, err := s.cfg.Media.Models.Image(ctx, s.cfg.Media.ImageModel, in)
	if err != nil {
		return refusedInput(err)
	}
	if kind := img.ContentType; kind != "image/png" && kind != "image/jpeg" && kind != "image/webp" || len(img.Data) > maxImageBytes {
		return fmt.Errorf("%w: a picture of %d bytes, %s", workersai.ErrBadReply, len(img.Data), kind)
	}
	c.Response().Header().Set("Cache-Control", "no-store")
	return c.Blob(http.StatusOK, img.ContentType, img.Data)
}
