package modelhost_test

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/modelhost"
	"github.com/footnote-rag/footnote/workersai"
)

const (
	speechModel = "@cf/openai/whisper"
	turboModel  = "@cf/openai/whisper-large-v3-turbo"
	spoken      = "The quick brown fox jumps over the lazy dog."
)

// speak returns a WAV file of the words.
func speak(t *testing.T, words string) []byte {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "espeak-ng", "-s", "140", "--stdout", words).Output()
	if err != nil {
		t.Fatalf("espeak-ng is needed here, .ci/deps installs it: %v", err)
	}
	return out
}

func whisperHost(t *testing.T) *httptest.Server {
	t.Helper()
	w, err := whisper()
	if err != nil {
		t.Fatalf("the speech engine is needed here; `footnote doctor` says what is missing: %v", err)
	}
	return newHost(t, "", func(c *modelhost.Config) { c.Engines = map[string]modelhost.Engine{modelhost.EngineWhisperTiny: w} })
}

// heard says how many of the spoken words came back.
func heard(text, words string) int {
	n := 0
	for _, w := range strings.Fields(strings.ToLower(strings.Trim(words, "."))) {
		if strings.Contains(strings.ToLower(text), w) {
			n++
		}
	}
	return n
}

func TestSpokenWordsComeBack(t *testing.T) {
	t.Parallel()
	srv := whisperHost(t)
	wav := speak(t, spoken)
	numbers, _ := json.Marshal(map[string]any{"audio": workersai.Bytes(wav)})
	inBase64, _ := json.Marshal(map[string]any{"audio": base64.StdEncoding.EncodeToString(wav), "language": "en", "task": "transcribe", "vad_filter": true})
	for name, q := range map[string]struct{ model, body string }{
		"the file itself":          {speechModel, string(wav)},
		"an array of numbers":      {speechModel, string(numbers)},
		"base64 for turbo":         {turboModel, string(inBase64)},
		"the file itself to turbo": {turboModel, string(wav)},
		"by the weights' own name": {"@cf/openai/whisper-tiny-en", string(wav)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resp, env := post(t, srv.URL+root+"run/"+q.model, q.body) // as application/x-www-form-urlencoded
			var out workersai.SpeechOutput
			if err := json.Unmarshal(env.Result, &out); err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("%d %+v, %v", resp.StatusCode, env.Errors, err)
			}
			checkSpeech(t, out)
			if turbo := q.model == turboModel; turbo != (out.Info != nil) || turbo != (len(out.Segments) > 0) {
				t.Errorf("%s: transcription_info %+v, %d segments", q.model, out.Info, len(out.Segments))
			}
		})
	}
}

// checkSpeech wants the spoken words, their times in order, and captions.
func checkSpeech(t *testing.T, out workersai.SpeechOutput) {
	t.Helper()
	if n := heard(out.Text, spoken); n < 7 {
		t.Errorf("heard %q: %d of the 9 words of %q, want 7", out.Text, n, spoken)
	}
	if out.WordCount != len(strings.Fields(out.Text)) || len(out.Words) != out.WordCount {
		t.Errorf("word_count %d, %d words with times for %q", out.WordCount, len(out.Words), out.Text)
	}
	last := 0.0
	for _, w := range out.Words {
		if w.Word == "" || w.Word != strings.TrimSpace(w.Word) || w.Start < last || w.End < w.Start || w.End > 10 {
			t.Errorf("word %+v after %.2f s", w, last)
		}
		last = w.Start
	}
	if !strings.HasPrefix(out.VTT, "WEBVTT\n\n00:0") || !strings.Contains(out.VTT, " --> 00:0") || heard(out.VTT, spoken) < 7 {
		t.Errorf("vtt = %q, want captions with times", out.VTT)
	}
}

func TestTranscribeByClient(t *testing.T) {
	t.Parallel()
	c := clientOf(t, whisperHost(t))
	for _, model := range []string{speechModel, turboModel} {
		out, err := c.Transcribe(t.Context(), workersai.TranscribeRequest{Model: model, Audio: speak(t, spoken)})
		if err != nil {
			t.Fatal(err)
		}
		checkSpeech(t, *out)
	}
}

// silence is a WAV file of one second of nothing.
func silence() []byte {
	le := binary.LittleEndian
	b := le.AppendUint32([]byte("RIFF"), 36+32000)
	b = append(b, "WAVEfmt "...)
	b = le.AppendUint16(le.AppendUint16(le.AppendUint32(b, 16), 1), 1)
	b = le.AppendUint32(le.AppendUint32(b, 16000), 32000)
	b = le.AppendUint16(le.AppendUint16(b, 2), 16)
	return append(le.AppendUint32(append(b, "data"...), 32000), make([]byte, 32000)...)
}

