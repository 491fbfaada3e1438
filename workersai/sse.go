package workersai

import (
	"bufio"
	"bytes"
	"io"
)

// sse reads server-sent events: comments, CRLF, several data lines an event, lines of any length up to the body's limit.
type sse struct{ r *bufio.Reader }

func newSSE(r io.Reader) *sse { return &sse{bufio.NewReader(r)} }

// next returns the data of the next event. The end of the body is io.ErrUnexpectedEOF; an event without its empty line
// is not one.
func (s *sse) next() ([]byte, error) {
	var data []byte
	found := false
	for {
		line, err := s.r.ReadBytes('\n')
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 && found {
			return data, nil
		}
		value, ok := bytes.CutPrefix(line, []byte("data:"))
		if !ok {
			continue
		}
		if found {
			data = append(data, '\n')
		}
		found = true
		data = append(data, bytes.TrimPrefix(value, []byte(" "))...)
	}
}
