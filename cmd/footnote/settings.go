package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/footnote-rag/footnote/embedded"
	"github.com/footnote-rag/footnote/modelhost"
	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/workersai"
)

// settings is everything the process reads from flags and the environment, read once. A flag beats the environment, the
// environment beats the default.
type settings struct {
	Addr           string         // FOOTNOTE_ADDR: where serve listens
	DataDir        string         // FOOTNOTE_DATA_DIR
	CacheDir       string         // FOOTNOTE_CACHE_DIR
	ModelsAddr     string         // FOOTNOTE_MODELS_ADDR: where `models serve` listens
	URL            string         // FOOTNOTE_URL: what the client commands talk to; "" means the address, or a server of our own
	APIKey         string         // FOOTNOTE_API_KEY
	DatabaseURL    string         // DATABASE_URL; "" means the private Postgres
	ReplicaURL     string         // FOOTNOTE_REPLICA_URL
	AccountID      string         // CLOUDFLARE_ACCOUNT_ID
	APIToken       string         // CLOUDFLARE_API_TOKEN
	BaseURL        string         // WORKERSAI_BASE_URL
	EmbedModel     string         // FOOTNOTE_EMBED_MODEL
	ChatModel      string         // FOOTNOTE_CHAT_MODEL
	SpeechModel    string         // FOOTNOTE_SPEECH_MODEL: transcribes recordings
	TranslateModel string         // FOOTNOTE_TRANSLATE_MODEL
	ImageModel     string         // FOOTNOTE_IMAGE_MODEL
	ChatStrength   string         // FOOTNOTE_CHAT_STRENGTH: small or capable; "" means what the catalogue says
	LlamaServer    string         // FOOTNOTE_LLAMA_SERVER: a llama-server binary, or the URL of a running server
	Engines        engineSettings // FOOTNOTE_…_URL, _KEY, _WEIGHTS, _DIR: see engine_settings.go
	Catalogue      string         // FOOTNOTE_CATALOGUE: a catalogue file for the model host
	Profile        string         // FOOTNOTE_PROFILE: small or full
	LogLevel       string         // FOOTNOTE_LOG_LEVEL
	EmbedPerMin    int            // FOOTNOTE_EMBED_PER_MINUTE
	ChatPerMin     int            // FOOTNOTE_CHAT_PER_MINUTE
	CheckTimeout   time.Duration  // FOOTNOTE_CHECK_TIMEOUT; negative: words alone
	Judge          bool           // FOOTNOTE_JUDGE
	ContextWindow  int            // FOOTNOTE_CONTEXT_WINDOW, tokens
	EFSearch       int            // FOOTNOTE_EF_SEARCH: chunks that a search of the vectors' index looks at; 0: the store's default
	EmbedQueued    bool           // FOOTNOTE_EMBED_QUEUED: bulk embedding by asynchronous batches
	MemoryBudget   string         // FOOTNOTE_MEMORY_BUDGET: what the engines of this machine may take together; "" no limit
}

const (
	defaultAddr       = "127.0.0.1:8080"
	defaultModelsAddr = "127.0.0.1:8789" // 8787 and 8788 are wrangler's own

	bgeBase         = "@cf/baai/bge-base-en-v1.5"
	llama8b         = "@cf/meta/llama-3.1-8b-instruct"
	whisper         = "@cf/openai/whisper"
	m2m100          = "@cf/meta/m2m100-1.2b"
	stableDiffusion = "@cf/stabilityai/stable-diffusion-xl-base-1.0"
	miniLM          = "@local/all-minilm-l6-v2"
	smolLM2         = "@local/smollm2-135m-instruct"
	bgeReranker     = "@cf/baai/bge-reranker-base"
	anyTenant       = "local" // the account id that our own model host is called with
)

