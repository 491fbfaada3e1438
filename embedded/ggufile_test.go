package embedded_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/footnote-rag/footnote/embedded"
)

func TestWeightsByPathAndURL(t *testing.T) {
	t.Parallel()
	model := "GGUF" + strings.Repeat("x", 1000)
	var asked atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		switch r.URL.Path {
		case "/model.gguf":
			_, _ = w.Write([]byte(model))
		case "/page.gguf":
			_, _ = w.Write([]byte("<html>please log in</html>"))
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	c := &embedded.Cache{Dir: t.TempDir()}
	sum := sha256.Sum256([]byte(model))
	named := srv.URL + "/model.gguf#sha256=" + hex.EncodeToString(sum[:])
	path, err := c.GGUF(t.Context(), named)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != model {
		t.Errorf("the file holds %d bytes, %v, want %d", len(data), err, len(model))
	}
	offline := &embedded.Cache{Dir: c.Dir, Offline: true}
	if again, err := offline.GGUF(t.Context(), named); err != nil || again != path || asked.Load() != 1 {
		t.Errorf("the second time: %q, %v, after %d requests, want the same file and one", again, err, asked.Load())
	}
	if local, err := offline.GGUF(t.Context(), path); err != nil || local != path {
		t.Errorf("by path: %q, %v, want %q", local, err, path)
	}
	for name, q := range map[string]struct {
		cache *embedded.Cache
		from  string
		told  string
	}{
		"another checksum": {&embedded.Cache{Dir: t.TempDir()}, srv.URL + "/model.gguf#sha256=00", "expected 00"},
		"a page":           {c, srv.URL + "/page.gguf", "not a GGUF file"},
		"nothing there":    {c, srv.URL + "/other.gguf", "404"},
		"offline":          {offline, srv.URL + "/third.gguf", "not fetched yet"},
		"no such path":     {c, "/no/such.gguf", "no such file"},
	} {
		if _, err := q.cache.GGUF(t.Context(), q.from); err == nil || !strings.Contains(err.Error(), q.told) {
			t.Errorf("%s: %v, want %q", name, err, q.told)
		}
	}
	if _, err := offline.GGUF(t.Context(), srv.URL+"/third.gguf"); !errors.Is(err, embedded.ErrUnavailable) {
		t.Errorf("offline: %v, want ErrUnavailable", err)
	}
}
