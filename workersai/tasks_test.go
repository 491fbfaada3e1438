package workersai_test

import (
	"errors"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

const (
	ranker  = "@cf/baai/bge-reranker-base"
	painter = "@cf/stabilityai/stable-diffusion-xl-base-1.0"
	whisper = "@cf/openai/whisper"
	m2m     = "@cf/meta/m2m100-1.2b"
)

func TestRerank(t *testing.T) {
	t.Parallel()
	srv := workersaitest.NewInMemory(t)
	c := srv.Client(t, noRetry)
	texts := []string{"the sea", "the tower leans", "where the tower leans"}
	got, err := c.Rerank(t.Context(), ranker, "where leans the tower", texts, 2)
	if err != nil || len(got) != 2 || got[0].ID != 2 || got[1].ID != 1 {
		t.Errorf("Rerank = %v, %v, want contexts 2 and 1", got, err)
	}
	for name, response := range map[string]string{
		"missing": `[{"id":0,"score":1}]`, "twice": `[{"id":0,"score":1},{"id":0,"score":1},{"id":1,"score":1}]`,
		"unknown": `[{"id":0,"score":1},{"id":1,"score":1},{"id":3,"score":1}]`, "negative": `[{"id":-1,"score":1},{"id":0,"score":1},{"id":1,"score":1}]`,
	} {
		srv.Script(result(`{"response":` + response + `}`))
		if _, err := c.Rerank(t.Context(), ranker, "q", texts, 0); !errors.Is(err, workersai.ErrBadReply) {
			t.Errorf("%s: %v, want a bad reply", name, err)
		}
	}
	if _, err := c.Rerank(t.Context(), ranker, " ", texts, 0); !errors.Is(err, workersai.ErrInvalidInput) {
		t.Errorf("no query: %v, want invalid input", err)
	}
}

func TestImage(t *testing.T) {
	t.Parallel()
	srv := workersaitest.NewInMemory(t)
	c := srv.Client(t, noRetry)
	for _, model := range []string{painter, "@cf/black-forest-labs/flux-1-schnell"} {
		got, err := c.Image(t.Context(), model, workersai.ImageInput{Prompt: "Mountain sunset", Width: 256, Height: 256})
		if err != nil || got.ContentType != "image/png" || len(got.Data) == 0 {
			t.Errorf("%s: %v, %v, want a PNG", model, got, err)
		}
	}
	srv.Script(workersaitest.Step{Status: 200, ContentType: "image/png", Body: "\xff\xd8\xff\xe0 JPEG for PNG"})
	if got, err := c.Image(t.Context(), painter, workersai.ImageInput{Prompt: "x"}); err != nil || got.ContentType != "image/jpeg" {
		t.Errorf("JPEG for PNG: %v, %v, want image/jpeg", got, err)
	}
	for name, step := range map[string]workersaitest.Step{
		"a page": workersaitest.HTML(200, "<html>"), "nothing": {Status: 200, ContentType: "image/png"}, "no image": result(`{"image":"%"}`),
	} {
		srv.Script(step)
		if _, err := c.Image(t.Context(), painter, workersai.ImageInput{Prompt: "x"}); !errors.Is(err, workersai.ErrBadReply) {
			t.Errorf("%s: %v, want a bad reply", name, err)
		}
	}
	steps, guidance, nan := 21, 0.5, math.NaN()
	for name, in := range map[string]workersai.ImageInput{
		"no prompt": {}, "narrow": {Prompt: "x", Width: 255}, "high": {Prompt: "x", Height: 2049}, "steps": {Prompt: "x", NumSteps: &steps},
		"guidance": {Prompt: "x", Guidance: &guidance}, "strength": {Prompt: "x", Strength: &nan},
	} {
		if _, err := c.Image(t.Context(), painter, in); !errors.Is(err, workersai.ErrInvalidInput) {
			t.Errorf("%s: %v, want invalid input", name, err)
		}
	}
}

func TestTranscribeAndTranslate(t *testing.T) {
	t.Parallel()
	srv := workersaitest.NewInMemory(t)
	c := srv.Client(t, noRetry)
	for _, model := range []string{whisper, whisper + "-large-v3-turbo"} {
		got, err := c.Transcribe(t.Context(), workersai.TranscribeRequest{Model: model, Audio: []byte("It is a good day")})
		if err != nil || got.Text != "It is a good day" || got.WordCount != 5 {
			t.Errorf("%s: %+v, %v", model, got, err)
		}
	}
	if got := srv.Requests()[0]; string(got.Body) != "It is a good day" || got.Header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("whisper got %s, want the file itself", got.Body)
	}
	if got, err := c.Translate(t.Context(), m2m, "Hello", "en", "es"); err != nil || got != "es: Hello" {
		t.Errorf("Translate = %q, %v", got, err)
	}
	srv.Script(result(`{}`), result(`{}`))
	if _, err := c.Translate(t.Context(), m2m, "Hello", "en", "es"); !errors.Is(err, workersai.ErrBadReply) {
		t.Errorf("no translation: %v, want a bad reply", err)
	}
	if _, err := c.Transcribe(t.Context(), workersai.TranscribeRequest{Model: whisper, Audio: []byte("x")}); !errors.Is(err, workersai.ErrBadReply) {
		t.Errorf("no text: %v, want a bad reply", err)
	}
}

