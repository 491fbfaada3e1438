package modelhost_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/footnote-rag/footnote/modelhost"
	"github.com/footnote-rag/footnote/workersai"
)

// talker answers "It is 12 degrees." or, offered tools, with a call; streamed or whole as it is asked.
func talker(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Stream bool `json:"stream"`
		Format any  `json:"response_format"` // the tool grammar
	}
	body, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(body, &in)
	pieces := []string{"It", " is ", "12", " degrees", "."}
	if in.Format != nil {
		pieces = []string{`{"name":"getWeather",`, `"arguments":{"location":"Tromsø"}}`}
	}
	usage := `"usage":{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14}`
	if !in.Stream {
		text, _ := json.Marshal(strings.Join(pieces, ""))
		fmt.Fprintf(w, `{"choices":[{"message":{"content":%s},"finish_reason":"stop"}],%s}`, text, usage)
		return
	}
	var events []string
	for _, p := range pieces {
		text, _ := json.Marshal(p)
		events = append(events, fmt.Sprintf(`{"choices":[{"delta":{"content":%s}}]}`, text))
	}
	sseServer(append(events, `{"choices":[{"delta":{},"finish_reason":"stop"}]}`, `{"choices":[],`+usage+`}`, "[DONE]")...)(w, r)
}

const said = "It is 12 degrees."

// faultyClient calls a host with these faults; retries are off unless change sets them.
func faultyClient(t *testing.T, spec string, change ...func(*workersai.Config)) *workersai.Client {
	t.Helper()
	faults, err := modelhost.ParseFaults(spec)
	if err != nil {
		t.Fatal(err)
	}
	u := newUpstream(t)
	u.chat = talker
	return clientOf(t, newHost(t, u.URL, func(c *modelhost.Config) { c.Faults = faults }), change...)
}

func streamOf(t *testing.T, c *workersai.Client, r workersai.ChatRequest) (text string, last workersai.ChatEvent, err error) {
	t.Helper()
	for e, err := range c.ChatStream(t.Context(), r) {
		if err != nil {
			return text, last, err
		}
		text, last = text+e.Text, e
	}
	return text, last, nil
}

// TestClientSurvivesStreamFaults: what can be read is read right, and what cannot is never taken for a whole answer.
func TestClientSurvivesStreamFaults(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string]struct {
		err  error // nil: the whole answer comes
		text string
	}{
		"double_done":          {},
		"number_tokens":        {},
		"hybrid_frames":        {},
		"json_instead_of_sse":  {},
		"end_marker_tool_call": {},
		"slow_first_byte=20ms": {},
		"stream_cut":           {err: io.ErrUnexpectedEOF},
		"stream_cut=0b":        {err: io.ErrUnexpectedEOF},
		"stream_cut=60b":       {err: io.ErrUnexpectedEOF, text: "It is "},
		"stream_cut=9999b":     {err: io.ErrUnexpectedEOF, text: said},
		"stream_end":           {err: io.ErrUnexpectedEOF, text: said},
		"errors_frame":         {err: workersai.ErrRateLimited, text: "It"},
		"empty_for_stream":     {}, // asked again without stream
		"reset":                {err: workersai.ErrUnreachable},
		"html":                 {err: nil},
		"html_200":             {err: workersai.ErrBadReply},
		"nan,missing_row":      {}, // not for streams
	} {
		t.Run(spec, func(t *testing.T) {
			t.Parallel()
			text, last, err := streamOf(t, faultyClient(t, spec), ask("How warm is it?", 40))
			if spec == "html" {
				var e *workersai.Error
				if !errors.As(err, &e) || e.Status != 502 || !strings.Contains(e.Message, "Bad gateway") {
					t.Errorf("error %v, want 502 with the page's text", err)
				}
				return
			}
			if want.err == nil {
				if err != nil || text != said || last.Usage == nil || last.Usage.CompletionTokens != 5 {
					t.Errorf("answer %q, last %+v, %v; want %q with its usage", text, last, err, said)
				}
				return
			}
			if !errors.Is(err, want.err) || last.Usage != nil || (want.text != "" && text != want.text) {
				t.Errorf("answer %q, last %+v, %v; want %q and %v", text, last, err, want.text, want.err)
			}
		})
	}
}

