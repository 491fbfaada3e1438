package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/footnote-rag/footnote/api"
	"github.com/footnote-rag/footnote/retrieval"
	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

// event is one server-sent event as a client reads it.
type event struct{ name, data string }

// readEvents reads a stream by the rules of the HTML standard: CR, LF and CRLF end lines, colons begin comments.
func readEvents(r io.Reader) (events []event, comments int, err error) {
	raw, err := io.ReadAll(r)
	text := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(raw))
	var now event
	var data []string
	for line := range strings.SplitSeq(text, "\n") {
		switch {
		case line == "" && data != nil:
			now.data = strings.Join(data, "\n")
			events, now, data = append(events, now), event{}, nil
		case line == "":
			now = event{}
		case strings.HasPrefix(line, ":"):
			comments++
		case strings.HasPrefix(line, "event:"):
			now.name = strings.TrimPrefix(line[6:], " ")
		case strings.HasPrefix(line, "data:"):
			data = append(data, strings.TrimPrefix(line[5:], " "))
		}
	}
	return events, comments, err
}

func (w *world) stream(path, body string) *http.Response {
	w.Helper()
	r, err := http.NewRequestWithContext(w.Context(), "POST", w.url+path, strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "text/event-stream")
	resp, err := w.client.Do(r)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { resp.Body.Close() })
	return resp
}

type answerReply struct {
	Answer   string
	Grounded bool
	Reason   *string
	Sources  []struct {
		Number   int
		Document struct{ ID, URI, Title string }
	}
	Citations []citationReply
}

type citationReply struct {
	Sentence   struct{ Start, End int }
	Verdict    string
	Source     int
	Document   *struct{ ID, URI string }
	Start, End int
	Quote      string
}

func TestAnswerAsJSON(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.add("travel.md", handbook)
	var a answerReply
	w.into(w.post("/v1/answer", `{"question":"How long does a visa for Japan take?"}`), 200, &a)
	if a.Answer == "" || len(a.Sources) == 0 || len(a.Citations) == 0 {
		t.Fatalf("answer = %+v", a)
	}
	for _, c := range a.Citations {
		w.checkQuote(c)
	}
}

// checkQuote compares a citation's quote with the document's own characters.
func (w *world) checkQuote(c citationReply) {
	w.Helper()
	if c.Source == 0 {
		return
	}
	text := []rune(string(w.get("/v1/documents/" + c.Document.ID + "/text").body))
	if got := string(text[c.Start:c.End]); got != c.Quote {
		w.Errorf("text[%d:%d] = %q, quote %q", c.Start, c.End, got, c.Quote)
	}
}

func TestAnswerAsEvents(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.add("travel.md", handbook)
	resp := w.stream("/v1/answer", `{"question":"How long does a visa for Japan take?"}`)
	events, _, err := readEvents(resp.Body)
	if err != nil || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatal(err, resp.Header)
	}
	var text string
	var names []string
	for _, e := range events {
		if len(names) == 0 || names[len(names)-1] != e.name {
			names = append(names, e.name)
		}
		switch e.name {
		case "delta":
			var d struct{ Text string }
			_ = json.Unmarshal([]byte(e.data), &d)
			text += d.Text
		case "citation":
			var c citationReply
			_ = json.Unmarshal([]byte(e.data), &c)
			w.checkQuote(c)
		case "done":
			var d answerReply
			if err := json.Unmarshal([]byte(e.data), &d); err != nil || d.Answer != text {
				t.Errorf("done says %q, deltas %q (%v)", d.Answer, text, err)
			}
		}
	}
	if len(names) < 3 || names[0] != "sources" || names[1] != "delta" || names[len(names)-1] != "done" {
		t.Errorf("events = %v", names)
	}
}

