package retrieval

import (
	"strings"
	"unicode"
)

const (
	// maxSentenceRunes bounds a sentence, so that a text without punctuation neither grows the buffer nor yields a
	// quote of a whole page.
	maxSentenceRunes = 2000
	// shortLineRunes: a shorter line followed by a capital is a heading or a list item, a longer one is wrapped prose.
	shortLineRunes = 45
	// listNumberDigits is the longest number taken for a list marker ("12." but not the year "1990.").
	listNumberDigits = 3
)

// Sentence is a piece of text with its place, without the white space around it.
type Sentence struct {
	Span Span
	Text string
}

// Sentences splits a text. Abbreviations, initials, decimals, list markers and inline code do not end a sentence; a
// fenced code block is one sentence; headings and list items end with their line. Offsets count code points.
func Sentences(text string) []Sentence {
	var s Splitter
	return append(s.Feed(text), s.Flush()...)
}

// Splitter splits a text that arrives in pieces. The result does not depend on where the pieces are cut. The zero value
// is ready; it is not safe for concurrent use.
type Splitter struct {
	buf     []rune // from the start of the sentence in progress
	base    int    // offset of buf[0] in the whole text
	scan    int    // buf[:scan] holds no undecided boundary
	line    int    // index in buf of the current line's start; negative if it lies before buf
	fence   bool   // inside ``` … ```
	code    bool   // inside ` … `
	started bool
}

// Feed adds a piece and returns the sentences that are now certainly complete.
func (s *Splitter) Feed(piece string) []Sentence {
	s.buf = append(s.buf, []rune(piece)...)
	return s.advance(false)
}

// Flush returns what is left at the end of the text and makes the splitter ready for nothing more.
func (s *Splitter) Flush() []Sentence {
	out := s.advance(true)
	return s.emit(out, len(s.buf))
}

// step is what the scanner decides at one position.
type step int

const (
	stepOn   step = iota // no boundary: go on at next
	stepCut              // a sentence ends at end; go on at next
	stepWait             // more text is needed to decide
)

func (s *Splitter) advance(final bool) (out []Sentence) {
	for s.scan < len(s.buf) {
		what, end, next := s.decide(s.scan, final)
		if what == stepWait {
			return out
		}
		if what == stepOn && next > maxSentenceRunes {
			what, end = stepCut, s.lastBlank(next)
			next = end
		}
		s.scan = next
		if what == stepCut {
			out = s.emit(out, end)
		}
	}
	return out
}

// emit appends buf[:end], trimmed, and drops it from the buffer.
func (s *Splitter) emit(out []Sentence, end int) []Sentence {
	from, to := 0, end
	for from < to && unicode.IsSpace(s.buf[from]) {
		from++
	}
	for to > from && unicode.IsSpace(s.buf[to-1]) {
		to--
	}
	if from < to {
		out = append(out, Sentence{Span{s.base + from, s.base + to}, string(s.buf[from:to])})
	}
	s.buf = s.buf[end:] // not copied: a long text would cost its square
	s.base += end
	s.scan -= end
	s.line -= end
	return out
}

func (s *Splitter) lastBlank(limit int) int {
	for i := limit - 1; i > limit/2; i-- {
		if unicode.IsSpace(s.buf[i]) {
			return i
		}
	}
	return limit
}

// decide looks at buf[i].
func (s *Splitter) decide(i int, final bool) (what step, end, next int) {
	if !s.started || (i > 0 && i-1 >= 0 && s.buf[i-1] == '\n' && s.line != i) {
		s.started, s.line, s.code = true, i, false
	}
	if s.line == i {
		if fence, known := s.fenceAt(i, final); !known {
			return stepWait, 0, 0
		} else if fence {
			s.fence = !s.fence
			if s.fence {
				return stepCut, i, i + 3
			}
			return s.closeFence(i, final)
		}
	}
	c := s.buf[i]
	switch {
	case s.fence:
		return stepOn, 0, i + 1
	case c == '`':
		s.code = !s.code
	case c == '\n':
		return s.atNewline(i, final)
	case s.code:
	case isWideTerminator(c):
		return s.atWideTerminator(i, final)
	case isTerminator(c):
		return s.atTerminator(i, final)
	}
	return stepOn, 0, i + 1
}

func (s *Splitter) fenceAt(i int, final bool) (fence, known bool) {
	for n := range 3 {
		if i+n >= len(s.buf) {
			return false, final
		}
		if s.buf[i+n] != '`' {
			return false, true
		}
	}
	return true, true
}

// closeFence cuts after the line that closes a fence.
func (s *Splitter) closeFence(i int, final bool) (step, int, int) {
	for j := i + 3; j < len(s.buf); j++ {
		if s.buf[j] == '\n' {
			return stepCut, j, j
		}
	}
	if final {
		return stepCut, len(s.buf), len(s.buf)
	}
	s.fence = true // decided again when more has come
	return stepWait, 0, 0
}

func (s *Splitter) atNewline(i int, final bool) (step, int, int) {
	j := i + 1
	for j < len(s.buf) && (s.buf[j] == ' ' || s.buf[j] == '\t' || s.buf[j] == '\r') {
		j++
	}
	if j == len(s.buf) {
		if final {
			return stepCut, i, i + 1
		}
		return stepWait, 0, 0
	}
	if s.endsWith(i, ':') {
		return stepOn, 0, i + 1 // a lead-in belongs to what it introduces
	}
	if s.buf[j] == '\n' {
		return stepCut, i, i + 1
	}
	marker, known := s.listMarker(j, final)
	switch {
	case !known:
		return stepWait, 0, 0
	case marker:
		return stepCut, i, i + 1
	case i-s.line < shortLineRunes && !unicode.IsLower(s.buf[j]):
		return stepCut, i, i + 1
	}
	return stepOn, 0, i + 1
}

