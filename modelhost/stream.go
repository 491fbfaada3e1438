package modelhost

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/footnote-rag/footnote/workersai"
)

// frames writes the events of one dialect: the run endpoint's or OpenAI's.
type frames interface {
	text(buf []byte, piece string) []byte
	end(buf []byte, g *completion) []byte // calls, usage, [DONE]
	failure(buf []byte, f *failure, id string) []byte
}

// nativeFrames is the run endpoint's dialect.
type nativeFrames struct{}

func (nativeFrames) text(buf []byte, piece string) []byte {
	buf = append(buf, `data: {"response":`...)
	buf = appendJSON(buf, piece)
	return append(buf, "}\n\n"...)
}

func (nativeFrames) end(buf []byte, g *completion) []byte {
	if len(g.calls) > 0 {
		calls := runCalls(g.calls)
		for i := range calls {
			calls[i].Index = &i
		}
		buf = appendEvent(buf, map[string]any{"response": "", "tool_calls": calls})
	}
	buf = appendEvent(buf, map[string]any{"response": "", "usage": g.usage})
	return append(buf, "data: [DONE]\n\n"...)
}

func (nativeFrames) failure(buf []byte, f *failure, id string) []byte {
	env := f.envelope(id)
	return appendEvent(buf, map[string]any{"errors": env.Errors, "messages": env.Messages, "success": false})
}

func appendEvent(buf []byte, v any) []byte {
	buf = append(buf, "data: "...)
	buf = appendJSON(buf, v)
	return append(buf, "\n\n"...)
}

// sse writes events, and comments when nothing else was written for an interval. The header goes out with the first
// byte: a failure before it is still an ordinary answer.
type sse struct {
	w        http.ResponseWriter
	interval time.Duration
	fail     func() // called when the client cannot be written to

	mu     sync.Mutex
	begun  bool
	closed bool
	timer  *time.Timer
}

func newSSE(w http.ResponseWriter, interval time.Duration, fail func()) *sse {
	s := &sse{w: w, interval: interval, fail: fail}
	s.mu.Lock() // the timer's function waits until the field is set
	defer s.mu.Unlock()
	s.timer = time.AfterFunc(interval, s.ping)
	return s
}

func (s *sse) ping() { s.write([]byte(": ping\n\n")) }

// write sends whole events and flushes.
func (s *sse) write(events []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if !s.begun {
		s.begun = true
		s.w.Header().Set("Content-Type", "text/event-stream")
		s.w.Header().Set("Cache-Control", "no-cache")
		s.w.Header().Set("X-Accel-Buffering", "no") // proxies pass each event on
		s.w.WriteHeader(http.StatusOK)
	}
	_, err := s.w.Write(events)
	if err == nil {
		err = http.NewResponseController(s.w).Flush()
	}
	if err != nil {
		s.fail()
	}
	s.timer.Reset(s.interval)
}

// close ends the heartbeats and says whether anything was sent. After it nothing writes.
func (s *sse) close() (begun bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.timer.Stop()
	return s.begun
}

