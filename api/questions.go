package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/footnote-rag/footnote/retrieval"
	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/workersai"
)

const (
	// maxPassages of one search or answer.
	maxPassages = 100
	// maxWindow, in tokens, is ingest's bound of a collection's window.
	maxWindow = 2048
	// maxTurns of an earlier conversation; more than fits any context window.
	maxTurns = 100
	// slotWait is how long a question waits for a place before it is told to come again.
	slotWait = time.Second
)

// documentRef names a passage's document.
type documentRef struct {
	ID       string          `json:"id"`
	URI      string          `json:"uri"`
	Title    string          `json:"title"`
	Metadata json.RawMessage `json:"metadata,omitempty"`
}

type scoringDetails struct {
	Vector     *store.LegScore `json:"vector,omitempty"`
	Lexical    *store.LegScore `json:"lexical,omitempty"`
	Fusion     string          `json:"fusion,omitempty"`
	Neighbors  *float64        `json:"neighbors,omitempty"`
	Phrases    *int            `json:"phrases,omitempty"`
	Boost      *float64        `json:"boost,omitempty"`
	Rerank     *store.LegScore `json:"rerank,omitempty"`
	Similarity *float64        `json:"similarity,omitempty"`
}

type passageView struct {
	Number         int            `json:"number"` // from 1, in this order; what citations call source
	Document       documentRef    `json:"document"`
	Ordinal        int            `json:"ordinal"`
	Heading        []string       `json:"heading"`
	Start          int            `json:"start"`
	End            int            `json:"end"`
	Text           string         `json:"text"`
	Translation    string         `json:"translation,omitempty"` // of heading and text, where that was embedded
	Summary        string         `json:"summary,omitempty"`     // a model's sentence that was embedded with the text; no part of it
	Time           *timeView      `json:"time,omitempty"`        // of a recording
	Score          float64        `json:"score"`
	ScoringDetails scoringDetails `json:"scoring_details"`
}

// timeView says when something was spoken, in seconds from the recording's start.
type timeView struct {
	Start float64 `json:"start"`
	End   float64 `json:"end"`
}

// viewTime is when characters of a passage's document were spoken; nil where the document is no recording.
func viewTime(p *store.Passage, start, end int) *timeView {
	from, to, ok := p.Times.Of(start, end)
	if !ok {
		return nil
	}
	return &timeView{from, to}
}

func viewPassages(passages []store.Passage) []passageView {
	views := make([]passageView, len(passages))
	for i, p := range passages {
		views[i] = passageView{
			Number: i + 1, Document: documentRef{p.DocumentID, p.URI, p.Title, objectOrEmpty(p.Metadata)}, Ordinal: p.Ordinal,
			Heading: notNil(p.Heading), Start: p.Start, End: p.End, Text: p.Text, Translation: p.Translation, Summary: p.Summary, Time: viewTime(&p, p.Start, p.End), Score: p.Score,
			ScoringDetails: scoringDetails{p.Vector, p.Lexical, p.Fusion, p.Neighbors, p.Phrases, p.Boost, p.Rerank, p.Similarity},
		}
	}
	return views
}

type searchInput struct {
	Collection string          `json:"collection"`
	Query      string          `json:"query"`
	Limit      *int            `json:"limit"`
	Filter     json.RawMessage `json:"filter"`
	Mode       store.Mode      `json:"mode"`
	Window     *int            `json:"window"`
	Understand understandInput `json:"understand"`
	rankingInput
	conversationInput
}

// searchView is what a search found, and what was done with its query.
type searchView struct {
	Passages []passageView           `json:"passages"`
	Timings  retrieval.SearchTimings `json:"timings"`
	Degraded bool                    `json:"degraded"`
	Reranked *bool                   `json:"reranked,omitempty"` // where that was asked for
	Query    string                  `json:"query"`              // as it was understood
	Queries  []string                `json:"queries"`            // what was searched for
	Steps    []retrieval.Step        `json:"steps"`
}

func (s *Server) search(c echo.Context) error {
	var in searchInput
	steps, err := s.decodeQuestion(c, &in, &in.Query)
	if err != nil {
		return err
	}
	r, err := s.request(c, in)
	if err != nil {
		return err
	}
	release, err := s.takeSlot(c.Request().Context())
	if err != nil {
		return err
	}
	defer release()
	found, err := s.cfg.Retrieval.Search(c.Request().Context(), r)
	if err != nil {
		return missing(err, errNoCollection)
	}
	reply := searchView{Passages: viewPassages(found.Passages), Timings: found.Timings, Degraded: found.Degraded,
		Query: found.Query, Queries: notNil(found.Queries), Steps: notNil(append(steps, found.Steps...))}
	if in.Rerank != nil {
		reply.Reranked = &found.Reranked
	}
	return c.JSON(http.StatusOK, reply)
}

