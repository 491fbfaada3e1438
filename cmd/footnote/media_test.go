package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/store"
)

// speak makes a WAV file of a text with espeak-ng. Without it the test is skipped, in CI it fails.
func (w *world) speak(name, text string) string {
	w.t.Helper()
	path, err := exec.LookPath("espeak-ng")
	if err != nil {
		const remedy = "no espeak-ng on PATH: install it (Debian: apt-get install espeak-ng)"
		if os.Getenv("CI") != "" {
			w.t.Fatal(remedy)
		}
		w.t.Skip(remedy)
	}
	file := filepath.Join(w.dir, name)
	if out, err := exec.Command(path, "-v", "en-us", "-s", "120", "-w", file, text).CombinedOutput(); err != nil {
		w.t.Fatalf("espeak-ng: %v: %s", err, out)
	}
	return file
}

// pull installs what a model needs.
func (w *world) pull(model string) {
	w.t.Helper()
	if _, errs, code := w.run(nil, "models", "pull", model); code != 0 {
		w.t.Fatalf("models pull %s exits %d: %s", model, code, errs)
	}
}

const lecture = `Welcome to the lecture about famous towers and bridges.
Engineers removed soil from the northern side of the tower, and the tower moved back by forty centimeters.
The golden gate bridge was opened in nineteen thirty seven, and it is painted orange.`

// events are the data of the events of one name, of ask --json.
func eventsOf[T any](t *testing.T, out, name string) (all []T) {
	t.Helper()
	for line := range strings.Lines(out) {
		var ev struct {
			Event string          `json:"event"`
			Data  json.RawMessage `json:"data"`
		}
		var data T
		if err := json.Unmarshal([]byte(line), &ev); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if ev.Event != name {
			continue
		}
		if err := json.Unmarshal(ev.Data, &data); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		all = append(all, data)
	}
	return all
}

// TestSpeech: words that a synthesiser speaks come back recognisable, as a document whose footnotes tell the time, and as a
// question.
func TestSpeech(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	talk := w.speak("lecture.wav", lecture)
	question := w.speak("question.wav", "When was the golden gate bridge opened?")
	w.pull("@cf/openai/whisper")
	s := w.serve()
	if _, errs, code := w.run(s.at(), "load", talk); code != 0 {
		t.Fatalf("load exits %d: %s", code, errs)
	}
	out, errs, code := w.run(s.at(), "ask", "--audio", question)
	if code != 0 || !strings.Contains(out, "1937") || !strings.Contains(out, "lecture.wav at 0:") {
		t.Errorf("ask --audio exits %d: %s\n%s", code, out, errs)
	}
	if !strings.Contains(strings.ToLower(errs), "heard: when was the golden gate") {
		t.Errorf("ask --audio heard: %s", errs)
	}
	var answer struct{ Citations []citation }
	if err := json.Unmarshal([]byte(post(t, s.url+"/v1/answer", `{"question":"What color is the golden gate bridge painted?","extractive":true}`)), &answer); err != nil {
		t.Fatal(err)
	}
	if len(answer.Citations) == 0 {
		t.Fatal("no footnote")
	}
	if c := answer.Citations[0]; !strings.Contains(c.Quote, "orange") || c.Time == nil || c.Time.Start < 8 || c.Time.End < c.Time.Start+3 || c.Time.End > 30 {
		t.Errorf("the footnote %+v does not tell that the bridge was spoken of at the end of the lecture", c)
	}
}

func post(t *testing.T, url, body string) string {
	t.Helper()
	resp, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		t.Fatalf("POST %s: %s, %v: %.300s", url, resp.Status, err, b)
	}
	return string(b)
}

// TestSpanishQuestion: a question in Spanish finds the right page of an English manual and is answered in Spanish.
func TestSpanishQuestion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pull("@cf/meta/m2m100-1.2b")
	for name, text := range map[string]string{
		"tower.md":    "# The tower of Pisa\n\nThe tower leans because the soil under it is soft. Engineers removed soil from the northern side.",
		"receipts.md": "# Expenses\n\nReceipts are kept for seven years. Expenses are paid within thirty days.",
		"visa.md":     "# Visas\n\nA visa for Japan costs twenty euros and takes five days.",
	} {
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s := w.serve()
	if _, errs, code := w.run(s.at(), "load", filepath.Join(w.dir, "*.md")); code != 0 {
		t.Fatalf("load exits %d: %s", code, errs)
	}
	for _, q := range []struct{ question, page, quote, answer string }{
		{"¿Por qué se inclina la torre?", "tower.md", "soft", "torre"},
		{"¿Cuánto cuesta un visado para Japón?", "visa.md", "twenty euros", "veinte euros"},
	} {
		out, errs, code := w.run(s.at(), "ask", "--json", q.question)
		if code != 0 {
			t.Fatalf("ask %q exits %d: %s", q.question, code, errs)
		}
		var answer string
		for _, d := range eventsOf[struct{ Text string }](t, out, "delta") {
			answer += d.Text
		}
		if language := store.DetectLanguage(answer); language != "es" || !strings.Contains(strings.ToLower(answer), q.answer) {
			t.Errorf("%q is answered %q, language %q, want Spanish with %q\n%s", q.question, answer, language, q.answer, out)
		}
		right := false
		for _, c := range eventsOf[citation](t, out, "citation") {
			right = right || c.Document != nil && strings.HasSuffix(c.Document.URI, q.page) && strings.Contains(c.Quote, q.quote)
		}
		if !right {
			t.Errorf("%q is answered without %s: %s", q.question, q.page, out)
		}
	}
}

// TestSpanishDocument: an English question finds a Spanish document of a collection that is embedded in English, and the
// footnote is the Spanish sentence.
func TestSpanishDocument(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pull("@cf/meta/m2m100-1.2b")
	file := filepath.Join(w.dir, "gastos.md")
	if err := os.WriteFile(file, []byte("# Los gastos\n\nLos recibos se guardan durante siete años. Los gastos se pagan en treinta días."), 0o644); err != nil {
		t.Fatal(err)
	}
	s := w.serve()
	if _, errs, code := w.run(s.at(), "load", "--translate-to", "en", file); code != 0 {
		t.Fatalf("load exits %d: %s", code, errs)
	}
	var answer struct {
		Answer    string
		Citations []citation
	}
	if err := json.Unmarshal([]byte(post(t, s.url+"/v1/answer", `{"question":"How long are receipts kept?","extractive":true}`)), &answer); err != nil {
		t.Fatal(err)
	}
	if len(answer.Citations) == 0 || answer.Citations[0].Quote != "Los recibos se guardan durante siete años." || !strings.Contains(answer.Answer, "seven years") {
		t.Errorf("answer %+v, want one in English from the Spanish sentence", answer)
	}
}
