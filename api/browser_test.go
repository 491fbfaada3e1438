package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/footnote-rag/footnote/api"
	"github.com/footnote-rag/footnote/retrieval"
	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

// browser is a headless Chromium with one tab that watches what the page does.
type browser struct {
	*testing.T
	ctx context.Context
	w   *world

	mu       sync.Mutex
	dialogs  []string
	requests []string
	errors   []string
}

func openBrowser(t *testing.T, w *world, more ...chromedp.ExecAllocatorOption) *browser {
	t.Helper()
	path := chromium(t)
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WindowSize(1280, 900),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-domain-reliability", true), chromedp.Flag("disable-sync", true), chromedp.Flag("no-pings", true),
		chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(60*time.Second))
	options = append(options, more...)
	alloc, closeAll := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(closeAll)
	b := &browser{T: t, w: w}
	tab, closeTab := chromedp.NewContext(alloc, chromedp.WithListener(b.watch))
	t.Cleanup(func() {
		if err := chromedp.Cancel(tab); err != nil {
			t.Errorf("close Chromium: %v", err)
		}
		closeTab()
	})
	if err := chromedp.Do(tab); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	var cancel context.CancelFunc
	b.ctx, cancel = context.WithTimeout(tab, 2*time.Minute)
	t.Cleanup(cancel)
	call(b, network.Enable, network.EnableParams{})
	call(b, page.Enable, page.EnableParams{})
	return b
}

// call runs a command of the browser's protocol.
func call[P, R any](b *browser, command cdp.Command[P, R], params P) {
	b.Helper()
	if _, err := chromedp.Call(b.ctx, command, params); err != nil {
		b.Fatalf("%s: %v", command.Method, err)
	}
}

// eval returns the value of a JavaScript expression; a promise is waited for.
func eval[T any](b *browser, expression string) T {
	b.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.Fatalf("%.300s: %v", expression, err)
	}
	return v
}

// chromium finds the browser. Without one the test is skipped, in CI it fails.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	const remedy = "no Chromium on PATH: install it (Debian: apt-get install chromium)"
	if os.Getenv("CI") != "" {
		t.Fatal(remedy)
	}
	t.Skip(remedy)
	return ""
}

func (b *browser) watch(ev any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch ev := ev.(type) {
	case *page.EventJavascriptDialogOpening:
		b.dialogs = append(b.dialogs, ev.Message)
		go func() { // else the page hangs; the dialog is a failure in any case
			_, _ = chromedp.Call(b.ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{})
		}()
	case *network.EventRequestWillBeSent:
		b.requests = append(b.requests, ev.Request.URL)
	case *runtime.EventExceptionThrown:
		b.errors = append(b.errors, fmt.Sprint(ev.ExceptionDetails.Text, ev.ExceptionDetails.URL, ev.ExceptionDetails.LineNumber))
	}
}

func (b *browser) run(actions ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.Fatalf("browser: %v\nexceptions: %v", err, b.errors)
	}
}

func (b *browser) open(address string) {
	b.Helper()
	b.run(chromedp.Navigate(address))
	b.until("document.querySelector('#collection')?.options.length > 0")
}

func (b *browser) click(selector string) { b.Helper(); b.run(chromedp.Click(chromedp.CSS(selector))) }

func (b *browser) text(selector string) string {
	b.Helper()
	return eval[string](b, fmt.Sprintf("document.querySelector(%q)?.textContent ?? ''", selector))
}

// until waits for a JavaScript expression to become true.
func (b *browser) until(expression string) {
	b.Helper()
	ok := eval[bool](b, `new Promise((resolve) => {
		const end = Date.now() + 20000;
		const look = () => { if (`+expression+`) resolve(true); else if (Date.now() > end) resolve(false); else setTimeout(look, 10); };
		look();
	})`)
	if !ok {
		b.Fatalf("waited 20 s for %s\nexceptions: %v\nnotice: %s", expression, b.errors, b.text("#notice"))
	}
}

// The answer, or refusal, of the newest turn.
const lastAnswer, lastRefusal = ".turn:last-child .answer", ".turn:last-child .refusal"

// ask types a question and waits for the answer's end.
func (b *browser) ask(question string) {
	b.Helper()
	eval[int](b, "window.before = Number(document.querySelector('#turns').dataset.ended || 0)")
	b.run(chromedp.SetValue(chromedp.CSS("#question"), question))
	b.click("#send")
	b.until("Number(document.querySelector('#turns').dataset.ended || 0) > window.before")
}

