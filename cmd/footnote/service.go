package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"

	"github.com/footnote-rag/footnote/api"
	"github.com/footnote-rag/footnote/ingest"
	"github.com/footnote-rag/footnote/retrieval"
	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/web"
	"github.com/footnote-rag/footnote/workersai"
)

// serviceConfig is what a service is started with.
type serviceConfig struct {
	settings settings
	log      *slog.Logger
	progress func(name string, done, total int64) // of downloads
	offline  bool                                 // nothing is downloaded: engines that are not here are left out
}

// service is everything that runs in one process: database, models, queue, HTTP. Its parts are stopped in the opposite
// order of their start.
type service struct {
	listener net.Listener
	failed   chan error // the HTTP server's end, if it was not asked for
	stops    []func(context.Context) error
}

// startService starts what the settings ask for and returns when requests are served.
func startService(ctx context.Context, cfg serviceConfig) (_ *service, err error) {
	s := &service{failed: make(chan error, 1)}
	defer func() {
		if err != nil {
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
			defer cancel()
			err = errors.Join(err, s.close(stop))
		}
	}()
	// The address first: a port that is taken is told before anything is downloaded.
	if s.listener, err = net.Listen("tcp", cfg.settings.Addr); err != nil {
		return nil, fmt.Errorf("listen: %w (choose another with --addr)", err)
	}
	s.onStop(func(context.Context) error { return ignoreClosed(s.listener.Close()) })
	database, err := s.startDatabase(ctx, cfg)
	if err != nil {
		return nil, err
	}
	models, err := s.startModels(ctx, cfg)
	if err != nil {
		return nil, err
	}
	handler, err := s.startRooms(ctx, cfg, database, models)
	if err != nil {
		return nil, err
	}
	s.serveHTTP(handler)
	return s, nil
}

func (s *service) onStop(f func(context.Context) error) { s.stops = append(s.stops, f) }

// close stops everything, last started first.
func (s *service) close(ctx context.Context) error {
	var errs []error
	for i := len(s.stops) - 1; i >= 0; i-- {
		errs = append(errs, s.stops[i](ctx))
	}
	s.stops = nil
	return errors.Join(errs...)
}

func (s *service) url() string { return listenURL(s.listener) }

// listenURL is where a client on this machine reaches a listener.
func listenURL(l net.Listener) string {
	addr := l.Addr().(*net.TCPAddr)
	host := addr.IP.String()
	if addr.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, fmt.Sprint(addr.Port))
}

// startRooms opens the store and starts ingest, retrieval and api on it.
func (s *service) startRooms(ctx context.Context, cfg serviceConfig, database string, m models) (*api.Server, error) {
	set := cfg.settings
	db, err := store.Open(ctx, store.Config{URL: database, ReplicaURL: set.ReplicaURL, EFSearch: set.EFSearch, Logger: cfg.log})
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	s.onStop(func(context.Context) error { db.Close(); return nil })

	in, err := ingest.New(ctx, ingest.Config{Store: db, Models: m.client, EmbedModel: set.embedModel(), Pooling: m.pooling,
		Provider: set.provider(), EmbedPerMinute: m.embedPerMinute, EmbedQueued: set.EmbedQueued, SpeechModel: set.SpeechModel, SpeechPerMinute: m.mediaPerMinute,
		TranslateModel: set.TranslateModel, TranslatePerMinute: m.mediaPerMinute,
		ChatModel: m.summarizes, ContextWindow: m.contextWindow, ChatPerMinute: m.chatPerMinute,
		ExtractCommand: extractor(), Logger: cfg.log})
	if err != nil {
		return nil, fmt.Errorf("start ingest: %w", err)
	}
	if err := in.Start(ctx); err != nil {
		return nil, fmt.Errorf("start ingest: %w", err)
	}
	s.onStop(in.Stop)

	answers, err := retrieval.New(retrieval.Config{Store: db, Models: m.client, EmbedModel: set.embedModel(), Pooling: m.pooling,
		ChatModel: set.chatModel(), ChatStrength: m.strength, ContextWindow: m.contextWindow,
		Provider: set.provider(), EmbedPerMinute: m.embedPerMinute, ChatPerMinute: m.chatPerMinute,
		TranslateModel: set.TranslateModel, TranslatePerMinute: m.mediaPerMinute, CheckTimeout: set.CheckTimeout, Judge: set.Judge,
		Word: ingest.WordPiece().Whole, Logger: cfg.log})
	if err != nil {
		return nil, fmt.Errorf("start retrieval: %w", err)
	}
	return api.New(api.Config{Store: db, Ingest: in, Retrieval: answers,
		Media:     api.MediaConfig{Models: m.client, SpeechModel: set.SpeechModel, ImageModel: set.ImageModel, Provider: set.provider(), PerMinute: m.mediaPerMinute},
		ModelHost: m.host, Web: web.Files(), APIKey: set.APIKey, Logger: cfg.log})
}

// extractor is this program as the child that parses documents.
func extractor() []string {
	self, err := os.Executable()
	if err != nil {
		return nil // then documents are parsed in this process
	}
	return []string{self, extractCommandName}
}

func runExtractor(r io.Reader, w io.Writer) error { return ingest.RunExtractor(r, w) }

func (s *service) serveHTTP(h *api.Server) {
	hs := api.NewHTTPServer(s.listener.Addr().String(), h)
	s.onStop(func(ctx context.Context) error { return h.Shutdown(ctx, hs) })
	go func() {
		if err := hs.Serve(s.listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("serve HTTP: %w", err)
		}
	}()
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// models is how this process reaches models, and what it knows of them.
type models struct {
	client                        *workersai.Client
	host                          http.Handler // the local model host, nil where models are elsewhere
	pooling                       string
	strength                      string
	summarizes                    string // the chat model, "" where this machine has none
	contextWindow                 int
	embedPerMinute, chatPerMinute int
	mediaPerMinute                int // of each: speech, translation, images
}

// newToken makes a secret that only this process knows.
func newToken() string { return rand.Text() }
