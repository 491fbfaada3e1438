package workersai_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
	"github.com/google/go-cmp/cmp"
)

func result(json string) workersaitest.Step {
	return workersaitest.JSON(200, `{"result":`+json+`,"success":true,"errors":[],"messages":[]}`)
}

func TestChatReadsEveryShape(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		result, text string
		want         error
	}{
		"text":       {`{"response":"Hello","tool_calls":[],"usage":{"prompt_tokens":86.0,"completion_tokens":3,"neurons":0.5}}`, "Hello", nil},
		"number":     {`{"response":12}`, "12", nil},
		"object":     {`{"response":{"a":1}}`, `{"a":1}`, nil},
		"message":    {`{"choices":[{"message":{"content":"Hello"}}]}`, "Hello", nil},
		"null":       {`{"response":null}`, "", workersai.ErrBadReply},
		"nothing":    {`{}`, "", workersai.ErrBadReply},
		"list":       {`[]`, "", workersai.ErrBadReply},
		"bad call":   {`{"tool_calls":[{"name":"f","arguments":"[1]"}]}`, "", workersai.ErrBadReply},
		"empty call": {`{"tool_calls":[{"id":"x","function":{"arguments":"{}"}}]}`, "", workersai.ErrBadReply},
	} {
		srv := workersaitest.NewInMemory(t)
		srv.Script(result(test.result))
		got, err := srv.Client(t, noRetry).Chat(t.Context(), hello(llama))
		if !errors.Is(err, test.want) || (err == nil && got.Text != test.text) {
			t.Errorf("%s: %+v, %v; want %q, %v", name, got, err, test.text, test.want)
		}
	}
}

func TestChatSaysWhenItWasCut(t *testing.T) {
	t.Parallel()
	srv := workersaitest.NewInMemory(t)
	srv.Script(result(`{"response":"a b","usage":{"completion_tokens":2}}`))
	r := hello(llama)
	r.MaxTokens = 2
	if got, err := srv.Client(t).Chat(t.Context(), r); err != nil || !got.Cut {
		t.Errorf("Chat = %+v, %v, want cut", got, err)
	}
}

type weather struct {
	City string `json:"city" description:"name of the city"`
	Unit string `json:"unit,omitempty" enum:"C,F"`
	Days *int   `json:"days"`
}

func TestSchemaOf(t *testing.T) {
	t.Parallel()
	got, err := workersai.SchemaOf[struct {
		weather
		Tags  []string           `json:"tags"`
		Score map[string]float64 `json:"score"`
		Ok    bool
		skip  int
	}]()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"type":"object","properties":{"Ok":{"type":"boolean"},"city":{"type":"string","description":"name of the city"},` +
		`"days":{"type":"integer"},"score":{"type":"object","additionalProperties":{"type":"number"}},"tags":{"type":"array","items":{"type":"string"}},` +
		`"unit":{"type":"string","enum":["C","F"]}},"required":["city","tags","score","Ok"]}`
	if string(got) != want {
		t.Errorf("SchemaOf (-want +got):\n%s", cmp.Diff(want, string(got)))
	}
	type list struct{ Next *list }
	if _, err := workersai.SchemaOf[list](); err == nil {
		t.Error("SchemaOf a type that contains itself: no error")
	}
	if _, err := workersai.SchemaOf[chan int](); err == nil {
		t.Error("SchemaOf a channel: no error")
	}
}

func TestChatAsDecodesJSONMode(t *testing.T) {
	t.Parallel()
	srv := workersaitest.NewInMemory(t)
	c := srv.Client(t, noRetry)
	for name, response := range map[string]string{
		"object": `{"city":"Oslo"}`, "string": `"{\"city\":\"Oslo\"}"`, "fence": "\"```json\\n{\\\"city\\\":\\\"Oslo\\\"}\\n```\"",
	} {
		srv.Script(result(`{"response":` + response + `}`))
		if got, err := workersai.ChatAs[weather](t.Context(), c, hello(llama)); err != nil || got.City != "Oslo" {
			t.Errorf("%s: %+v, %v, want Oslo", name, got, err)
		}
	}
	if f := srv.Requests()[0].Chat.ResponseFormat; f == nil || f.Type != "json_schema" || !strings.Contains(string(f.Schema), "name of the city") {
		t.Errorf("response_format %+v, want the type's schema", f)
	}
	srv.Script(result(`{"response":"I cannot"}`))
	if _, err := workersai.ChatAs[weather](t.Context(), c, hello(llama)); !errors.Is(err, workersai.ErrBadReply) {
		t.Errorf("no JSON: %v, want a bad reply", err)
	}
}

