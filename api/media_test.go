package api_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image/png"
	"io"
	"math"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/footnote-rag/footnote/api"
	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

// speech is a WAV file, which the models of a test hear as its text: the words in its samples.
func speech(words string) []byte {
	if len(words)%2 == 1 {
		words += " "
	}
	le := binary.LittleEndian
	b := append(le.AppendUint32([]byte("RIFF"), uint32(36+len(words))), "WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00data"...)
	return append(le.AppendUint32(b, uint32(len(words))), words...)
}

// hears makes models that hear speech, a word every half second.
func hears(c *api.Config, m *[]workersaitest.Option) {
	*m = append(*m, workersaitest.Hear(func(audio []byte) workersai.SpeechOutput {
		out := workersai.SpeechOutput{Text: strings.TrimSpace(string(audio[44:]))}
		for i, word := range strings.Fields(out.Text) {
			out.Words = append(out.Words, workersai.Word{Word: word, Start: float64(i) / 2, End: float64(i)/2 + 0.4})
		}
		return out
	}))
}

type timedReply struct {
	Time  *struct{ Start, End float64 }
	Text  string
	Quote string
}

// TestFootnotesOfRecordingsHaveTimes: passages and citations tell when they were spoken, those of other documents do not.
func TestFootnotesOfRecordingsHaveTimes(t *testing.T) {
	t.Parallel()
	w := setup(t, hears)
	var p putReply
	talk := "Welcome to the lecture. The tower of Pisa leans because its soil is soft. Thank you."
	w.into(w.send("POST", "/v1/documents?wait=60s&uri=talk.wav", "audio/wav", strings.NewReader(string(speech(talk)))), 200, &p)
	if p.Status != "completed" {
		t.Fatalf("the recording ended %+v %+v", p, p.Error)
	}
	w.add("handbook.md", handbook)

	var answer struct {
		Sources, Citations []timedReply
	}
	w.into(w.post("/v1/answer", `{"question":"Why does the tower of Pisa lean?","extractive":true}`), 200, &answer)
	if len(answer.Citations) == 0 {
		t.Fatal("no citation")
	}
	c := answer.Citations[0]
	first := len(strings.Fields(talk[:strings.Index(talk, "The tower")]))
	last := first + len(strings.Fields(c.Quote)) - 1
	if c.Time == nil || c.Time.Start != float64(first)/2 || math.Abs(c.Time.End-(float64(last)/2+0.4)) > 0.001 {
		t.Errorf("%q was spoken at %+v, want %v to %v", c.Quote, c.Time, float64(first)/2, float64(last)/2+0.4)
	}
	var found struct{ Passages []timedReply }
	w.into(w.post("/v1/search", `{"query":"tower receipts"}`), 200, &found)
	for _, p := range found.Passages {
		if (p.Time != nil) != strings.Contains(p.Text, "tower") {
			t.Errorf("passage %.40q has time %v", p.Text, p.Time)
		}
	}
}

