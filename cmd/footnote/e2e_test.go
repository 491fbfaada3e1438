package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

// These tests run the program as a user does: the binary, a private Postgres, real engines with the small weights.

var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "footnote-e2e-")
	if err == nil {
		err = os.Chmod(dir, 0o755) // engines run as another user where we are root
	}
	binary = filepath.Join(dir, "footnote")
	if err == nil {
		var out []byte
		if out, err = exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the program:", err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// world is a place to run the program in: its own data folder, the user's cache.
type world struct {
	t   *testing.T
	dir string
	env []string
}

func newWorld(t *testing.T, env ...string) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "footnote-world-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir}
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, "FOOTNOTE_") && !strings.HasPrefix(name, "CLOUDFLARE_") && name != "DATABASE_URL" && name != "WORKERSAI_BASE_URL" || name == "FOOTNOTE_CACHE_DIR" {
			w.env = append(w.env, kv)
		}
	}
	w.env = append(w.env, "FOOTNOTE_DATA_DIR="+filepath.Join(dir, "data"), "FOOTNOTE_ADDR=127.0.0.1:0")
	w.env = append(w.env, env...)
	return w
}

func (w *world) command(args ...string) *exec.Cmd {
	cmd := exec.Command(binary, args...)
	cmd.Env, cmd.Dir = w.env, w.dir
	return cmd
}

// run runs a command to its end.
func (w *world) run(env []string, args ...string) (stdout, stderr string, code int) {
	w.t.Helper()
	cmd := w.command(args...)
	cmd.Env = append(cmd.Env, env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// server is a running footnote serve.
type server struct {
	w   *world
	cmd *exec.Cmd
	url string
}

func (w *world) serve(env ...string) *server {
	w.t.Helper()
	s := &server{w: w, cmd: w.command("serve")}
	s.cmd.Env = append(s.cmd.Env, env...)
	s.cmd.Stderr = testLog{w.t}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(s.stop)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		w.t.Fatalf("serve ended before it was ready: %q, %v", line, err)
	}
	s.url = strings.TrimSpace(line[strings.Index(line, "http"):])
	return s
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(os.Interrupt)
	_ = s.cmd.Wait()
}

func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// at makes client commands talk to the server.
func (s *server) at() []string { return []string{"FOOTNOTE_URL=" + s.url} }

type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("GET %s: %s, %v: %.300s", url, resp.Status, err, b)
	}
	return string(b)
}

func TestQuickstart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	out, errs, code := w.run(nil, "quickstart")
	if code != 0 {
		t.Fatalf("quickstart exits %d: %s", code, errs)
	}
	for _, want := range []string{"Q: " + quickstartQuestion, "A: ", "[1] supported", "postgresql-15/", "§", "characters", "“"} {
		if !strings.Contains(out, want) {
			t.Errorf("quickstart's output lacks %q:\n%s", want, out)
		}
	}
	if !strings.Contains(errs, "+83 new") || !strings.Contains(errs, "0 failed") || !strings.Contains(errs, "footnote serve") {
		t.Errorf("quickstart's report: %s", errs)
	}
	start := time.Now()
	_, errs, code = w.run(nil, "quickstart")
	if code != 0 || !strings.Contains(errs, "83 unchanged") {
		t.Errorf("second quickstart exits %d: %s", code, errs)
	}
	t.Logf("second quickstart took %s", time.Since(start))

	s := w.serve()
	checkQuotes(t, s, quickstartCollection, "What is a partial index?", "How can I take a backup of a database?", "Which isolation level is the default?")
	checkPages(t, s)
	checkRefusals(t, s)
}

