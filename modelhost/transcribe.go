package modelhost

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"mime/multipart"
	"strings"

	"github.com/footnote-rag/footnote/workersai"
)

// maxExplained is up to how many bytes a refused body is checked once more, slowly, to name the place that is wrong.
const maxExplained = 1 << 20

// speechRequest is what an engine is asked: a recording and, for the turbo model, what its caller says about it.
type speechRequest struct {
	audio     []byte
	language  string
	translate bool
	vad       bool
	prompt    string
}

// speechSegment is a phrase, with the figures that Whisper gives for it.
type speechSegment struct {
	Start            float64          `json:"start"`
	End              float64          `json:"end"`
	Text             string           `json:"text"`
	Temperature      float64          `json:"temperature"`
	AvgLogprob       float64          `json:"avg_logprob"`
	CompressionRatio float64          `json:"compression_ratio"`
	NoSpeechProb     float64          `json:"no_speech_prob"`
	Words            []workersai.Word `json:"words,omitempty"`
}

// verboseJSON is an answer of OpenAI's transcription API. What follows segments is our own engine's.
type verboseJSON struct {
	Text     *string          `json:"text"`
	Language string           `json:"language"` // a code, or an English name
	Duration float64          `json:"duration"` // seconds
	Words    []workersai.Word `json:"words"`
	Segments []speechSegment  `json:"segments"`

	Probability float64  `json:"language_probability"`
	AfterVAD    *float64 `json:"duration_after_vad"`
}

// speechOutput is the result; the last two are the turbo model's.
type speechOutput struct {
	Text      string           `json:"text"`
	WordCount int              `json:"word_count"`
	Words     []workersai.Word `json:"words,omitempty"`
	VTT       string           `json:"vtt"`
	Segments  []speechSegment  `json:"segments,omitempty"`
	Info      *speechInfo      `json:"transcription_info,omitempty"`
}

type speechInfo struct {
	Language    string   `json:"language"`
	Probability float64  `json:"language_probability,omitempty"`
	Duration    float64  `json:"duration"`
	AfterVAD    *float64 `json:"duration_after_vad,omitempty"`
}

// isTurbo says whether a model takes base64 and options, and answers with segments.
func isTurbo(model string) bool { return strings.Contains(model, "turbo") }

// transcribe serves a speech model. The body is the recording itself whatever its content type says, or a JSON object.
func (h *Host) transcribe(c *call, b *backend, body []byte) error {
	q, err := readSpeech(body, isTurbo(b.Name), h.schemas[b.Task].input)
	if err != nil {
		return err
	}
	leave, err := b.gate.enter(c.r.Context(), false)
	if err != nil {
		return err
	}
	defer leave()
	out, err := b.askTranscription(c.r.Context(), q)
	if err != nil {
		return err
	}
	answer(c, out.result(isTurbo(b.Name)))
	return nil
}

func readSpeech(body []byte, turbo bool, s *schema) (speechRequest, error) {
	start := bytes.TrimLeft(body, " \t\r\n")
	if len(start) == 0 {
		return speechRequest{}, invalid("required properties at '/' are 'audio'", "the body is empty: send a recording")
	}
	if start[0] != '{' { // no audio format begins so
		return speechRequest{audio: body}, nil
	}
	if turbo {
		return readTurbo(body, s)
	}
	var in struct {
		Audio workersai.Bytes `json:"audio"`
	}
	if err := json.Unmarshal(body, &in); err != nil || len(in.Audio) == 0 {
		return speechRequest{}, refuseSpeech(body, s, "audio must be an array of the file's bytes, numbers from 0 to 255; or send the file itself as the body")
	}
	return speechRequest{audio: in.Audio}, nil
}

func readTurbo(body []byte, s *schema) (speechRequest, error) {
	var in struct {
		workersai.TurboSpeechInput
		Audio string `json:"audio"`
	}
	if err := json.Unmarshal(body, &in); err != nil || in.Audio == "" {
		return speechRequest{}, refuseSpeech(body, s, "audio must be the file in base64; or send the file itself as the body")
	}
	audio, err := base64.StdEncoding.DecodeString(in.Audio)
	if err != nil {
		return speechRequest{}, invalid("Type mismatch of '/audio', 'base64' not in 'string'", "audio is not base64: "+err.Error())
	}
	if in.Task != "" && in.Task != "transcribe" && in.Task != "translate" {
		return speechRequest{}, refuseSpeech(body, s, "task is transcribe or translate")
	}
	q := speechRequest{audio: audio, translate: in.Task == "translate", vad: in.VADFilter, prompt: in.InitialPrompt}
	if in.Language != "" {
		l, ok := findLanguage(in.Language)
		if !ok {
			return q, invalid(fmt.Sprintf("enum %s not in the model's languages at '/language'", in.Language), fmt.Sprintf("language %q is not known: give a code such as en", in.Language))
		}
		q.language = l.code
	}
	return q, nil
}

