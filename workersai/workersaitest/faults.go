package workersaitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"

	"github.com/footnote-rag/footnote/workersai"
)

// Fail answers with a code of the API reference or of today's API as this project's servers do.
func Fail(code int, message string) Step {
	r := refuse(code, message)
	return Step{Status: r.status, ContentType: r.contentType, Body: string(r.body), RetryAfter: r.retryAfter}
}

// Native answers as a model of Cloudflare's fails: prefix, request id at the end, result {}.
func Native(status, code int, message string) Step {
	m := "AiError: Ai: " + message + " (c0a7213e-0d5c-4f5c-9c31-1c0f2a7b9d11)"
	return JSON(status, fmt.Sprintf(`{"errors":[{"message":%s,"code":%d}],"success":false,"result":{},"messages":[]}`, jsonString(m), code))
}

// Edge answers as Cloudflare's edge fails, before Workers AI: result null.
func Edge(status, code int, message string) Step {
	return JSON(status, fmt.Sprintf(`{"result":null,"success":false,"errors":[{"code":%d,"message":%s}],"messages":[]}`, code, jsonString(message)))
}

// OpenAI answers an error of OpenAI's shape.
func OpenAI(status int, code, message string) Step {
	return JSON(status, fmt.Sprintf(`{"error":{"code":%s,"message":%s}}`, jsonString(code), jsonString(message)))
}

// JSON answers a body as it is.
func JSON(status int, body string) Step {
	return Step{Status: status, ContentType: "application/json", Body: body}
}

// HTML answers a page, as a proxy does.
func HTML(status int, page string) Step {
	return Step{Status: status, ContentType: "text/html; charset=utf-8", Body: page}
}

// SSE answers a stream of these events.
func SSE(data ...string) Step {
	return Step{Status: http.StatusOK, ContentType: "text/event-stream", Body: string(Frames(data...))}
}

// Capacity is code 3040; Cloudflare's came without a Retry-After, which "" leaves out.
func Capacity(retryAfter string) Step {
	st := Native(http.StatusTooManyRequests, workersai.CodeNativeCapacity, "Capacity temporarily exceeded, please try again.")
	st.RetryAfter = retryAfter
	return st
}

// Quota is code 4006, the used-up daily allocation, which no retry mends.
func Quota() Step {
	return Native(http.StatusTooManyRequests, workersai.CodeNativeQuotaSeen, "you have used up your daily free allocation of 10,000 neurons")
}

// Deprecated is code 5028 for a model.
func Deprecated(model string) Step {
	st := Native(http.StatusGone, workersai.CodeNativeDeprecated, "This model was deprecated on 2026-05-30")
	st.Model = model
	return st
}

// NoRoute is code 7000: a model, account or path that is wrong.
func NoRoute() Step { return Edge(400, workersai.CodeEdgeNoRoute, "No route for that URI") }

// BadToken is code 9106, which arrives as 400.
func BadToken() Step { return Edge(400, workersai.CodeEdgeBadToken, "Authentication failed") }

// Context is code 5021.
func Context() Step {
	return Native(http.StatusRequestEntityTooLarge, workersai.CodeNativeContextExceeded,
		"The estimated number of input and maximum output tokens (263008) exceeded this model context window limit (262144).")
}

// NestedContext is a backend's context error inside the message of code 8001.
func NestedContext() Step {
	return Native(400, workersai.CodeNativeBackend, `{"error":{"message":"This model's maximum context length is 24000 tokens.","type":"BadRequestError","param":"input_tokens","code":400}}`)
}

// CutAt drops the connection after n bytes of the true answer's body.
func CutAt(n int) Step { return Step{Cut: true, CutAt: n} }

// ShortAt ends the answer properly after n bytes of its body.
func ShortAt(n int) Step { return Step{Cut: true, CutAt: n, Clean: true} }

// Reset resets the connection before anything is sent.
func Reset() Step { return Step{Reset: true} }

// Hold sends nothing until release is closed or the client leaves.
func Hold(release <-chan struct{}) Step { return Step{Hold: release} }

// Rows rewrites the rows of an embedding's data; an element is any text, JSON or not.
func Rows(f func(rows [][]json.RawMessage) [][]json.RawMessage) Step {
	return Step{Rewrite: func(body []byte) []byte { return rewriteRows(body, f) }}
}

