package retrieval

import (
	"strconv"
	"strings"
	"unicode"
)

// maxMarkRunes is the longest citation mark waited for: "[12, 13, 14]".
const maxMarkRunes = 16

// markFilter takes the citation marks out of a streamed text, with the blank before them: "… done [1][2]." becomes
// "… done.". A mark is one to three numbers in square brackets outside code. The model's marks are only a hint to the
// checker; footnotes come from it. Nothing but a mark in the making, and the blanks before one, is ever held back.
type markFilter struct {
	held  []rune // blanks and an open bracket, not yet let through
	open  int    // index of the bracket in held, plus one; 0: none
	code  bool   // inside ` … `
	at    int    // runes let through so far
	marks []mark
}

// mark is one citation mark, by its position in the filtered text.
type mark struct {
	at      int
	sources []int
}

// feed returns the text that may be shown.
func (m *markFilter) feed(piece string) string {
	var out []rune
	for _, c := range piece {
		out = m.next(out, c)
	}
	return string(out)
}

// flush returns what was held back at the end of the text.
func (m *markFilter) flush() string { return string(m.release(nil)) }

func (m *markFilter) next(out []rune, c rune) []rune {
	if m.open > 0 {
		m.held = append(m.held, c)
		switch {
		case c == ']':
			return m.close(out)
		case len(m.held)-m.open > maxMarkRunes || !(unicode.IsDigit(c) || c == ',' || c == ' '):
			return m.release(out)
		}
		return out
	}
	if c == '`' {
		m.code = !m.code
	}
	switch {
	case !m.code && c == ' ':
		m.held = append(m.held, c)
		return out
	case !m.code && c == '[':
		m.held = append(m.held, c)
		m.open = len(m.held)
		return out
	}
	m.at++
	return append(m.release(out), c)
}

func (m *markFilter) release(out []rune) []rune {
	out = append(out, m.held...)
	m.at += len(m.held)
	m.held, m.open = m.held[:0], 0
	return out
}

// close decides what stood in brackets.
func (m *markFilter) close(out []rune) []rune {
	sources := markNumbers(string(m.held[m.open : len(m.held)-1]))
	if sources == nil {
		return m.release(out)
	}
	m.marks = append(m.marks, mark{m.at, sources})
	m.held, m.open = m.held[:0], 0
	return out
}

// citedIn lists the sources named in the text's range (from, to].
func (m *markFilter) citedIn(from, to int) (out []int) {
	for _, k := range m.marks {
		if k.at > from && k.at <= to {
			out = append(out, k.sources...)
		}
	}
	return out
}

func markNumbers(inside string) (out []int) {
	for _, part := range strings.Split(inside, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || n < 1 || n > 999 {
			return nil
		}
		out = append(out, n)
	}
	return out
}