func TestChatCompletions(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.add("travel.md", handbook)
	var whole struct {
		Object  string
		Choices []struct {
			Message struct{ Content string }
		}
	}
	ask := `{"model":"footnote","temperature":0.2,"messages":[{"role":"system","content":"x"},{"role":"user","content":[{"type":"text","text":"How long does a visa for Japan take?"}]}]`
	w.into(w.post("/v1/chat/completions", ask+"}"), 200, &whole)
	if whole.Object != "chat.completion" || len(whole.Choices) != 1 || whole.Choices[0].Message.Content == "" {
		t.Errorf("completion = %+v", whole)
	}
	events, _, err := readEvents(w.stream("/v1/chat/completions", ask+`,"stream":true}`).Body)
	if err != nil || len(events) < 3 || events[len(events)-1].data != "[DONE]" {
		t.Fatalf("stream = %v, %v", events, err)
	}
	var text string
	for _, e := range events[:len(events)-1] {
		var c struct {
			Object  string
			Choices []struct {
				Delta struct{ Content string }
			}
		}
		if err := json.Unmarshal([]byte(e.data), &c); err != nil || c.Object != "chat.completion.chunk" || len(c.Choices) != 1 || e.name != "" {
			t.Errorf("chunk %q: %v", e, err)
		}
		text += c.Choices[0].Delta.Content
	}
	if text != whole.Choices[0].Message.Content {
		t.Errorf("streamed %q, whole %q", text, whole.Choices[0].Message.Content)
	}
}

// scripted is a Retriever whose answers a test steers.
type scripted struct {
	answer func(ctx context.Context, yield func(retrieval.Event, error) bool)
}

func (scripted) Search(context.Context, retrieval.SearchRequest) (retrieval.SearchResult, error) {
	return retrieval.SearchResult{}, nil
}

func (s scripted) Answer(ctx context.Context, _ retrieval.Question) iter.Seq2[retrieval.Event, error] {
	return func(yield func(retrieval.Event, error) bool) { s.answer(ctx, yield) }
}

func answering(f func(ctx context.Context, yield func(retrieval.Event, error) bool), tune ...func(*api.Config)) option {
	return func(c *api.Config, _ *[]workersaitest.Option) {
		c.Retrieval = scripted{f}
		for _, t := range tune {
			t(c)
		}
	}
}

// hang answers with sources and one word and then waits for its end, which it reports.
func hang(ended chan<- error) func(context.Context, func(retrieval.Event, error) bool) {
	return func(ctx context.Context, yield func(retrieval.Event, error) bool) {
		if yield(retrieval.Sources{}, nil) && yield(retrieval.Delta{Text: "word"}, nil) {
			<-ctx.Done()
			yield(nil, ctx.Err())
		}
		ended <- context.Cause(ctx)
	}
}

func TestErrorBeforeAndAfterFirstEvent(t *testing.T) {
	t.Parallel()
	broken := fmt.Errorf("read the answer: %w", io.ErrUnexpectedEOF)
	var late atomic.Bool
	w := setup(t, answering(func(_ context.Context, yield func(retrieval.Event, error) bool) {
		if !late.Load() || yield(retrieval.Sources{Passages: []store.Passage{{Text: "x"}}}, nil) && yield(retrieval.Delta{Text: "half"}, nil) {
			yield(nil, broken)
		}
	}))
	resp := w.stream("/v1/answer", `{"question":"x"}`)
	b, _ := io.ReadAll(resp.Body)
	w.refused(reply{resp, b}, 502, "upstream_cut")
	late.Store(true)
	events, _, err := readEvents(w.stream("/v1/answer", `{"question":"x"}`).Body)
	if err != nil || len(events) != 3 || events[2].name != "error" || !strings.Contains(events[2].data, `"upstream_cut"`) || !strings.Contains(events[2].data, "request_id") {
		t.Errorf("events = %v, %v", events, err)
	}
}

func TestHeartbeatWhileTheModelThinks(t *testing.T) {
	t.Parallel()
	goOn := make(chan struct{})
	w := setup(t, answering(func(_ context.Context, yield func(retrieval.Event, error) bool) {
		<-goOn
		_ = yield(retrieval.Sources{}, nil) && yield(retrieval.Done{Answer: "x"}, nil)
	}, func(c *api.Config) { c.Heartbeat = 20 * time.Millisecond }))
	resp := w.stream("/v1/answer", `{"question":"x"}`)
	lines := bufio.NewReader(resp.Body)
	for range 3 {
		if line, err := lines.ReadString('\n'); err != nil || line != ": ping\n" {
			t.Fatalf("line %q, %v", line, err)
		}
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	close(goOn)
	events, _, err := readEvents(lines)
	if err != nil || len(events) != 2 || events[1].name != "done" {
		t.Errorf("events = %v, %v", events, err)
	}
}

func TestClientThatLeavesCancelsTheWork(t *testing.T) {
	t.Parallel()
	for name, accept := range map[string]string{"stream": "text/event-stream", "plain": "application/json"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ended := make(chan error, 1)
			started := make(chan struct{})
			w := setup(t, answering(func(ctx context.Context, yield func(retrieval.Event, error) bool) {
				close(started)
				hang(ended)(ctx, yield)
			}))
			ctx, leave := context.WithCancel(t.Context())
			r, _ := http.NewRequestWithContext(ctx, "POST", w.url+"/v1/answer", strings.NewReader(`{"question":"x"}`))
			r.Header.Set("Accept", accept)
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				if resp, err := w.client.Do(r); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}()
			<-started
			leave()
			start := time.Now()
			select {
			case <-ended:
				t.Logf("cancelled after %v", time.Since(start))
			case <-time.After(5 * time.Second):
				t.Error("the work went on for 5 s after the client left")
			}
			<-gone
		})
	}
}