func TestBatch(t *testing.T) {
	bubble(t, func(t *testing.T, srv *workersaitest.Server) {
		c := srv.Client(t)
		id, err := c.Queue(t.Context(), m2m, []workersai.BatchItem{
			{Input: workersai.TranslationInput{Text: "Hello", TargetLang: "es"}, Reference: "a"}, {Input: workersai.TranslationInput{Text: "Hello"}}})
		if err != nil {
			t.Fatal(err)
		}
		srv.Script(result(`{"status":"queued"}`), result(`{"status":"running"}`))
		start := time.Now()
		got, err := c.WaitBatch(t.Context(), m2m, id, time.Minute)
		if err != nil || len(got) != 2 || !got[0].Success || got[0].Reference != "a" || got[1].Success || time.Since(start) != 2*time.Minute {
			t.Errorf("WaitBatch = %+v, %v after %v", got, err, time.Since(start))
		}
		srv.Script(result(`{"status":"lost"}`))
		if _, _, err := c.BatchResults(t.Context(), m2m, id); !errors.Is(err, workersai.ErrBadReply) {
			t.Errorf("unknown status: %v, want a bad reply", err)
		}
		if _, err := c.Queue(t.Context(), m2m, []workersai.BatchItem{{Input: strings.Repeat("a", 10<<20)}}); !errors.Is(err, workersai.ErrInvalidInput) {
			t.Errorf("10 MB: %v, want invalid input", err)
		}
	})
}

func TestCatalogueAndConversion(t *testing.T) {
	t.Parallel()
	srv := workersaitest.NewInMemory(t)
	c := srv.Client(t, noRetry, func(cfg *workersai.Config) { cfg.GatewayID = "my-gateway" })
	list, err := c.SearchModels(t.Context(), workersai.ModelQuery{Search: "bge-m3", Page: 1, PerPage: 10})
	if err != nil || len(list) != 1 || list[0].Property("output_dimensions") != "1024" || list[0].Property("x") != "" {
		t.Errorf("SearchModels = %+v, %v, want bge-m3", list, err)
	}
	if s, err := c.ModelSchema(t.Context(), bge); err != nil || len(s.Input) == 0 {
		t.Errorf("ModelSchema = %s, %v", s.Input, err)
	}
	docs, err := c.ToMarkdown(t.Context(), workersai.File{Name: `a "b".md`, Data: []byte("# Title"), MimeType: "text/markdown"}, workersai.File{Name: "c", Data: []byte{0}})
	if err != nil || len(docs) != 2 || docs[0].Markdown != "# Title" || docs[0].Name != `a "b".md` || docs[0].Tokens != 2 || docs[1].Err == nil {
		t.Errorf("ToMarkdown = %+v, %v", docs, err)
	}
	srv.Script(workersaitest.NoRoute())
	if _, err := c.SearchModels(t.Context(), workersai.ModelQuery{}); !errors.Is(err, workersai.ErrModelNotFound) || !strings.Contains(err.Error(), "base URL") {
		t.Errorf("no route: %v, want the remedy", err)
	}
	if all := srv.Requests(); !slices.ContainsFunc(all, func(r workersaitest.Request) bool { return strings.Contains(r.Path, "search=bge-m3") }) ||
		http.Header.Get(all[0].Header, workersai.HeaderGateway) != "my-gateway" {
		t.Errorf("requests lack the query or the gateway header")
	}
}
