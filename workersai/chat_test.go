package workersai_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
	"github.com/google/go-cmp/cmp"
)

func TestChatStreamCutAnywhereIsAnError(t *testing.T) {
	t.Parallel()
	srv := workersaitest.NewInMemory(t, workersaitest.Chat(func(workersai.TextInput) string { return "Grüße aus Oslo" }))
	c := srv.Client(t, noRetry)
	want, last, err := answer(t, c, hello(llama))
	if err != nil || want != "Grüße aus Oslo" || last.Usage == nil {
		t.Fatalf("whole answer = %q, %v, %v", want, last, err)
	}
	size := len(workersaitest.Frames(`{"response":"Grüße","p":"abcdefgh"}`, `{"response":" aus","p":"abcdefgh"}`, `{"response":" Oslo","p":"abcdefgh"}`,
		`{"response":"","usage":{"prompt_tokens":1,"completion_tokens":3,"total_tokens":4}}`, "[DONE]"))
	for _, clean := range []bool{false, true} {
		for n := range size {
			srv.Script(workersaitest.Step{Cut: true, CutAt: n, Clean: clean})
			text, last, err := answer(t, c, hello(llama))
			if !errors.Is(err, io.ErrUnexpectedEOF) || !errors.Is(err, workersai.ErrUnreachable) || last.Usage != nil {
				t.Errorf("cut at byte %d (clean %v): answer %q, usage %v, error %v; want an unexpected EOF", n, clean, text, last.Usage, err)
			}
			if !strings.HasPrefix(want, text) {
				t.Errorf("cut at byte %d: %q is no prefix of %q", n, text, want)
			}
		}
	}
	srv.Script(workersaitest.ShortAt(size))
	if text, _, err := answer(t, c, hello(llama)); err != nil || text != want {
		t.Errorf("cut after the end: %q, %v", text, err)
	}
}

