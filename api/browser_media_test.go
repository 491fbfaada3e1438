package api_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/footnote-rag/footnote/api"
	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

// spokenBy makes a WAV file of a sentence with espeak-ng. Without it the test is skipped, in CI it fails.
func spokenBy(t *testing.T, sentence string) string {
	t.Helper()
	path, err := exec.LookPath("espeak-ng")
	if err != nil {
		const remedy = "no espeak-ng on PATH: install it (Debian: apt-get install espeak-ng)"
		if os.Getenv("CI") != "" {
			t.Fatal(remedy)
		}
		t.Skip(remedy)
	}
	file := filepath.Join(t.TempDir(), "speech.wav")
	if out, err := exec.Command(path, "-s", "140", "-w", file, sentence).CombinedOutput(); err != nil {
		t.Fatalf("espeak-ng: %v: %s", err, out)
	}
	return file
}

// TestPageAsksByVoice: the browser's microphone plays a file; what is recorded reaches the speech model as a recording, and
// what that understands is asked.
func TestPageAsksByVoice(t *testing.T) {
	t.Parallel()
	speech := spokenBy(t, "How long does a visa for Japan take?")
	var mu sync.Mutex
	var got []byte
	w := setup(t, func(_ *api.Config, m *[]workersaitest.Option) {
		*m = append(*m, workersaitest.Hear(func(audio []byte) workersai.SpeechOutput {
			mu.Lock()
			defer mu.Unlock()
			got = audio
			return workersai.SpeechOutput{Text: " How long does a visa for Japan take? "}
		}))
	})
	w.add("travel.md", handbook)
	b := openBrowser(t, w, chromedp.Flag("use-fake-device-for-media-stream", true), chromedp.Flag("use-fake-ui-for-media-stream", true),
		chromedp.Flag("use-file-for-fake-audio-capture", speech))
	b.open(w.url)
	b.click(".speak")
	b.until("document.querySelector('.speak').getAttribute('aria-pressed') === 'true'")
	b.until(`(window.since ??= Date.now()) < Date.now() - 1500`) // some of the sentence
	b.shot("20-listening")
	b.click(".speak")
	b.until("Number(document.querySelector('#turns').dataset.ended || 0) > 0")
	if answer := b.text(lastAnswer); !strings.Contains(answer, "five working days") || b.text(".turn:last-child .asked") != "How long does a visa for Japan take?" {
		t.Errorf("asked %q, answer %q (%s)", b.text(".turn:last-child .asked"), answer, b.text("#notice"))
	}
	mu.Lock()
	defer mu.Unlock()
	if len(got) < 2000 || !strings.HasPrefix(string(got), "\x1a\x45\xdf\xa3") {
		t.Errorf("the model heard %d bytes that begin with %.4q, want WebM", len(got), got)
	}
	b.quiet()
}

// TestPageExplainsAMissingMicrophone: a refused microphone, and speech that is not understood.
func TestPageExplainsAMissingMicrophone(t *testing.T) {
	t.Parallel()
	w := setup(t)
	b := openBrowser(t, w, chromedp.Flag("use-fake-device-for-media-stream", true), chromedp.Flag("deny-permission-prompts", true))
	b.open(w.url)
	b.click(".speak")
	b.until("document.querySelector('#notice').textContent.includes('not allowed for this page')")
	if b.text(".speak") != "Speak" || eval[bool](b, "document.querySelector('.speak').disabled") {
		t.Errorf("the button says %q", b.text(".speak"))
	}
	eval[bool](b, "delete window.MediaRecorder")
	b.click(".speak")
	b.until("document.querySelector('#notice').textContent.includes('https and on localhost')")
	b.quiet()
}

// TestPageIllustrates: a picture for an answer is shown, under the page's strict policy.
func TestPageIllustrates(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.add("travel.md", handbook)
	b := openBrowser(t, w)
	b.open(w.url)
	b.ask("How long does a visa for Japan take?")
	w.models.Script(workersaitest.Step{Model: "@cf/stabilityai/stable-diffusion-xl-base-1.0", Status: 404,
		Body: `{"result":{},"success":false,"errors":[{"code":7502,"message":"no image engine: install one"}],"messages":[]}`})
	b.click(".turn-tools button")
	b.until("document.querySelector('#notice').textContent.includes('install one')")
	b.click(".turn-tools button")
	b.until("document.querySelector('.picture img')?.naturalWidth === 512")
	b.shot("21-illustrated")
	if b.text(".turn-tools") != "" {
		t.Errorf("buttons %q are left", b.text(".turn-tools"))
	}
	b.quiet()
}