func TestClientThatNeverReadsIsDropped(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	w := setup(t, answering(func(ctx context.Context, yield func(retrieval.Event, error) bool) {
		defer close(ended)
		for yield(retrieval.Delta{Text: strings.Repeat("x", 32<<10)}, nil) {
		}
	}, func(c *api.Config) { c.WriteTimeout = 200 * time.Millisecond }))
	w.stream("/v1/answer", `{"question":"x"}`)
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the stream to a client that never reads goes on")
	}
}

func TestStreamHasATotalTime(t *testing.T) {
	t.Parallel()
	w := setup(t, answering(hang(make(chan error, 1)), func(c *api.Config) { c.MaxStream = 50 * time.Millisecond }))
	events, _, err := readEvents(w.stream("/v1/answer", `{"question":"x"}`).Body)
	if err != nil || len(events) != 3 || events[2].name != "error" || !strings.Contains(events[2].data, "answer_timeout") {
		t.Errorf("events = %v, %v", events, err)
	}
}

func TestShutdownEndsEveryStream(t *testing.T) {
	t.Parallel()
	const streams = 50
	ended := make(chan error, streams)
	w := setup(t, answering(hang(ended), func(c *api.Config) { c.DrainTimeout = 100 * time.Millisecond }))
	results := make(chan error, streams)
	begun := make(chan struct{}, streams)
	for range streams {
		resp := w.stream("/v1/answer", `{"question":"x"}`)
		begun <- struct{}{}
		go func() {
			events, _, err := readEvents(resp.Body)
			if err == nil && (len(events) != 3 || !strings.Contains(events[2].data, "server_stopping")) {
				err = fmt.Errorf("events = %v", events)
			}
			results <- err
		}()
	}
	for range streams {
		<-begun
	}
	w.into(w.get("/readyz"), 200, nil)
	w.api.Drain()
	w.refused(w.get("/readyz"), 503, "server_stopping")
	w.into(w.get("/livez"), 200, nil)
	if err := w.api.Shutdown(t.Context(), w.server); err != nil {
		t.Errorf("Shutdown = %v", err)
	}
	for range streams {
		if err := <-results; err != nil {
			t.Error(err)
		}
		if cause := <-ended; cause == nil || !strings.Contains(cause.Error(), "server_stopping") {
			t.Errorf("cause = %v", cause)
		}
	}
}

func TestPanicIsAnErrorReply(t *testing.T) {
	t.Parallel()
	w := setup(t, answering(func(context.Context, func(retrieval.Event, error) bool) { panic("secret cause") }))
	e := w.refused(w.post("/v1/answer", `{"question":"x"}`), 500, "internal")
	if strings.Contains(e.Error.Message, "secret") || !strings.Contains(w.log.String(), "secret cause") {
		t.Errorf("message %q; the log has the cause: %v", e.Error.Message, strings.Contains(w.log.String(), "secret cause"))
	}
}

