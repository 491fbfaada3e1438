package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/footnote-rag/footnote/api"
	"github.com/footnote-rag/footnote/retrieval"
	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

// storyOf is an answer of several events, one at a time: each waits for a value of next (nil: none waits).
func storyOf(next <-chan struct{}) func(context.Context, func(retrieval.Event, error) bool) {
	events := []retrieval.Event{
		retrieval.Step{Step: retrieval.StepRewrite, From: "it?", To: "the visa?"},
		retrieval.Sources{Passages: []store.Passage{{URI: "a.md", Text: "Line one\nline two 😀"}}},
		retrieval.Delta{Text: "One"}, retrieval.Delta{Text: " \u2028\n\ntwo"}, retrieval.Citation{Verdict: retrieval.Supported, Quote: "one"},
		retrieval.Delta{Text: " three."}, retrieval.Done{Answer: "One \u2028\n\ntwo three.", Grounded: true},
	}
	return func(ctx context.Context, yield func(retrieval.Event, error) bool) {
		for _, ev := range events {
			if next != nil {
				select {
				case <-next:
				case <-ctx.Done():
					yield(nil, ctx.Err())
					return
				}
			}
			if !yield(ev, nil) {
				return
			}
		}
	}
}

// block is one event as it stands in the stream, and its id.
type block struct{ raw, id string }

// readBlocks reads up to n events (0: all) and no further.
func readBlocks(t *testing.T, r *bufio.Reader, n int) (blocks []block) {
	t.Helper()
	var now block
	for n == 0 || len(blocks) < n {
		line, err := r.ReadString('\n')
		if err != nil {
			if err != io.EOF || n > 0 {
				t.Fatalf("after %d events: %v", len(blocks), err)
			}
			return blocks
		}
		if strings.HasPrefix(line, ":") {
			_, _ = r.ReadString('\n')
			continue
		}
		if id, ok := strings.CutPrefix(line, "id: "); ok {
			now.id = strings.TrimSpace(id)
		}
		if now.raw += line; line == "\n" {
			blocks, now = append(blocks, now), block{}
		}
	}
	return blocks
}

func join(blocks []block) (raw string) {
	for _, b := range blocks {
		raw += b.raw
	}
	return raw
}

// open sends a request whose reply is read bit by bit; cut drops the connection.
func (w *world) open(method, path, body string, header ...string) (*http.Response, *bufio.Reader, func()) {
	w.Helper()
	ctx, cut := context.WithCancel(w.Context())
	r, err := http.NewRequestWithContext(ctx, method, w.url+path, strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := w.client.Do(r)
	if err != nil {
		w.Fatal(err)
	}
	done := func() { cut(); resp.Body.Close() }
	w.Cleanup(done)
	return resp, bufio.NewReader(resp.Body), done
}

func (w *world) collectionOf(name string) {
	w.Helper()
	w.into(w.post("/v1/collections", `{"name":"`+name+`"}`), 201, nil)
}

func TestStreamIsTakenUpAtEveryEvent(t *testing.T) {
	t.Parallel()
	const events = 8 // start and those of the story
	stories := make(chan (<-chan struct{}), 1)
	w := setup(t, answering(func(ctx context.Context, yield func(retrieval.Event, error) bool) { storyOf(<-stories)(ctx, yield) }))
	w.collectionOf("default")
	for cutAt := 1; cutAt <= events; cutAt++ {
		for _, how := range []string{"get", "post"} {
			t.Run(fmt.Sprint(how, " after ", cutAt), func(t *testing.T) {
				next := make(chan struct{}, events)
				stories <- next
				w.cutAndResume(next, how, cutAt, events)
			})
		}
	}
}

func (w *world) cutAndResume(next chan<- struct{}, how string, cutAt, events int) {
	w.Helper()
	const body = `{"question":"x","resumable":true}`
	resp, r, cut := w.open("POST", "/v1/answer", body)
	if resp.StatusCode != 200 {
		w.Fatal(resp.Status)
	}
	for range cutAt - 1 {
		next <- struct{}{}
	}
	before := readBlocks(w.T, r, cutAt)
	cut()
	last := before[len(before)-1].id
	id, _, _ := strings.Cut(last, ":")
	for range events - cutAt {
		next <- struct{}{} // the work goes on without a reader
	}
	method, path, sent := "GET", "/v1/answers/"+id+"/events", ""
	if how == "post" {
		method, path, sent = "POST", "/v1/answer", body
	}
	resumed, r, _ := w.open(method, path, sent, "Last-Event-ID", last)
	if resumed.StatusCode != 200 || resumed.Header.Get("Content-Type") != "text/event-stream" {
		w.Fatal(resumed.Status, resumed.Header)
	}
	got := join(before) + join(readBlocks(w.T, r, 0))
	_, r, _ = w.open("GET", "/v1/answers/"+id+"/events", "")
	if whole := readBlocks(w.T, r, 0); got != join(whole) || len(whole) != events {
		w.Errorf("%s, cut after %d and resumed:\n%s\nuncut (%d events):\n%s", how, cutAt, got, len(whole), join(whole))
	}
}

func TestManyReadersFollowOneAnswer(t *testing.T) {
	t.Parallel()
	next := make(chan struct{})
	w := setup(t, answering(storyOf(next)))
	w.collectionOf("default")
	_, first, _ := w.open("POST", "/v1/answer", `{"question":"x","resumable":true}`)
	start := readBlocks(t, first, 1)
	id, _, _ := strings.Cut(start[0].id, ":")
	_, second, _ := w.open("GET", "/v1/answers/"+id+"/events", "")
	close(next)
	a, b := join(start)+join(readBlocks(t, first, 0)), join(readBlocks(t, second, 0))
	if a != b || !strings.Contains(a, "event: done") {
		t.Errorf("first reader:\n%s\nsecond:\n%s", a, b)
	}
}

func TestAbandonedAnswerIsCancelled(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	w := setup(t, answering(hang(ended), func(c *api.Config) { c.ResumeGrace = 10 * time.Millisecond }))
	w.collectionOf("default")
	_, r, cut := w.open("POST", "/v1/answer", `{"question":"x","resumable":true}`)
	id, _, _ := strings.Cut(readBlocks(t, r, 3)[2].id, ":")
	cut()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the work goes on without a reader")
	}
	var last string
	for last == "" { // the answer is stored after its end
		resp, r, _ := w.open("GET", "/v1/answers/"+id+"/events", "")
		if resp.StatusCode == 200 {
			blocks := readBlocks(t, r, 0)
			last = blocks[len(blocks)-1].raw
		}
	}
	if !strings.Contains(last, "event: error") || !strings.Contains(last, "client_gone") {
		t.Errorf("last event %s", last)
	}
}