// request is what is searched for, with the conversation before it.
func (s *Server) request(c echo.Context, in searchInput) (r retrieval.SearchRequest, err error) {
	if in.Thread == newThread {
		return r, invalid("thread is %q: a search keeps no conversation: give the id of one, or its messages", newThread)
	}
	k, err := s.keep(c, in.conversationInput, &in.Collection)
	if err != nil {
		return r, err
	}
	sc, err := scopeOf(c, in.Collection, in.Query, in.Limit, in.Filter, in.Mode)
	if err != nil {
		return r, err
	}
	if w := in.Window; w != nil && (*w < 0 || *w > maxWindow) {
		return r, invalid("window is %d: give 0 to %d tokens", *w, maxWindow)
	}
	messages, err := conversation(in.Messages)
	if err != nil {
		return r, err
	}
	ranking, err := in.ranking()
	return retrieval.SearchRequest{Collection: sc.collection, Query: in.Query, Limit: sc.limit, Filter: sc.filter, Mode: in.Mode, Window: in.Window,
		Ranking: ranking, Messages: append(k.messages, messages...), Steps: in.Understand.searchSteps()}, err
}

// scope is what every question is limited to.
type scope struct {
	collection string
	limit      int // 0: the room's default
	filter     store.Filter
}

func scopeOf(c echo.Context, collection, question string, limit *int, filter json.RawMessage, mode store.Mode) (scope, error) {
	sc := scope{collection: collectionName(firstOf(collection, c.QueryParam("collection")))}
	if err := checkCollectionName(sc.collection); err != nil {
		return sc, err
	}
	if strings.TrimSpace(question) == "" {
		return sc, fmt.Errorf("%w: it is empty: ask something", retrieval.ErrInvalidQuestion)
	}
	if strings.IndexByte(question, 0) >= 0 {
		return sc, fmt.Errorf("%w: it has a NUL character: remove it", retrieval.ErrInvalidQuestion)
	}
	if limit != nil {
		if sc.limit = *limit; sc.limit < 1 || sc.limit > maxPassages {
			return sc, invalid("limit is %d: give a number from 1 to %d", sc.limit, maxPassages)
		}
	}
	switch mode {
	case "", store.Hybrid, store.Vector, store.Lexical:
	default:
		return sc, invalid("mode is %q: it is one of hybrid, vector, lexical", mode)
	}
	if len(filter) == 0 || string(filter) == "null" {
		return sc, nil
	}
	var err error
	sc.filter, err = store.ParseFilter(filter)
	return sc, err
}

// takeSlot bounds the questions in flight; who waits longer than slotWait comes again.
func (s *Server) takeSlot(ctx context.Context) (release func(), err error) {
	timed, cancel := context.WithTimeout(ctx, slotWait)
	defer cancel()
	if s.slots.Acquire(timed, 1) != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, errOverloaded
	}
	return func() { s.slots.Release(1) }, nil
}

type answerInput struct {
	Collection string          `json:"collection"`
	Question   string          `json:"question"`
	Filter     json.RawMessage `json:"filter"`
	Limit      *int            `json:"limit"`
	Mode       store.Mode      `json:"mode"`
	Strict     bool            `json:"strict"`
	Extractive bool            `json:"extractive"`
	Judge      bool            `json:"judge"`
	Threshold  *float64        `json:"threshold"`
	Agentic    bool            `json:"agentic"`
	Understand understandInput `json:"understand"`
	Resumable  bool            `json:"resumable"`
	rankingInput
	conversationInput
}

// understandInput switches the steps before the search. Absent means on for an answer; for a search, that no model is asked.
type understandInput struct {
	Rewrite   *bool `json:"rewrite"`
	Spelling  *bool `json:"spelling"`
	Decompose *bool `json:"decompose"`
	Translate *bool `json:"translate"`
}

func (u understandInput) switches() retrieval.Understanding {
	return retrieval.Understanding{NoRewrite: off(u.Rewrite), NoSpelling: off(u.Spelling), NoDecompose: off(u.Decompose), NoTranslate: off(u.Translate)}
}

func (u understandInput) searchSteps() retrieval.SearchSteps {
	return retrieval.SearchSteps{NoRewrite: off(u.Rewrite), Think: on(u.Rewrite), NoSpelling: off(u.Spelling), Decompose: on(u.Decompose), Translate: on(u.Translate)}
}