// readSettings takes the environment; flags are bound to the result afterwards.
func readSettings(env func(string) string) (settings, error) {
	s := settings{
		Addr:           cmp.Or(env("FOOTNOTE_ADDR"), defaultAddr),
		ModelsAddr:     cmp.Or(env("FOOTNOTE_MODELS_ADDR"), defaultModelsAddr),
		DataDir:        cmp.Or(env("FOOTNOTE_DATA_DIR"), embedded.DefaultDataDir()),
		CacheDir:       cmp.Or(env("FOOTNOTE_CACHE_DIR"), embedded.DefaultCacheDir()),
		URL:            env("FOOTNOTE_URL"),
		APIKey:         env("FOOTNOTE_API_KEY"),
		DatabaseURL:    env("DATABASE_URL"),
		ReplicaURL:     env("FOOTNOTE_REPLICA_URL"),
		AccountID:      env("CLOUDFLARE_ACCOUNT_ID"),
		APIToken:       env("CLOUDFLARE_API_TOKEN"),
		BaseURL:        env("WORKERSAI_BASE_URL"),
		EmbedModel:     env("FOOTNOTE_EMBED_MODEL"),
		ChatModel:      env("FOOTNOTE_CHAT_MODEL"),
		SpeechModel:    cmp.Or(env("FOOTNOTE_SPEECH_MODEL"), whisper),
		TranslateModel: cmp.Or(env("FOOTNOTE_TRANSLATE_MODEL"), m2m100),
		ImageModel:     cmp.Or(env("FOOTNOTE_IMAGE_MODEL"), stableDiffusion),
		ChatStrength:   env("FOOTNOTE_CHAT_STRENGTH"),
		LlamaServer:    env("FOOTNOTE_LLAMA_SERVER"),
		Catalogue:      env("FOOTNOTE_CATALOGUE"),
		Profile:        cmp.Or(env("FOOTNOTE_PROFILE"), "small"),
		LogLevel:       cmp.Or(env("FOOTNOTE_LOG_LEVEL"), "info"),
		MemoryBudget:   env("FOOTNOTE_MEMORY_BUDGET"),
	}
	var err error
	s.Engines, err = readEngineSettings(env)
	errs := []error{err}
	for _, n := range []struct {
		name string
		to   *int
	}{
		{"FOOTNOTE_EMBED_PER_MINUTE", &s.EmbedPerMin},
		{"FOOTNOTE_CHAT_PER_MINUTE", &s.ChatPerMin},
		{"FOOTNOTE_CONTEXT_WINDOW", &s.ContextWindow},
		{"FOOTNOTE_EF_SEARCH", &s.EFSearch},
	} {
		if v := env(n.name); v != "" {
			i, err := strconv.Atoi(v)
			if err != nil || i < 0 {
				errs = append(errs, usagef("%s is %q: give a whole number, 0 or more", n.name, v))
			}
			*n.to = i
		}
	}
	for name, to := range map[string]*bool{"FOOTNOTE_EMBED_QUEUED": &s.EmbedQueued, "FOOTNOTE_JUDGE": &s.Judge} {
		if v := env(name); v != "" {
			var err error
			if *to, err = strconv.ParseBool(v); err != nil {
				errs = append(errs, usagef("%s is %q: give true or false", name, v))
			}
		}
	}
	if v := env("FOOTNOTE_CHECK_TIMEOUT"); v != "" {
		var err error
		switch s.CheckTimeout, err = time.ParseDuration(v); {
		case err != nil || s.CheckTimeout < 0:
			errs = append(errs, usagef("FOOTNOTE_CHECK_TIMEOUT is %q: give a duration such as 2s or 500ms, or 0 to check by words alone", v))
		case s.CheckTimeout == 0:
			s.CheckTimeout = -1
		}
	}
	return s, errors.Join(errs...)
}

