package modelhost

import (
	"bytes"
	"context"
	"encoding/json"
	"image/jpeg"
	"image/png"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/footnote-rag/footnote/workersai"
)

// injectFaults puts faults between clients and next. Only requests that run a model meet them.
func (h *Host) injectFaults(next http.Handler) http.Handler {
	if !h.cfg.Faults.active() {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rules, err := h.cfg.Faults.draw(r.Header.Get(HeaderFault))
		switch {
		case !runsModel(r):
			next.ServeHTTP(w, r)
		case err != nil:
			writeFailure(w, invalid("Bad header "+HeaderFault, HeaderFault+": "+err.Error()), "")
		default:
			h.playFaults(w, r, rules, next)
		}
	})
}

func runsModel(r *http.Request) bool {
	return r.Method == http.MethodPost && (strings.Contains(r.URL.Path, "/ai/") || strings.HasPrefix(r.URL.Path, "/binding"))
}

func (h *Host) playFaults(w http.ResponseWriter, r *http.Request, rules []faultRule, next http.Handler) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	f := &faultWriter{ResponseWriter: w, cancel: cancel, openAI: strings.Contains(r.URL.Path, "/ai/v1/"), cutAt: -1}
	for _, rule := range rules {
		h.metrics.faults.WithLabelValues(rule.name).Inc()
		if rule.name == faultSlow && wait(ctx, rule.after) != nil {
			return
		}
	}
	for _, rule := range rules {
		if rule.name == faultReset {
			resetConnection(w)
			return
		}
		for _, a := range faultAnswers {
			if a.name == rule.name {
				a.write(w, rule.after)
				return
			}
		}
		f.prepare(rule, h.cfg.Faults.random)
	}
	next.ServeHTTP(f, r.WithContext(ctx))
	f.finish()
}

func (a faultAnswer) write(w http.ResponseWriter, after time.Duration) {
	if a.retryAfter || after > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(after.Seconds())))))
	}
	w.Header().Set("Content-Type", a.contentType)
	w.WriteHeader(a.status)
	_, _ = w.Write([]byte(a.body)) // an error means that the client left
}

// resetConnection drops the connection with RST where it is TCP.
func resetConnection(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // net/http's own way to drop a connection
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // else it is closed properly, which is a fault too
	}
	_ = conn.Close()
}

// faultWriter changes the answer that goes through it: a stream event by event, anything else when it is whole.
type faultWriter struct {
	http.ResponseWriter
	cancel context.CancelFunc // of the request: the rest of the answer is not wanted
	openAI bool
	faults map[string]bool
	cutAt  int // bytes of a stream's body; -1 never

	status  int
	mode    faultMode
	whole   bytes.Buffer
	sent    int // bytes of the stream
	over    bool
	dropped bool // the connection is to be dropped
}

type faultMode int

const (
	passing faultMode = iota
	streaming
	holding // until the answer is whole
)

// maxCut bounds where a stream is cut that is cut anywhere: short answers are a few hundred bytes.
const maxCut = 400

func (f *faultWriter) prepare(r faultRule, random *lockedRandom) {
	if f.faults == nil {
		f.faults = map[string]bool{}
	}
	f.faults[r.name] = true
	if r.name == faultCut {
		if f.cutAt = r.bytes; f.cutAt < 0 {
			f.cutAt = int(random.float() * maxCut)
		}
	}
}

