package api

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/footnote-rag/footnote/ingest"
)

// scrapeTimeout bounds what a scrape may ask of the database.
const scrapeTimeout = 2 * time.Second

// metrics of one server, in a registry of its own.
type metrics struct {
	requests *prometheus.HistogramVec
	inFlight prometheus.Gauge
	page     http.Handler
}

func newMetrics(in *ingest.Service, live *streams) *metrics {
	m := &metrics{
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "footnote_http_request_duration_seconds", Help: "Duration of HTTP requests by route template; streams to their end.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}, []string{"method", "route", "status"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "footnote_http_requests_in_flight", Help: "Requests being answered."}),
	}
	open := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "footnote_answers_in_flight", Help: "Answers being made, streamed or not."},
		func() float64 { return float64(live.count()) })
	r := prometheus.NewRegistry()
	r.MustRegister(m.requests, m.inFlight, open, ingestCollector{in}, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.page = promhttp.HandlerFor(r, promhttp.HandlerOpts{Timeout: 2 * scrapeTimeout})
	return m
}

func (m *metrics) handler(c echo.Context) error {
	m.page.ServeHTTP(c.Response(), c.Request())
	return nil
}

// observe keeps the label sets fixed: clients choose neither route nor method names.
func (m *metrics) observe(method, route string, status int, took time.Duration) {
	switch method {
	case http.MethodGet, http.MethodPost, http.MethodDelete, http.MethodHead, http.MethodOptions:
	default:
		method = "other"
	}
	m.requests.WithLabelValues(method, route, strconv.Itoa(status)).Observe(took.Seconds())
}

// ingestCollector asks ingest for its numbers at each scrape.
type ingestCollector struct{ in *ingest.Service }

var (
	documentsByStatus = prometheus.NewDesc("footnote_ingest_documents", "Documents waiting or being worked on.", []string{"status"}, nil)
	documentsEnded    = prometheus.NewDesc("footnote_ingest_documents_ended_total", "Documents ended by this process.", []string{"status"}, nil)
	textsEmbedded     = prometheus.NewDesc("footnote_ingest_texts_embedded_total", "Texts embedded by this process.", nil, nil)
	embedCalls        = prometheus.NewDesc("footnote_ingest_embed_calls_total", "Embedding requests of this process.", nil, nil)
	ingestPaused      = prometheus.NewDesc("footnote_ingest_paused", "1 while the model provider asked to wait.", nil, nil)
)

func (i ingestCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(i, ch) }

// Collect leaves the numbers out while the database does not answer.
func (i ingestCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	st, err := i.in.Stats(ctx)
	if err != nil {
		return
	}
	gauge := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	counter := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(documentsByStatus, st.Queued, "queued")
	gauge(documentsByStatus, st.Running, "running")
	counter(documentsEnded, st.DocumentsDone, "completed")
	counter(documentsEnded, st.DocumentsFailed, "error")
	counter(textsEmbedded, st.TextsEmbedded)
	counter(embedCalls, st.EmbedCalls)
	paused := int64(0)
	if st.PausedUntil != "" {
		paused = 1
	}
	gauge(ingestPaused, paused)
}