func TestSpeechRefusals(t *testing.T) {
	t.Parallel()
	srv := whisperHost(t)
	wav := speak(t, "Hello")
	for name, q := range map[string]struct {
		model, body string
		status      int
		text        string
	}{
		"empty body":           {speechModel, "", 400, "the body is empty"},
		"white space":          {speechModel, " \n", 400, "the body is empty"},
		"no audio":             {speechModel, `{}`, 400, "required properties at '/' are 'audio'"},
		"an empty array":       {speechModel, `{"audio":[]}`, 400, "audio must be an array"},
		"a number too large":   {speechModel, `{"audio":[82,256]}`, 400, "'/audio/1' must be <= 255"},
		"a negative number":    {speechModel, `{"audio":[-1]}`, 400, "'/audio/0' must be >= 0"},
		"base64 for whisper":   {speechModel, `{"audio":"UklGRg=="}`, 400, "audio must be an array"},
		"broken JSON":          {speechModel, `{"audio":[82,73`, 400, "not JSON"},
		"numbers for turbo":    {turboModel, `{"audio":[82,73]}`, 400, "base64"},
		"not base64":           {turboModel, `{"audio":"***"}`, 400, "not base64"},
		"no such task":         {turboModel, `{"audio":"UklGRg==","task":"sing"}`, 400, "enum sing not in transcribe,translate at '/task'"},
		"no such language":     {turboModel, `{"audio":"UklGRg==","language":"klingon"}`, 400, "klingon"},
		"words instead":        {speechModel, "These are words and no audio.", 400, "the audio cannot be read"},
		"a picture":            {speechModel, "\x89PNG\r\n\x1a\n" + strings.Repeat("\x00", 100), 400, "the"},
		"a header alone":       {speechModel, string(wav[:44]), 400, "no audio"},
		"French for tiny.en":   {turboModel, `{"audio":"` + base64.StdEncoding.EncodeToString(wav) + `","language":"fr"}`, 400, "hears English only"},
		"translation by tiny":  {turboModel, `{"audio":"` + base64.StdEncoding.EncodeToString(wav) + `","task":"translate"}`, 400, "hears English only"},
		"silence has no words": {speechModel, string(silence()), 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resp, env := post(t, srv.URL+root+"run/"+q.model, q.body)
			if resp.StatusCode != q.status || q.status == 400 && (len(env.Errors) != 1 || env.Errors[0].Code != 7504 || !strings.Contains(env.Errors[0].Message, q.text)) {
				t.Errorf("%d %+v, want %d with %q", resp.StatusCode, env.Errors, q.status, q.text)
			}
		})
	}
}

func TestSpeechNotConfigured(t *testing.T) {
	t.Parallel()
	srv := newHost(t, "", func(c *modelhost.Config) { c.Engines = nil })
	_, err := clientOf(t, srv).Transcribe(t.Context(), workersai.TranscribeRequest{Model: speechModel, Audio: []byte("RIFF")})
	if !errors.Is(err, workersai.ErrModelNotFound) || !strings.Contains(err.Error(), "FOOTNOTE_SPEECH_URL") {
		t.Errorf("without an engine: %v, want model not found and how to configure one", err)
	}
}

// TestSpeechByURL asks a scripted server of OpenAI's shape, which names languages in words, gives no words and hours.
func TestSpeechByURL(t *testing.T) {
	t.Parallel()
	var file, model, key string
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, head, err := r.FormFile("file")
		if err != nil || r.URL.Path != "/v1/audio/translations" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		file, model, key = head.Filename, r.FormValue("model"), r.Header.Get("Authorization")
		_, _ = w.Write([]byte(`{"task":"translate","language":"french","duration":7300.5,"text":" Good day.","segments":[
			{"id":0,"start":3601.25,"end":7300.5,"text":" Good\n day --> x","avg_logprob":-0.25}]}`))
	}))
	t.Cleanup(up.Close)
	srv := newHost(t, "", func(c *modelhost.Config) {
		c.Engines = map[string]modelhost.Engine{modelhost.EngineSpeechURL: modelhost.URLEngine(up.URL+"/v1/", "k")}
	})
	out, err := clientOf(t, srv).Transcribe(t.Context(), workersai.TranscribeRequest{Model: turboModel, Audio: []byte("fLaC…"), Task: "translate"})
	if err != nil {
		t.Fatal(err)
	}
	if want := "WEBVTT\n\n01:00:01.250 --> 02:01:40.500\nGood day -> x\n\n"; out.VTT != want || out.Text != "Good day." || out.WordCount != 2 || out.Info.Language != "fr" {
		t.Errorf("got %+v, info %+v, want captions %q", out, out.Info, want)
	}
	if file != "audio.flac" || model != "whisper-1" || key != "Bearer k" {
		t.Errorf("the server was sent file %q, model %q, %q", file, model, key)
	}
}