// WriteHeader implements http.ResponseWriter.
func (f *faultWriter) WriteHeader(status int) {
	if f.status != 0 {
		return
	}
	f.status = status
	kind := f.Header().Get("Content-Type")
	stream := strings.HasPrefix(kind, "text/event-stream")
	switch {
	case status != http.StatusOK:
	case stream && (f.faults[faultWhole] || f.faults[faultEmpty]),
		!stream && (f.faults[faultMissingRow] || f.faults[faultDimension] || f.faults[faultNaN] || f.faults[faultJPEG]):
		f.mode = holding
		return
	case stream:
		f.mode = streaming
	}
	f.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter. Streams come in whole events.
func (f *faultWriter) Write(p []byte) (int, error) {
	if f.status == 0 {
		f.WriteHeader(http.StatusOK)
	}
	switch {
	case f.over:
		return len(p), nil
	case f.mode == holding:
		return f.whole.Write(p)
	case f.mode == passing:
		return f.ResponseWriter.Write(p)
	}
	for _, event := range bytes.SplitAfter(p, []byte("\n\n")) {
		if len(event) > 0 && !f.over {
			if err := f.send(f.rewriteEvent(event)); err != nil {
				return 0, err
			}
		}
	}
	return len(p), nil
}

// FlushError implements what http.ResponseController asks for.
func (f *faultWriter) FlushError() error {
	if f.mode == holding {
		return nil
	}
	return http.NewResponseController(f.ResponseWriter).Flush()
}

// send passes events on, up to where the stream is cut. A cut stream never gets its end mark out.
func (f *faultWriter) send(events []byte) error {
	at := len(events)
	if f.cutAt >= 0 {
		at = f.cutAt - f.sent
		if done := bytes.Index(events, []byte("[DONE]")); done >= 0 {
			at = min(at, done)
		}
		at = max(0, at)
	}
	if at < len(events) {
		events, f.dropped = events[:at], true
		f.stop()
	}
	f.sent += len(events)
	_, err := f.ResponseWriter.Write(events)
	return err
}

// stop ends the answer here.
func (f *faultWriter) stop() {
	f.over = true
	f.cancel()
}

// finish sends what was held, or drops the connection.
func (f *faultWriter) finish() {
	if f.dropped {
		_ = http.NewResponseController(f.ResponseWriter).Flush() // what came before the cut arrives
		panic(http.ErrAbortHandler)                              // net/http's own way to drop a connection without its end mark
	}
	if f.mode != holding {
		return
	}
	body := f.whole.Bytes()
	switch {
	case f.faults[faultWhole], f.faults[faultEmpty]:
		f.Header().Set("Content-Type", "application/json")
		body = wholeAnswer(body, f.faults[faultEmpty], f.openAI)
	case f.faults[faultJPEG]:
		body = asJPEG(body)
	default:
		body = spoilRows(body, f.faults)
	}
	f.Header().Set("Content-Length", strconv.Itoa(len(body)))
	f.ResponseWriter.WriteHeader(f.status)
	_, _ = f.ResponseWriter.Write(body) // an error means that the client left
}

// rewriteEvent is one event of a stream as the faults have it.
func (f *faultWriter) rewriteEvent(event []byte) []byte {
	data, ok := bytes.CutPrefix(bytes.TrimSpace(event), []byte("data: "))
	if !ok {
		return event
	}
	if string(data) == "[DONE]" {
		switch {
		case f.faults[faultCutClean]:
			f.over = true
			return nil
		case f.faults[faultDoubleDone]:
			return append(bytes.Clone(event), event...)
		}
		return event
	}
	if f.openAI {
		return f.rewriteChunk(event, data)
	}
	return f.rewriteFrame(event, data)
}

// rewriteChunk is for OpenAI's dialect, which has fewer faults.
func (f *faultWriter) rewriteChunk(event, data []byte) []byte {
	if f.faults[faultErrors] && bytes.Contains(data, []byte(`"content":"`)) {
		f.stop()
		return append(bytes.Clone(event), `data: {"error":{"code":3040,"message":"no capacity, on purpose"}}`+"\n\n"...)
	}
	if f.faults[faultEndMarker] && bytes.Contains(data, []byte(`"finish_reason":"`)) {
		return append([]byte(`data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":null,"function":{"name":null,"arguments":""}}]},"finish_reason":null}]}`+"\n\n"), event...)
	}
	return event
}

// faultyFrame is what the run endpoint's frames hold.
type faultyFrame struct {
	Response  string               `json:"response"`
	ToolCalls []workersai.ToolCall `json:"tool_calls"`
	Usage     json.RawMessage      `json:"usage"`
	Errors    json.RawMessage      `json:"errors"`
}

func (f *faultWriter) rewriteFrame(event, data []byte) []byte {
	var frame faultyFrame
	if json.Unmarshal(data, &frame) != nil || frame.Errors != nil {
		return event
	}
	switch {
	case frame.Usage != nil:
		return append(f.beforeUsage(), event...)
	case len(frame.ToolCalls) > 0 && f.faults[faultEndMarker]:
		return callPieces(frame.ToolCalls)
	case frame.Response == "":
		return event
	case f.faults[faultErrors]:
		f.stop()
		return append(bytes.Clone(event), `data: {"errors":[{"code":3040,"message":"AiError: Ai: no capacity, on purpose"}]}`+"\n\n"...)
	case f.faults[faultHybrid]:
		return appendEvent(nil, map[string]any{"choices": []any{map[string]any{"delta": map[string]any{"content": frame.Response}}}, "response": frame.Response, "tool_calls": []any{}})
	case f.faults[faultNumbers] && isNumber(frame.Response):
		return []byte(`data: {"response":` + frame.Response + "}\n\n")
	}
	return event
}

// isNumber: the text is the same as a JSON number.
func isNumber(text string) bool {
	return json.Valid([]byte(text)) && strings.Trim(text, "0123456789.") == ""
}

func (f *faultWriter) beforeUsage() (buf []byte) {
	if f.faults[faultHybrid] {
		for range 2 {
			buf = append(buf, `data: {"choices":[{"delta":{},"finish_reason":"stop","index":0}],"tool_calls":[]}`+"\n\n"...)
		}
	}
	if f.faults[faultEndMarker] {
		buf = append(buf, `data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":null,"function":{"name":null,"arguments":""}}]}}]}`+"\n\n"...)
	}
	return buf
}

// callPieces streams calls as newer models do: id and name first, then the arguments in two pieces.
func callPieces(calls []workersai.ToolCall) (buf []byte) {
	piece := func(i int, call map[string]any) {
		call["index"] = i
		buf = appendEvent(buf, map[string]any{"choices": []any{map[string]any{"index": 0, "delta": map[string]any{"tool_calls": []any{call}}}}})
	}
	for i, c := range calls {
		half := len(c.Arguments) / 2
		for half > 0 && !utf8.RuneStart(c.Arguments[half]) {
			half--
		}
		piece(i, map[string]any{"id": c.ID, "type": "function", "function": map[string]any{"name": c.Name, "arguments": ""}})
		for _, part := range []string{c.Arguments[:half], c.Arguments[half:]} {
			piece(i, map[string]any{"function": map[string]any{"arguments": part}})
		}
	}
	return buf
}

// wholeAnswer joins a stream to the answer that would have come without streaming.
func wholeAnswer(stream []byte, empty, openAI bool) []byte {
	if empty {
		return appendJSON(nil, workersai.Success(struct{}{}))
	}
	var text strings.Builder
	out := map[string]any{}
	for event := range bytes.SplitSeq(stream, []byte("\n\n")) {
		data, _ := bytes.CutPrefix(bytes.TrimSpace(event), []byte("data: "))
		var frame faultyFrame
		var piece chunk
		if json.Unmarshal(data, &frame) != nil || json.Unmarshal(data, &piece) != nil {
			continue
		}
		if frame.Errors != nil {
			return append(append([]byte(`{"result":{},"success":false,"messages":[],"errors":`), frame.Errors...), '}')
		}
		text.WriteString(frame.Response)
		if len(piece.Choices) > 0 {
			text.WriteString(piece.Choices[0].Delta.Content)
		}
		if len(frame.ToolCalls) > 0 {
			out["tool_calls"] = runCalls(frame.ToolCalls)
		}
		if frame.Usage != nil {
			out["usage"] = frame.Usage
		}
	}
	if openAI {
		out["choices"] = []any{map[string]any{"index": 0, "message": map[string]any{"role": "assistant", "content": text.String()}, "finish_reason": "stop"}}
		return appendJSON(nil, out)
	}
	out["response"] = text.String()
	return appendJSON(nil, workersai.Success(out))
}

// asJPEG encodes a PNG anew; anything else stays.
func asJPEG(body []byte) []byte {
	img, err := png.Decode(bytes.NewReader(body))
	if err != nil {
		return body
	}
	var out bytes.Buffer
	if jpeg.Encode(&out, img, nil) != nil {
		return body
	}
	return out.Bytes()
}

// spoilRows changes the last row of an embedding's data; any other answer stays.
func spoilRows(body []byte, faults map[string]bool) []byte {
	start := bytes.Index(body, []byte(`"data":[[`))
	end := bytes.LastIndex(body, []byte("]]"))
	if start < 0 || end < start {
		return body
	}
	row := start + len(`"data":[`) + bytes.LastIndexByte(body[start+len(`"data":[`):end], '[') // the last row's bracket
	if !bytes.Contains(body[row:end], []byte(",")) {
		return body // vectors of one number have nothing to spoil
	}
	out := bytes.Clone(body[:row])
	switch {
	case faults[faultMissingRow]:
		out = bytes.TrimSuffix(out, []byte(","))
	case faults[faultNaN]:
		_, rest, _ := bytes.Cut(body[row:end], []byte(","))
		out = append(append(out, "[NaN,"...), append(bytes.Clone(rest), ']')...)
	default: // wrong dimension
		out = append(out, body[row:row+bytes.LastIndexByte(body[row:end], ',')]...)
		out = append(out, ']')
	}
	return append(out, body[end+1:]...)
}