// stream relays a generation event by event. Its error is one from before the first byte.
func (h *Host) stream(c *call, b *backend, q textRequest, dialect frames) error {
	ctx := c.r.Context()
	out := newSSE(c.w, h.cfg.Heartbeat, func() {})
	r, err := b.open(ctx, q)
	if err == nil {
		defer r.Close()
		err = relay(r.Body, b, q, out, dialect)
	}
	if err == nil {
		out.close()
		return nil
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	f := asFailure(err)
	c.failed = f
	out.mu.Lock()
	begun := out.begun
	out.mu.Unlock()
	if begun && f.status != statusClientGone {
		h.logFailure(c, f)
		out.write(dialect.failure(nil, f, c.id))
	}
	out.close()
	if begun {
		return nil
	}
	return err
}

// chunk is one event of an OpenAI-compatible engine.
type chunk struct {
	Choices []struct {
		Text         string `json:"text"`
		FinishReason string `json:"finish_reason"`
		Delta        struct {
			Content   string          `json:"content"`
			ToolCalls []toolCallPiece `json:"tool_calls"`
		} `json:"delta"`
	} `json:"choices"`
	Usage *workersai.Usage `json:"usage"`
	Error json.RawMessage  `json:"error"`
}

type toolCallPiece struct {
	Index    int    `json:"index"`
	ID       string `json:"id"`
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

// relay reads the engine's events until [DONE]. Without it the stream was cut.
func relay(body io.Reader, b *backend, q textRequest, out *sse, dialect frames) error {
	g := &completion{}
	var buf []byte
	var held strings.Builder // with the tool grammar the text is known only at its end
	lines := bufio.NewReaderSize(body, 16<<10)
	for {
		data, err := nextData(lines)
		if err != nil {
			return engineFailed("the engine of "+b.Name+" broke off its answer", err)
		}
		if string(data) == "[DONE]" {
			break
		}
		piece, err := g.add(data, b)
		if err != nil {
			return err
		}
		if q.calls {
			held.WriteString(piece)
		} else if piece != "" {
			buf = dialect.text(buf[:0], piece)
			out.write(buf)
		}
	}
	buf = buf[:0]
	if q.calls {
		var text string
		if text, g.calls = readGrammarAnswer(held.String()); text != "" {
			buf = dialect.text(buf, text)
		}
	}
	g.finishCalls()
	b.metrics.used(b.Name, g.usage)
	out.write(dialect.end(buf, g))
	return nil
}

// maxEngineLine bounds one event of an engine, in bytes: a whole tool call is far below.
const maxEngineLine = 4 << 20

// nextData is the data of the next event; comments and empty lines are passed over.
func nextData(lines *bufio.Reader) ([]byte, error) {
	for {
		line, err := lines.ReadSlice('\n')
		for full := append([]byte(nil), line...); errors.Is(err, bufio.ErrBufferFull); {
			line, err = lines.ReadSlice('\n')
			full = append(full, line...)
			if len(full) > maxEngineLine {
				return nil, errors.New("an event is over 4 MiB")
			}
			if !errors.Is(err, bufio.ErrBufferFull) {
				line = full
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		if data, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			return bytes.TrimSpace(data), nil
		}
		if data, ok := bytes.CutPrefix(line, []byte("error:")); ok { // older llama.cpp servers
			return append(append([]byte(`{"error":`), bytes.TrimSpace(data)...), '}'), nil
		}
	}
}

// add takes one event in and returns its text.
func (g *completion) add(data []byte, b *backend) (string, error) {
	var c chunk
	if err := json.Unmarshal(data, &c); err != nil {
		return "", engineFailed("the engine of "+b.Name+" sent an event we cannot read", err)
	}
	if len(c.Error) > 0 && string(c.Error) != "null" {
		e := parseEngineError(data)
		if f := b.refusal(e); f != nil {
			return "", f
		}
		return "", engineFailed("the engine of "+b.Name+" failed: "+e.Message, nil)
	}
	if c.Usage != nil {
		g.usage = *c.Usage
	}
	if len(c.Choices) == 0 {
		return "", nil
	}
	first := c.Choices[0]
	if first.FinishReason != "" {
		g.finishReason = first.FinishReason
	}
	for _, p := range first.Delta.ToolCalls {
		g.addCall(p)
	}
	return first.Delta.Content + first.Text, nil
}

// addCall joins the pieces of a call by their index.
func (g *completion) addCall(p toolCallPiece) {
	const maxCalls = 128 // an index comes from outside: a wild one must not grow the list
	if p.Index < 0 || p.Index >= maxCalls {
		return
	}
	for len(g.calls) <= p.Index {
		g.calls = append(g.calls, workersai.ToolCall{})
	}
	call := &g.calls[p.Index]
	if p.ID != "" {
		call.ID = p.ID
	}
	call.Name += p.Function.Name
	call.Arguments += p.Function.Arguments
}

// finishCalls gives every call an id.
func (g *completion) finishCalls() {
	for i := range g.calls {
		if g.calls[i].ID == "" {
			g.calls[i].ID = newCallID()
		}
	}
}
