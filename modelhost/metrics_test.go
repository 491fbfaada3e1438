package modelhost_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/footnote-rag/footnote/embedded"
	"github.com/footnote-rag/footnote/modelhost"
)

func TestMetricsAndColdStart(t *testing.T) {
	t.Parallel()
	engine, err := newLlama(func(c *embedded.Cache, cfg *embedded.LlamaConfig) error { // one of its own: not running yet
		w, err := c.MiniLM(context.Background(), embedded.Q80)
		cfg.Model, cfg.Pooling = w.Path, w.Pooling
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	h, err := modelhost.New(modelhost.Config{Engines: map[string]modelhost.Engine{modelhost.EngineMiniLM: engine}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	srv := httptest.NewServer(h.Handler())
	t.Cleanup(srv.Close)
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(h.Collectors()...)

	url := srv.URL + root + "run/" + embedModel
	resp, _ := post(t, url, `{"text":"hello world"}`)
	if ms, err := strconv.Atoi(resp.Header.Get(modelhost.HeaderColdStart)); err != nil || ms < 1 || resp.StatusCode != 200 {
		t.Errorf("the first answer: %d, %s %q, want milliseconds", resp.StatusCode, modelhost.HeaderColdStart, resp.Header.Get(modelhost.HeaderColdStart))
	}
	if resp, _ := post(t, url, `{"text":"hello world"}`); resp.Header.Get(modelhost.HeaderColdStart) != "" {
		t.Error("the second answer says that it waited for a start")
	}
	post(t, url, `{}`)
	post(t, srv.URL+root+"run/@cf/made/up", `{}`)
	page := httptest.NewServer(promhttp.HandlerFor(r, promhttp.HandlerOpts{}))
	t.Cleanup(page.Close)
	for _, want := range []string{
		`footnote_model_cold_starts_total{engine="all-minilm-l6-v2"} 1`,
		`footnote_model_requests_total{code="0",model="@cf/baai/bge-base-en-v1.5",status="200"} 2`,
		`footnote_model_requests_total{code="7504",model="@cf/baai/bge-base-en-v1.5",status="400"} 1`,
		`footnote_model_tokens_total{kind="prompt",model="@cf/baai/bge-base-en-v1.5"} 8`,
		`footnote_model_queue_waiting{model="@cf/baai/bge-base-en-v1.5"} 0`,
	} {
		// A request is counted when its handler ends, a moment after its answer.
		waitFor(t, func() bool { return strings.Contains(scrape(t, page.URL), want+"\n") })
	}
	if strings.Contains(scrape(t, page.URL), "made/up") {
		t.Error("a made-up model has a series")
	}
}

func scrape(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}
