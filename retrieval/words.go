package retrieval

import (
	"strconv"
	"strings"
	"unicode"

	"github.com/kljensen/snowball/english"
	"golang.org/x/text/unicode/norm"
)

// token is one word or number of a sentence, in the form in which it is compared.
type token struct {
	key    string // stem of a word; "#" and the canonical value of a number
	lower  string
	number bool
	stop   bool // says nothing alone: "the", "is"
	cue    bool // negates what follows: "not", "without"
	name   bool // written like a proper name, or an identifier
	first  bool // opens the sentence, so its capital says nothing
	clause int  // number of the clause, so that a negation does not reach over a comma
}

func (t token) content() bool { return !t.stop && !t.cue }

// tokenize reads words, numbers and identifiers. Thousands separators, trailing zeros, number words, ordinals, scale
// words and ISO dates are brought to one form; Chinese, Japanese and Thai letters count as words.
func tokenize(text string) []token {
	t := tokenizer{in: []rune(norm.NFKC.String(text))}
	t.skipListMarker()
	for t.i < len(t.in) {
		t.next()
	}
	return t.mergeScales()
}

type tokenizer struct {
	in     []rune
	i      int
	clause int
	out    []token
}

func (t *tokenizer) at(i int) rune {
	if i < 0 || i >= len(t.in) {
		return 0
	}
	return t.in[i]
}

// skipListMarker passes "3. " and "- " at the start: such a number is no claim.
func (t *tokenizer) skipListMarker() {
	i := 0
	for unicode.IsSpace(t.at(i)) {
		i++
	}
	j := i
	for j-i < listNumberDigits && unicode.IsDigit(t.at(j)) {
		j++
	}
	if j > i && (t.at(j) == '.' || t.at(j) == ')') && unicode.IsSpace(t.at(j+1)) {
		t.i = j + 1
	}
}

func (t *tokenizer) next() {
	c := t.in[t.i]
	switch {
	case unicode.IsDigit(c):
		t.number()
	case isIdeographic(c):
		t.add(token{key: string(c), lower: string(c)})
		t.i++
	case unicode.IsLetter(c):
		t.word()
	case c == '%':
		t.add(token{key: "percent", lower: "percent"})
		t.i++
	default:
		if strings.ContainsRune(",;:()[]—–", c) || isTerminator(c) {
			t.clause++
		}
		t.i++
	}
}

func isIdeographic(c rune) bool {
	return unicode.In(c, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai)
}

func (t *tokenizer) add(k token) {
	k.clause, k.first = t.clause, len(t.out) == 0
	t.out = append(t.out, k)
}

func (t *tokenizer) number() {
	start := t.i
	minus := t.at(start-1) == '-' || t.at(start-1) == '−'
	negative := minus && (start == 1 || unicode.IsSpace(t.at(start-2))) // not a range, not a hyphen
	for t.i < len(t.in) {
		c := t.in[t.i]
		if unicode.IsDigit(c) || ((c == '.' || c == ',') && unicode.IsDigit(t.at(t.i+1)) && t.i > start) {
			t.i++
			continue
		}
		break
	}
	digits := string(t.in[start:t.i])
	if len(digits) == 4 && t.isoDate(digits) {
		return
	}
	from := t.i
	for t.i < len(t.in) && unicode.IsLetter(t.in[t.i]) && !isIdeographic(t.in[t.i]) {
		t.i++
	}
	value := canonicalNumber(digits)
	if negative {
		value = "-" + value
	}
	t.add(token{key: "#" + value, lower: digits, number: true})
	if suffix := strings.ToLower(string(t.in[from:t.i])); suffix != "" && !ordinalSuffix[suffix] {
		t.addWord(suffix, false)
	}
}

var ordinalSuffix = set("st nd rd th s")