// shot saves a picture where FOOTNOTE_SCREENSHOTS names a folder.
func (b *browser) shot(name string) {
	b.Helper()
	dir := os.Getenv("FOOTNOTE_SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		b.Fatal(err)
	}
}

// quiet checks that the page ran nothing foreign and asked nobody else.
func (b *browser) quiet() {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.dialogs) > 0 || len(b.errors) > 0 {
		b.Errorf("dialogs %v, exceptions %v", b.dialogs, b.errors)
	}
	if len(b.requests) == 0 {
		b.Error("no request was seen: the watch does not work")
	}
	for _, r := range b.requests {
		if !strings.HasPrefix(r, b.w.url+"/") && !strings.HasPrefix(r, "about:") && !strings.HasPrefix(r, "blob:"+b.w.url+"/") {
			b.Errorf("request to %s", r)
		}
	}
}

func TestPageAnswersWithFootnotes(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.add("travel.md", handbook)
	w.add("astral.md", "# Stars\n\n😀𝄞👩‍🚀 Many astral characters come first. Zürich’s telescope observes 𝛂 Centauri every second night.")
	b := openBrowser(t, w)
	b.open(w.url)
	b.shot("1-welcome")
	b.ask("How often does the telescope observe Centauri?")
	if answer := b.text(lastAnswer); !strings.Contains(answer, "telescope") {
		t.Errorf("answer = %q", answer)
	}
	b.shot("2-answer")
	b.click(".turn:last-child button.mark:not(:disabled)")
	b.until("document.querySelector('#viewer').dataset.shown === 'true'")
	b.shot("3-footnote")
	b.checkHighlight(w)
	b.run(chromedp.KeyEvent("\x1b"))
	b.until("!document.querySelector('#viewer').open")

	if hash := eval[string](b, "location.hash"); !strings.HasPrefix(hash, "#t=") || !strings.HasSuffix(hash, "&c=default") {
		t.Errorf("hash = %q", hash)
	}
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}})
	b.ask("How long does a visa for Japan take?")
	b.shot("4-dark")
	b.run(chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile))
	b.shot("5-phone")
	b.run(chromedp.EmulateReset())
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{})
	b.ask("Quantum chromodynamics lattice hadron?")
	b.shot("6-refusal")
	if refusal := b.text(lastRefusal); !strings.Contains(refusal, "no_evidence") {
		t.Errorf("refusal = %q, answer %q", refusal, b.text(lastAnswer))
	}
	b.quiet()
}

// checkHighlight compares the highlighted text with a citation's quote and looks whether it is in view.
func (b *browser) checkHighlight(w *world) {
	b.Helper()
	var a answerReply
	w.into(w.post("/v1/answer", `{"question":"How often does the telescope observe Centauri?"}`), 200, &a)
	got := b.text("#quote")
	known := false
	for _, c := range a.Citations {
		known = known || c.Source > 0 && c.Quote == got
	}
	if got == "" || !known {
		b.Errorf("highlighted %q is no quote of %+v", got, a.Citations)
	}
	if !eval[bool](b, `(() => { const q = document.querySelector('#quote').getBoundingClientRect(), v = document.querySelector('#viewer-text').getBoundingClientRect();
		return q.top >= v.top && q.bottom <= v.bottom })()`) {
		b.Error("the quote is not in view")
	}
}

func TestPageScrollsToQuoteInLongDocument(t *testing.T) {
	t.Parallel()
	w := setup(t)
	filler := strings.Repeat("Ordinary 😀 sentences fill this page without saying anything of use.\n\n", 300)
	w.add("long.md", filler+"The telescope observes Centauri every second night.\n\n"+filler)
	b := openBrowser(t, w)
	b.run(chromedp.Navigate(w.url + "/#" + url.Values{"q": {"How often does the telescope observe Centauri?"}}.Encode())) // a deep link asks by itself
	b.until("Number(document.querySelector('#turns').dataset.ended || 0) > 0")
	b.click(".turn:last-child button.mark:not(:disabled)")
	b.until("document.querySelector('#viewer').dataset.shown === 'true'")
	b.shot("7-long")
	b.checkHighlight(w)
	b.quiet()
}