// checkQuotes asks over HTTP and finds every quote at its place in the document's text.
func checkQuotes(t *testing.T, s *server, collection string, questions ...string) {
	t.Helper()
	quotes := 0
	for _, q := range questions {
		out, errs, code := s.w.run(s.at(), "ask", "--json", "-c", collection, q)
		if code != 0 {
			t.Fatalf("ask exits %d: %s", code, errs)
		}
		for line := range strings.Lines(out) {
			var ev struct {
				Event string   `json:"event"`
				Data  citation `json:"data"`
			}
			_ = json.Unmarshal([]byte(line), &ev) // other events have other data
			if ev.Event != "citation" || ev.Data.Document == nil || ev.Data.Quote == "" {
				continue
			}
			quotes++
			text := get(t, s.url+"/v1/documents/"+ev.Data.Document.ID+"/text")
			if got := runeSlice(text, ev.Data.Start, ev.Data.End); got != ev.Data.Quote {
				t.Errorf("%q: quote %q, the document has %q at %d–%d", q, ev.Data.Quote, got, ev.Data.Start, ev.Data.End)
			}
		}
	}
	if quotes == 0 {
		t.Errorf("no answer to %q had a quote", questions)
	}
}

// golden are questions that the bundled pages answer, and where.
var golden = []struct{ question, page string }{
	{"What does VACUUM do with dead row versions?", "routine-vacuuming.html"},
	{"How do I take a base backup for point-in-time recovery?", "continuous-archiving.html"},
	{"Which transaction isolation level is the default?", "transaction-iso.html"},
	{"What is a partial index good for?", "indexes-partial.html"},
	{"How can two transactions deadlock each other?", "explicit-locking.html"},
	{"How do window functions differ from aggregate functions?", "tutorial-window.html"},
	{"What does a foreign key constraint guarantee?", "ddl-constraints.html"},
	{"How do I restrict which rows a user may see?", "ddl-rowsecurity.html"},
	{"How do I dump a database into a file and restore it?", "backup-dump.html"},
	{"How do I speed up loading a lot of data into a table?", "populate.html"},
	{"What is a savepoint?", "tutorial-transactions.html"},
	{"How do I combine the results of two queries with UNION?", "queries-union.html"},
}

func checkPages(t *testing.T, s *server) {
	t.Helper()
	found := 0
	for _, g := range golden {
		out, errs, code := s.w.run(s.at(), "search", "--json", "-n", "5", "-c", quickstartCollection, g.question)
		if code != 0 {
			t.Fatalf("search exits %d: %s", code, errs)
		}
		if strings.Contains(out, g.page) {
			found++
		} else {
			t.Logf("%q: %s is not among the first five", g.question, g.page)
		}
	}
	if found < len(golden)-1 {
		t.Errorf("the right page is among the first five for %d of %d questions, want at least %d", found, len(golden), len(golden)-1)
	}
}

// checkRefusals asks what the pages cannot answer: no token may be generated.
func checkRefusals(t *testing.T, s *server) {
	t.Helper()
	for _, q := range []string{"What is the capital of Mongolia?", "How long should sourdough bread rise before baking?"} {
		out, errs, code := s.w.run(s.at(), "ask", "--json", "-c", quickstartCollection, q)
		if code != 0 || !strings.Contains(out, `"reason":"no_evidence"`) || !strings.Contains(out, `"completion_tokens":0`) {
			t.Errorf("%q is not refused (exit %d): %s %s", q, code, out, errs)
		}
	}
}

