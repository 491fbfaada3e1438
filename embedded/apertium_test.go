package embedded_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/embedded"
)

func TestApertiumSpeaksItsOwnProtocol(t *testing.T) {
	t.Parallel()
	files, err := (&embedded.Cache{Dir: t.TempDir(), Offline: true}).Apertium(t.Context())
	if err != nil {
		t.Fatalf("Apertium is needed here, .ci/deps installs it: %v", err)
	}
	a, err := embedded.NewApertium(files)
	if err != nil {
		t.Fatal(err)
	}
	base, release, err := a.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	release()
	for name, q := range map[string]struct {
		pair, text, want string
		status           int
	}{
		"a pair that is here": {"eng|spa", "The house is red.\nHello", "La casa es roja.\nHola", 200},
		"another":             {"eng|fra", "Hello", "", 400},
		"an option for one":   {"-h", "Hello", "", 400},
		"nothing":             {"", "", "", 400},
		"no text":             {"eng|spa", "", "", 200},
		"megabytes":           {"eng|spa", strings.Repeat("x", 5<<20), "", 413},
	} {
		resp, err := http.PostForm(base+"/translate", url.Values{"langpair": {q.pair}, "q": {q.text}})
		if err != nil {
			t.Fatal(err)
		}
		var out struct {
			Data struct {
				Text string `json:"translatedText"`
			} `json:"responseData"`
		}
		err = json.NewDecoder(resp.Body).Decode(&out)
		resp.Body.Close()
		if err != nil || resp.StatusCode != q.status || out.Data.Text != q.want {
			t.Errorf("%s: %d %q, %v, want %d %q", name, resp.StatusCode, out.Data.Text, err, q.status, q.want)
		}
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if _, _, err := a.Acquire(t.Context()); !errors.Is(err, embedded.ErrClosed) {
		t.Errorf("Acquire after Close: %v, want ErrClosed", err)
	}
}
