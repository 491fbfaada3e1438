package eval

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Options of a run. Zero fields mean the documented default.
type Options struct {
	Limit       int                   // passages asked of each search; default 100
	SkipSearch  bool                  // measure answers alone
	Answers     bool                  // ask for answers too
	Concurrency int                   // questions asked at once; default 1, so that latencies are those of one user
	Keep        int                   // passages kept with each question, for Report; default 10
	Done        func(done, total int) // called after each question
}

// Run is what was measured. It is what --save writes and --compare reads.
type Run struct {
	Version    int                `json:"version"`
	Name       string             `json:"name"` // of the test collection
	Collection string             `json:"collection"`
	Server     string             `json:"server"`
	Settings   map[string]string  `json:"settings,omitempty"` // mode, model, chunking: what the runner knows
	Started    time.Time          `json:"started"`
	Means      map[string]float64 `json:"means"`
	Latency    map[string]Latency `json:"latency"`
	Failed     int                `json:"failed"` // questions that got an error instead of a reply
	Results    []Result           `json:"results"`
}

// Result is one question with its reply.
type Result struct {
	Question
	Hits     []Hit              `json:"hits,omitempty"`    // the first of them
	Ranking  []Ranked           `json:"ranking,omitempty"` // documents by their best passage
	Metrics  map[string]float64 `json:"metrics"`
	SearchMS float64            `json:"search_ms,omitempty"` // request to reply, as a client sees it
	ServerMS float64            `json:"server_ms,omitempty"` // the search in the server, without the embedding
	Answer   *Answer            `json:"answer,omitempty"`
	Error    string             `json:"error,omitempty"`
}

// Latency in milliseconds.
type Latency struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
}

const runVersion = 1