// isoDate reads the rest of 2024-05-17 as month and day.
func (t *tokenizer) isoDate(year string) bool {
	i := t.i
	if t.at(i) != '-' || t.at(i+3) != '-' || unicode.IsDigit(t.at(i+6)) {
		return false
	}
	month, err := strconv.Atoi(string([]rune{t.at(i + 1), t.at(i + 2)}))
	day, err2 := strconv.Atoi(string([]rune{t.at(i + 4), t.at(i + 5)}))
	if err != nil || err2 != nil || month < 1 || month > 12 {
		return false
	}
	t.add(token{key: "#" + year, lower: year, number: true})
	t.add(token{key: monthNames[month-1], lower: monthNames[month-1], name: true})
	t.add(token{key: "#" + strconv.Itoa(day), lower: strconv.Itoa(day), number: true})
	t.i += 6
	return true
}

var monthNames = strings.Fields("january february march april may june july august september october november december")

var monthKey = func() map[string]string {
	m := map[string]string{"sept": "september"}
	for _, name := range monthNames {
		m[name] = name
		if name != "may" {
			m[name[:3]] = name
		}
	}
	delete(m, "mar")
	delete(m, "dec")
	return m
}()

// canonicalNumber drops thousands separators, leading and trailing zeros. A comma that is not followed by groups of
// three digits is a decimal comma.
func canonicalNumber(s string) string {
	s = strings.Map(func(c rune) rune {
		if d := digitValue(c); d >= 0 {
			return '0' + d
		}
		return c
	}, s)
	if groups := strings.Split(s, ","); len(groups) > 1 {
		thousands := len(groups[0]) <= 3
		for _, g := range groups[1:] {
			whole, _, _ := strings.Cut(g, ".")
			thousands = thousands && len(whole) == 3
		}
		if thousands {
			s = strings.Join(groups, "")
		} else {
			s = strings.Join(groups, ".")
		}
	}
	if strings.Count(s, ".") == 1 {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	if trimmed := strings.TrimLeft(s, "0"); trimmed == "" || trimmed[0] == '.' {
		return "0" + trimmed
	} else {
		return trimmed
	}
}

// digitValue of a decimal digit of any script, -1 for other runes. Unicode keeps each script's ten digits together.
func digitValue(c rune) rune {
	if c >= '0' && c <= '9' {
		return c - '0'
	}
	if !unicode.IsDigit(c) {
		return -1
	}
	zero := c
	for unicode.IsDigit(zero-1) && c-zero < 9 {
		zero--
	}
	return c - zero
}

func wordRune(c rune) bool {
	return (unicode.IsLetter(c) && !isIdeographic(c)) || unicode.IsMark(c) || unicode.IsDigit(c) || c == '_'
}

func (t *tokenizer) word() {
	start := t.i
	inner := false
	for t.i < len(t.in) {
		c := t.in[t.i]
		if wordRune(c) {
			inner = inner || unicode.IsDigit(c) || c == '_' || (unicode.IsUpper(c) && t.i > start)
			t.i++
			continue
		}
		if (c == '\'' || c == '’') && unicode.IsLetter(t.at(t.i+1)) && t.i > start {
			t.i++
			continue
		}
		break
	}
	written := t.in[start:t.i]
	lower := strings.ReplaceAll(strings.ToLower(string(written)), "’", "'")
	if base, found := strings.CutSuffix(lower, "n't"); found {
		if base != "" {
			t.addWord(base, false)
		}
		t.add(token{key: "not", lower: "not", cue: true})
		return
	}
	if lower == "cannot" {
		t.addWord("can", false)
		t.add(token{key: "not", lower: "not", cue: true})
		return
	}
	lower = strings.TrimSuffix(lower, "'s")
	if base, _, found := strings.Cut(lower, "'"); found && stopWords[base] {
		lower = base // we're, they'll
	}
	if string(written) == "May" && (len(t.out) > 0 || t.numberFollows()) { // else it may be the verb
		t.add(token{key: "may", lower: lower, name: true})
		return
	}
	t.addWord(lower, inner || unicode.IsUpper(written[0]))
}

// numberFollows: a year or a day comes next.
func (t *tokenizer) numberFollows() bool { return t.at(t.i) == ' ' && unicode.IsDigit(t.at(t.i+1)) }

func (t *tokenizer) addWord(lower string, name bool) {
	if value, is := numberWords[lower]; is {
		t.add(token{key: "#" + value, lower: lower, number: true})
		return
	}
	k := token{key: stem(lower), lower: lower, stop: stopWords[lower], cue: cueWords[lower]}
	if month, is := monthKey[lower]; is && (name || lower == month) {
		k.key = month
		k.name = lower != "may" && lower != "march"
	}
	if !k.stop && !k.cue {
		k.name = k.name || name
	}
	if unit, is := unitKey[lower]; is {
		k.key = unit
	}
	t.add(k)
}

func stem(lower string) string {
	for i := range len(lower) {
		if lower[i] >= 0x80 || lower[i] == '_' {
			return lower
		}
	}
	return english.Stem(lower, false)
}

// mergeScales turns "2.5 million" into the number 2500000.
func (t *tokenizer) mergeScales() []token {
	out := t.out[:0]
	for _, k := range t.out {
		zeros, scale := scaleZeros[k.lower]
		if n := len(out); scale && n > 0 && out[n-1].number && out[n-1].clause == k.clause {
			out[n-1].key = "#" + shift(out[n-1].key[1:], zeros)
			continue
		}
		out = append(out, k)
	}
	return out
}

// shift multiplies a canonical number by ten to the n.
func shift(number string, n int) string {
	whole, fraction, _ := strings.Cut(number, ".")
	fraction += strings.Repeat("0", max(0, n-len(fraction)))
	return canonicalNumber(whole + fraction[:n] + "." + fraction[n:] + "0")
}

var (
	scaleZeros  = map[string]int{"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
	numberWords = map[string]string{"zero": "0", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6",
		"seven": "7", "eight": "8", "nine": "9", "ten": "10", "eleven": "11", "twelve": "12", "thirteen": "13",
		"fourteen": "14", "fifteen": "15", "sixteen": "16", "seventeen": "17", "eighteen": "18", "nineteen": "19",
		"twenty": "20", "thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "seventy": "70", "eighty": "80",
		"ninety": "90", "twice": "2", "dozen": "12"}
	unitKey = map[string]string{"kilometers": "km", "kilometres": "km", "kilometer": "km", "kilometre": "km",
		"kilograms": "kg", "kilogram": "kg", "milligrams": "mg", "milligram": "mg", "centimeters": "cm", "centimetres": "cm",
		"millimeters": "mm", "millimetres": "mm", "milliseconds": "ms", "millisecond": "ms", "megabytes": "mb",
		"megabyte": "mb", "gigabytes": "gb", "gigabyte": "gb", "kilobytes": "kb", "kilobyte": "kb", "dollars": "dollar",
		"pct": "percent", "seconds": "second", "sec": "second", "secs": "second", "minutes": "minute", "mins": "minute",
		"hrs": "hour", "hours": "hour"}

	// cueWords negate what follows them. Weak ones ("hardly") are left out: they are rarely kept in a paraphrase.
	cueWords = set(`not no never neither nor none without nobody nothing nowhere unable lack lacks lacked lacking fail
		fails failed absence absent`)

	stopWords = set(`a an the this that these those it its he she they them his her hers their theirs we us our ours you your
		yours i me my mine who whom whose which what where when why how there here is are was were be been being am do does did
		doing done has have had having will would shall should can could may might must of in on at by for from to into
		onto with within about above below under over between among through during before after since until against as than
		then so such and or but if because while although though however also both either each any some all most more much
		many very too only just own same other another again further once per via upon up down out off therefore thus hence
		yes s t re ve ll d m let one according based documents document passage passages text states mention mentioned
		provided mentions given example following`)
)
