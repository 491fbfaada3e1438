package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/modelhost"
)

// footnote runs the program with an environment of its own and returns its exit code and what it wrote.
func footnote(t *testing.T, env map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	dir := t.TempDir()
	files := [2]*os.File{}
	for i, name := range []string{"out", "err"} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		files[i] = f
	}
	stdin, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close() })
	p := &program{stdin: stdin, stdout: files[0], stderr: files[1], env: func(name string) string {
		if name == "FOOTNOTE_CACHE_DIR" && env[name] == "" {
			return filepath.Join(dir, "cache")
		}
		return env[name]
	}}
	root := p.command()
	root.SetArgs(args)
	if err := root.ExecuteContext(t.Context()); err != nil {
		code = exitCode(t.Context(), err)
		p.errorf("%s", p.explain(err))
	}
	read := func(f *os.File) string {
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	return code, read(files[0]), read(files[1])
}

// modelHost is a host over a scripted OpenAI-compatible engine, with the program's own routes; at names it for the commands.
func modelHost(t *testing.T, token string) (at map[string]string) {
	t.Helper()
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/embeddings":
			_, _ = io.WriteString(w, `{"data":[{"index":0,"embedding":[`+strings.Repeat("1,", 383)+`1]}],"usage":{"prompt_tokens":3}}`)
		default:
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: {\"choices\":[{\"delta\":{\"content\":\"Hi \"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"there\"}}]}\n\ndata: [DONE]\n\n")
		}
	}))
	t.Cleanup(engine.Close)
	url := modelhost.URLEngine(engine.URL, "")
	h, err := modelhost.New(modelhost.Config{Tokens: hostTokens(token), Engines: map[string]modelhost.Engine{modelhost.EngineMiniLM: url, modelhost.EngineSmolLM2: url}})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(modelRoutes(h))
	t.Cleanup(func() { srv.Close(); h.Close() })
	return map[string]string{"FOOTNOTE_MODELS_ADDR": strings.TrimPrefix(srv.URL, "http://"), "FOOTNOTE_API_KEY": token}
}

func TestModelsCommands(t *testing.T) {
	t.Parallel()
	at := modelHost(t, "secret")
	stranger := map[string]string{"FOOTNOTE_MODELS_ADDR": at["FOOTNOTE_MODELS_ADDR"], "FOOTNOTE_API_KEY": "wrong"}
	for _, c := range []struct {
		name string
		env  map[string]string
		args string
		code int
		want string // in what it writes
	}{
		{"list", at, "models list", exitOK, "served by all-MiniLM-L6-v2"},
		{"list as JSON", at, "models list --json", exitOK, `{"name":"@cf/baai/bge-large-en-v1.5","task":"Text Embeddings","served":false,"setup":`},
		{"list, another's token", stranger, "models list", exitAuth, "token"},
		{"run text", at, "models run @cf/meta/llama-3.1-8b-instruct Say hello", exitOK, "Hi there\n"},
		{"run an alias", at, "models run @cf/meta/llama-3.1-8b-instruct-fp8 Say hello", exitOK, "Hi there\n"},
		{"run embeddings", at, "models run @cf/baai/bge-base-en-v1.5 tea", exitOK, `"shape":[1,384]`},
		{"run what is not served", at, "models run @cf/baai/bge-large-en-v1.5 tea", exitFailed, "7502"},
		{"run without text", at, "models run @cf/baai/bge-base-en-v1.5", exitUsage, "give a text"},
		{"translate to where", at, "models run @cf/meta/m2m100-1.2b Hello", exitUsage, "--to"},
		{"run a missing file", at, "models run @cf/openai/whisper --file none.wav", exitUsage, "none.wav"},
		{"pull what there is not", at, "models pull @cf/none/such", exitUsage, "neither a model"},
		{"pull what must be given", at, "models pull @cf/baai/bge-large-en-v1.5", exitFailed, "nothing to install"},
		{"serve with strange limits", at, "models serve --rate-limits often", exitUsage, "--rate-limits"},
		{"serve with no tokens in the file", at, "models serve --tokens-file " + os.DevNull, exitUsage, "holds no token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := footnote(t, c.env, strings.Fields(c.args)...)
			if code != c.code || !strings.Contains(stdout+stderr, c.want) {
				t.Errorf("footnote %s = %d, %q, %q, want %d and %q", c.args, code, stdout, stderr, c.code, c.want)
			}
		})
	}
}

// With no host and nothing installed, the list still tells what there could be, and downloads nothing.
func TestModelsListOffline(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := footnote(t, map[string]string{"FOOTNOTE_MODELS_ADDR": "127.0.0.1:1"}, "models", "list")
	if code != exitOK || !strings.Contains(stdout, "@local/all-minilm-l6-v2") || strings.Contains(stderr, "fetching") {
		t.Errorf("footnote models list = %d, %q, %q, want the catalogue and no download", code, stdout, stderr)
	}
	if _, served, _ := strings.Cut(stdout, "@local/smollm2-135m-instruct"); !strings.Contains(served, "not served") {
		t.Errorf("footnote models list = %q, want SmolLM2 not served", stdout)
	}
}