// TestClientReportsErrorFaults: each error as it was met at Cloudflare, and whether it is asked again.
func TestClientReportsErrorFaults(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string]struct {
		err   error
		tries int
		after time.Duration
	}{
		"429": {workersai.ErrRateLimited, 2, time.Second}, "3040": {workersai.ErrRateLimited, 2, 0}, "3040=3s": {workersai.ErrRateLimited, 2, 3 * time.Second},
		"3036": {workersai.ErrQuotaExhausted, 1, 0}, "4006": {workersai.ErrQuotaExhausted, 1, 0},
		"5028": {workersai.ErrModelDeprecated, 1, 0}, "5007": {workersai.ErrModelNotFound, 1, 0}, "5006": {workersai.ErrInvalidInput, 1, 0},
		"5021": {workersai.ErrContextExceeded, 1, 0}, "nested": {workersai.ErrContextExceeded, 1, 0},
		"7000": {workersai.ErrModelNotFound, 1, 0}, "7003": {workersai.ErrModelNotFound, 1, 0},
		"9106": {workersai.ErrUnauthorized, 1, 0}, "10000": {workersai.ErrUnauthorized, 1, 0},
		"3007": {nil, 2, 0}, "3043": {nil, 2, 0}, "openai_error": {nil, 2, 0}, "html": {nil, 2, 0},
		"reset": {workersai.ErrUnreachable, 2, 0}, "html_200": {workersai.ErrBadReply, 1, 0},
	} {
		t.Run(spec, func(t *testing.T) {
			t.Parallel()
			tries := 0
			c := faultyClient(t, spec, func(c *workersai.Config) {
				c.MaxRetries = 1
				c.OnAttempt = func(workersai.Attempt) { tries++ }
			})
			_, err := c.Embed(t.Context(), workersai.EmbedRequest{Model: embedModel, Texts: []string{"a"}})
			var e *workersai.Error
			if want.err != nil && !errors.Is(err, want.err) || want.err == nil && !errors.As(err, &e) {
				t.Fatalf("error %v, want %v", err, want.err)
			}
			if tries != want.tries {
				t.Errorf("%d tries, want %d", tries, want.tries)
			}
			if errors.As(err, &e) && e.RetryAfter != want.after {
				t.Errorf("Retry-After %v, want %v", e.RetryAfter, want.after)
			}
		})
	}
}

func TestClientRefusesSpoiledVectors(t *testing.T) {
	t.Parallel()
	for _, spec := range []string{"missing_row", "wrong_dimension", "nan"} {
		for _, n := range []int{2, 100} {
			texts := make([]string, n)
			for i := range texts {
				texts[i] = fmt.Sprintf("text %d", i)
			}
			got, err := faultyClient(t, spec).Embed(t.Context(), workersai.EmbedRequest{Model: embedModel, Texts: texts})
			if !errors.Is(err, workersai.ErrBadReply) {
				t.Errorf("%s of %d texts: %v, %v, want a bad reply", spec, n, got, err)
			}
		}
	}
}

func TestEndMarkersAreNoCalls(t *testing.T) {
	t.Parallel()
	c := faultyClient(t, "end_marker_tool_call")
	r := ask("How warm is it in Tromsø?", 40)
	r.Tools = []workersai.ToolSpec{{Name: "getWeather", Description: "The weather.", Parameters: json.RawMessage(`{"type":"object"}`)}}
	_, last, err := streamOf(t, c, r)
	if err != nil || len(last.ToolCalls) != 1 || last.ToolCalls[0].Name != "getWeather" || last.ToolCalls[0].Arguments != `{"location":"Tromsø"}` {
		t.Errorf("calls %+v, %v, want one of getWeather for Tromsø", last.ToolCalls, err)
	}
}