func on(b *bool) bool  { return b != nil && *b }
func off(b *bool) bool { return b != nil && !*b }

// turn is one earlier message.
type turn struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

func (in answerInput) ask(c echo.Context) (retrieval.Question, error) {
	sc, err := scopeOf(c, in.Collection, in.Question, in.Limit, in.Filter, in.Mode)
	if err != nil {
		return retrieval.Question{}, err
	}
	threshold, err := evidenceThreshold(in.Threshold)
	if err != nil {
		return retrieval.Question{}, err
	}
	messages, err := conversation(in.Messages)
	if err != nil {
		return retrieval.Question{}, err
	}
	ranking, err := in.ranking()
	return retrieval.Question{
		Collection: sc.collection, Question: in.Question, Messages: messages, Filter: sc.filter, Limit: sc.limit,
		Strict: in.Strict, Mode: in.Mode, Ranking: ranking, Extractive: in.Extractive, Judge: in.Judge, Threshold: threshold, Agentic: in.Agentic,
		Understand: in.Understand.switches(),
	}, err
}

// evidenceThreshold: what was not given is the service's, and 0 refuses nothing.
func evidenceThreshold(given *float64) (float64, error) {
	switch {
	case given == nil:
		return 0, nil
	case !(*given >= 0 && *given <= 1):
		return 0, invalid("threshold is %g: give a number from 0 to 1", *given)
	case *given == 0:
		return -1, nil
	}
	return *given, nil
}

func conversation(turns []turn) ([]workersai.Message, error) {
	if len(turns) > maxTurns {
		return nil, invalid("messages has %d turns: send at most the last %d", len(turns), maxTurns)
	}
	messages := make([]workersai.Message, len(turns))
	for i, t := range turns {
		if t.Role != "user" && t.Role != "assistant" {
			return nil, invalid("messages[%d].role is %q: it is user or assistant", i, t.Role)
		}
		messages[i] = workersai.Message{Role: t.Role, Content: t.Content}
	}
	return messages, nil
}

// answer replies with server-sent events where the client accepts them, else with one JSON object.
func (s *Server) answer(c echo.Context) error {
	var in answerInput
	steps, err := s.decodeQuestion(c, &in, &in.Question)
	if err != nil {
		return err
	}
	if last := c.Request().Header.Get(lastEventIDHeader); last != "" {
		id, n, ok := lastEventID(last)
		if !ok {
			return invalid("Last-Event-ID is %q: give the id of an event of an answer, as it was received", last)
		}
		if id != "" {
			return s.resume(c, id, n, in.Question) // the same request again, by a client that lost its connection
		}
	}
	k, err := s.keep(c, in.conversationInput, &in.Collection)
	if err != nil {
		return err
	}
	k.kept = k.kept || in.Resumable
	q, err := in.ask(c)
	if err != nil {
		return err
	}
	q.Messages, q.Steps = append(k.messages, q.Messages...), steps
	streamed := strings.Contains(c.Request().Header.Get("Accept"), sseType)
	switch {
	case k.kept:
		return s.answerKept(c, q, k, streamed)
	case streamed:
		return s.stream(c, q, nativeEvents{})
	}
	return s.answerWhole(c, q)
}

// events runs one answer within its time, its slot and the server's life.
func (s *Server) events(c echo.Context, q retrieval.Question, each func(context.Context, iter.Seq2[retrieval.Event, error]) error) error {
	release, err := s.takeSlot(c.Request().Context())
	if err != nil {
		return err
	}
	defer release()
	ctx, done := s.streams.open(c.Request().Context(), s.cfg.MaxStream)
	defer done()
	return missing(causeOf(ctx, each(ctx, s.cfg.Retrieval.Answer(ctx, q))), errNoCollection)
}

// causeOf prefers why the context ended to the cancellation that it led to.
func causeOf(ctx context.Context, err error) error {
	var ours *problem
	if cause := context.Cause(ctx); err != nil && errors.As(cause, &ours) {
		return cause
	}
	return err
}