func TestReaderThatReturnsKeepsTheWorkAlive(t *testing.T) {
	t.Parallel()
	next := make(chan struct{}, 8)
	w := setup(t, answering(storyOf(next), func(c *api.Config) { c.ResumeGrace = time.Hour }))
	w.collectionOf("default")
	_, r, cut := w.open("POST", "/v1/answer", `{"question":"x","resumable":true}`)
	start := readBlocks(t, r, 1)[0].id
	cut()
	id, _, _ := strings.Cut(start, ":")
	for range 3 { // comes and goes
		next <- struct{}{}
		_, r, leave := w.open("GET", "/v1/answers/"+id+"/events", "")
		readBlocks(t, r, 2)
		leave()
	}
	close(next)
	_, r, _ = w.open("GET", "/v1/answers/"+id+"/events", "")
	if got := join(readBlocks(t, r, 0)); !strings.Contains(got, "event: done") {
		t.Errorf("stream:\n%s", got)
	}
}

func TestFinishedAnswerIsReadAtAnotherServer(t *testing.T) {
	t.Parallel()
	w := setup(t, answering(storyOf(nil)))
	w.collectionOf("default")
	_, r, _ := w.open("POST", "/v1/answer", `{"question":"x","resumable":true}`)
	blocks := readBlocks(t, r, 0)
	id, _, _ := strings.Cut(blocks[0].id, ":")
	other := w.another()
	_, r, _ = other.open("GET", "/v1/answers/"+id+"/events", "", "Last-Event-ID", blocks[2].id)
	if got := join(blocks[:3]) + join(readBlocks(t, r, 0)); got != join(blocks) {
		t.Errorf("at the other server:\n%s\nat the first:\n%s", got, join(blocks))
	}
}