func rewriteRows(body []byte, f func([][]json.RawMessage) [][]json.RawMessage) []byte {
	var env struct {
		Result struct {
			Data [][]json.RawMessage `json:"data"`
		} `json:"result"`
	}
	at := bytes.Index(body, []byte(`"data":`))
	if json.Unmarshal(body, &env) != nil || at < 0 {
		return body // an error: there are no rows
	}
	at += len(`"data":`)
	dec := json.NewDecoder(bytes.NewReader(body[at:]))
	var old json.RawMessage
	if dec.Decode(&old) != nil {
		return body
	}
	var rows [][]byte
	for _, row := range f(env.Result.Data) {
		var all [][]byte
		for _, e := range row {
			all = append(all, e)
		}
		rows = append(rows, slices.Concat([]byte("["), bytes.Join(all, []byte(",")), []byte("]")))
	}
	return slices.Concat(body[:at], []byte("["), bytes.Join(rows, []byte(",")), []byte("]"), body[at+len(old):])
}

// MissingRow leaves out row i.
func MissingRow(i int) Step {
	return Rows(func(r [][]json.RawMessage) [][]json.RawMessage { return slices.Delete(r, i, i+1) })
}

// ExtraRow repeats the last row.
func ExtraRow() Step {
	return Rows(func(r [][]json.RawMessage) [][]json.RawMessage { return append(r, r[len(r)-1]) })
}

// SwappedRows exchanges rows i and j: no client can see it, but vectors that are hashes of their text show it.
func SwappedRows(i, j int) Step {
	return Rows(func(r [][]json.RawMessage) [][]json.RawMessage { r[i], r[j] = r[j], r[i]; return r })
}

// ShortRow leaves out the last element of row i.
func ShortRow(i int) Step {
	return Rows(func(r [][]json.RawMessage) [][]json.RawMessage { r[i] = r[i][:len(r[i])-1]; return r })
}

// Element replaces element j of row i by any text: `null`, `"0.1"`, `NaN`, `1e39`.
func Element(i, j int, value string) Step {
	return Rows(func(r [][]json.RawMessage) [][]json.RawMessage { r[i][j] = json.RawMessage(value); return r })
}

// ZeroRow makes all elements of row i zero.
func ZeroRow(i int) Step {
	return Rows(func(r [][]json.RawMessage) [][]json.RawMessage {
		for j := range r[i] {
			r[i][j] = json.RawMessage("0")
		}
		return r
	})
}

// Cosine is the similarity of two vectors of equal length.
func Cosine(a, b []float32) float64 {
	var dot, aa, bb float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		dot, aa, bb = dot+x*y, aa+x*x, bb+y*y
	}
	return dot / math.Sqrt(aa*bb)
}

// DoubleDone ends the true stream twice.
func DoubleDone() Step {
	return Step{Rewrite: func(b []byte) []byte { return append(b, "data: [DONE]\n\n"...) }}
}

// NumberTokens is a stream whose tokens are JSON numbers. It says "12 3.5".
func NumberTokens() Step {
	return SSE(`{"response":12}`, `{"response":" "}`, `{"response":3.5}`, `{"response":"","usage":{"completion_tokens":3}}`, "[DONE]")
}

// HybridFrames is a stream that carries its text twice, and OpenAI's end marks. It says "Here is it".
func HybridFrames() Step {
	return SSE(`{"choices":[{"delta":{"content":"Here"}}],"response":"Here","tool_calls":[]}`,
		`{"choices":[{"delta":{"content":" is it"}}],"response":" is it","tool_calls":[]}`,
		`{"choices":[{"delta":{},"finish_reason":"stop","index":0}],"tool_calls":[]}`,
		`{"choices":[{"delta":{},"finish_reason":"stop","index":0}],"tool_calls":[]}`,
		`{"response":"","usage":{"completion_tokens":8}}`, "[DONE]")
}

// ErrorsFrame is a stream that says "Hel" and then fails.
func ErrorsFrame(code int, message string) Step {
	return SSE(`{"response":"Hel"}`, fmt.Sprintf(`{"errors":[{"code":%d,"message":%s}]}`, code, jsonString(message)))
}

// JSONForStream answers a streaming call with the whole answer at once.
func JSONForStream(text string) Step {
	return JSON(200, fmt.Sprintf(`{"result":{"response":%s},"success":true,"errors":[],"messages":[]}`, jsonString(text)))
}

// EmptyForStream answers a streaming call with an empty result.
func EmptyForStream() Step {
	return JSON(200, `{"result":{},"success":true,"errors":[],"messages":[]}`)
}
