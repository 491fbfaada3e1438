// Package prompt has what every prompt of Footnote is built with: how many tokens a text may take, and how text from outside is made
// harmless in it.
package prompt

import (
	"math"
	"regexp"
	"strings"
)

// DefaultContextWindow is that of Workers AI's llama-3.1-8b-instruct, in tokens.
const DefaultContextWindow = 7968

// Tokens is an upper estimate for the common tokenizers of chat models: English prose has four letters a token, code and numbers
// fewer, other scripts up to two tokens a letter.
func Tokens(text string) int {
	var n float64
	for _, c := range text {
		n += tokensOf(c)
	}
	return int(math.Ceil(n)) + 1
}

// Clip returns as much of the text's beginning as Tokens allows, "" if that is nothing. It cuts between code points.
func Clip(text string, tokens int) string {
	n := 1.0
	for i, c := range text {
		if n += tokensOf(c); n > float64(tokens) {
			return text[:i]
		}
	}
	return text
}

func tokensOf(c rune) float64 {
	switch {
	case c >= 'a' && c <= 'z', c == ' ':
		return 0.29
	case c < 0x80:
		return 0.5
	case c < 0x800:
		return 1
	}
	return 1.6
}

// marks are the tags of our prompts and the control marks of chat templates.
var marks = regexp.MustCompile(`(?i)<(\s*/?\s*(?:document|excerpt|passage|question|system|s\b)|\|)|\|>|\[(/?INST)\]|<</?SYS>>`)

// Defuse makes the tags of our prompts and the control marks of chat templates harmless by other brackets, so that no document,
// question or earlier turn can end its part of a prompt or open a turn. It removes NUL bytes.
func Defuse(text string) string {
	return marks.ReplaceAllStringFunc(strings.ReplaceAll(text, "\x00", ""), func(m string) string {
		return strings.NewReplacer("<", "‹", ">", "›", "[", "(", "]", ")").Replace(m)
	})
}
