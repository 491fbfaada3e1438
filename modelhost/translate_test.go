package modelhost_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/footnote-rag/footnote/embedded"
	"github.com/footnote-rag/footnote/modelhost"
	"github.com/footnote-rag/footnote/workersai"
)

const translationModel = "@cf/meta/m2m100-1.2b"

// apertiumHost serves translation from the installed Apertium.
func apertiumHost(t *testing.T) *httptest.Server {
	t.Helper()
	files, err := embedded.FindApertium()
	if err != nil {
		t.Fatalf("Apertium is needed here, .ci/deps installs it: %v", err)
	}
	a, err := embedded.NewApertium(files)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return newHost(t, "", func(c *modelhost.Config) { c.Engines = map[string]modelhost.Engine{modelhost.EngineApertium: a} })
}

func TestTranslationBySpanishDictionaries(t *testing.T) {
	t.Parallel()
	c := clientOf(t, apertiumHost(t))
	for name, q := range map[string]struct{ text, source, target, want string }{
		"codes":             {"Hello", "en", "es", "Hola"},
		"names":             {"Hello", "english", "Spanish", "Hola"},
		"default source":    {"Hello", "", "es", "Hola"},
		"three letters":     {"Hello", "eng", "spa", "Hola"},
		"regions":           {"Hello", "en-GB", "es_MX", "Hola"},
		"the other way":     {"El gato es negro.", "es", "en", "The cat is black."},
		"line breaks":       {"\nHello.\n\nThe house is red.\n", "en", "es", "\nHola.\n\nLa casa es roja.\n"},
		"marks of Apertium": {"Hello [^*$/<\\>{}@~] ", "en", "es", "Hola [^*$/<\\>{}@~] "},
		"a NUL":             {"Hello\x00", "en", "es", "Hola"},
		"the same language": {"Hello", "en", "english", "Hello"},
		"white space":       {" \n", "en", "es", " \n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := c.Translate(t.Context(), translationModel, q.text, q.source, q.target)
			if err != nil || got != q.want {
				t.Errorf("Translate(%q, %s, %s) = %q, %v, want %q", q.text, q.source, q.target, got, err, q.want)
			}
		})
	}
}

func TestTranslationRefusals(t *testing.T) {
	t.Parallel()
	srv := apertiumHost(t)
	for name, q := range map[string]struct {
		body         string
		status, code int
		text         string
	}{
		"no target":         {`{"text":"Hello"}`, 400, 7504, "required properties at '/' are 'text,target_lang'"},
		"no text":           {`{"target_lang":"es"}`, 400, 7504, "required"},
		"empty text":        {`{"text":"","target_lang":"es"}`, 400, 7504, "Length of '/text' must be >= 1 not met"},
		"a number":          {`{"text":3,"target_lang":"es"}`, 400, 7504, "Type mismatch of '/text'"},
		"unknown language":  {`{"text":"Hello","target_lang":"klingon"}`, 400, 7504, `target_lang "klingon"`},
		"unknown source":    {`{"text":"Hello","source_lang":"xx","target_lang":"es"}`, 400, 7504, `source_lang "xx"`},
		"pair not here":     {`{"text":"Hello","target_lang":"ja"}`, 400, 7504, "en to ja is not translated here: this host's engine has en to es, es to en"},
		"far too long":      {`{"text":"` + strings.Repeat("word ", 50_000) + `","target_lang":"es"}`, 413, 7506, "250000 characters"},
		"not JSON":          {`text=Hello`, 400, 7504, "not JSON"},
		"not JSON at all":   {``, 400, 7504, "not JSON"},
		"asked not to wait": {`{"text":"Hello","target_lang":"es","options":{"rejectIfBusy":true}}`, 200, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resp, env := post(t, srv.URL+root+"run/"+translationModel, q.body)
			if resp.StatusCode != q.status || q.code != 0 && (len(env.Errors) != 1 || env.Errors[0].Code != q.code || !strings.Contains(env.Errors[0].Message, q.text)) {
				t.Errorf("%s: %d %+v, want %d %d %q", q.body[:min(80, len(q.body))], resp.StatusCode, env.Errors, q.status, q.code, q.text)
			}
		})
	}
}