// cutting drops the connection of the first answer after some writes, as a bad network does.
type cutting struct {
	http.Handler
	left atomic.Int32
}

type cutWriter struct {
	http.ResponseWriter
	left *atomic.Int32
}

func (c *cutting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == "POST" && r.URL.Path == "/v1/answer" {
		w = cutWriter{w, &c.left}
	}
	c.Handler.ServeHTTP(w, r)
}

func (c cutWriter) Unwrap() http.ResponseWriter { return c.ResponseWriter }
func (c cutWriter) Write(p []byte) (int, error) {
	if c.left.Add(-1) == 0 {
		panic(http.ErrAbortHandler)
	}
	return c.ResponseWriter.Write(p)
}

func TestPageGoesOnAfterALostConnection(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.add("travel.md", handbook)
	bad := &cutting{Handler: w.api}
	bad.left.Store(4) // start, sources, one word
	front := httptest.NewServer(bad)
	t.Cleanup(front.Close)
	w.url = front.URL
	b := openBrowser(t, w)
	b.open(w.url)
	b.ask("How long does a visa for Japan take?")
	if bad.left.Load() > 0 {
		t.Error("the connection was not cut")
	}
	if answer := b.text(lastAnswer); !strings.Contains(answer, "A visa for Japan takes five working days.") || strings.Count(answer, "visa") != 1 {
		t.Errorf("answer = %q (%s)", answer, b.text("#notice"))
	}
	b.quiet()
}

func TestPageKeepsAConversation(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.add("travel.md", handbook)
	b := openBrowser(t, w)
	b.open(w.url)
	b.ask("How long does a visa for Japan take?")
	b.ask("And how many photographs does it ask for?")
	b.shot("11-conversation")
	if step := b.text(".turn:last-child .step"); !strings.Contains(step, "visa") {
		t.Errorf("step = %q", step)
	}
	before := b.text("#turns")
	calls := w.models.Calls("@cf/meta/llama-3.1-8b-instruct")
	b.run(chromedp.Reload())
	b.until("document.querySelector('#turns')?.dataset.restored")
	if after := b.text("#turns"); after != before || before == "" {
		t.Errorf("after reloading: %q, before: %q", after, before)
	}
	if now := w.models.Calls("@cf/meta/llama-3.1-8b-instruct"); now != calls {
		t.Errorf("reloading asked the model %d times", now-calls)
	}
	b.click("#past")
	b.until("document.querySelector('#threads li')")
	b.shot("12-history")
	b.click("#threads li > .quiet")
	b.until("!document.querySelector('#threads li') && !document.querySelector('.turn')")
	b.quiet()
}

func TestPageMarksWhatIsNotSupported(t *testing.T) {
	t.Parallel()
	w := setup(t, func(_ *api.Config, m *[]workersaitest.Option) {
		*m = append(*m, workersaitest.Chat(func(workersai.TextInput) string {
			return "A visa for Japan takes five working days. Receipts are kept for nine years in Paris. The consulate sells tickets to the moon."
		}))
	})
	w.add("travel.md", handbook)
	b := openBrowser(t, w)
	b.open(w.url)
	b.ask("How long does a visa for Japan take?")
	b.shot("13-verdicts")
	if bad := b.text(".sentence.unsupported"); !strings.Contains(bad, "moon") && !strings.Contains(bad, "Paris") {
		t.Errorf("marked as unsupported: %q in %q", bad, b.text(lastAnswer))
	}
	if label := b.text(".mark.unsupported"); label != "not found" {
		t.Errorf("its mark says %q", label)
	}
	if good := b.text(".sentence.supported"); !strings.Contains(good, "five working days") {
		t.Errorf("marked as supported: %q", good)
	}
	if cited := b.text(".passage mark.cited"); !strings.Contains(cited, "five working days") {
		t.Errorf("highlighted in the passages: %q", cited)
	}
	b.run(chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile))
	b.click(".turn .passages")
	b.until("getComputedStyle(document.querySelector('#side')).display === 'block'")
	b.shot("14-phone-passages")
	b.click("#side-close")
	b.until("getComputedStyle(document.querySelector('#side')).display === 'none'")
	b.shot("15-phone")
	b.quiet()
}