func TestRunningAnswerAtAnotherServer(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	w := setup(t, answering(hang(ended), func(c *api.Config) { c.DrainTimeout = time.Millisecond }))
	w.collectionOf("default")
	_, r, _ := w.open("POST", "/v1/answer", `{"question":"x","resumable":true}`)
	id, _, _ := strings.Cut(readBlocks(t, r, 1)[0].id, ":")
	got := w.another().get("/v1/answers/" + id + "/events")
	w.refused(got, 409, "answer_running")
	if got.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

func TestResumeIsRefused(t *testing.T) {
	t.Parallel()
	w := setup(t, answering(storyOf(nil)))
	w.collectionOf("default")
	var kept struct{ ID string }
	w.into(w.post("/v1/answer", `{"question":"x","resumable":true}`), 200, &kept)
	read := func(answer, last string) reply {
		w.headers.Set("Last-Event-ID", last)
		defer w.headers.Del("Last-Event-ID")
		return w.get("/v1/answers/" + answer + "/events")
	}
	const absent = "00000000-0000-7000-8000-000000000000"
	w.refused(read(kept.ID, kept.ID+":99"), 400, "invalid_request")
	w.refused(read(kept.ID, "-1"), 400, "invalid_request")
	w.refused(read(kept.ID, absent+":1"), 400, "invalid_request")
	w.refused(read(kept.ID, "nonsense"), 400, "invalid_request")
	w.refused(read(absent, absent+":1"), 404, "answer_not_found")
	w.refused(w.get("/v1/answers/x"), 404, "answer_not_found")
	w.headers.Set("Last-Event-ID", kept.ID+":1")
	w.refused(w.post("/v1/answer", `{"question":"something else"}`), 409, "other_question")
	for _, last := range []string{kept.ID + ":-1", "x:1", "nonsense"} { // else the question would be asked, and kept, a second time
		w.headers.Set("Last-Event-ID", last)
		w.refused(w.post("/v1/answer", `{"question":"x","resumable":true}`), 400, "invalid_request")
	}
}

func TestThreadGoesOn(t *testing.T) {
	t.Parallel()
	prompts := make(chan []workersai.Message, 8)
	w := setup(t, func(_ *api.Config, m *[]workersaitest.Option) {
		*m = append(*m, workersaitest.Chat(func(in workersai.TextInput) string {
			if in.ResponseFormat != nil {
				return `{"question":"How many photographs does a visa for Japan ask for?","parts":[]}`
			}
			prompts <- in.Messages
			return "A visa for Japan takes five working days."
		}))
	})
	w.add("travel.md", handbook)
	type keptReply struct {
		answerReply
		ID, Thread string
		PreviousID *string `json:"previous_id"`
		Steps      []retrieval.Step
	}
	var first, second, fork keptReply
	w.into(w.post("/v1/answer", `{"question":"How long does a visa for Japan take?","thread":"new"}`), 200, &first)
	w.into(w.post("/v1/answer", `{"question":"And how many photographs does it ask for?","thread":"`+first.Thread+`"}`), 200, &second)
	w.into(w.post("/v1/answer", `{"question":"How long are receipts kept for?","previous_id":"`+first.ID+`"}`), 200, &fork)
	if first.Thread == "" || second.Thread != first.Thread || second.PreviousID == nil || *second.PreviousID != first.ID || fork.Thread != first.Thread {
		t.Errorf("first %+v, second %+v, fork %+v", first, second, fork)
	}
	for turns := range 2 { // of user and assistant before the question
		if got := len(<-prompts); got != 2+2*turns {
			t.Errorf("prompt %d has %d messages", turns, got)
		}
	}
	if len(second.Steps) != 1 || second.Steps[0].Step != retrieval.StepRewrite || second.Steps[0].To != "How many photographs does a visa for Japan ask for?" {
		t.Errorf("steps = %+v", second.Steps)
	}
	var thread struct {
		Title, Collection string
		Count             int
		Answers           []struct {
			ID, Question, Status string
			Result               keptReply
		}
		NextCursor *string `json:"next_cursor"`
	}
	w.into(w.get("/v1/threads/"+first.Thread), 200, &thread)
	if thread.Count != 3 || len(thread.Answers) != 3 || thread.Title != "How long does a visa for Japan take?" || thread.NextCursor != nil {
		t.Fatalf("thread = %+v", thread)
	}
	kept := thread.Answers[0]
	if kept.Result.Answer != first.Answer || len(kept.Result.Citations) != len(first.Citations) || len(kept.Result.Sources) != len(first.Sources) || kept.Status != "completed" {
		t.Errorf("kept %+v, answered %+v", kept, first)
	}
	w.into(w.get("/v1/threads/"+first.Thread+"?limit=2"), 200, &thread)
	if thread.NextCursor == nil {
		t.Fatal("no cursor after two of three")
	}
	w.into(w.get("/v1/threads/"+first.Thread+"?limit=2&cursor="+*thread.NextCursor), 200, &thread)
	if len(thread.Answers) != 1 || thread.Answers[0].ID != fork.ID {
		t.Errorf("last page = %+v", thread.Answers)
	}
	w.into(w.send("DELETE", "/v1/threads/"+first.Thread, "", nil), 204, nil)
	w.refused(w.get("/v1/answers/"+first.ID), 404, "answer_not_found")
}

func TestThreadIsRefused(t *testing.T) {
	t.Parallel()
	w := setup(t, answering(storyOf(nil)))
	w.collectionOf("default")
	w.collectionOf("other")
	var a, b struct{ ID, Thread string }
	w.into(w.post("/v1/answer", `{"question":"x","thread":"new"}`), 200, &a)
	w.into(w.post("/v1/answer", `{"question":"x","thread":"new","collection":"other"}`), 200, &b)
	for body, want := range map[string]string{
		`"thread":"nonsense"`:                                           "404 thread_not_found",
		`"thread":"` + a.Thread + `","collection":"other"`:              "400 invalid_request",
		`"thread":"` + a.Thread + `","previous_id":"` + b.ID + `"`:      "400 invalid_request",
		`"thread":"new","messages":[{"role":"user","content":"x"}]`:     "400 invalid_request",
		`"previous_id":"00000000-0000-7000-8000-000000000000"`:          "404 answer_not_found",
		`"thread":"new","collection":"absent"`:                          "404 collection_not_found",
		`"thread":"new","question":"` + strings.Repeat("x", 9000) + `"`: "400 invalid_question",
	} {
		var status int
		var code string
		_, _ = fmt.Sscanf(want, "%d %s", &status, &code)
		w.refused(w.post("/v1/answer", `{"question":"x",`+body+`}`), status, code)
	}
	w.refused(w.get("/v1/threads/x"), 404, "thread_not_found")
	w.refused(w.get("/v1/threads?cursor=x"), 404, "thread_not_found")
	w.refused(w.get("/v1/threads/"+a.Thread+"?cursor=x"), 400, "invalid_request")
	w.into(w.send("DELETE", "/v1/collections/other", "", nil), 204, nil)
	w.refused(w.get("/v1/threads/"+b.Thread), 404, "thread_not_found")
}

func TestFailedAnswerIsKeptAsFailed(t *testing.T) {
	t.Parallel()
	w := setup(t, answering(func(_ context.Context, yield func(retrieval.Event, error) bool) {
		_ = yield(retrieval.Sources{}, nil) && yield(nil, fmt.Errorf("answer: %w", io.ErrUnexpectedEOF))
	}))
	w.collectionOf("default")
	_, r, _ := w.open("POST", "/v1/answer", `{"question":"x","thread":"new"}`)
	blocks := readBlocks(t, r, 0)
	if last := blocks[len(blocks)-1].raw; !strings.Contains(last, "event: error") || !strings.Contains(last, "upstream_cut") {
		t.Fatalf("last event %s", last)
	}
	id, _, _ := strings.Cut(blocks[0].id, ":")
	var a struct {
		Status string
		Result any
		Error  struct{ Code string }
	}
	w.into(w.get("/v1/answers/"+id), 200, &a)
	if a.Status != "error" || a.Error.Code != "upstream_cut" || a.Result != nil {
		t.Errorf("answer = %+v", a)
	}
	w.refused(w.post("/v1/answer", `{"question":"x","previous_id":"`+id+`"}`), 400, "invalid_request")
	w.refused(w.post("/v1/answer", `{"question":"x","thread":"new"}`), 502, "upstream_cut")
}

func TestStepsAreEventsAndNotChunks(t *testing.T) {
	t.Parallel()
	w := setup(t, answering(storyOf(nil)))
	events, _, err := readEvents(w.stream("/v1/answer", `{"question":"x"}`).Body)
	if err != nil || len(events) == 0 || events[0].name != "step" || !strings.Contains(events[0].data, `"to":"the visa?"`) {
		t.Errorf("events = %v, %v", events, err)
	}
	chunks, _, err := readEvents(w.stream("/v1/chat/completions", `{"model":"footnote","stream":true,"messages":[{"role":"user","content":"x"}]}`).Body)
	if err != nil || len(chunks) == 0 {
		t.Fatal(chunks, err)
	}
	for _, c := range chunks[:len(chunks)-1] {
		var chunk struct{ Object string }
		if json.Unmarshal([]byte(c.data), &chunk) != nil || chunk.Object != "chat.completion.chunk" || c.name != "" {
			t.Errorf("chunk %v", c)
		}
	}
}