func TestTranslationNotConfigured(t *testing.T) {
	t.Parallel()
	srv := newHost(t, "", func(c *modelhost.Config) { c.Engines = nil })
	_, err := clientOf(t, srv).Translate(t.Context(), translationModel, "Hello", "en", "es")
	if !errors.Is(err, workersai.ErrModelNotFound) || !strings.Contains(err.Error(), "FOOTNOTE_TRANSLATE_URL") {
		t.Errorf("without an engine: %v, want model not found and how to configure one", err)
	}
}

// libreTranslate is a scripted LibreTranslate: it writes in capitals, refuses a text of over 5000 characters and every
// language but English and German, and wants a key if it has one.
func libreTranslate(t *testing.T, key string) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refuse := func(status int, why string) {
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(map[string]string{"error": why})
		}
		if r.URL.Path == "/languages" {
			_ = json.NewEncoder(w).Encode([]map[string]any{{"code": "en", "targets": []string{"de", "en"}}, {"code": "de", "targets": []string{"de", "en"}}})
			return
		}
		var in map[string]string
		_ = json.NewDecoder(r.Body).Decode(&in)
		switch {
		case in["api_key"] != key:
			refuse(http.StatusForbidden, "Invalid API key")
		case in["target"] != "de" && in["target"] != "en":
			refuse(http.StatusBadRequest, in["target"]+" is not supported")
		case utf8.RuneCountInString(in["q"]) > 5000:
			refuse(http.StatusBadRequest, "Invalid request: request exceeds text limit (5000)")
		case in["q"] == "busy":
			refuse(http.StatusTooManyRequests, "Slowdown: 20 per 1 minute")
		default:
			_ = json.NewEncoder(w).Encode(map[string]string{"translatedText": strings.ToUpper(in["q"])})
		}
	}))
	t.Cleanup(srv.Close)
	return srv
}

func TestTranslationByLibreTranslate(t *testing.T) {
	t.Parallel()
	engine := modelhost.URLEngine(libreTranslate(t, "k").URL, "k")
	srv := newHost(t, "", func(c *modelhost.Config) {
		c.Engines = map[string]modelhost.Engine{modelhost.EngineTranslateURL: engine}
	})
	c := clientOf(t, srv)
	long := strings.Repeat("ein satz. noch ein längerer satz!\n", 200) + "\n\n" + strings.Repeat("ohnepunktundleerzeichen", 500) + " \n"
	got, err := c.Translate(t.Context(), translationModel, long, "de", "en")
	if err != nil || got != strings.ToUpper(long) {
		t.Errorf("a long text came back with %d characters, %v, want %d, each line break in its place", len(got), err, len(long))
	}
	_, err = c.Translate(t.Context(), translationModel, "Hallo", "de", "fr")
	if !errors.Is(err, workersai.ErrInvalidInput) || !strings.Contains(err.Error(), "de to fr is not translated here: this host's engine has en to de, de to en") {
		t.Errorf("German to French: %v, want the pairs there are", err)
	}
	if _, err = c.Translate(t.Context(), translationModel, "busy", "de", "en"); !errors.Is(err, workersai.ErrRateLimited) {
		t.Errorf("a busy server: %v, want rate limited", err)
	}
}

func TestTranslationKeyRefused(t *testing.T) {
	t.Parallel()
	engine := modelhost.URLEngine(libreTranslate(t, "k").URL, "wrong")
	srv := newHost(t, "", func(c *modelhost.Config) {
		c.Engines = map[string]modelhost.Engine{modelhost.EngineTranslateURL: engine}
	})
	_, err := clientOf(t, srv).Translate(t.Context(), translationModel, "Hallo", "de", "en")
	if err == nil || errors.Is(err, workersai.ErrInvalidInput) || !strings.Contains(err.Error(), "Invalid API key") {
		t.Errorf("with a wrong key: %v, want the engine's failure", err)
	}
}