func (s *Server) answerWhole(c echo.Context, q retrieval.Question) error {
	whole := answerView{Steps: []retrieval.Step{}, Sources: []passageView{}, Citations: []citationView{}}
	err := s.events(c, q, func(_ context.Context, events iter.Seq2[retrieval.Event, error]) error {
		for ev, err := range events {
			if err != nil {
				return err
			}
			whole.add(ev)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, whole)
}

// citationView ties a sentence of the answer to characters of a document; both count code points.
type citationView struct {
	Sentence retrieval.Span    `json:"sentence"`
	Verdict  retrieval.Verdict `json:"verdict"`
	Score    float64           `json:"score"`
	Source   int               `json:"source"` // number of the source; 0: none supports the sentence
	Document *documentRef      `json:"document"`
	Start    int               `json:"start"`
	End      int               `json:"end"`
	Quote    string            `json:"quote"`
	Judged   bool              `json:"judged,omitempty"` // the verdict is the second judge's
	Time     *timeView         `json:"time,omitempty"`   // of a recording: when the quote was spoken
}

func viewCitation(k retrieval.Citation) citationView {
	v := citationView{Sentence: k.Sentence, Verdict: k.Verdict, Score: k.Score, Source: k.Source, Start: k.Span.Start, End: k.Span.End, Quote: k.Quote, Judged: k.Judged}
	if p := k.Passage; p != nil {
		v.Document = &documentRef{ID: p.DocumentID, URI: p.URI, Title: p.Title}
		v.Time = viewTime(p, k.Span.Start, k.Span.End)
	}
	return v
}

type bestScores struct {
	Vector  float64 `json:"vector"`
	Lexical float64 `json:"lexical"`
}

// doneView ends an answer.
type doneView struct {
	Answer    string                  `json:"answer"`
	Grounded  bool                    `json:"grounded"`
	Reason    *string                 `json:"reason"`
	Best      bestScores              `json:"best"`
	Evidence  float64                 `json:"evidence"`
	Threshold float64                 `json:"threshold"`
	Degraded  bool                    `json:"degraded"`
	Cut       bool                    `json:"cut"`
	Usage     retrieval.Usage         `json:"usage"`
	Timings   retrieval.AnswerTimings `json:"timings"`
}

func viewDone(d retrieval.Done) doneView {
	v := doneView{
		Answer: d.Answer, Grounded: d.Grounded, Best: bestScores(d.Best), Evidence: d.Evidence, Threshold: max(d.Threshold, 0),
		Degraded: d.Degraded, Cut: d.Cut, Usage: d.Usage, Timings: d.Timings,
	}
	if d.Reason != "" {
		v.Reason = &d.Reason
	}
	return v
}

// answerView is a whole answer as one object.
type answerView struct {
	doneView
	Steps     []retrieval.Step `json:"steps"`
	Sources   []passageView    `json:"sources"`
	Citations []citationView   `json:"citations"`
}

func (a *answerView) add(ev retrieval.Event) {
	switch ev := ev.(type) {
	case retrieval.Step:
		a.Steps = append(a.Steps, ev)
	case retrieval.Sources:
		a.Sources = viewPassages(ev.Passages)
	case retrieval.Citation:
		a.Citations = append(a.Citations, viewCitation(ev))
	case retrieval.Done:
		a.doneView = viewDone(ev)
	}
}

// dialect writes an answer's events in one of the formats that clients know.
type dialect interface {
	event(e *eventStream, ev retrieval.Event) error
	fail(e *eventStream, p *problem) error
}

// stream writes an answer as server-sent events. It ends with done or with error, whatever happens, unless the client
// has left.
func (s *Server) stream(c echo.Context, q retrieval.Question, d dialect) error {
	ctx, lost := context.WithCancelCause(c.Request().Context())
	defer lost(nil)
	c.SetRequest(c.Request().WithContext(ctx))
	out := s.startEvents(c, lost)
	err := s.events(c, q, func(_ context.Context, events iter.Seq2[retrieval.Event, error]) error {
		for ev, err := range events {
			if err == nil {
				err = d.event(out, ev)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	out.close()
	if err == nil || !out.begun() {
		return err
	}
	p := describe(err)
	p.RequestID = requestID(c)
	return errors.Join(err, d.fail(out, p))
}

// nativeEvents is the format of POST /v1/answer.
type nativeEvents struct{}

func (nativeEvents) event(e *eventStream, ev retrieval.Event) error {
	if name, v := nativeEvent(ev); name != "" {
		return e.send(name, v)
	}
	return nil
}

// nativeEvent is an event's name and data; "" for one that has none.
func nativeEvent(ev retrieval.Event) (name string, data any) {
	switch ev := ev.(type) {
	case retrieval.Step:
		return "step", ev
	case retrieval.Sources:
		return "sources", map[string]any{"sources": viewPassages(ev.Passages), "degraded": ev.Degraded}
	case retrieval.Delta:
		return "delta", ev
	case retrieval.Citation:
		return "citation", viewCitation(ev)
	case retrieval.Done:
		return "done", viewDone(ev)
	}
	return "", nil
}

func (nativeEvents) fail(e *eventStream, p *problem) error { return e.send("error", errorBody{p}) }
