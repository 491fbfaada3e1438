package main

import (
	"context"
	"fmt"

	"github.com/footnote-rag/footnote/embedded"
	"github.com/footnote-rag/footnote/modelhost"
)

// weightEngines adds an engine for every GGUF file that the settings or the catalogue name. A file given by URL is fetched
// first, once.
func (s *service) weightEngines(ctx context.Context, cfg serviceConfig, c modelhost.Catalogue, engines map[string]modelhost.Engine) error {
	for _, m := range c.Models {
		for _, b := range m.Backends {
			name, weights := b.Weights, b.Weights
			if b.Engine != "" {
				name, weights = b.Engine, cfg.settings.Engines.weights[b.Engine]
			}
			if weights == "" || engines[name] != nil {
				continue
			}
			e, err := makeWeights(ctx, cfg, m.Task, b, weights)
			if err != nil {
				return fmt.Errorf("%s from %s: %w", m.Name, weights, err)
			}
			s.onStop(func(context.Context) error { return e.Close() })
			engines[name] = e
		}
	}
	return nil
}

// makeWeights is llama.cpp's server for one file, not yet running.
func makeWeights(ctx context.Context, cfg serviceConfig, task string, b modelhost.Backend, weights string) (localEngine, error) {
	cache := cfg.cache()
	engine, err := cache.Engine(ctx, cfg.settings.LlamaServer)
	if err != nil {
		return nil, err
	}
	path, err := cache.GGUF(ctx, weights)
	if err != nil {
		return nil, err
	}
	l := embedded.LlamaConfig{Engine: engine, Model: path, Idle: engineIdle, Logger: cfg.log}
	switch task {
	case modelhost.TaskEmbeddings:
		l.Kind, l.Pooling, l.Batch = embedded.Embed, b.Pooling, b.MaxTokens
		l.Idle = 0 // small, and asked at any time
	case modelhost.TaskReranking:
		l.Kind, l.Batch = embedded.Rerank, b.MaxTokens
	case modelhost.TaskTextGeneration:
		l.Kind, l.Context, l.Parallel = embedded.Chat, b.ContextWindow, 1
	}
	if l.Batch > 4096 { // one text must fit into the context that the slots share
		l.Context, l.Parallel = l.Batch, 1
	}
	return newLlama(l)
}
