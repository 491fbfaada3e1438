package main

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/footnote-rag/footnote/embedded"
	"github.com/footnote-rag/footnote/ingest"
	"github.com/footnote-rag/footnote/modelhost"
	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/workersai"
)

// startDatabase returns the URL of the user's database, or of the private one after starting it.
func (s *service) startDatabase(ctx context.Context, cfg serviceConfig) (string, error) {
	if cfg.settings.DatabaseURL != "" {
		return cfg.settings.DatabaseURL, nil
	}
	p, err := embedded.StartPostgres(ctx, embedded.PostgresConfig{DataDir: cfg.settings.DataDir, Cache: cfg.cache(), Logger: cfg.log})
	if err != nil {
		return "", fmt.Errorf("start the private Postgres: %w", err)
	}
	keep, stop := context.WithCancel(context.WithoutCancel(ctx))
	var kept sync.WaitGroup
	kept.Go(func() { p.Keep(keep) })
	s.onStop(func(context.Context) error {
		stop()
		kept.Wait()
		return p.Close()
	})
	return p.URL(), nil
}

func (c serviceConfig) cache() *embedded.Cache {
	return &embedded.Cache{Dir: c.settings.CacheDir, Progress: c.progress}
}

// Cloudflare's documented rate limits of October 2026, requests a minute and account.
const (
	cloudflareEmbedPerMinute = 3000
	cloudflareChatPerMinute  = 300
	cloudflareMediaPerMinute = 720 // of each: speech, translation, images
)

// startModels connects to the models: at Cloudflare, at another host, or at one of our own.
func (s *service) startModels(ctx context.Context, cfg serviceConfig) (models, error) {
	if cfg.settings.remoteModels() {
		return remoteModels(ctx, cfg)
	}
	return s.localModels(ctx, cfg)
}

func remoteModels(ctx context.Context, cfg serviceConfig) (models, error) {
	set := cfg.settings
	client, err := workersai.New(workersai.Config{BaseURL: set.BaseURL, AccountID: set.AccountID, Token: set.APIToken,
		MaxRetries: -1, FallbackDeprecated: true, OnFallback: func(retired, successor string) {
			cfg.log.Warn("the model was retired by its provider, using its successor", "model", retired, "successor", successor)
		}})
	if err != nil {
		return models{}, err
	}
	m := models{client: client, summarizes: set.chatModel(), strength: cmp.Or(set.ChatStrength, "capable"), contextWindow: set.ContextWindow,
		embedPerMinute: set.EmbedPerMin, chatPerMinute: set.ChatPerMin}
	if set.BaseURL == "" {
		m.embedPerMinute = cmp.Or(m.embedPerMinute, cloudflareEmbedPerMinute)
		m.chatPerMinute = cmp.Or(m.chatPerMinute, cloudflareChatPerMinute)
		m.mediaPerMinute = cloudflareMediaPerMinute
		return m, nil
	}
	if set.ChatStrength == "" {
		m.strength = askStrength(ctx, client, set.chatModel(), cfg.log)
	}
	return m, nil
}

// askStrength asks another model host how strong its chat model is; one that does not say is taken for capable.
func askStrength(ctx context.Context, client *workersai.Client, model string, log *slog.Logger) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	list, err := client.SearchModels(ctx, workersai.ModelQuery{Search: model})
	if err != nil {
		log.Warn("the model host did not list its models; taking the chat model for a capable one", "error", err)
		return "capable"
	}
	for _, m := range list {
		if strings.EqualFold(m.Name, model) {
			return cmp.Or(m.Property("strength"), "capable")
		}
	}
	return "capable"
}

// localModels starts a model host in this process over local engines, which start when they are first needed.
func (s *service) localModels(ctx context.Context, cfg serviceConfig) (models, error) {
	set := cfg.settings
	local, err := s.localHost(ctx, cfg, modelhost.Config{Tokens: hostTokens(set.APIKey)})
	if err != nil {
		return models{}, err
	}
	base, err := s.serveModels(local.host.Handler())
	if err != nil {
		return models{}, err
	}
	client, err := workersai.New(workersai.Config{BaseURL: base + "/client/v4", AccountID: anyTenant, Token: cmp.Or(set.APIKey, newToken()), MaxRetries: -1,
		Timeout: localTimeout, HeaderTimeout: localTimeout, IdleTimeout: localTimeout})
	if err != nil {
		return models{}, err
	}
	chat := catalogueModel(local.catalogue, set.chatModel(), local.engines)
	embed := catalogueModel(local.catalogue, set.embedModel(), local.engines)
	summarizes := set.chatModel()
	if cmp.Or(chat.URL, chat.Engine, chat.Weights) == "" {
		summarizes = "" // it has no engine
	}
	return models{client: client, host: local.host.Handler(), pooling: embed.Pooling, summarizes: summarizes,
		strength:       cmp.Or(set.ChatStrength, chat.Strength, "capable"),
		contextWindow:  cmp.Or(set.ContextWindow, chat.ContextWindow),
		embedPerMinute: set.EmbedPerMin, chatPerMinute: set.ChatPerMin}, nil
}