// refuseSpeech names the rule that body breaks, if it is the schema's and finding it is cheap.
func refuseSpeech(body []byte, s *schema, otherwise string) error {
	if len(body) <= maxExplained {
		var in struct{}
		if err := decodeBody(body, s, &in); err != nil {
			return err
		}
	}
	return invalid("Type mismatch of '/audio'", otherwise)
}

// askTranscription speaks OpenAI's transcription API, which wants a file name with the format's ending.
func (b *backend) askTranscription(ctx context.Context, q speechRequest) (*verboseJSON, error) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body) // writing to a buffer does not fail
	file, _ := form.CreateFormFile("file", "audio."+audioFormat(q.audio))
	_, _ = file.Write(q.audio)
	fields := [][2]string{{"model", b.Backend.Model}, {"response_format", "verbose_json"},
		{"timestamp_granularities[]", "word"}, {"timestamp_granularities[]", "segment"}}
	for name, value := range map[string]string{"language": q.language, "prompt": q.prompt} {
		if value != "" {
			fields = append(fields, [2]string{name, value})
		}
	}
	if q.vad {
		fields = append(fields, [2]string{"vad_filter", "true"})
	}
	for _, f := range fields {
		_ = form.WriteField(f[0], f[1])
	}
	_ = form.Close()
	path := "/v1/audio/transcriptions"
	if q.translate {
		path = "/v1/audio/translations"
	}
	var out verboseJSON
	if err := b.exchange(ctx, request{path: path, contentType: form.FormDataContentType(), body: body.Bytes()}, &out); err != nil {
		return nil, err
	}
	if out.Text == nil {
		return nil, engineFailed("the engine of "+b.Name+" answered without a text", nil)
	}
	return &out, nil
}

// audioFormat is the usual file ending for a recording, by its first bytes; wav where they say nothing.
func audioFormat(data []byte) string {
	at := func(i int, magic string) bool {
		return len(data) >= i+len(magic) && string(data[i:i+len(magic)]) == magic
	}
	switch {
	case at(0, "ID3") || len(data) > 1 && data[0] == 0xff && data[1]&0xe6 == 0xe2: // MPEG frame sync, layer III
		return "mp3"
	case at(0, "fLaC"):
		return "flac"
	case at(0, "OggS"):
		return "ogg"
	case at(4, "ftyp"):
		return "m4a"
	case at(0, "\x1a\x45\xdf\xa3"):
		return "webm"
	}
	return "wav"
}

// result is the answer in the API's shape.
func (v *verboseJSON) result(turbo bool) speechOutput {
	text := strings.TrimSpace(*v.Text)
	out := speechOutput{Text: text, WordCount: len(strings.Fields(text)), VTT: v.vtt(text)}
	for _, w := range v.Words {
		w.Word = strings.TrimSpace(w.Word)
		out.Words = append(out.Words, w)
	}
	if !turbo {
		return out
	}
	out.Segments = v.Segments
	language := v.Language
	if l, ok := findLanguage(language); ok {
		language = l.code
	}
	out.Info = &speechInfo{Language: language, Probability: v.Probability, Duration: v.Duration, AfterVAD: v.AfterVAD}
	return out
}

// vtt writes WebVTT, a cue a segment.
func (v *verboseJSON) vtt(text string) string {
	cues := v.Segments
	if len(cues) == 0 && text != "" {
		cues = []speechSegment{{End: v.Duration, Text: text}}
	}
	var out strings.Builder
	out.WriteString("WEBVTT\n\n")
	for _, s := range cues {
		line := strings.ReplaceAll(strings.Join(strings.Fields(s.Text), " "), "-->", "->") // the one thing that a cue must not hold
		fmt.Fprintf(&out, "%s --> %s\n%s\n\n", vttTime(s.Start), vttTime(s.End), line)
	}
	return out.String()
}

func vttTime(seconds float64) string {
	ms := int64(math.Round(max(0, seconds) * 1000))
	text := fmt.Sprintf("%02d:%02d.%03d", ms/60_000%60, ms/1000%60, ms%1000)
	if hours := ms / 3_600_000; hours > 0 {
		text = fmt.Sprintf("%02d:%s", hours, text)
	}
	return text
}