// caller asks for the weather of Oslo and then repeats what it reads.
func caller(call string) func(workersai.TextInput) workersai.TextOutput {
	return func(in workersai.TextInput) workersai.TextOutput {
		if last := in.Messages[len(in.Messages)-1]; last.Role == "tool" {
			return workersaitest.Text("read " + last.Content)
		}
		var out workersai.TextOutput
		if err := json.Unmarshal([]byte(`{"response":"","tool_calls":[`+call+`]}`), &out); err != nil {
			panic(err)
		}
		return out
	}
}

func TestToolsAreCalledInTheShapeThatWasReceived(t *testing.T) {
	t.Parallel()
	tool, err := workersai.NewTool("weather", "Weather of a city", func(_ context.Context, in weather) (any, error) {
		if in.City != "Oslo" {
			return nil, fmt.Errorf("no weather of %s", in.City)
		}
		return map[string]int{"temp": 12}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ call, sent, text string }{
		"with id": {`{"id":"call_7","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Oslo\"}"}}`,
			`{"role":"assistant","content":"","tool_calls":[{"id":"call_7","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Oslo\"}"}}]},{"role":"tool","content":"{\"temp\":12}","tool_call_id":"call_7","name":"weather"}`, `read {"temp":12}`},
		"native": {`{"name":"weather","arguments":{"city":"Oslo"}}`,
			`{"role":"assistant","content":"{\"name\":\"weather\",\"arguments\":{\"city\":\"Oslo\"}}"},{"role":"tool","content":"{\"temp\":12}"`, `read {"temp":12}`},
		"its error":    {`{"name":"weather","arguments":{"city":"Rome"}}`, "", `read {"error":"no weather of Rome"}`},
		"no such tool": {`{"name":"time","arguments":{}}`, "", `read {"error":"there is no such tool"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := workersaitest.NewInMemory(t, workersaitest.ChatOutput(caller(test.call)))
			got, err := srv.Client(t).ChatWithTools(t.Context(), workersai.ChatRequest{Model: llama, Prompt: "Weather?"}, tool)
			if err != nil || got.Text != test.text || len(got.Messages) != 4 {
				t.Fatalf("answer %+v, %v, want %q", got, err, test.text)
			}
			if body := string(srv.Requests()[1].Body); !strings.Contains(body, test.sent) {
				t.Errorf("follow-up %s\nwant %s", body, test.sent)
			}
		})
	}
}

func TestToolRoundsEnd(t *testing.T) {
	t.Parallel()
	srv := workersaitest.NewInMemory(t, workersaitest.ChatOutput(func(workersai.TextInput) workersai.TextOutput {
		return workersai.TextOutput{ToolCalls: []workersai.ToolCall{{ID: "x", Name: "again", Arguments: "{}"}}}
	}))
	calls := 0
	tool, err := workersai.NewTool("again", "Again", func(context.Context, struct{}) (any, error) { calls++; return "ok", nil })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := srv.Client(t).ChatWithTools(t.Context(), hello(llama), tool); !errors.Is(err, workersai.ErrToolRounds) || calls != 8 {
		t.Errorf("error %v after %d calls, want too many rounds after 8", err, calls)
	}
	if _, err := workersai.NewTool("bad", "", func(context.Context, string) (any, error) { return nil, nil }); err == nil {
		t.Error("a tool whose input is a string: no error")
	}
}

// TestToolConversationInPieces: the calls arrive in pieces, are made once each, and the answer streams.
func TestToolConversationInPieces(t *testing.T) {
	t.Parallel()
	tool, err := workersai.NewTool("weather", "Weather of a city", func(_ context.Context, in weather) (any, error) {
		return in.City + ": 12", nil
	})
	if err != nil {
		t.Fatal(err)
	}
	srv := workersaitest.NewInMemory(t)
	srv.Script(pieces(`[{"index":0,"id":"call_1","function":{"name":"weather","arguments":"{\"city\":"}},{"index":1,"id":"call_2","function":{"name":"weather","arguments":"{\"city\":"}}]`,
		`[{"index":0,"function":{"arguments":"\"Oslo\"}"}}]`, `[{"index":1,"function":{"arguments":"\"Rome\"}"}}]`, `[{"index":0,"id":null,"function":{"name":null,"arguments":""}}]`),
		workersaitest.SSE(`{"response":"Oslo 12,"}`, `{"response":" Rome 12."}`, `{"response":"","usage":{"completion_tokens":7}}`, "[DONE]"))
	r := hello(llama)
	r.ToolChoice = json.RawMessage(`"required"`)
	var text, calls string
	var last workersai.ToolEvent
	for e, err := range srv.Client(t, noRetry).ChatWithToolsStream(t.Context(), r, tool) {
		if err != nil {
			t.Fatal(err)
		}
		if text += e.Text; e.Call != nil {
			calls += e.Call.ID + " " + e.Result + "; "
		}
		last = e
	}
	if text != "Oslo 12, Rome 12." || calls != "call_1 Oslo: 12; call_2 Rome: 12; " {
		t.Errorf("answer %q after calls %q", text, calls)
	}
	if last.Usage == nil || last.Usage.CompletionTokens != 7 || len(last.Messages) != 5 || last.Messages[1].ToolCalls[1].Name != "weather" || last.Messages[4].Content != text {
		t.Errorf("last event %+v, want the usage and the conversation", last)
	}
	if got := srv.Requests(); string(got[0].Chat.ToolChoice) != `"required"` || len(got[1].Chat.ToolChoice) != 0 {
		t.Errorf("tool_choice %s and then %s, want it forced for the first round alone", got[0].Chat.ToolChoice, got[1].Chat.ToolChoice)
	}
}

func TestToolStreamEnds(t *testing.T) {
	t.Parallel()
	call := pieces(`[{"index":0,"id":"c","function":{"name":"again","arguments":"{}"}}]`)
	for name, tt := range map[string]struct {
		steps []workersaitest.Step
		leave bool
		want  error
		calls int
	}{
		"answers when told to":    {[]workersaitest.Step{call, call, workersaitest.SSE(`{"response":"done"}`, "[DONE]")}, false, nil, 2},
		"calls for ever":          {[]workersaitest.Step{call, call, call}, false, workersai.ErrToolRounds, 2},
		"cut before the end mark": {[]workersaitest.Step{call, {Cut: true, CutAt: 45}}, false, io.ErrUnexpectedEOF, 1},
		"nothing":                 {[]workersaitest.Step{call, workersaitest.SSE("[DONE]")}, false, workersai.ErrBadReply, 1},
		"the caller leaves":       {[]workersaitest.Step{call}, true, nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := workersaitest.NewInMemory(t)
			srv.Script(tt.steps...)
			calls := 0
			tool, err := workersai.NewTool("again", "Again", func(context.Context, struct{}) (any, error) { calls++; return "ok", nil })
			if err != nil {
				t.Fatal(err)
			}
			r := hello(llama)
			r.MaxRounds = 2
			var got error
			whole := false
			for e, err := range srv.Client(t, noRetry).ChatWithToolsStream(t.Context(), r, tool) {
				got, whole = err, whole || e.Usage != nil
				if tt.leave && e.Call != nil {
					break
				}
			}
			if !errors.Is(got, tt.want) || calls != tt.calls || whole != (tt.want == nil && !tt.leave) || srv.Scripted() != 0 {
				t.Errorf("%v after %d calls, whole %v, %d steps left; want %v after %d", got, calls, whole, srv.Scripted(), tt.want, tt.calls)
			}
			if n := len(srv.Requests()); n == 3 && string(srv.Requests()[2].Chat.ToolChoice) != `"none"` {
				t.Errorf("the last round has tool_choice %s, want none", srv.Requests()[2].Chat.ToolChoice)
			}
		})
	}
}
