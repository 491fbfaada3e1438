package modelhost

import (
	"context"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/footnote-rag/footnote/workersai"
)

// HeaderColdStart says, in milliseconds, how long the request waited for its engine to start. Warm answers lack it.
const HeaderColdStart = "Footnote-Cold-Start-Ms"

// coldStart is the shortest wait for an engine that counts as its start: a running one is there at once.
const coldStart = 20 * time.Millisecond

// metrics of one host.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	tokens   *prometheus.CounterVec
	starts   *prometheus.CounterVec
	cold     *prometheus.HistogramVec
	faults   *prometheus.CounterVec
	loads    *prometheus.CounterVec
	unloads  *prometheus.CounterVec
}

func newMetrics() *metrics {
	return &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "footnote_model_requests_total", Help: "Requests by model, HTTP status and error code (0: none); 499: the client left."}, []string{"model", "status", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "footnote_model_request_duration_seconds", Help: "Duration of requests by model; streams to their end.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}}, []string{"model"}),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "footnote_model_tokens_total", Help: "Tokens by model and kind, as the engine counted them: prompt or completion."}, []string{"model", "kind"}),
		starts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "footnote_model_cold_starts_total", Help: "Requests that waited for their engine to start, by engine: models may share one."}, []string{"engine"}),
		cold: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "footnote_model_cold_start_seconds", Help: "How long requests waited for their engine to start.",
			Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}}, []string{"engine"}),
		faults: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "footnote_model_faults_total", Help: "Faults injected on purpose, by name."}, []string{"fault"}),
		loads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "footnote_model_engine_loads_total", Help: "Starts of an engine under the memory budget."}, []string{"engine"}),
		unloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "footnote_model_engine_unloads_total", Help: "Ends of an engine under the memory budget: to make room, or by itself."}, []string{"engine"}),
	}
}

// Collectors are the host's Prometheus metrics, to be registered once.
func (h *Host) Collectors() []prometheus.Collector {
	m := h.metrics
	return []prometheus.Collector{m.requests, m.duration, m.tokens, m.starts, m.cold, m.faults, m.loads, m.unloads, h.memory, queueCollector{h}}
}

// finished counts one request. Only names of the catalogue become labels: clients cannot make up series.
func (m *metrics) finished(model string, took time.Duration, f *failure) {
	if model == "" {
		return
	}
	status, code := http.StatusOK, 0
	if f != nil {
		status, code = f.status, f.code
	}
	m.requests.WithLabelValues(model, strconv.Itoa(status), strconv.Itoa(code)).Inc()
	m.duration.WithLabelValues(model).Observe(took.Seconds())
}

func (m *metrics) used(model string, u workersai.Usage) {
	m.tokens.WithLabelValues(model, "prompt").Add(float64(max(0, u.PromptTokens)))
	m.tokens.WithLabelValues(model, "completion").Add(float64(max(0, u.CompletionTokens)))
}

// watchedEngine tells how long its callers waited for a start.
type watchedEngine struct {
	Engine
	name    string
	metrics *metrics
}

func (e watchedEngine) Acquire(ctx context.Context) (string, func(), error) {
	began := time.Now()
	url, release, err := e.Engine.Acquire(ctx)
	took := time.Since(began)
	if err == nil && took >= coldStart {
		e.metrics.starts.WithLabelValues(e.name).Inc()
		e.metrics.cold.WithLabelValues(e.name).Observe(took.Seconds())
		if note, ok := ctx.Value(coldKey{}).(func(time.Duration)); ok {
			note(took)
		}
	}
	return url, release, err
}

func (e watchedEngine) key() string {
	if k, ok := e.Engine.(keyed); ok {
		return k.key()
	}
	return ""
}

type coldKey struct{}

var (
	queueWaiting = prometheus.NewDesc("footnote_model_queue_waiting", "Requests that wait for an engine.", []string{"model"}, nil)
	queueRunning = prometheus.NewDesc("footnote_model_queue_running", "Requests, or micro-requests of embeddings, an engine works on.", []string{"model"}, nil)
)

// queueCollector reads the queues at each scrape.
type queueCollector struct{ host *Host }

// Describe implements prometheus.Collector.
func (q queueCollector) Describe(out chan<- *prometheus.Desc) {
	out <- queueWaiting
	out <- queueRunning
}

// Collect implements prometheus.Collector. Models that share an engine report the same queue.
func (q queueCollector) Collect(out chan<- prometheus.Metric) {
	for _, m := range q.host.cfg.Catalogue.Models {
		b := q.host.models[m.Name]
		if b == nil {
			continue
		}
		waiting, running := int(b.gate.waiting.Load()), len(b.gate.slots)
		if b.Task == TaskEmbeddings {
			waiting, running = b.embeds.load()
		}
		out <- prometheus.MustNewConstMetric(queueWaiting, prometheus.GaugeValue, float64(waiting), m.Name)
		out <- prometheus.MustNewConstMetric(queueRunning, prometheus.GaugeValue, float64(running), m.Name)
	}
}

// coldWriter sets HeaderColdStart when the answer begins. A stream whose heartbeat came first goes without it; the
// metric has it all the same.
type coldWriter struct {
	http.ResponseWriter
	waited atomic.Int64 // nanoseconds, the longest of the request's engine calls
	begun  bool
}

func (w *coldWriter) note(d time.Duration) {
	for old := w.waited.Load(); int64(d) > old; old = w.waited.Load() {
		if w.waited.CompareAndSwap(old, int64(d)) {
			return
		}
	}
}

// WriteHeader implements http.ResponseWriter.
func (w *coldWriter) WriteHeader(status int) {
	if d := time.Duration(w.waited.Load()); d > 0 && !w.begun {
		w.Header().Set(HeaderColdStart, strconv.FormatInt(d.Milliseconds(), 10))
	}
	w.begun = true
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *coldWriter) Write(p []byte) (int, error) {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController flush.
func (w *coldWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