func TestLoadSurvivesKills(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	docs := filepath.Join(w.dir, "docs")
	for i := range 60 {
		writeFile(t, filepath.Join(docs, fmt.Sprintf("page%02d.md", i)), fmt.Sprintf("# Page %d\n\nThe answer number %d is stored on page %d.\n\n## More\n\n%s\n", i, i, i, strings.Repeat(fmt.Sprintf("Sentence of page %d. ", i), 60)))
	}
	s := w.serve()
	loading := w.command("load", "--no-wait", docs)
	loading.Env = append(loading.Env, s.at()...)
	if out, err := loading.CombinedOutput(); err != nil {
		t.Fatalf("load: %v: %s", err, out)
	}
	for range 3 { // killed while it embeds, three times
		waitUntil(t, "some documents are completed", func() bool { return countStatus(t, s, "completed") > 0 })
		s.kill()
		s = w.serve()
	}
	_, errs, code := w.run(s.at(), "load", docs)
	if code != 0 {
		t.Fatalf("load after the kills exits %d: %s", code, errs)
	}
	if !strings.Contains(errs, "+0 new, ~0 changed, -0 gone, 60 unchanged") {
		t.Errorf("load after the kills: %s", errs)
	}
	var list struct {
		Documents []document `json:"documents"`
	}
	if err := json.Unmarshal([]byte(get(t, s.url+"/v1/documents?collection=default&limit=1000")), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Documents) != 60 {
		t.Errorf("%d documents, want 60", len(list.Documents))
	}
	for _, d := range list.Documents {
		var chunks struct {
			Chunks []struct {
				Ordinal int `json:"ordinal"`
			} `json:"chunks"`
		}
		if err := json.Unmarshal([]byte(get(t, s.url+"/v1/documents/"+d.ID+"/chunks")), &chunks); err != nil {
			t.Fatal(err)
		}
		if d.Status != "completed" || d.Chunks == 0 || len(chunks.Chunks) != d.Chunks {
			t.Errorf("%s: %s, %d chunks, %d listed", d.URI, d.Status, d.Chunks, len(chunks.Chunks))
		}
	}
	// One page changes: it alone is embedded anew.
	writeFile(t, filepath.Join(docs, "page07.md"), "# Page 7\n\nThe answer is now forty-two.\n")
	_, errs, code = w.run(s.at(), "load", docs)
	if code != 0 || !strings.Contains(errs, "+0 new, ~1 changed, -0 gone, 59 unchanged") || !strings.Contains(errs, "1 searchable") {
		t.Errorf("load of one changed page exits %d: %s", code, errs)
	}
	if err := os.Remove(filepath.Join(docs, "page08.md")); err != nil {
		t.Fatal(err)
	}
	_, errs, code = w.run(s.at(), "load", "--prune", docs)
	if code != 0 || !strings.Contains(errs, "-1 gone") || !strings.Contains(errs, "1 deleted") {
		t.Errorf("load --prune exits %d: %s", code, errs)
	}
}

// TestLoadSaysWhatItWaitsFor: a load that the provider holds up says so once, and goes on.
func TestLoadSaysWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	provider := workersaitest.New(t)
	s := w.serve("WORKERSAI_BASE_URL="+provider.BaseURL(), "CLOUDFLARE_ACCOUNT_ID="+workersaitest.AccountID, "CLOUDFLARE_API_TOKEN=t")
	docs := filepath.Join(w.dir, "docs")
	writeFile(t, filepath.Join(docs, "a.md"), "Tea is grown in Assam.")
	provider.Script(workersaitest.Capacity("3")) // a new collection needs the model before it takes documents
	if _, errs, code := w.run(s.at(), "load", docs); code != 0 || strings.Count(errs, "trying again in 3s: ") != 1 {
		t.Fatalf("load exits %d: %s", code, errs)
	}
	writeFile(t, filepath.Join(docs, "b.md"), "Coffee is grown in Kenya.")
	writeFile(t, filepath.Join(docs, "c.md"), "Cocoa is grown in Ghana.")
	provider.Script(workersaitest.Capacity("9"))
	_, errs, code := w.run(s.at(), "load", docs)
	said := strings.Count(errs, "for the embedding model: ")
	if code != 0 || said != 1 || !strings.Contains(errs, "waiting until ") || !strings.Contains(errs, "Capacity temporarily exceeded") || !strings.Contains(errs, "2 searchable") {
		t.Errorf("load exits %d and says %d times what it waits for: %s", code, said, errs)
	}
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func countStatus(t *testing.T, s *server, status string) int {
	t.Helper()
	var out struct {
		Status map[string]int `json:"status"`
	}
	if err := json.Unmarshal([]byte(get(t, s.url+"/v1/collections/default")), &out); err != nil {
		t.Fatal(err)
	}
	return out.Status[status]
}

func waitUntil(t *testing.T, what string, f func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-ctx.Done():
			t.Fatalf("not within two minutes: %s", what)
		case <-tick.C:
		}
	}
}