// form is a multipart body with files and fields.
func form(t *testing.T, fields ...[2]string) (contentType string, body io.Reader) {
	t.Helper()
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	for _, f := range fields {
		var part io.Writer
		var err error
		if f[0] == "audio" {
			part, err = m.CreateFormFile("audio", "question.wav")
		} else {
			part, err = m.CreateFormField(f[0])
		}
		if err == nil {
			_, err = io.WriteString(part, f[1])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	return m.FormDataContentType(), &b
}

// TestSpokenQuestions: a recording is a question, in each form; what was understood comes back.
func TestSpokenQuestions(t *testing.T) {
	t.Parallel()
	w := setup(t, hears)
	w.add("handbook.md", handbook)
	const question = "How long are receipts kept?"
	audio := string(speech(question))

	var answer struct {
		Answer string
		Steps  []struct{ Step, To string }
	}
	check := func(how string, r reply) {
		t.Helper()
		w.into(r, 200, &answer)
		if len(answer.Steps) == 0 || answer.Steps[0].Step != "transcribe" || answer.Steps[0].To != question || !strings.Contains(answer.Answer, "seven years") {
			t.Errorf("%s: %+v", how, answer)
		}
	}
	check("raw", w.send("POST", "/v1/answer", "audio/wav", strings.NewReader(audio)))
	contentType, body := form(t, [2]string{"audio", audio}, [2]string{"request", `{"collection":"default","extractive":true}`})
	check("form", w.send("POST", "/v1/answer", contentType, body))

	w.headers.Set("Accept", "text/event-stream")
	events, _, err := readEvents(bytes.NewReader(w.send("POST", "/v1/answer", "audio/wav", strings.NewReader(audio)).body))
	if err != nil || len(events) < 3 || events[0].name != "step" || !strings.Contains(events[0].data, question) || events[1].name != "sources" {
		t.Errorf("events %v, %v, want the step, then the sources", events, err)
	}
	w.headers.Del("Accept")

	var found struct {
		Query    string
		Passages []timedReply
	}
	w.into(w.send("POST", "/v1/search", "audio/wav", strings.NewReader(audio)), 200, &found)
	if found.Query != question || len(found.Passages) == 0 {
		t.Errorf("search: %+v", found)
	}
	var heard struct {
		Text  string
		Words []workersai.Word
	}
	w.into(w.send("POST", "/v1/transcribe", "audio/wav", strings.NewReader(audio)), 200, &heard)
	if heard.Text != question || len(heard.Words) != 5 || heard.Words[4].Start != 2 {
		t.Errorf("transcribe: %+v", heard)
	}
}

func TestSpokenQuestionsThatAreRefused(t *testing.T) {
	t.Parallel()
	w := setup(t, hears)
	w.add("handbook.md", handbook)
	audio := string(speech("words"))
	post := func(path, contentType, body string) reply {
		return w.send("POST", path, contentType, strings.NewReader(body))
	}
	w.refused(post("/v1/answer", "audio/wav", "no recording"), 415, "unsupported_media_type")
	w.refused(post("/v1/transcribe", "application/json", `{}`), 415, "unsupported_media_type")
	w.refused(post("/v1/answer", "audio/wav", string(speech("  "))), 422, "no_speech")
	w.refused(post("/v1/answer", "audio/wav", audio+strings.Repeat("x", 26<<20)), 413, "request_too_large")
	contentType, body := form(t, [2]string{"request", `{}`})
	w.refused(w.send("POST", "/v1/answer", contentType, body), 400, "invalid_request")
	contentType, body = form(t, [2]string{"audio", audio}, [2]string{"request", `{"quetsion":"x"}`})
	w.refused(w.send("POST", "/v1/answer", contentType, body), 400, "unknown_field")
	contentType, body = form(t, [2]string{"audio", audio}, [2]string{"request", `{"limit":0}`})
	w.refused(w.send("POST", "/v1/answer", contentType, body), 400, "invalid_request")

	upstream := func(code, status int) {
		w.models.Script(workersaitest.Step{Model: "@cf/openai/whisper", Status: status,
			Body: fmt.Sprintf(`{"result":{},"success":false,"errors":[{"code":%d,"message":"said so"}],"messages":[]}`, code)})
	}
	upstream(7502, 404)
	if e := w.refused(post("/v1/answer", "audio/wav", audio), 404, "model_not_found"); e.Error.UpstreamCode != 7502 || !strings.Contains(e.Error.Message, "said so") {
		t.Errorf("no engine: %+v", e)
	}
	upstream(7504, 400)
	w.refused(post("/v1/transcribe", "audio/wav", audio), 400, "refused_by_model")
}

func TestIllustrate(t *testing.T) {
	t.Parallel()
	w := setup(t)
	r := w.post("/v1/illustrate", `{"prompt":"a leaning tower","negative_prompt":"people","num_steps":4,"guidance":5,"width":256,"height":320,"seed":7}`)
	w.into(r, 200, nil)
	img, err := png.Decode(bytes.NewReader(r.body))
	if err != nil || r.Header.Get("Content-Type") != "image/png" || img.Bounds().Dx() != 256 || img.Bounds().Dy() != 320 {
		t.Errorf("%s of %d bytes: %v", r.Header.Get("Content-Type"), len(r.body), err)
	}
	w.into(w.post("/v1/illustrate", `{"question":"Why?","answer":"The tower leans. `+strings.Repeat("Long ", 500)+`"}`), 200, nil)
	all := w.models.Requests()
	if last := string(all[len(all)-1].Body); !strings.Contains(last, "The tower leans.") || len(last) > 500 {
		t.Errorf("asked for %q", last)
	}
	for _, body := range []string{`{}`, `{"prompt":" "}`, `{"prompt":"x","width":100}`, `{"prompt":"x","width":2048}`, `{"prompt":"x","num_steps":21}`,
		`{"prompt":"x","guidance":0.5}`} {
		w.refused(w.post("/v1/illustrate", body), 400, "invalid_request")
	}
	w.refused(w.post("/v1/illustrate", `{"prompt":"x","color":"red"}`), 400, "unknown_field")
	w.models.Script(workersaitest.Step{ContentType: "text/html", Body: "<p>proxy</p>"})
	w.refused(w.post("/v1/illustrate", `{"prompt":"x"}`), 502, "bad_upstream_reply")
	w.models.Script(workersaitest.Step{Status: http.StatusNotFound, Body: `{"result":{},"success":false,"errors":[{"code":7502,"message":"none"}],"messages":[]}`})
	w.refused(w.post("/v1/illustrate", `{"prompt":"x"}`), 404, "model_not_found")
}

// TestTranslatedCollection: the option is set, shown and changed; passages show what was embedded.
func TestTranslatedCollection(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var k struct {
		TranslateTo string `json:"translate_to"`
	}
	w.into(w.post("/v1/collections", `{"name":"default","translate_to":"en"}`), 201, &k)
	if k.TranslateTo != "en" {
		t.Errorf("translate_to %q, want en", k.TranslateTo)
	}
	d := w.add("torre.md", "La torre se inclina porque el suelo es blando.")
	var found struct {
		Passages []struct{ Text, Translation string }
	}
	w.into(w.post("/v1/search", `{"query":"torre"}`), 200, &found)
	if len(found.Passages) != 1 || !strings.HasPrefix(found.Passages[0].Translation, "en: ") || !strings.HasSuffix(found.Passages[0].Translation, found.Passages[0].Text) {
		t.Errorf("passages %+v, want one with its translation", found.Passages)
	}
	w.into(w.post("/v1/collections", `{"name":"default"}`), 200, &k)
	if k.TranslateTo != "en" {
		t.Errorf("translate_to %q after a request that does not say, want en", k.TranslateTo)
	}
	w.into(w.post("/v1/collections", `{"name":"default","translate_to":""}`), 200, &k)
	if k.TranslateTo != "" {
		t.Errorf("translate_to %q, want none", k.TranslateTo)
	}
	w.refused(w.post("/v1/collections", `{"name":"default","translate_to":"English please"}`), 400, "invalid_request")
	w.into(w.get("/v1/documents/"+d.ID+"/chunks"), 200, nil)
}

// TestDocumentsAndQuestionsShareTheTranslator: what the provider asked of a document's translation, a question's obeys.
func TestDocumentsAndQuestionsShareTheTranslator(t *testing.T) {
	t.Parallel()
	const pause = 2 * time.Second
	w := setup(t)
	w.add("tower.md", "The tower leans because the soil below it is soft.")
	w.into(w.post("/v1/collections", `{"name":"torres","translate_to":"en"}`), 201, nil)
	w.models.Script(workersaitest.Capacity("2"))
	w.into(w.post("/v1/documents", `{"collection":"torres","uri":"torre.md","text":"La torre se inclina porque el suelo es blando."}`), 202, nil)
	w.wantWaiting("torres", "translate", "Capacity temporarily exceeded")
	w.into(w.post("/v1/answer", `{"question":"¿Por qué se inclina la torre que está en la ciudad?"}`), 200, nil)
	calls := w.models.CallTimes("@cf/meta/m2m100-1.2b")
	if len(calls) < 3 {
		t.Fatalf("%d translations asked for, want the refused one, its repetition and the question's", len(calls))
	}
	for i, at := range calls[1:] {
		if gap := at.Sub(calls[0]); gap < pause {
			t.Errorf("translation %d was asked for %v after the refusal, want %v or more", i+2, gap, pause)
		}
	}
}
