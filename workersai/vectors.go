package workersai

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
)

// rowFault is a fault of one row.
type rowFault struct {
	row    int
	reason string
}

func (f rowFault) Error() string { return f.reason }

// findRows is the offset of result.data's value in an envelope, -1 if there is none.
func findRows(data []byte) int {
	depth, inResult := 0, false
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case '"':
			end := endOfString(data, i)
			key, after := data[i+1:end], skipBlanks(data, end+1)
			i = end
			if after >= len(data) || data[after] != ':' {
				continue
			}
			if depth == 1 {
				inResult = string(key) == "result"
			}
			if depth == 2 && inResult && string(key) == "data" {
				return after + 1
			}
		}
	}
	return -1
}

// endOfString is the offset of the quote that ends the string at i, or of the end of data.
func endOfString(data []byte, i int) int {
	for i++; i < len(data) && data[i] != '"'; i++ {
		if data[i] == '\\' {
			i++
		}
	}
	return min(i, len(data))
}

func skipBlanks(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\n' || data[i] == '\t' || data[i] == '\r') {
		i++
	}
	return i
}

// numberParser walks over a list of lists of numbers.
type numberParser struct {
	data []byte
	at   int
}

// take skips blanks and then c, if it is next.
func (p *numberParser) take(c byte) bool {
	p.at = skipBlanks(p.data, p.at)
	if p.at < len(p.data) && p.data[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *numberParser) rows() ([][]float32, error) {
	if !p.take('[') {
		return nil, rowFault{-1, "data is not a list of vectors"}
	}
	var rows [][]float32
	for more := !p.take(']'); more; {
		row, fault := p.row()
		if fault != "" {
			return nil, rowFault{len(rows), fmt.Sprintf("vector %d: %s", len(rows), fault)}
		}
		rows = append(rows, row)
		if more = p.take(','); !more && !p.take(']') {
			return nil, rowFault{-1, "data is not JSON"}
		}
	}
	return rows, nil
}

// row reads one list of numbers. The second result says what is wrong with it.
func (p *numberParser) row() ([]float32, string) {
	if !p.take('[') {
		return nil, "not a list of numbers"
	}
	size := 0
	if end := bytes.IndexByte(p.data[p.at:], ']'); end > 0 {
		size = bytes.Count(p.data[p.at:p.at+end], []byte(",")) + 1
	}
	row := make([]float32, 0, size)
	for more := !p.take(']'); more; {
		start := skipBlanks(p.data, p.at)
		for p.at = start; p.at < len(p.data) && isNumberByte(p.data[p.at]); p.at++ {
		}
		f, err := strconv.ParseFloat(string(p.data[start:p.at]), 32)
		if errors.Is(err, strconv.ErrRange) {
			return nil, fmt.Sprintf("element %d is not finite", len(row))
		}
		if err != nil {
			return nil, fmt.Sprintf("element %d is not a number", len(row))
		}
		row = append(row, float32(f))
		if more = p.take(','); !more && !p.take(']') {
			return nil, "not a list of numbers"
		}
	}
	return row, ""
}

func isNumberByte(c byte) bool {
	return '0' <= c && c <= '9' || c == '-' || c == '.' || c == 'e' || c == 'E' || c == '+'
}

// checkVector says what is wrong with a vector. dims 0 takes any length.
func checkVector(v []float32, dims int) string {
	if len(v) == 0 || (dims > 0 && len(v) != dims) {
		return fmt.Sprintf("%d dimensions, want %d", len(v), dims)
	}
	norm := 0.0
	for i, x := range v {
		if math.IsInf(float64(x), 0) || math.IsNaN(float64(x)) {
			return fmt.Sprintf("element %d is not finite", i)
		}
		norm += float64(x) * float64(x)
	}
	if norm == 0 {
		return "all zeros"
	}
	return ""
}

// embedReply is the result of an embedding request.
type embedReply struct {
	Data    json.RawMessage `json:"data"`
	Pooling string          `json:"pooling"`
	Usage   *Usage          `json:"usage"`
	rows    [][]float32
}

// readVectors decodes an embedding's envelope. The numbers are 99 % of it: they are parsed apart, and encoding/json
// reads the rest.
func (c *Client) readVectors(data []byte, model string) (got embedReply, notices []Notice, err error) {
	rest := data
	at := findRows(data)
	if at >= 0 {
		p := numberParser{data: data, at: at}
		if got.rows, err = p.rows(); err == nil {
			rest = slices.Concat(data[:at], []byte("null"), data[p.at:])
		}
	}
	env, envErr := c.decodeEnvelope(rest, model)
	var f rowFault
	switch {
	case errors.As(err, &f):
		return got, nil, &ReplyError{Model: model, Row: f.row, Reason: f.reason}
	case envErr != nil:
		return got, nil, envErr
	}
	if err := json.Unmarshal(env.Result, &got); err != nil || len(got.Data) > 4 {
		return got, nil, &ReplyError{Model: model, Row: -1, Reason: "result is not that of an embedding", Err: err}
	}
	return got, env.Messages, nil
}