// TestBareWordsOfTheReference runs one server on the model host of another, with nothing but account, token and base URL.
func TestBareWordsOfTheReference(t *testing.T) {
	t.Parallel()
	host := newWorld(t).serve()
	w := newWorld(t, "CLOUDFLARE_ACCOUNT_ID=0123456789abcdef", "CLOUDFLARE_API_TOKEN=any", "WORKERSAI_BASE_URL="+host.url+"/client/v4")
	writeFile(t, filepath.Join(w.dir, "notes", "tea.md"), "# Tea\n\nGreen tea is steeped for two minutes at seventy degrees. Black tea is steeped for four minutes in boiling water.\n")
	s := w.serve()
	if _, errs, code := w.run(s.at(), "load", "notes"); code != 0 {
		t.Fatalf("load exits %d: %s", code, errs)
	}
	if out := get(t, s.url+"/v1/collections"); !strings.Contains(out, bgeBase) {
		t.Errorf("the collection does not name %s: %s", bgeBase, out)
	}
	if out, errs, code := w.run(s.at(), "search", "How long is green tea steeped?"); code != 0 || !strings.Contains(out, "notes/tea.md") {
		t.Errorf("search exits %d: %s %s", code, out, errs)
	}
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"And how long is the green one steeped?", "--after", "Which tea is steeped?"}, "understood as: And how long is the green one steeped? (tea)"},
		{[]string{"how long is green tea steepd"}, "corrected: steepd to steeped"},
		{[]string{"how long is green tea steepd", "--spelling=false"}, ""},
		{[]string{"--decompose", "How long is green tea steeped and which tea is green?"}, "searched for: How long is green tea steeped? | Which tea is green?"},
	} {
		out, errs, code := w.run(s.at(), append([]string{"search"}, c.args...)...)
		if code != 0 || !strings.Contains(out, "notes/tea.md") || !strings.Contains(errs, c.says) || c.says == "" && strings.Contains(errs, "corrected") {
			t.Errorf("search %q: exit %d, %s\n%s, want %q", c.args, code, out, errs, c.says)
		}
	}
	out, errs, code := w.run(s.at(), "ask", "--json", "How long is green tea steeped?")
	if code != 0 || !strings.Contains(out, `"event":"delta"`) || !strings.Contains(out, `"event":"done"`) {
		t.Errorf("ask exits %d: %s %s", code, out, errs)
	}
	checkAgentic(t, s, "default", "How long is green tea steeped?")
	// The reference's own curl line: JSON that calls itself a form.
	req, _ := http.NewRequest(http.MethodPost, host.url+"/client/v4/accounts/0123456789abcdef/ai/run/"+llama8b, strings.NewReader(`{"messages":[{"role":"user","content":"Hello"}]}`))
	req.Header.Set("Authorization", "Bearer any")
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var envelope struct {
		Result  struct{ Response string } `json:"result"`
		Success bool                      `json:"success"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&envelope); err != nil || !envelope.Success || envelope.Result.Response == "" {
		t.Errorf("run: %s, %+v, %v", resp.Status, envelope, err)
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, tt := range []struct {
		name string
		env  []string
		args []string
		code int
		says string
	}{
		{"help", nil, []string{"--help"}, 0, ""},
		{"unknown command", nil, []string{"lod"}, 2, "unknown command"},
		{"unknown flag", nil, []string{"search", "--limits", "3", "x"}, 2, "unknown flag"},
		{"missing argument", nil, []string{"ask"}, 2, "give the question"},
		{"wrong setting", []string{"FOOTNOTE_EMBED_PER_MINUTE=many"}, []string{"status"}, 2, "whole number"},
		{"half of the credentials", []string{"CLOUDFLARE_ACCOUNT_ID=x"}, []string{"status"}, 2, "CLOUDFLARE_API_TOKEN"},
		{"the full profile without its servers", nil, []string{"--profile", "full", "status"}, 2, "FOOTNOTE_EMBED_URL"},
		{"no server where one was named", []string{"FOOTNOTE_URL=http://127.0.0.1:1"}, []string{"status"}, 5, "footnote serve"},
		{"a path that is not there", nil, []string{"load", "nothing-here"}, 2, "no such file"},
		{"a filter that is not JSON", nil, []string{"search", "--filter", "{", "x"}, 2, "not JSON"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, errs, code := w.run(tt.env, tt.args...)
			if code != tt.code || !strings.Contains(errs, tt.says) {
				t.Errorf("exit %d, %q; want %d and %q", code, errs, tt.code, tt.says)
			}
		})
	}
}
