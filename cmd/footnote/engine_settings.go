package main

import (
	"net/url"

	"github.com/footnote-rag/footnote/modelhost"
)

// engineSettings say where the engines of the local model host are: servers that somebody else runs, and weights of the
// user's own. docs/engines.md is their page.
type engineSettings struct {
	urls    map[string]engineURL // by engine name
	weights map[string]string    // by engine name: a GGUF file or its URL

	WhisperDir string // FOOTNOTE_WHISPER_DIR: Whisper weights in CTranslate2's form
	M2M100Dir  string // FOOTNOTE_M2M100_DIR: m2m100 weights in CTranslate2's form
}

type engineURL struct{ url, key string }

// engineURLs are the settings that name a server; _KEY in place of _URL is its bearer token.
var engineURLs = map[string]string{ // by variable without the ending
	"FOOTNOTE_EMBED":     modelhost.EngineBGEBase,
	"FOOTNOTE_CHAT":      modelhost.EngineLlama8B,
	"FOOTNOTE_RERANK":    modelhost.EngineRerankURL,
	"FOOTNOTE_TRANSLATE": modelhost.EngineTranslateURL,
	"FOOTNOTE_APERTIUM":  modelhost.EngineApertiumURL,
	"FOOTNOTE_SPEECH":    modelhost.EngineSpeechURL,
	"FOOTNOTE_IMAGE":     modelhost.EngineImageURL,
	"FOOTNOTE_SD":        modelhost.EngineSDURL,
}

// engineWeights are the settings that name a GGUF file for an engine of ours.
var engineWeights = map[string]string{
	"FOOTNOTE_EMBED_WEIGHTS":  modelhost.EngineBGEBase,
	"FOOTNOTE_CHAT_WEIGHTS":   modelhost.EngineLlama8B,
	"FOOTNOTE_RERANK_WEIGHTS": modelhost.EngineBGEReranker,
}

func readEngineSettings(env func(string) string) (engineSettings, error) {
	s := engineSettings{urls: map[string]engineURL{}, weights: map[string]string{},
		WhisperDir: env("FOOTNOTE_WHISPER_DIR"), M2M100Dir: env("FOOTNOTE_M2M100_DIR")}
	for name, engine := range engineURLs {
		v := env(name + "_URL")
		if v == "" {
			continue
		}
		if !isHTTP(v) {
			return s, usagef("%s_URL is %q: give an http or https URL", name, v)
		}
		s.urls[engine] = engineURL{v, env(name + "_KEY")}
	}
	for name, engine := range engineWeights {
		if v := env(name); v != "" {
			if s.urls[engine].url != "" {
				return s, usagef("%s is set, and so is a URL for the same model: choose one", name)
			}
			s.weights[engine] = v
		}
	}
	return s, nil
}

func isHTTP(v string) bool {
	u, err := url.Parse(v)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}

// hasEngine says whether an engine was named by a URL or by weights.
func (s engineSettings) hasEngine(name string) bool {
	return s.urls[name].url != "" || s.weights[name] != ""
}

// engines are the servers that somebody else runs.
func (s engineSettings) engines() map[string]modelhost.Engine {
	out := map[string]modelhost.Engine{}
	for name, u := range s.urls {
		out[name] = modelhost.URLEngine(u.url, u.key)
	}
	return out
}