// check names the first setting that cannot work.
func (s *settings) check() error {
	for _, addr := range []string{s.Addr, s.ModelsAddr} {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return usagef("the address %q is not host:port: %v", addr, err)
		}
	}
	for name, v := range map[string]string{"FOOTNOTE_URL": s.URL, "WORKERSAI_BASE_URL": s.BaseURL} {
		if v != "" && !isHTTP(v) {
			return usagef("%s is %q: give an http or https URL", name, v)
		}
	}
	if (s.AccountID == "") != (s.APIToken == "") {
		return usagef("set both CLOUDFLARE_ACCOUNT_ID and CLOUDFLARE_API_TOKEN, or neither to use the models on this machine")
	}
	if s.BaseURL != "" && s.AccountID == "" {
		return usagef("WORKERSAI_BASE_URL is set: set CLOUDFLARE_ACCOUNT_ID and CLOUDFLARE_API_TOKEN too (any value will do for an open model host)")
	}
	if s.Profile != "small" && s.Profile != "full" {
		return usagef("the profile is %q: choose small or full", s.Profile)
	}
	if s.Profile == "full" && !s.remoteModels() && s.Catalogue == "" && (!s.Engines.hasEngine(modelhost.EngineBGEBase) || !s.Engines.hasEngine(modelhost.EngineLlama8B)) {
		return usagef("the full profile needs FOOTNOTE_EMBED_URL and FOOTNOTE_CHAT_URL (llama.cpp servers with bge-base-en-v1.5 and llama-3.1-8b-instruct), or their weights in FOOTNOTE_EMBED_WEIGHTS and FOOTNOTE_CHAT_WEIGHTS, or a FOOTNOTE_CATALOGUE")
	}
	if s.EFSearch > store.MaxEFSearch {
		return usagef("FOOTNOTE_EF_SEARCH is %d: give 1 to %d", s.EFSearch, store.MaxEFSearch)
	}
	if s.ChatStrength != "" && s.ChatStrength != "small" && s.ChatStrength != "capable" {
		return usagef("FOOTNOTE_CHAT_STRENGTH is %q: choose small or capable", s.ChatStrength)
	}
	if _, err := s.logLevel(); err != nil {
		return err
	}
	_, err := parseSize(s.MemoryBudget)
	return err
}

// remoteModels tells whether models are reached at Cloudflare or another host instead of in this process.
func (s *settings) remoteModels() bool { return s.AccountID != "" }

// provider names the rate limit that documents and questions share, in all processes on one database: an account at a host.
func (s *settings) provider() string {
	if !s.remoteModels() {
		return anyTenant
	}
	return cmp.Or(s.BaseURL, workersai.DefaultBaseURL) + " " + s.AccountID
}

// embedModel and chatModel are the names models are called by.
func (s *settings) embedModel() string { return s.model(s.EmbedModel, bgeBase, miniLM) }
func (s *settings) chatModel() string  { return s.model(s.ChatModel, llama8b, smolLM2) }

func (s *settings) model(named, full, small string) string {
	switch {
	case named != "":
		return named
	case s.remoteModels() || s.Profile == "full":
		return full
	default:
		return small
	}
}

// serverURL is where client commands look for a server, and whether the user named it.
func (s *settings) serverURL() (u string, named bool) {
	if s.URL != "" {
		return strings.TrimRight(s.URL, "/"), true
	}
	host, port, _ := net.SplitHostPort(s.Addr)
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port), false
}

func (s *settings) logLevel() (slog.Level, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(s.LogLevel)); err != nil {
		return 0, usagef("the log level is %q: choose debug, info, warn or error", s.LogLevel)
	}
	return l, nil
}

// logger writes text for a person on a terminal and JSON for a program.
func (s *settings) logger(w io.Writer) *slog.Logger {
	l, _ := s.logLevel()
	opts := &slog.HandlerOptions{Level: l}
	if f, ok := w.(*os.File); ok && isTerminal(f) {
		return slog.New(slog.NewTextHandler(w, opts))
	}
	return slog.New(slog.NewJSONHandler(w, opts))
}

// String shows the settings without their secrets, for doctor.
func (s *settings) String() string {
	secret := func(v string) string {
		if v == "" {
			return "(not set)"
		}
		return "(set)"
	}
	u, _ := s.serverURL()
	return fmt.Sprintf("address %s, server %s, data %s, cache %s, database %s, models %s, api key %s",
		s.Addr, u, s.DataDir, s.CacheDir, cmp.Or(redactURL(s.DatabaseURL), "private"), cmp.Or(s.BaseURL, map[bool]string{true: "Cloudflare", false: "this machine"}[s.remoteModels()]), secret(s.APIKey))
}

func redactURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(unreadable URL)"
	}
	return u.Redacted()
}
