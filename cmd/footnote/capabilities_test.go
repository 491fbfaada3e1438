package main

import (
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/embedded"
	"github.com/footnote-rag/footnote/modelhost"
	"github.com/footnote-rag/footnote/workersai"
)

func TestDoctorTriesEachCapability(t *testing.T) {
	t.Parallel()
	files, err := embedded.FindApertium()
	if err != nil {
		t.Fatalf("Apertium is needed here, .ci/deps installs it: %v", err)
	}
	apertium, err := embedded.NewApertium(files)
	if err != nil {
		t.Fatal(err)
	}
	diffuser := embedded.NewDiffuser()
	t.Cleanup(func() { _, _ = apertium.Close(), diffuser.Close() })
	broken := httptest.NewServer(nil) // answers 404 to everything
	t.Cleanup(broken.Close)
	host, err := modelhost.New(modelhost.Config{Logger: slog.New(slog.DiscardHandler), Engines: map[string]modelhost.Engine{
		modelhost.EngineApertium: apertium, modelhost.EngineTinyDiffuser: diffuser, modelhost.EngineSpeechURL: modelhost.URLEngine(broken.URL, "")}})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(host.Handler())
	t.Cleanup(func() { srv.Close(); host.Close() })
	client, err := workersai.New(workersai.Config{BaseURL: srv.URL + "/client/v4", AccountID: "a", Token: "t", MaxRetries: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	set, err := readSettings(func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]struct {
		ok, off bool
		told    string
	}{
		"embeddings":  {told: "nothing here serves it"}, // needed, and not here
		"answers":     {told: "nothing here serves it"},
		"reranking":   {ok: true, off: true, told: "set FOOTNOTE_RERANK_WEIGHTS"},
		"translation": {ok: true, told: `Hello is "Hola" in Spanish`},
		"speech":      {told: "404"}, // set, and broken
		"images":      {ok: true, told: "image/png"},
	}
	for _, c := range capabilities(client, set) {
		got, w := c.check(t.Context()), want[c.part]
		if got.OK != w.ok || got.Off != w.off || !strings.Contains(got.Detail+" "+got.Remedy, w.told) {
			t.Errorf("%s: %+v, want ok %v, off %v, %q", c.part, got, w.ok, w.off, w.told)
		}
		delete(want, c.part)
	}
	if len(want) > 0 {
		t.Errorf("not tried: %v", want)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	for name, q := range map[string]struct {
		env  map[string]string
		told string
	}{
		"none":          {nil, ""},
		"a URL":         {map[string]string{"FOOTNOTE_SPEECH_URL": "http://127.0.0.1:1/v1", "FOOTNOTE_SPEECH_KEY": "k"}, ""},
		"no URL":        {map[string]string{"FOOTNOTE_SD_URL": "localhost:7860"}, "FOOTNOTE_SD_URL"},
		"both":          {map[string]string{"FOOTNOTE_EMBED_URL": "http://a", "FOOTNOTE_EMBED_WEIGHTS": "/b.gguf"}, "choose one"},
		"weights alone": {map[string]string{"FOOTNOTE_PROFILE": "full", "FOOTNOTE_EMBED_WEIGHTS": "/a.gguf", "FOOTNOTE_CHAT_WEIGHTS": "/b.gguf"}, ""},
		"ef_search":     {map[string]string{"FOOTNOTE_EF_SEARCH": "400"}, ""},
		"large ef":      {map[string]string{"FOOTNOTE_EF_SEARCH": "1001"}, "give 1 to 1000"},
		"half of full":  {map[string]string{"FOOTNOTE_PROFILE": "full", "FOOTNOTE_EMBED_WEIGHTS": "/a.gguf"}, "the full profile needs"},
	} {
		s, err := readSettings(func(name string) string { return q.env[name] })
		if err == nil {
			err = s.check()
		}
		if (q.told == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), q.told) {
			t.Errorf("%s: %v, want %q", name, err, q.told)
		}
	}
}