// localHost is a model host of this process, and what it was made from.
type localHost struct {
	host      *modelhost.Host
	catalogue modelhost.Catalogue
	engines   map[string]modelhost.Engine
}

// localHost makes the model host; the caller serves its handler. The catalogue and the engines of hc are filled in.
func (s *service) localHost(ctx context.Context, cfg serviceConfig, hc modelhost.Config) (localHost, error) {
	catalogue, err := readCatalogue(cfg.settings.Catalogue)
	if err != nil {
		return localHost{}, err
	}
	engines, err := s.localEngines(ctx, cfg)
	if err != nil {
		return localHost{}, err
	}
	if err := s.weightEngines(ctx, cfg, catalogue, engines); err != nil {
		return localHost{}, err
	}
	hc.Catalogue, hc.Engines, hc.Getenv, hc.Logger = catalogue, engines, os.Getenv, cfg.log
	if hc.MemoryBudget, err = parseSize(cfg.settings.MemoryBudget); err != nil {
		return localHost{}, err
	}
	hc.Tokenizers = map[string]modelhost.Tokenizer{modelhost.EngineMiniLM: ingest.WordPiece()}
	host, err := modelhost.New(hc)
	if err != nil {
		return localHost{}, err
	}
	s.onStop(func(context.Context) error { host.Close(); return nil })
	return localHost{host, catalogue, engines}, nil
}

// localTimeout is for a batch of 100 texts on a slow, busy machine.
const localTimeout = 10 * time.Minute

func hostTokens(apiKey string) []string {
	if apiKey == "" {
		return nil
	}
	return []string{apiKey}
}

// serveModels gives the model host a loopback address of its own: the client speaks the same HTTP as to Cloudflare.
func (s *service) serveModels(h http.Handler) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	s.onStop(srv.Shutdown)
	go func() { _ = srv.Serve(l) }() // ends with Shutdown
	return "http://" + l.Addr().String(), nil
}

// readCatalogue lays the user's catalogue over the built-in one.
func readCatalogue(file string) (modelhost.Catalogue, error) {
	c := modelhost.DefaultCatalogue()
	if file == "" {
		return c, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return c, fmt.Errorf("open the catalogue: %w", err)
	}
	defer f.Close()
	own, err := modelhost.ParseCatalogue(f)
	if err != nil {
		return c, fmt.Errorf("read the catalogue %s: %w", file, err)
	}
	return c.With(own), nil
}

// catalogueModel is the backend that serves a name: the first whose engine or URL is there.
func catalogueModel(c modelhost.Catalogue, name string, engines map[string]modelhost.Engine) modelhost.Backend {
	for _, m := range c.Models {
		if m.Name != name {
			continue
		}
		for _, b := range m.Backends {
			if b.URL != "" || engines[cmp.Or(b.Engine, b.Weights)] != nil {
				return b
			}
		}
	}
	return modelhost.Backend{}
}

// migrateOnly opens the database, which applies the migrations, and closes it.
func migrateOnly(ctx context.Context, set settings, log *slog.Logger, progress func(string, int64, int64)) error {
	s := &service{}
	defer func() { _ = s.close(context.WithoutCancel(ctx)) }()
	url, err := s.startDatabase(ctx, serviceConfig{settings: set, log: log, progress: progress})
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, store.Config{URL: url, Logger: log})
	if err != nil {
		return err
	}
	db.Close()
	return nil
}

// checkParts starts database and models as serve would and uses each.
func (p *program) checkParts(ctx context.Context) iter.Seq[check] {
	return func(yield func(check) bool) {
		s := &service{}
		defer func() { _ = s.close(context.WithoutCancel(ctx)) }()
		quiet := p.settings
		quiet.LogLevel = "error"
		cfg := serviceConfig{settings: p.settings, log: quiet.logger(p.stderr), progress: p.assetProgress()}
		if !yield(checkDatabase(ctx, s, cfg)) {
			return
		}
		m, err := s.startModels(ctx, cfg)
		if err != nil {
			yield(check{Part: "models", Detail: err.Error(), Remedy: "see docs/configuration.md"})
			return
		}
		for _, c := range capabilities(m.client, p.settings) {
			if !yield(c.check(ctx)) {
				return
			}
		}
	}
}

func checkDatabase(ctx context.Context, s *service, cfg serviceConfig) check {
	url, err := s.startDatabase(ctx, cfg)
	if err != nil {
		return check{Part: "database", Detail: err.Error(), Remedy: "or set DATABASE_URL to a Postgres with pgvector 0.8.4 or newer"}
	}
	db, err := store.Open(ctx, store.Config{URL: url, Logger: cfg.log})
	if err != nil {
		return check{Part: "database", Detail: err.Error(), Remedy: "check DATABASE_URL; pgvector must be 0.8.4 or newer"}
	}
	defer db.Close()
	return check{Part: "database", OK: true, Detail: "answers, schema up to date"}
}
