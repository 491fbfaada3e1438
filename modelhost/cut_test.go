package modelhost_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/footnote-rag/footnote/modelhost"
	"github.com/footnote-rag/footnote/workersai"
)

// TestCutAnywhereIsNeverWhole: an engine's stream that ends at any byte, dropped or ended properly, is an error at the
// client, and what came before it is the answer's beginning.
func TestCutAnywhereIsNeverWhole(t *testing.T) {
	t.Parallel()
	whole := httptest.NewRecorder()
	talker(whole, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{"stream":true}`)))
	body := whole.Body.Bytes()
	end := bytes.Index(body, []byte("[DONE]")) + len("[DONE]")
	var cutAt atomic.Int64
	var proper atomic.Bool
	u := newUpstream(t)
	u.chat = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = w.Write(body[:cutAt.Load()])
		_ = http.NewResponseController(w).Flush()
		if !proper.Load() {
			panic(http.ErrAbortHandler)
		}
	}
	c := clientOf(t, newHost(t, u.URL, nil))
	for _, p := range []bool{true, false} {
		proper.Store(p)
		for n := range end + 1 {
			cutAt.Store(int64(n))
			text, last, err := streamOf(t, c, ask("How warm is it?", 40))
			if err == nil || last.Usage != nil || !strings.HasPrefix(said, text) {
				t.Errorf("engine cut at byte %d of %d (properly: %v): %q, usage %v, %v; want a beginning and an error", n, len(body), p, text, last.Usage, err)
			}
		}
	}
	cutAt.Store(int64(len(body)))
	proper.Store(true)
	if text, last, err := streamOf(t, c, ask("How warm is it?", 40)); err != nil || text != said || last.Usage == nil {
		t.Errorf("not cut: %q, %v, %v", text, last.Usage, err)
	}
}

// headerTransport sends every request with the faults that spec names.
type headerTransport struct{ spec atomic.Pointer[string] }

func (h *headerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(modelhost.HeaderFault, *h.spec.Load())
	return http.DefaultTransport.RoundTrip(r)
}

// TestCutOnTheWayIsNeverWhole cuts the host's own stream at every byte.
func TestCutOnTheWayIsNeverWhole(t *testing.T) {
	t.Parallel()
	faults, err := modelhost.ParseFaults("header")
	if err != nil {
		t.Fatal(err)
	}
	u := newUpstream(t)
	u.chat = talker
	srv := newHost(t, u.URL, func(c *modelhost.Config) { c.Faults = faults })
	_, env := post(t, srv.URL+root+"run/"+chatModel, streamBody)
	cuts := &headerTransport{}
	c := clientOf(t, srv, func(c *workersai.Config) { c.HTTPClient = &http.Client{Transport: cuts} })
	for n := range len(env.Result) + 1 {
		spec := fmt.Sprintf("stream_cut=%db", n)
		cuts.spec.Store(&spec)
		text, last, err := streamOf(t, c, ask("How warm is it?", 40))
		if !errors.Is(err, io.ErrUnexpectedEOF) || last.Usage != nil || !strings.HasPrefix(said, text) {
			t.Errorf("cut at byte %d of %d: %q, usage %v, %v; want a beginning and an unexpected EOF", n, len(env.Result), text, last.Usage, err)
		}
	}
}

// TestFaultsAreDescribed: docs/faults.md has a row for each.
func TestFaultsAreDescribed(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/faults.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range modelhost.FaultNames() {
		if !bytes.Contains(page, []byte("`"+name+"`")) {
			t.Errorf("docs/faults.md does not tell of %s", name)
		}
	}
}
