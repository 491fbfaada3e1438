package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/footnote-rag/footnote/embedded"
	"github.com/footnote-rag/footnote/ingest"
	"github.com/footnote-rag/footnote/modelhost"
	"github.com/footnote-rag/footnote/retrieval"
	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/store/storetest"
	"github.com/footnote-rag/footnote/workersai"
)

// bench is the whole product over a real engine, and the bare engine beside it.
type bench struct {
	engine string // the bare engine's address
	store  *store.Store
	ingest *ingest.Service
	search *retrieval.Service
}

func newBench(b *testing.B) *bench {
	b.Helper()
	ctx := b.Context()
	log := slog.New(slog.DiscardHandler)
	cache := &embedded.Cache{Dir: embedded.DefaultCacheDir()}
	engine, err := cache.Engine(ctx, "")
	if err != nil {
		b.Fatal(err)
	}
	weights, err := cache.MiniLM(ctx, engine.Quantization())
	if err != nil {
		b.Fatal(err)
	}
	llama, err := embedded.NewLlama(embedded.LlamaConfig{Engine: engine, Model: weights.Path, Pooling: weights.Pooling, Logger: log})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = llama.Close() })
	url, release, err := llama.Acquire(ctx)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(release)
	host, err := modelhost.New(modelhost.Config{Engines: map[string]modelhost.Engine{modelhost.EngineMiniLM: llama},
		Tokenizers: map[string]modelhost.Tokenizer{modelhost.EngineMiniLM: ingest.WordPiece()}, Logger: log})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(host.Close)
	srv := httptest.NewServer(host.Handler())
	b.Cleanup(srv.Close)
	client, err := workersai.New(workersai.Config{BaseURL: srv.URL + "/client/v4", Token: "any", MaxRetries: -1})
	if err != nil {
		b.Fatal(err)
	}
	db := storetest.Open(b)
	in, err := ingest.New(ctx, ingest.Config{Store: db, Models: client, EmbedModel: miniLM, Logger: log})
	if err != nil {
		b.Fatal(err)
	}
	if err := in.Start(ctx); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = in.Stop(context.Background()) })
	find, err := retrieval.New(retrieval.Config{Store: db, Models: client, EmbedModel: miniLM, ChatModel: smolLM2, Logger: log})
	if err != nil {
		b.Fatal(err)
	}
	return &bench{engine: url, store: db, ingest: in, search: find}
}

// pages are some of the bundled pages.
func pages(b *testing.B, n int) map[string][]byte {
	b.Helper()
	names, err := fs.Glob(manual, "manual/*.html")
	if err != nil {
		b.Fatal(err)
	}
	all := map[string][]byte{}
	for _, name := range names[:min(n, len(names))] {
		if all[name], err = manual.ReadFile(name); err != nil {
			b.Fatal(err)
		}
	}
	return all
}

// load puts the pages into a new collection and waits for all.
func (p *bench) load(b *testing.B, collection string, pages map[string][]byte) {
	b.Helper()
	var ids []string
	for uri, source := range pages {
		d, _, err := p.ingest.Put(b.Context(), ingest.Document{Collection: collection, URI: uri, MediaType: "text/html", Source: source})
		if err != nil {
			b.Fatal(err)
		}
		ids = append(ids, d.ID)
	}
	for _, id := range ids {
		d, err := p.ingest.Wait(b.Context(), id)
		if err != nil || d.Status != store.StatusCompleted {
			b.Fatalf("%s: %s %s, %v", d.URI, d.Status, d.ErrorText, err)
		}
	}
}

// bare embeds the texts by a plain loop: eight texts a request, three requests at once, the engine's best.
func (p *bench) bare(b *testing.B, texts []string) {
	work := make(chan []string)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for batch := range work {
				bareEmbed(b, p.engine, batch)
			}
		})
	}
	for batch := range slices.Chunk(texts, 8) {
		work <- batch
	}
	close(work)
	wg.Wait()
}