// TestOpenAIStreamFaults: the faults that fit OpenAI's dialect, read as its clients do.
func TestOpenAIStreamFaults(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string]struct {
		dones int
		err   bool
		part  string
	}{
		"double_done": {dones: 2, part: said}, "stream_end": {dones: 0, part: said}, "errors_frame": {dones: 0, part: "It"},
		"stream_cut=100b": {err: true}, "end_marker_tool_call": {dones: 1, part: said},
	} {
		faults, err := modelhost.ParseFaults("header")
		if err != nil {
			t.Fatal(err)
		}
		u := newUpstream(t)
		u.chat = talker
		srv := newHost(t, u.URL, func(c *modelhost.Config) { c.Faults = faults })
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+root+"v1/chat/completions",
			strings.NewReader(`{"model":"`+chatModel+`","stream":true,"messages":[{"role":"user","content":"hi"}]}`))
		req.Header.Set("Authorization", "Bearer x")
		req.Header.Set(modelhost.HeaderFault, spec)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		var text strings.Builder
		for event := range bytes.SplitSeq(data, []byte("\n\n")) {
			var c struct {
				Choices []struct{ Delta struct{ Content string } }
			}
			if json.Unmarshal(bytes.TrimPrefix(event, []byte("data: ")), &c) == nil && len(c.Choices) > 0 {
				text.WriteString(c.Choices[0].Delta.Content)
			}
		}
		if (err != nil) != want.err || !want.err && (bytes.Count(data, []byte("[DONE]")) != want.dones || text.String() != want.part) {
			t.Errorf("%s: %v, %s", spec, err, data)
		}
	}
}

func TestFaultHeaderNeedsLeave(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string]int{"": 200, "seed=3": 200, "header": 410} {
		faults, err := modelhost.ParseFaults(spec)
		if err != nil {
			t.Fatal(err)
		}
		srv := newHost(t, newUpstream(t).URL, func(c *modelhost.Config) { c.Faults = faults })
		for header, status := range map[string]int{"5028": want, "": 200, "nonsense": map[bool]int{true: 400, false: 200}[want == 410]} {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+root+"run/"+embedModel, strings.NewReader(`{"text":"a"}`))
			req.Header.Set("Authorization", "Bearer x")
			req.Header.Set(modelhost.HeaderFault, header)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != status {
				t.Errorf("faults %q, header %q: %d, want %d", spec, header, resp.StatusCode, status)
			}
		}
	}
}

// TestFaultsRepeatWithTheirSeed: about the share asked for, and the same requests each time.
func TestFaultsRepeatWithTheirSeed(t *testing.T) {
	t.Parallel()
	const n = 200
	run := func(seed int) (out []bool) {
		c := faultyClient(t, fmt.Sprintf("5007=0.3,seed=%d", seed))
		for range n {
			_, err := c.Embed(t.Context(), workersai.EmbedRequest{Model: embedModel, Texts: []string{"a"}})
			out = append(out, err != nil)
		}
		return out
	}
	a, b, other := run(7), run(7), run(8)
	failed := 0
	for _, f := range a {
		if f {
			failed++
		}
	}
	if fmt.Sprint(a) != fmt.Sprint(b) || fmt.Sprint(a) == fmt.Sprint(other) {
		t.Error("a seed does not decide which requests fail")
	}
	if math.Abs(float64(failed)-0.3*n) > 25 { // four standard deviations
		t.Errorf("%d of %d failed, want about a third", failed, n)
	}
}

func TestParseFaultsRefuses(t *testing.T) {
	t.Parallel()
	for _, spec := range []string{"nothing", "429=2", "429=0", "stream_cut=-1b", "double_done=5s", "html@1.5", "seed=x", "slow_first_byte=-1s", "429@NaN", "@", "="} {
		if _, err := modelhost.ParseFaults(spec); err == nil {
			t.Errorf("ParseFaults(%q): no error", spec)
		}
	}
	for _, spec := range []string{"", " , ", "429=0.5, header", "stream_cut=1b@0.5", "slow_first_byte=0.2", "slow_first_byte", "3040=1s@1"} {
		if _, err := modelhost.ParseFaults(spec); err != nil {
			t.Errorf("ParseFaults(%q): %v", spec, err)
		}
	}
}

func FuzzParseFaults(f *testing.F) {
	for _, name := range modelhost.FaultNames() {
		f.Add(name + "=0.1,seed=1")
	}
	f.Add("slow_first_byte=5s@0.1,header,stream_cut=12b")
	f.Fuzz(func(t *testing.T, spec string) {
		if _, err := modelhost.ParseFaults(spec); err == nil && strings.Contains(spec, "nonsense") {
			t.Errorf("ParseFaults(%q): no error", spec)
		}
	})
}
