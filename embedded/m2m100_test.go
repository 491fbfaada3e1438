package embedded

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestM2M100 starts the engine with tiny random weights of the architecture: the path that real weights take, though what
// it says means nothing.
func TestM2M100(t *testing.T) {
	t.Parallel()
	c := &Cache{Dir: DefaultCacheDir()}
	dir, err := os.MkdirTemp("", "footnote-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	p, err := c.packages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.M2M100At(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "must hold model.bin") {
		t.Errorf("an empty folder: %v, want what it must hold", err)
	}
	if out, err := exec.CommandContext(t.Context(), p.python, "testdata/tiny_m2m100.py", p.dir, dir).CombinedOutput(); err != nil {
		t.Fatalf("make weights: %v: %s", err, lastLines(string(out), 5))
	}
	files, err := c.M2M100At(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := NewM2M100(M2M100Config{Files: files, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = engine.Close() })
	base, release, err := engine.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	checkM2M100(t, base)
}

func checkM2M100(t *testing.T, base string) {
	t.Helper()
	ask := func(in map[string]any) (int, string) {
		body, _ := json.Marshal(in)
		resp, err := http.Post(base+"/translate", "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var out map[string]string
		if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, out["translatedText"] + out["error"]
	}
	long := strings.Repeat("the dog is big and the house is red. ", 60)
	status, text := ask(map[string]any{"q": "hello\n\nhow are you? the dog is big!\n" + long, "source": "en", "target": "es"})
	lines := strings.Split(text, "\n")
	if status != http.StatusOK || len(lines) != 4 || lines[0] == "" || lines[1] != "" || lines[2] == "" || lines[3] == "" || strings.Contains(text, "__es__") {
		t.Errorf("four lines, the second empty, came back as %d %q", status, lines)
	}
	if _, again := ask(map[string]any{"q": "hello\n\nhow are you? the dog is big!\n" + long, "source": "en", "target": "es"}); again != text {
		t.Error("the same text was translated otherwise the second time")
	}
	for name, in := range map[string]map[string]any{
		"unknown language": {"q": "hello", "source": "en", "target": "fr"},
		"no text":          {"source": "en", "target": "es"},
		"a number":         {"q": 3, "source": "en", "target": "es"},
	} {
		if status, text := ask(in); status != http.StatusBadRequest || text == "" {
			t.Errorf("%s: %d %q, want 400 and why", name, status, text)
		}
	}
	resp, err := http.Get(base + "/languages")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if list, _ := io.ReadAll(resp.Body); !strings.Contains(string(list), `"code": "zh"`) {
		t.Errorf("languages = %s, want zh among them", list)
	}
}