// MarshalJSON writes a pair: a run holds thousands of them.
func (r Ranked) MarshalJSON() ([]byte, error) { return json.Marshal([2]any{r.Document, r.Score}) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (r *Ranked) UnmarshalJSON(b []byte) error {
	return json.Unmarshal(b, &[2]any{&r.Document, &r.Score})
}

// Save writes the run as JSON.
func (r *Run) Save(w io.Writer) error { return json.NewEncoder(w).Encode(r) }

// ReadRun reads a saved run.
func ReadRun(r io.Reader) (*Run, error) {
	var run Run
	if err := json.NewDecoder(r).Decode(&run); err != nil {
		return nil, fmt.Errorf("read the run: %w", err)
	}
	if run.Version != runVersion {
		return nil, fmt.Errorf("the run has version %d, this program reads %d: measure again", run.Version, runVersion)
	}
	return &run, nil
}

// Collect asks every question and scores the replies. A question that fails is counted with scores of 0 and its error; Collect
// itself fails if ctx ends or an expected quote is not in its document.
func Collect(ctx context.Context, s Server, c Collection, o Options) (*Run, error) {
	if o.Limit <= 0 {
		o.Limit = 100
	}
	if o.Keep <= 0 {
		o.Keep = 10
	}
	m := &measuring{server: s, o: o, texts: map[string][]rune{}}
	run := &Run{Version: runVersion, Name: c.Name, Started: time.Now().UTC().Truncate(time.Second)}
	questions := slices.Clone(c.Questions)
	if !o.Answers { // an unanswerable question asks nothing of a search
		questions = slices.DeleteFunc(questions, func(q Question) bool { return q.Unanswerable })
	}
	run.Results = make([]Result, len(questions))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(o.Concurrency, 1))
	for i, q := range questions {
		g.Go(func() error {
			r, err := m.question(ctx, q)
			run.Results[i] = r
			m.count(len(questions))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	run.summarise()
	return run, nil
}

// measuring is one run under way.
type measuring struct {
	server Server
	o      Options
	mu     sync.Mutex
	done   int
	texts  map[string][]rune // of documents with quotes or citations
}

func (m *measuring) count(total int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.done++; m.o.Done != nil {
		m.o.Done(m.done, total)
	}
}

// text is a document's text from the server, asked for once.
func (m *measuring) text(ctx context.Context, uri string) ([]rune, error) {
	m.mu.Lock()
	text, known := m.texts[uri]
	m.mu.Unlock()
	if known {
		return text, nil
	}
	s, err := m.server.Text(ctx, uri)
	if err != nil {
		return nil, fmt.Errorf("read the text of %q: %w", uri, err)
	}
	text = []rune(s)
	m.mu.Lock()
	m.texts[uri] = text
	m.mu.Unlock()
	return text, nil
}

func (m *measuring) question(ctx context.Context, q Question) (Result, error) {
	r := Result{Question: q, Metrics: map[string]float64{}}
	r.Quotes = slices.Clone(q.Quotes)
	for i := range r.Quotes {
		text, err := m.text(ctx, r.Quotes[i].Document)
		if err == nil {
			err = locate(&r.Quotes[i], text)
		}
		if err != nil {
			return r, fmt.Errorf("question %s: %w", q.ID, err)
		}
	}
	var failed []error
	if !m.o.SkipSearch && !q.Unanswerable {
		failed = append(failed, m.search(ctx, &r))
	}
	if m.o.Answers {
		failed = append(failed, m.answer(ctx, &r))
	}
	if err := errors.Join(failed...); err != nil {
		r.Error = err.Error()
	}
	return r, ctx.Err()
}

// locate finds the quote in its document's text; the offsets it came with are kept if it stands there.
func locate(q *Quote, text []rune) error {
	if q.Start >= 0 && q.End <= len(text) && q.Start < q.End && string(text[q.Start:q.End]) == q.Text {
		return nil
	}
	whole := string(text)
	if i := strings.Index(whole, q.Text); i >= 0 && q.Text != "" {
		q.Start = len([]rune(whole[:i]))
		q.End = q.Start + len([]rune(q.Text))
		return nil
	}
	return fmt.Errorf("%w: %q does not hold the quote %q", ErrCollection, q.Document, q.Text)
}

func (m *measuring) search(ctx context.Context, r *Result) error {
	limit := m.o.Limit
	if len(r.Grades) == 0 && len(r.Quotes) > 0 {
		limit = min(limit, spanPassages) // more would change which passages show what lies between them
	}
	start := time.Now()
	found, err := m.server.Search(ctx, r.Text, limit)
	r.SearchMS, r.ServerMS = milliseconds(start), found.SearchMS
	r.Ranking = RankDocuments(found.Hits)
	r.Hits = found.Hits[:min(m.o.Keep, len(found.Hits))]
	if len(r.Grades) > 0 {
		r.Metrics["ndcg@10"] = NDCG(r.Ranking, r.Grades, 10)
		r.Metrics["recall@5"] = Recall(r.Ranking, r.Grades, 5)
		r.Metrics["recall@10"] = Recall(r.Ranking, r.Grades, 10)
		r.Metrics["recall@100"] = Recall(r.Ranking, r.Grades, 100)
		r.Metrics["mrr@10"] = ReciprocalRank(r.Ranking, r.Grades, 10)
	}
	if len(r.Quotes) > 0 {
		s := Spans(found.Hits, r.Quotes, spanPassages)
		r.Metrics["span_recall@5"], r.Metrics["span_precision@5"], r.Metrics["span_iou@5"] = s.Recall, s.Precision, s.IoU
	}
	if err != nil {
		return fmt.Errorf("search: %w", err)
	}
	return nil
}

// spanPassages are scored by spans: the k of span_recall@5.
const spanPassages = 5

func milliseconds(since time.Time) float64 { return float64(time.Since(since).Microseconds()) / 1000 }

func (m *measuring) answer(ctx context.Context, r *Result) error {
	a, err := m.server.Answer(ctx, r.Text)
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	r.Answer = &a
	if len(r.References) > 0 {
		r.Metrics["em"], r.Metrics["f1"] = ExactMatch(a.Text, r.References), F1(a.Text, r.References)
	}
	if a.Refused || len(a.Citations) == 0 {
		return nil
	}
	supported := 0
	for _, c := range a.Citations {
		if c.Verdict == "supported" {
			supported++
		}
	}
	r.Metrics["supported"] = float64(supported) / float64(len(a.Citations))
	if p, rec, ok := citationScores(r.Question, a.Citations); ok {
		r.Metrics["citation_precision"], r.Metrics["citation_recall"] = p, rec
	}
	return m.checkQuotes(ctx, r)
}

// checkQuotes compares each citation's quote with the stored text at its offsets.
func (m *measuring) checkQuotes(ctx context.Context, r *Result) error {
	var exact, all float64
	for _, c := range r.Answer.Citations {
		if c.Document == "" {
			continue
		}
		text, err := m.text(ctx, c.Document)
		if err != nil {
			return err
		}
		all++
		exact += boolScore(c.Start >= 0 && c.Start < c.End && c.End <= len(text) && string(text[c.Start:c.End]) == c.Quote)
	}
	if all > 0 {
		r.Metrics["quotes_exact"] = exact / all
	}
	return nil
}

// summarise fills means, latencies and the count of failures. A metric's mean is over the questions that have it.
func (r *Run) summarise() {
	sums, counts := map[string]float64{}, map[string]float64{}
	var refusals []refusal
	times := map[string][]float64{}
	note := func(name string, ms float64) {
		if ms > 0 {
			times[name] = append(times[name], ms)
		}
	}
	for _, q := range r.Results {
		for name, v := range q.Metrics {
			sums[name] += v
			counts[name]++
		}
		if q.Error != "" {
			r.Failed++
		}
		note("search", q.SearchMS)
		note("search_in_server", q.ServerMS)
		if q.Answer != nil {
			note("first_text", q.Answer.FirstMS)
			note("answer", q.Answer.TotalMS)
			refusals = append(refusals, refusal{q.Answer.Refused, q.Unanswerable, q.Answer.Evidence})
		}
	}
	r.Means, r.Latency = map[string]float64{}, map[string]Latency{}
	for name, sum := range sums {
		r.Means[name] = sum / counts[name]
	}
	maps.Copy(r.Means, refusalScores(refusals))
	for name, ms := range times {
		slices.Sort(ms)
		r.Latency[name] = Latency{percentile(ms, 0.5), percentile(ms, 0.9), percentile(ms, 0.99)}
	}
}

// percentile of sorted values, by nearest rank.
func percentile(sorted []float64, p float64) float64 {
	return sorted[max(int(math.Ceil(p*float64(len(sorted))))-1, 0)]
}

// WriteTREC writes the rankings in TREC's form, which other evaluation tools read.
func (r *Run) WriteTREC(w io.Writer) error {
	for _, q := range r.Results {
		for i, d := range slices.SortedFunc(slices.Values(q.Ranking), trecOrder) {
			if _, err := fmt.Fprintf(w, "%s Q0 %s %d %v footnote\n", q.ID, d.Document, i+1, d.Score); err != nil {
				return err
			}
		}
	}
	return nil
}