func TestPageShowsSteps(t *testing.T) {
	t.Parallel()
	steps := []retrieval.Event{
		retrieval.Step{Step: retrieval.StepRewrite, From: "And there?", To: "How long does a visa for <b>Germany</b> take?"},
		retrieval.Step{Step: retrieval.StepSpelling, From: "viza", To: "visa"},
		retrieval.Step{Step: retrieval.StepDecompose, From: "x", Parts: []string{"What is a visa?", "How long does it take?"}},
		retrieval.Step{Step: retrieval.StepTranslate, From: "¿Cuánto tarda?", To: "How long does it take?", Note: "es to en"},
		retrieval.Step{Step: retrieval.StepTool, Tool: "search", Arguments: json.RawMessage(`{"query":"consulate hours"}`), Found: make([]retrieval.FoundPassage, 2)},
		retrieval.Step{Step: retrieval.StepTranslate, Note: "answer: en to es"},
	}
	w := setup(t, answering(func(_ context.Context, yield func(retrieval.Event, error) bool) {
		passage := store.Passage{DocumentID: "d", URI: "visa.md", Title: "Visa", Text: "A visa takes five working days. It asks for two photographs.", Score: 0.8,
			Vector: &store.LegScore{Score: 0.7, Rank: 1}}
		events := append(steps, retrieval.Sources{Passages: []store.Passage{passage}}, retrieval.Delta{Text: "A visa takes five days. It asks for three photographs."},
			retrieval.Citation{Sentence: retrieval.Span{Start: 0, End: 23}, Verdict: retrieval.Supported, Score: 0.9, Source: 1, Passage: &passage, Span: retrieval.Span{Start: 0, End: 31}},
			retrieval.Citation{Sentence: retrieval.Span{Start: 24, End: 54}, Verdict: retrieval.Partly, Score: 0.5, Source: 1, Passage: &passage, Span: retrieval.Span{Start: 32, End: 60}},
			retrieval.Done{Answer: "A visa takes five days. It asks for three photographs.", Grounded: true})
		for _, ev := range events {
			if !yield(ev, nil) {
				return
			}
		}
	}))
	w.collectionOf("default")
	b := openBrowser(t, w)
	b.open(w.url)
	b.ask("And there?")
	b.shot("16-steps")
	want := []string{"Understood as How long does a visa for <b>Germany</b> take?", "Corrected viza to visa",
		"Searched for What is a visa? and How long does it take?", "Translated to How long does it take? (es to en)",
		"The model searched for consulate hours (2 passages found)", "Answer translated: en to es"}
	if got := eval[[]string](b, "Array.from(document.querySelectorAll('.step'), (s) => s.textContent)"); !slices.Equal(got, want) {
		t.Errorf("steps = %q, want %q", got, want)
	}
	if partly := b.text(".mark.partly"); partly != "2 partly" {
		t.Errorf("the mark of a sentence that is partly supported says %q", partly)
	}
	b.run(chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile))
	b.shot("17-steps-phone")
	b.quiet()
}

func TestPageStops(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	w := setup(t, answering(hang(ended)))
	w.collectionOf("default")
	b := openBrowser(t, w)
	b.open(w.url)
	b.run(chromedp.SetValue(chromedp.CSS("#question"), "x"))
	b.click("#send")
	b.until("document.querySelector('.turn .answer')?.textContent === 'word'")
	b.click("#stop")
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("the work goes on after Stop")
	}
	b.until("document.querySelector('.turn .state').textContent === 'Stopped.'")
	b.quiet()
}

func TestPageStreamsWordByWord(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.add("travel.md", handbook)
	b := openBrowser(t, w)
	b.open(w.url)
	eval[any](b, `window.steps = new Set(); new MutationObserver(() => window.steps.add(document.querySelector('.answer')?.textContent))
		.observe(document.querySelector('#turns'), {childList: true, subtree: true, characterData: true}); 1`)
	b.ask("How long does a visa for Japan take?")
	if steps := eval[int](b, "window.steps.size"); steps < 3 {
		t.Errorf("the answer grew in %d steps", steps)
	}
}

func TestPageUploadsAFile(t *testing.T) {
	t.Parallel()
	w := setup(t)
	path := filepath.Join(t.TempDir(), "dropped.md")
	if err := os.WriteFile(path, []byte(handbook), 0o600); err != nil {
		t.Fatal(err)
	}
	b := openBrowser(t, w)
	b.open(w.url)
	b.run(chromedp.SetUploadFiles(chromedp.CSS("#files"), []string{path}, chromedp.NodeReady))
	b.until("document.querySelector('.upload.completed, .upload.error')")
	b.shot("8-upload")
	if s := b.text(".upload-status"); s != "ready" {
		t.Errorf("status = %q", s)
	}
	b.quiet()
}