// endsWith reports whether c is the last visible rune before i in the current sentence.
func (s *Splitter) endsWith(i int, c rune) bool {
	for i--; i >= 0; i-- {
		if !unicode.IsSpace(s.buf[i]) && s.buf[i] != '*' {
			return s.buf[i] == c
		}
	}
	return false
}

// listMarker: a bullet, a heading or table mark, or a number with a dot or bracket at j.
func (s *Splitter) listMarker(j int, final bool) (marker, known bool) {
	if strings.ContainsRune("-*•+|#>–", s.buf[j]) {
		return true, true
	}
	k := j
	for k < len(s.buf) && k-j <= listNumberDigits && unicode.IsDigit(s.buf[k]) {
		k++
	}
	if k == len(s.buf) {
		return false, final
	}
	return k > j && k-j <= listNumberDigits && (s.buf[k] == '.' || s.buf[k] == ')'), true
}

func isTerminator(c rune) bool { return c == '.' || c == '!' || c == '?' || c == '…' }
func isWideTerminator(c rune) bool {
	return c == '。' || c == '！' || c == '？' || c == '．' || c == '।'
}
func isCloser(c rune) bool { return strings.ContainsRune("\"'”’»)]}*_」』）】", c) }

func (s *Splitter) atWideTerminator(i int, final bool) (step, int, int) {
	j := i + 1
	for j < len(s.buf) && (isCloser(s.buf[j]) || isWideTerminator(s.buf[j])) {
		j++
	}
	if j == len(s.buf) && !final {
		return stepWait, 0, 0
	}
	return stepCut, j, j
}

func (s *Splitter) atTerminator(i int, final bool) (step, int, int) {
	j := i + 1
	for j < len(s.buf) && (isTerminator(s.buf[j]) || isCloser(s.buf[j])) {
		j++
	}
	if j == len(s.buf) {
		if final {
			return stepCut, j, j
		}
		return stepWait, 0, 0
	}
	if !unicode.IsSpace(s.buf[j]) {
		return stepOn, 0, j
	}
	k := j
	for k < len(s.buf) && unicode.IsSpace(s.buf[k]) && s.buf[k] != '\n' {
		k++
	}
	if k == len(s.buf) && !final {
		return stepWait, 0, 0
	}
	if s.yesOrNo(j) {
		return stepOn, 0, j
	}
	if k == len(s.buf) || s.buf[k] == '\n' || s.endsHere(i, s.buf[k]) {
		return stepCut, j, j
	}
	return stepOn, 0, j
}

// yesOrNo: a bare "Yes." or "No." says nothing alone; it belongs to the sentence that explains it.
func (s *Splitter) yesOrNo(end int) bool {
	if end > 12 {
		return false
	}
	switch strings.ToLower(strings.Trim(string(s.buf[:end]), " \t\n.!*_\"")) {
	case "yes", "no", "correct", "true", "false":
		return true
	}
	return false
}

// endsHere decides at terminator i, followed by blanks and then next.
func (s *Splitter) endsHere(i int, next rune) bool {
	spaced := i > 0 && unicode.IsSpace(s.buf[i-1]) // " . " in tokenized texts
	if spaced {
		return true
	}
	if unicode.IsLower(next) {
		return false
	}
	if s.buf[i] != '.' {
		return true
	}
	word, atStart := s.wordBefore(i)
	switch {
	case word == "":
		return true
	case atStart && isListNumber(word):
		return false
	case isInitial(word):
		return false
	case strings.ContainsRune(word, '.') && !strings.ContainsFunc(word, unicode.IsDigit):
		lower := strings.ToLower(word)
		return lower == "a.m" || lower == "p.m"
	case abbreviations[strings.ToLower(word)]:
		return false
	case numberedAbbreviations[strings.ToLower(word)]:
		return !unicode.IsDigit(next)
	}
	return true
}

// wordBefore returns the run of letters, digits and dots that ends before i, and whether the sentence or its line begins
// with it.
func (s *Splitter) wordBefore(i int) (word string, atStart bool) {
	j := i
	for j > 0 && (unicode.IsLetter(s.buf[j-1]) || unicode.IsDigit(s.buf[j-1]) || s.buf[j-1] == '.') {
		j--
	}
	return string(s.buf[j:i]), strings.TrimSpace(string(s.buf[max(0, min(s.line, j)):j])) == ""
}

func isListNumber(word string) bool {
	return len(word) <= listNumberDigits && strings.Trim(word, "0123456789") == ""
}

func isInitial(word string) bool {
	r := []rune(word)
	return len(r) == 1 && unicode.IsUpper(r[0]) && r[0] != 'I'
}

// abbreviations never end a sentence before a capital; numberedAbbreviations do unless a number follows.
var (
	abbreviations = set(`mr mrs ms dr prof st mt sr jr rev hon gen col lt capt sgt gov sen rep pres messrs vs cf ca approx
		resp viz al e.g i.e eg ie incl excl esp max min dept univ assn bros wm geo chas thos jas
		maj cmdr adm brig cpl pvt supt`)
	numberedAbbreviations = set(`no nos fig figs eq eqs sec sect ch chap vol pp p art ref refs tab table ed eds ver v op
		jan feb mar apr jun jul aug sep sept oct nov dec`)
)

func set(words string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(words) {
		m[w] = true
	}
	return m
}