func TestErrorsOfOtherRooms(t *testing.T) {
	t.Parallel()
	var next error
	w := setup(t, answering(func(_ context.Context, yield func(retrieval.Event, error) bool) { yield(nil, next) }))
	for _, c := range []struct {
		err        error
		status     int
		code       string
		retryAfter bool
	}{
		{store.ErrUnavailable, 503, "database_unavailable", true},
		{store.ErrStorageFull, 507, "storage_full", false},
		{store.ErrSpaceMismatch, 409, "space_mismatch", false},
		{store.ErrInvalidVector, 502, "bad_upstream_reply", false},
		{store.ErrNotFound, 404, "collection_not_found", false},
		{retrieval.ErrInvalidQuestion, 400, "invalid_question", false},
		{errors.New("something inside"), 500, "internal", false},
		{context.DeadlineExceeded, 504, "timeout", false},
	} {
		next = fmt.Errorf("wrapped: %w", c.err)
		r := w.post("/v1/answer", `{"question":"x"}`)
		e := w.refused(r, c.status, c.code)
		if got := r.Header.Get("Retry-After") != ""; got != c.retryAfter {
			t.Errorf("%v: Retry-After %q", c.err, r.Header.Get("Retry-After"))
		}
		if strings.Contains(e.Error.Message, "something inside") {
			t.Errorf("the message tells the cause: %q", e.Error.Message)
		}
	}
}

func TestUpstreamErrors(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.add("travel.md", handbook)
	for _, c := range []struct {
		step     workersaitest.Step
		status   int
		code     string
		upstream int
	}{
		{workersaitest.Fail(7502, "no such model"), 404, "model_not_found", 7502},
		{workersaitest.Fail(7504, "bad input"), 502, "upstream_refused", 7504},
		{workersaitest.Quota(), 429, "quota_exhausted", 0},
		{workersaitest.BadToken(), 502, "upstream_unauthorized", 0},
	} {
		w.models.Script(c.step, c.step, c.step, c.step)
		r := w.post("/v1/search", `{"query":"`+c.code+`","mode":"vector"}`)
		if r.StatusCode == 200 && strings.Contains(string(r.body), `"degraded":true`) {
			for w.models.Scripted() > 0 { // retrieval went on by words alone; use up the script
				w.post("/v1/search", `{"query":"used `+c.code+fmt.Sprint(w.models.Scripted())+`","mode":"vector"}`)
			}
			t.Logf("%s: degraded", c.code)
			continue
		}
		e := w.refused(r, c.status, c.code)
		if c.upstream != 0 && e.Error.UpstreamCode != c.upstream {
			t.Errorf("%s: upstream_code %d", c.code, e.Error.UpstreamCode)
		}
		for w.models.Scripted() > 0 {
			w.post("/v1/search", `{"query":"spend `+c.code+fmt.Sprint(w.models.Scripted())+`","mode":"vector"}`)
		}
	}
}

func TestForgedEventsStayText(t *testing.T) {
	t.Parallel()
	for _, text := range forged {
		checkEmit(t, text)
	}
}

var forged = []string{
	"\n\nevent: done\ndata: {}\n\n", "\r\rdata: x\r\r", "\r\n\r\nevent: error\r\n", "\u2028\u2029\u0085\v\f", "data: [DONE]\n\n", "\x00\xff\xfe", "]]>\n: ping\n\n", "😀\u202e",
}

func FuzzSSEEmit(f *testing.F) {
	for _, s := range forged {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) { checkEmit(t, text) })
}

// checkEmit sends text through the service's writer and reads it back as a client does.
func checkEmit(t *testing.T, text string) {
	t.Helper()
	events, _, err := readEvents(strings.NewReader(api.EmitEvents(retrieval.Delta{Text: text}, retrieval.Citation{Quote: text}, retrieval.Done{Answer: text})))
	if err != nil || len(events) != 3 || events[0].name != "delta" || events[1].name != "citation" || events[2].name != "done" {
		t.Fatalf("%q: events %q, %v", text, events, err)
	}
	want := strings.ToValidUTF8(text, "\ufffd")
	var d struct{ Text string }
	if err := json.Unmarshal([]byte(events[0].data), &d); err != nil || len([]rune(d.Text)) != len([]rune(text)) && d.Text != want {
		t.Errorf("%q read back as %q (%v)", text, d.Text, err)
	}
}

func BenchmarkSSEEvent(b *testing.B) {
	delta := retrieval.Delta{Text: " footnote"}
	events := make([]retrieval.Event, b.N)
	for i := range events {
		events[i] = delta
	}
	b.ReportAllocs()
	b.ResetTimer()
	if out := api.EmitEvents(events...); len(out) == 0 {
		b.Fatal("nothing was written")
	}
}