func TestPageAsksForTheKey(t *testing.T) {
	t.Parallel()
	w := setup(t, func(c *api.Config, _ *[]workersaitest.Option) { c.APIKey = "open sesame" })
	b := openBrowser(t, w)
	value, save := chromedp.CSS("#key-value"), chromedp.CSS("#key-save")
	b.run(chromedp.Navigate(w.url), chromedp.WaitVisible(value), chromedp.SendKeys(value, "wrong"), chromedp.Click(save),
		chromedp.WaitVisible(chromedp.CSS("#key-error")), chromedp.SetValue(value, "open sesame"), chromedp.Click(save))
	b.until("!document.querySelector('#key').open && document.querySelector('#collection').options.length > 0")
	b.shot("9-after-key")
	b.quiet()
}

var payloads = []string{
	`<script>alert(1)</script>`, `<img src=x onerror=alert(1)>`, `<svg onload=alert(1)>`, `<iframe src="javascript:alert(1)"></iframe>`,
	`[click](javascript:alert(1))`, `![p](https://evil.example/x.png)`, `<a href="javascript:alert(1)">x</a>`, `"><script>alert(1)</script>`,
	`'-alert(1)-'`, `</textarea><script>alert(1)</script>`, `</title><script>alert(1)</script>`, `<style>@import 'https://evil.example/x.css'</style>`,
	`<link rel=stylesheet href=https://evil.example/x.css>`, `<meta http-equiv=refresh content="0;url=https://evil.example">`,
	`<base href="https://evil.example/">`, `<object data="https://evil.example/x"></object>`, `<embed src="https://evil.example/x">`,
	`<video src="https://evil.example/x" onerror=alert(1)>`, `<math><mtext><script>alert(1)</script></mtext></math>`,
	`<details open ontoggle=alert(1)>`, `<body onload=alert(1)>`, `<form action="https://evil.example"><input autofocus onfocus=alert(1)>`,
	`{{constructor.constructor('alert(1)')()}}`, `${alert(1)}`, "\u2028<script>alert(1)</script>", `<scr<script>ipt>alert(1)</scr</script>ipt>`,
	`&lt;img src=x onerror=alert(1)&gt;`, `<template><img src=x onerror=alert(1)></template>`, `__proto__`, `<template shadowrootmode=open><script>alert(1)</script></template>`,
}

func TestPageShowsPayloadsAsText(t *testing.T) {
	t.Parallel()
	var current string
	var mu sync.Mutex
	w := setup(t, func(_ *api.Config, m *[]workersaitest.Option) {
		*m = append(*m, workersaitest.Chat(func(workersai.TextInput) string {
			mu.Lock()
			defer mu.Unlock()
			return "The zebra says " + current + " loudly."
		}))
	})
	for i, p := range payloads {
		body, _ := json.Marshal(map[string]any{"uri": fmt.Sprintf("%d %s", i, p), "title": p, "text": "The zebra says " + p + " loudly.", "media_type": "text/plain",
			"metadata": map[string]string{p: p}})
		w.into(w.post("/v1/documents?wait=60s", string(body)), 200, nil)
	}
	b := openBrowser(t, w)
	b.open(w.url)
	for _, p := range payloads {
		mu.Lock()
		current = p
		mu.Unlock()
		b.ask("What does the zebra say? " + p)
		if answer := b.text(lastAnswer) + b.text(lastRefusal); !strings.Contains(answer, strings.TrimSpace(p)) {
			t.Errorf("payload %q is not shown as text: %q (%s)", p, answer, b.text("#notice"))
		}
		b.click(".source")
		b.until("document.querySelector('#viewer').dataset.shown === 'true'")
		b.run(chromedp.KeyEvent("\x1b"))
	}
	b.shot("10-payloads")
	foreign := eval[int](b, "document.querySelectorAll('main script, main img, main iframe, main a, main form:not(#ask), main svg, dialog script, dialog img').length")
	if foreign != 0 {
		t.Errorf("%d elements came from payloads", foreign)
	}
	b.quiet()
}
