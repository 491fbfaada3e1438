package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/footnote-rag/footnote/embedded"
	"github.com/footnote-rag/footnote/modelhost"
)

// engineIdle is how long a chat engine is kept in memory without use; embedding engines are small and stay.
const engineIdle = 15 * time.Minute

// localEngine is a model server that this process starts when it is first needed, and stops.
type localEngine interface {
	modelhost.Engine
	Close() error
}

// enginePart is one engine that this machine can run.
type enginePart struct {
	name string // as the catalogue calls it
	what string // what is installed, for a person

	// optional engines are used where they were installed: `footnote models pull` does that. The others are fetched when
	// the models start.
	optional bool

	// make installs what is missing into the cache, and returns the engine, not yet running. Without a network, or with
	// an offline cache, it fails with embedded.ErrUnavailable.
	make func(ctx context.Context, cfg serviceConfig, cache *embedded.Cache) (localEngine, error)
}

// engineParts are all of them. A new engine is a new line here.
func engineParts() []enginePart {
	return []enginePart{
		{name: modelhost.EngineMiniLM, what: "all-MiniLM-L6-v2", make: makeMiniLM},
		{name: modelhost.EngineSmolLM2, what: "SmolLM2-135M-Instruct", make: makeSmolLM2},
		{name: modelhost.EngineApertium, what: "Apertium, English and Spanish", optional: true, make: makeApertium},
		{name: modelhost.EngineWhisperTiny, what: "Whisper tiny.en", optional: true, make: makeWhisperTiny},
		{name: modelhost.EngineWhisper, what: "Whisper, weights of your own", optional: true, make: makeWhisperOwn},
		{name: modelhost.EngineM2M100, what: "m2m100, weights of your own", optional: true, make: makeM2M100},
		{name: modelhost.EngineTinyDiffuser, what: "tiny-diffuser, a model that draws simple shapes", optional: true, make: makeDiffuser},
	}
}

func makeMiniLM(ctx context.Context, cfg serviceConfig, cache *embedded.Cache) (localEngine, error) {
	engine, err := cache.Engine(ctx, cfg.settings.LlamaServer)
	if err != nil {
		return nil, err
	}
	cfg.log.Info("text engine", "kind", engine.Kind)
	w, err := cache.MiniLM(ctx, engine.Quantization())
	if err != nil {
		return nil, err
	}
	return newLlama(embedded.LlamaConfig{Engine: engine, Model: w.Path, Kind: embedded.Embed, Pooling: w.Pooling, Logger: cfg.log})
}

func makeSmolLM2(ctx context.Context, cfg serviceConfig, cache *embedded.Cache) (localEngine, error) {
	engine, err := cache.Engine(ctx, cfg.settings.LlamaServer)
	if err != nil {
		return nil, err
	}
	w, err := cache.SmolLM2(ctx)
	if err != nil {
		return nil, err
	}
	return newLlama(embedded.LlamaConfig{Engine: engine, Model: w.Path, Kind: embedded.Chat, Context: 8192, Parallel: 1, Idle: engineIdle, Logger: cfg.log})
}

func makeApertium(ctx context.Context, _ serviceConfig, cache *embedded.Cache) (localEngine, error) {
	files, err := cache.Apertium(ctx)
	if err != nil {
		return nil, err
	}
	return embedded.NewApertium(files)
}

func makeWhisperTiny(ctx context.Context, cfg serviceConfig, cache *embedded.Cache) (localEngine, error) {
	files, err := cache.Whisper(ctx)
	if err != nil {
		return nil, err
	}
	return embedded.NewWhisper(embedded.WhisperConfig{Files: files, Idle: engineIdle, Logger: cfg.log})
}

// makeWhisperOwn and makeM2M100 serve the weights that a setting names; the setting is the word that their engine is to be
// installed.
func makeWhisperOwn(ctx context.Context, cfg serviceConfig, cache *embedded.Cache) (localEngine, error) {
	dir := cfg.settings.Engines.WhisperDir
	if dir == "" {
		return nil, fmt.Errorf("%w: set FOOTNOTE_WHISPER_DIR to the folder of your weights", embedded.ErrUnavailable)
	}
	cache.Offline = cfg.offline
	files, err := cache.WhisperAt(ctx, dir)
	if err != nil {
		return nil, err
	}
	return embedded.NewWhisper(embedded.WhisperConfig{Files: files, Idle: engineIdle, Logger: cfg.log})
}

func makeM2M100(ctx context.Context, cfg serviceConfig, cache *embedded.Cache) (localEngine, error) {
	dir := cfg.settings.Engines.M2M100Dir
	if dir == "" {
		return nil, fmt.Errorf("%w: set FOOTNOTE_M2M100_DIR to the folder of your weights", embedded.ErrUnavailable)
	}
	cache.Offline = cfg.offline
	files, err := cache.M2M100At(ctx, dir)
	if err != nil {
		return nil, err
	}
	return embedded.NewM2M100(embedded.M2M100Config{Files: files, Idle: engineIdle, Logger: cfg.log})
}

// makeDiffuser has nothing to install: the model makes its own weights.
func makeDiffuser(context.Context, serviceConfig, *embedded.Cache) (localEngine, error) {
	return embedded.NewDiffuser(), nil
}

// newLlama keeps a nil *embedded.Llama from becoming an engine.
func newLlama(c embedded.LlamaConfig) (localEngine, error) {
	l, err := embedded.NewLlama(c)
	if err != nil {
		return nil, err
	}
	return l, nil
}

// localEngines makes the engines of this machine; nothing runs before a model is used. A server that the settings name comes
// in its place. The full profile has none of the small text models. With cfg.offline nothing is fetched, and what is not
// here is left out.
func (s *service) localEngines(ctx context.Context, cfg serviceConfig) (map[string]modelhost.Engine, error) {
	engines := cfg.settings.Engines.engines()
	for _, part := range engineParts() {
		if cfg.settings.Profile == "full" && !part.optional {
			continue
		}
		cache := cfg.cache()
		cache.Offline = cfg.offline || part.optional
		e, err := part.make(ctx, cfg, cache)
		if cache.Offline && errors.Is(err, embedded.ErrUnavailable) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", part.what, err)
		}
		s.onStop(func(context.Context) error { return e.Close() })
		engines[part.name] = e
	}
	return engines, nil
}
