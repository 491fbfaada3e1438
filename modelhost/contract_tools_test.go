package modelhost_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/workersai"
)

// clerk has two tools and notes what they were asked.
func clerk(t *testing.T, asked *[]string) []workersai.Tool {
	t.Helper()
	price, err := workersai.NewTool("getPrice", "The price of a product in the shop, in euros.", func(_ context.Context, in struct {
		Product string `json:"product" description:"what is bought"`
	}) (any, error) {
		*asked = append(*asked, "price of "+in.Product)
		return map[string]any{"product": in.Product, "euros": 7}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return []workersai.Tool{weatherTool(t, asked), price}
}

// TestToolConversationOfSeveralRounds: two questions, two tools, streamed; each question ends in an answer, and the calls
// and results of the first are part of the second's conversation.
func TestToolConversationOfSeveralRounds(t *testing.T) {
	t.Parallel()
	c := clientOf(t, realHost(t))
	var asked []string
	tools := clerk(t, &asked)
	r := ask("What is the weather in Oslo?", 120)
	r.MaxRounds = 3
	for i, question := range []struct{ text, tool, argument string }{
		{"What is the weather in Oslo?", "getWeather", "Oslo"}, {"What is the price of a bicycle? Use getPrice.", "getPrice", ""}, // what it asks for is a small model's guess
	} {
		if i > 0 {
			r.Messages = append(r.Messages, workersai.Message{Role: "user", Content: question.text})
		}
		r.ToolChoice = json.RawMessage(fmt.Sprintf(`{"type":"function","function":{"name":%q}}`, question.tool))
		var last workersai.ToolEvent
		var text string
		calls := 0
		for e, err := range c.ChatWithToolsStream(t.Context(), r, tools...) {
			if err != nil {
				t.Fatalf("%s: %v after %v", question.text, err, asked)
			}
			text, last = text+e.Text, e
			if e.Call != nil {
				calls++
				if e.Call.Name != question.tool || !strings.Contains(strings.ToLower(e.Call.Arguments), strings.ToLower(question.argument)) || e.Result == "" {
					t.Errorf("call %+v, want %s of %s", e.Call, question.tool, question.argument)
				}
			}
		}
		if calls != 1 || strings.TrimSpace(text) == "" || last.Usage == nil || last.Usage.CompletionTokens == 0 {
			t.Errorf("%s: %d calls, answer %q, last event %+v; want one call and an answer", question.text, calls, text, last)
		}
		t.Logf("%s → %s → %s", question.text, asked[len(asked)-1], text)
		r.Messages = last.Messages
	}
	if len(asked) != 2 || len(r.Messages) != 9 { // system, and twice question, call, result, answer
		t.Errorf("asked %q, %d messages, want two calls in one conversation of 9", asked, len(r.Messages))
	}
}

// TestToolShapesContract: a call and its result come back to a real model in each of the shapes that clients send.
func TestToolShapesContract(t *testing.T) {
	t.Parallel()
	srv := realHost(t)
	c := clientOf(t, srv)
	const head = `{"max_tokens":24,"temperature":0,"seed":1,"messages":[{"role":"user","content":"What is the weather in Oslo?"},`
	const tools = `],"tools":[%s]}`
	const openAITool = `{"type":"function","function":{"name":"getWeather","description":"The weather.","parameters":{"type":"object","properties":{"location":{"type":"string"}},"required":["location"]}}}`
	const nativeTool = `{"name":"getWeather","description":"The weather.","parameters":{"type":"object","properties":{"location":{"type":"string"}},"required":["location"]}}`
	result := `{"role":"tool","tool_call_id":"call_1","name":"getWeather","content":"{\"sky\":\"rain\"}"}`
	bare := `{"role":"tool","content":"{\"sky\":\"rain\"}"}`
	for name, turn := range map[string]string{
		"string arguments": `{"role":"assistant","content":"","tool_calls":[{"id":"call_1","type":"function","function":{"name":"getWeather","arguments":"{\"location\":\"Oslo\"}"}}]},` + result,
		"object arguments": `{"role":"assistant","content":"","tool_calls":[{"name":"getWeather","arguments":{"location":"Oslo"}}]},` + bare,
		"call as content":  `{"role":"assistant","content":"{\"name\":\"getWeather\",\"arguments\":{\"location\":\"Oslo\"}}"},` + bare,
	} {
		for shape, tool := range map[string]string{"OpenAI's": openAITool, "native": nativeTool} {
			out, err := workersai.RunAs[workersai.TextOutput](t.Context(), c, chatModel, json.RawMessage(head+turn+fmt.Sprintf(tools, tool)))
			var text string
			if err != nil || json.Unmarshal(out.Response, &text) != nil || (text == "" && len(out.ToolCalls) == 0) {
				t.Errorf("%s, tool in the %s shape: %+v, %v; want an answer", name, shape, out, err)
			}
		}
	}
}