func TestChatStreamReadsEveryShape(t *testing.T) {
	t.Parallel()
	const done = "[DONE]"
	oslo := workersai.ToolCall{ID: "call_1", Name: "weather", Arguments: `{"city":"Oslo"}`}
	native := oslo
	native.Native = true
	rome := workersai.ToolCall{ID: "call_2", Name: "weather", Arguments: `{"city":"Rome"}`}
	nativeRome := rome
	nativeRome.Native = true
	for name, test := range map[string]struct {
		step  workersaitest.Step
		text  string
		calls []workersai.ToolCall
	}{
		"number tokens":        {step: workersaitest.NumberTokens(), text: "12 3.5"},
		"hybrid frames":        {step: workersaitest.HybridFrames(), text: "Here is it"},
		"double done":          {step: workersaitest.SSE(`{"response":"a"}`, done, done), text: "a"},
		"JSON for a stream":    {step: workersaitest.JSONForStream("at once"), text: "at once"},
		"reasoning is no text": {step: workersaitest.SSE(`{"choices":[{"delta":{"reasoning_content":"hm","reasoning":"hm"}}]}`, `{"choices":[{"delta":{"content":"yes"}}]}`, done), text: "yes"},
		"whole message":        {step: workersaitest.SSE(`{"choices":[{"message":{"role":"assistant","content":"all"},"finish_reason":"stop"}]}`, done), text: "all"},
		"comments and CRLF": {step: workersaitest.Step{Status: 200, ContentType: "text/event-stream; charset=utf-8",
			Body: ": ping\r\n\r\nevent: x\r\nid: 1\r\ndata: {\"response\":\r\ndata:\"a\"}\r\n\r\ndata: [DONE]\r\n\r\n"}, text: "a"},
		"call in one frame": {step: workersaitest.SSE(`{"response":"","tool_calls":[{"id":"call_1","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Oslo\"}"}}]}`, done),
			calls: []workersai.ToolCall{oslo}},
		"native call":             {step: workersaitest.SSE(`{"response":null,"tool_calls":[{"name":"weather","arguments":{"city":"Oslo"}}]}`, done), calls: []workersai.ToolCall{native}},
		"native call at once":     {step: workersaitest.JSON(200, `{"result":{"response":null,"tool_calls":[{"name":"weather","arguments":{"city":"Oslo"}}]},"success":true}`), calls: []workersai.ToolCall{native}},
		"pieces with an end mark": {step: pieces(`[{"index":0,"id":"call_1","function":{"name":"weather","arguments":""}}]`, `[{"index":0,"function":{"arguments":"{\"city\":"}}]`, `[{"index":0,"function":{"arguments":"\"Oslo\"}"}}]`, `[{"index":0,"id":null,"function":{"name":null,"arguments":""}}]`), calls: []workersai.ToolCall{oslo}},
		"pieces without index":    {step: pieces(`[{"id":"call_1","function":{"name":"weather","arguments":"{\"city\":"}}]`, `[{"function":{"arguments":"\"Oslo\"}"}}]`), calls: []workersai.ToolCall{oslo}},
		"pieces interleaved": {step: pieces(`[{"index":0,"id":"call_1","function":{"name":"weather","arguments":"{\"city\":"}},{"index":1,"id":"call_2","function":{"name":"weather","arguments":"{\"city\":"}}]`,
			`[{"index":1,"function":{"arguments":"\"Rome\"}"}},{"index":0,"function":{"arguments":"\"Oslo\"}"}}]`), calls: []workersai.ToolCall{oslo, rome}},
		"index repeated": {step: pieces(`[{"index":0,"id":"call_1","function":{"name":"weather","arguments":"{\"city\":\"Oslo\"}"}}]`, `[{"index":0,"id":"call_2","function":{"name":"weather","arguments":"{\"city\":\"Rome\"}"}}]`),
			calls: []workersai.ToolCall{oslo, rome}},
		"id repeated": {step: pieces(`[{"id":"call_1","function":{"name":"weather","arguments":"{\"city\":"}}]`, `[{"id":"call_1","function":{"name":"weather","arguments":"\"Oslo\"}"}}]`),
			calls: []workersai.ToolCall{oslo}},
		"two native calls": {step: workersaitest.SSE(`{"tool_calls":[{"name":"weather","arguments":{"city":"Oslo"}},{"name":"weather","arguments":{"city":"Rome"}}]}`, done),
			calls: []workersai.ToolCall{native, nativeRome}},
		"two native calls, one index": {step: workersaitest.SSE(`{"tool_calls":[{"index":0,"name":"weather","arguments":{"city":"Oslo"}}]}`, `{"tool_calls":[{"index":0,"name":"weather","arguments":{"city":"Rome"}}]}`, done),
			calls: []workersai.ToolCall{native, nativeRome}},
		"late id and name": {step: pieces(`[{"index":0,"function":{"arguments":"{\"city\":"}}]`, `[{"index":0,"id":"call_1","function":{"name":"weather","arguments":"\"Oslo\"}"}}]`),
			calls: []workersai.ToolCall{oslo}},
		"whole call repeated": {step: pieces(`[{"index":0,"id":"call_1","function":{"name":"weather","arguments":"{\"city\":\"Oslo\"}"}}]`, `[{"index":0,"id":"call_1","function":{"name":"weather","arguments":"{\"city\":\"Oslo\"}"}}]`),
			calls: []workersai.ToolCall{oslo}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := workersaitest.NewInMemory(t)
			srv.Script(test.step)
			text, last, err := answer(t, srv.Client(t, noRetry), hello(llama))
			if err != nil || text != test.text || last.Usage == nil {
				t.Errorf("answer = %q, usage %v, %v; want %q", text, last.Usage, err, test.text)
			}
			if diff := cmp.Diff(test.calls, last.ToolCalls); diff != "" {
				t.Errorf("tool calls (-want +got):\n%s", diff)
			}
		})
	}
}

// pieces is a stream of tool call deltas.
func pieces(calls ...string) workersaitest.Step {
	var frames []string
	for _, c := range calls {
		frames = append(frames, fmt.Sprintf(`{"choices":[{"index":0,"delta":{"tool_calls":%s}}]}`, c))
	}
	return workersaitest.SSE(append(frames, `{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}`, "[DONE]")...)
}

func TestEmptyAnswerToAStreamIsAskedWhole(t *testing.T) {
	t.Parallel()
	srv := workersaitest.NewInMemory(t, workersaitest.Chat(func(workersai.TextInput) string { return "late" }))
	srv.Script(workersaitest.EmptyForStream())
	text, _, err := answer(t, srv.Client(t), hello(llama))
	if err != nil || text != "late" {
		t.Fatalf("answer = %q, %v, want late", text, err)
	}
	got := srv.Requests()
	if len(got) != 2 || !got[0].Chat.Stream || got[1].Chat.Stream || got[1].Chat.MaxTokens != workersai.DefaultMaxTokens {
		t.Errorf("requests %+v, want one with and one without stream", got)
	}
	srv.Script(workersaitest.EmptyForStream(), workersaitest.EmptyForStream())
	if _, _, err = answer(t, srv.Client(t), hello(llama)); !errors.Is(err, workersai.ErrBadReply) || srv.Calls("") != 4 {
		t.Errorf("two empty answers: %v after %d calls, want a bad reply after 4", err, srv.Calls(""))
	}
}