func bareEmbed(b *testing.B, engine string, texts []string) []float32 {
	body, _ := json.Marshal(map[string]any{"input": texts})
	resp, err := http.Post(engine+"/v1/embeddings", "application/json", bytes.NewReader(body))
	if err != nil {
		b.Error(err)
		return nil
	}
	defer resp.Body.Close()
	var out struct {
		Data []struct {
			Embedding []float32 `json:"embedding"`
		} `json:"data"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || len(out.Data) != len(texts) {
		b.Errorf("engine: %s, %d vectors for %d texts, %v", resp.Status, len(out.Data), len(texts), err)
		return nil
	}
	return out.Data[0].Embedding
}

// BenchmarkIngest compares the pipeline, from Put to searchable, with a plain loop over the bare engine that embeds the same
// texts: ratio is the pipeline's chunks a second over the loop's, the median of interleaved pairs.
func BenchmarkIngest(b *testing.B) {
	p := newBench(b)
	some := pages(b, 24)
	var texts []string
	for name, source := range some {
		e, err := ingest.Extract("text/html", source)
		if err != nil {
			b.Fatalf("%s: %v", name, err)
		}
		for _, c := range ingest.Chunk(e, ingest.DefaultChunking) {
			texts = append(texts, ingest.EmbedText(c))
		}
	}
	var ratios, rates []float64
	n := 0
	for range b.N {
		for range 5 {
			start := time.Now()
			p.bare(b, texts)
			loop := time.Since(start)
			n++
			start = time.Now()
			p.load(b, fmt.Sprintf("c%d", n), some)
			own := time.Since(start)
			ratios = append(ratios, loop.Seconds()/own.Seconds())
			rates = append(rates, float64(len(texts))/own.Seconds())
		}
	}
	start := time.Now()
	p.load(b, fmt.Sprintf("c%d", n), some)
	again := time.Since(start).Seconds() * middle(rates) / float64(len(texts))
	b.ReportMetric(middle(ratios), "ratio")
	b.ReportMetric(middle(rates), "chunks/s")
	b.ReportMetric(again, "reload/load")
	b.ReportMetric(0, "ns/op")
}

func middle(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}

// BenchmarkQuestion compares question to passages, embedding included, with a plain loop that embeds on the bare engine and
// searches by the same statements.
func BenchmarkQuestion(b *testing.B) {
	p := newBench(b)
	p.load(b, "default", pages(b, 24))
	k, err := p.store.Collection(b.Context(), "default")
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	next := func() string {
		n++
		return fmt.Sprintf("%s (%d)", golden[n%len(golden)].question, n) // never the same twice: nothing is cached
	}
	service := func(q string) error {
		_, err := p.search.Search(b.Context(), retrieval.SearchRequest{Query: q, Limit: 10})
		return err
	}
	loop := func(q string) error {
		v := bareEmbed(b, p.engine, []string{q})
		found, err := p.store.Search(b.Context(), store.SearchQuery{Collection: k, Text: q, Vector: v, Limit: 40, Fusion: store.Fusion{Candidates: 50}})
		if err != nil {
			return err
		}
		_, err = p.store.Widen(b.Context(), found, k.Chunking.Window, 10) // as the service does by default
		return err
	}
	for _, clients := range []int{1, 8} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			var ratios, rates []float64
			for range b.N {
				for range 5 {
					own, bare := questionRate(b, clients, next, service), questionRate(b, clients, next, loop)
					ratios, rates = append(ratios, own/bare), append(rates, own)
				}
			}
			b.ReportMetric(middle(ratios), "ratio")
			b.ReportMetric(middle(rates), "queries/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func questionRate(b *testing.B, clients int, next func() string, f func(string) error) float64 {
	var mu sync.Mutex
	var wg sync.WaitGroup
	done := 0
	start := time.Now()
	for range clients {
		wg.Go(func() {
			for time.Since(start) < time.Second {
				mu.Lock()
				q := next()
				mu.Unlock()
				if err := f(q); err != nil {
					b.Error(err)
					return
				}
				mu.Lock()
				done++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return float64(done) / time.Since(start).Seconds()
}

// BenchmarkExtractAndChunk reports megabytes of HTML a second.
func BenchmarkExtractAndChunk(b *testing.B) {
	all := pages(b, 1000)
	size := 0
	for _, source := range all {
		size += len(source)
	}
	b.SetBytes(int64(size))
	for b.Loop() {
		for name, source := range all {
			e, err := ingest.Extract("text/html", source)
			if err != nil {
				b.Fatalf("%s: %v", name, err)
			}
			ingest.Chunk(e, ingest.DefaultChunking)
		}
	}
}
