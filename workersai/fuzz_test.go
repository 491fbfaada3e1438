package workersai

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

// FuzzSSE reads a stream as one piece and byte by byte, and its answer must not depend on that.
func FuzzSSE(f *testing.F) {
	for _, seed := range []string{
		"data: {\"response\":\"Hello\",\"p\":\"ab\"}\n\ndata: {\"response\":12}\r\n\r\ndata: [DONE]\n\n",
		": ping\n\nevent: x\ndata: {\"response\":\ndata: \"a\"}\n\ndata: [DONE]\n\n",
		"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"response\":\"a\"}\n\ndata: {\"usage\":{\"completion_tokens\":8}}\n\ndata: [DONE]\n\ndata: [DONE]\n\n",
		"data: {\"tool_calls\":[{\"index\":0,\"id\":\"x\",\"function\":{\"name\":\"f\",\"arguments\":\"{\"}}]}\n\ndata: {\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"}\"}}]}\n\ndata: [DONE]\n\n",
		"data: {\"errors\":[{\"code\":3040,\"message\":\"x\"}]}\n\n",
		"data: {\"response\":\"Gr\u00fc\xc3", "data: [DONE]", "\n\n\n", "data\n\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		text, whole, err := readStream(t, data, false)
		text2, whole2, err2 := readStream(t, data, true)
		if text != text2 || whole != whole2 || (err == nil) != (err2 == nil) {
			t.Errorf("at once: %q, %v, %v; by bytes: %q, %v, %v", text, whole, err, text2, whole2, err2)
		}
		if whole != (err == nil) {
			t.Errorf("complete = %v with error %v", whole, err)
		}
		if err == nil && !bytes.Contains(data, []byte("[DONE]")) {
			t.Errorf("%q ended well without its end mark", data)
		}
	})
}

func readStream(t *testing.T, data []byte, byBytes bool) (text string, whole bool, err error) {
	t.Helper()
	s := &chatStream{client: &Client{}, model: "m", yield: func(e ChatEvent, err error) bool {
		text += e.Text
		whole = whole || e.Usage != nil
		return true
	}}
	resp := &http.Response{Header: http.Header{"Content-Type": {"text/event-stream"}}}
	if byBytes {
		resp.Body = body{iotest.OneByteReader(bytes.NewReader(data))}
	} else {
		resp.Body = body{bytes.NewReader(data)}
	}
	return text, whole, s.read(t.Context(), resp)
}

type body struct{ io.Reader }

func (body) Close() error { return nil }

// FuzzEnvelope holds the fast reader of vectors against encoding/json, and reads any bytes as an error.
func FuzzEnvelope(f *testing.F) {
	for _, seed := range []string{
		`{"result":{"shape":[2,2],"data":[[0.1,-2e-3],[1,0]],"pooling":"cls","usage":{"prompt_tokens":3.0}},"success":true,"errors":[],"messages":[]}`,
		`{"success":true,"errors":null,"result":{"data":[ [ 1 , 2 ] ,[3,4]]}}`,
		`{"errors":[{"message":"AiError: Ai: The input (9) is long. (c0a7213e-0d5c-4f5c-9c31-1c0f2a7b9d11)","code":5021}],"success":false,"result":{},"messages":[]}`,
		`{"error":{"code":"invalid_prompt","message":"AiError: AiError: Request timeout (a613c7db-0d5c-4f5c-9c31-1c0f2a7b9d11)"}}`,
		`{"errors":[{"message":"AiError: AiError: {\"error\":{\"message\":\"m\",\"param\":\"input_tokens\",\"code\":400}}","code":"8001"}]}`,
		`{"errors":["text"]}`, `{"errors":{}}`, `<html><p>502`, `{"result":{"data":[[NaN]]},"success":true}`, `{"result":{"data":[[1,]]},"success":true}`,
		`{"result":{"data":"\"result\":{\"data\":[[1]]}"},"success":true}`,
	} {
		f.Add([]byte(seed), 400)
	}
	f.Fuzz(func(t *testing.T, data []byte, status int) {
		c := &Client{cfg: Config{Token: "secret"}}
		if e := c.parseError(status, data); !utf8.ValidString(e.Error()) || len(e.Message) > maxMessage || strings.ContainsAny(e.Message, "\n\x00") {
			t.Errorf("message %q", e.Message)
		}
		got, _, err := c.readVectors(data, "m")
		var want Envelope[struct {
			Data [][]float64 `json:"data"`
		}]
		if err != nil {
			if !errors.Is(err, ErrBadReply) && !errors.As(err, new(*Error)) {
				t.Errorf("error %T %v", err, err)
			}
			return
		}
		if jerr := json.Unmarshal(data, &want); jerr != nil {
			t.Fatalf("read %q, which encoding/json refuses: %v", data, jerr)
		}
		for i, row := range want.Result.Data {
			small := make([]float32, len(row))
			for j, x := range row {
				small[j] = float32(x)
			}
			near := func(a, b float32) bool { return a == b || math.Abs(float64(a-b)) <= 1e-6*math.Abs(float64(a)) }
			if !slices.EqualFunc(got.rows[i], small, near) {
				t.Errorf("row %d = %v, want %v", i, got.rows[i], small)
			}
		}
	})
}

// BenchmarkSSE reads a stream of 1,000 events a round; events/s is what one core relays.
func BenchmarkSSE(b *testing.B) {
	stream := append(bytes.Repeat([]byte("data: {\"response\":\" word\",\"p\":\"abcdefgh\"}\n\n"), 1000), "data: [DONE]\n\n"...)
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		s := &chatStream{client: &Client{}, model: "m", yield: func(ChatEvent, error) bool { n++; return true }}
		resp := &http.Response{Header: http.Header{}, Body: body{bytes.NewReader(stream)}}
		if err := s.read(b.Context(), resp); err != nil || n != 1001 {
			b.Fatal(n, err)
		}
	}
	b.ReportMetric(float64(1000*b.N)/b.Elapsed().Seconds(), "events/s")
}