func TestErrorInsideAStreamEndsIt(t *testing.T) {
	t.Parallel()
	srv := workersaitest.NewInMemory(t)
	srv.Script(workersaitest.ErrorsFrame(workersai.CodeNativeCapacity, "AiError: Ai: no capacity"))
	text, _, err := answer(t, srv.Client(t), hello(llama))
	if text != "Hel" || !errors.Is(err, workersai.ErrRateLimited) || srv.Calls("") != 1 {
		t.Errorf("answer = %q, %v after %d calls; want Hel, rate limited, 1: nothing is retried once text was delivered", text, err, srv.Calls(""))
	}
}

func TestLeavingAStreamCancelsTheCall(t *testing.T) {
	t.Parallel()
	srv := workersaitest.New(t)
	pace := make(chan struct{}, 1)
	pace <- struct{}{}
	srv.Script(workersaitest.Step{Pace: pace})
	for e, err := range srv.Client(t).ChatStream(t.Context(), hello(llama)) {
		if err != nil || e.Text == "" {
			t.Fatalf("first event = %v, %v", e, err)
		}
		break
	}
	srv.WaitAborts(t, 1)
}

func TestStreamsThatAreTooLongOrNoStreams(t *testing.T) {
	t.Parallel()
	srv := workersaitest.NewInMemory(t)
	c := srv.Client(t, func(cfg *workersai.Config) { cfg.MaxReplyBytes = 1000 })
	for name, step := range map[string]workersaitest.Step{
		"too long": workersaitest.SSE(`{"response":"` + strings.Repeat("a", 2000) + `"}`),
		"web page": workersaitest.HTML(200, "<html><body>Sign in</body></html>"),
		"no JSON":  workersaitest.SSE("{"),
	} {
		before := srv.Calls("")
		srv.Script(step)
		_, _, err := answer(t, c, hello(llama))
		if !errors.Is(err, workersai.ErrBadReply) || errors.Is(err, workersai.ErrUnreachable) || srv.Calls("") != before+1 {
			t.Errorf("%s: %v after %d calls, want a bad reply alone after 1", name, err, srv.Calls("")-before)
		}
	}
}

func TestFinishReason(t *testing.T) {
	t.Parallel()
	const done = "[DONE]"
	for name, tt := range map[string]struct {
		step workersaitest.Step
		want string
	}{
		"told":          {workersaitest.SSE(`{"choices":[{"delta":{"content":"a"}}]}`, `{"choices":[{"delta":{},"finish_reason":"content_filter"}]}`, done), "content_filter"},
		"as many":       {workersaitest.SSE(`{"response":"a"}`, `{"response":"","usage":{"completion_tokens":7}}`, done), "length"},
		"fewer":         {workersaitest.SSE(`{"response":"a"}`, `{"response":"","usage":{"completion_tokens":6}}`, done), "stop"},
		"nothing told":  {workersaitest.SSE(`{"response":"a"}`, done), ""},
		"a call":        {workersaitest.SSE(`{"tool_calls":[{"name":"f","arguments":{}}]}`, done), "tool_calls"},
		"null, as told": {workersaitest.SSE(`{"choices":[{"delta":{"content":"a"},"finish_reason":null}]}`, done), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := workersaitest.NewInMemory(t)
			srv.Script(tt.step)
			r := hello(llama)
			r.MaxTokens = 7
			_, last, err := answer(t, srv.Client(t, noRetry), r)
			if err != nil || last.FinishReason != tt.want {
				t.Errorf("finish reason %q, %v, want %q", last.FinishReason, err, tt.want)
			}
		})
	}
}

func TestPenaltiesAreSentAndChecked(t *testing.T) {
	t.Parallel()
	sent := make(chan workersai.TextInput, 1)
	srv := workersaitest.NewInMemory(t, workersaitest.Chat(func(in workersai.TextInput) string { sent <- in; return "a" }))
	c := srv.Client(t, noRetry)
	r, low, high := hello(llama), 0.5, 2.5
	r.RepetitionPenalty, r.PresencePenalty = &low, &low
	if _, err := c.Chat(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if in := <-sent; in.RepetitionPenalty == nil || *in.RepetitionPenalty != low || in.PresencePenalty == nil || in.FrequencyPenalty != nil {
		t.Errorf("sent %+v, want both penalties and no third", in)
	}
	r.RepetitionPenalty = &high
	if _, err := c.Chat(t.Context(), r); !errors.Is(err, workersai.ErrInvalidInput) {
		t.Errorf("a penalty of 2.5: %v, want invalid input", err)
	}
}
