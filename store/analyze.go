package store

import (
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/kljensen/snowball"
	"golang.org/x/text/unicode/norm"
)

// maxTermBytes cuts a term: what is longer is a hash, a URL or noise, and found by its beginning all the same.
const maxTermBytes = 64

// maxQueryTerms bounds the work that one question can cause.
const maxQueryTerms = 256

// englishStopWords are Lucene's: words that stand in nearly every passage and only cost.
var englishStopWords = map[string]bool{
	"a": true, "an": true, "and": true, "are": true, "as": true, "at": true, "be": true, "but": true, "by": true, "for": true,
	"if": true, "in": true, "into": true, "is": true, "it": true, "no": true, "not": true, "of": true, "on": true, "or": true,
	"such": true, "that": true, "the": true, "their": true, "then": true, "there": true, "these": true, "they": true,
	"this": true, "to": true, "was": true, "will": true, "with": true,
}

// stemmers by the primary subtag of a BCP 47 language; another language is not stemmed.
var stemmers = map[string]string{"en": "english", "es": "spanish", "fr": "french", "ru": "russian", "sv": "swedish", "no": "norwegian", "hu": "hungarian"}

// stemLanguage is the language that a document's words are stemmed in; an unknown one is taken for English.
func stemLanguage(language string) string {
	primary, _, _ := strings.Cut(strings.ToLower(language), "-")
	if primary == "" {
		return "en"
	}
	return primary
}

// analyzer turns text into terms: lower case, without accents, stemmed; identifiers both whole and in parts
// (pg_stat_activity, parseHTMLTree); Chinese, Japanese and Korean in pairs of characters.
type analyzer struct {
	language string
	question bool              // to a collection with English texts
	stems    map[string]string // of words seen: a cache's lock is taken once a word and document
}

func newAnalyzer(language string) *analyzer {
	return &analyzer{language: language, stems: map[string]string{}}
}

// each calls f with every term of text.
func (a *analyzer) each(text string, f func(term string)) {
	text = fold(text)
	for start := 0; start < len(text); {
		r, size := utf8.DecodeRuneInString(text[start:])
		if !wordRune(r) {
			start += size
			continue
		}
		end := start
		for end < len(text) {
			r, size := utf8.DecodeRuneInString(text[end:])
			if !wordRune(r) && !joins(text, end, r) {
				break
			}
			end += size
		}
		a.compound(text[start:end], f)
		start = end
	}
}

// fold removes compatibility forms and accents, so that "naïve" and "ﬁle" are found as they are typed.
func fold(text string) string {
	ascii := true
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			ascii = false
			break
		}
	}
	if ascii {
		return text
	}
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return r
	}, norm.NFKD.String(text))
}

func wordRune(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_' }

// joins tells that the character at i holds an identifier together: a dot or colon between two word characters.
func joins(text string, i int, r rune) bool {
	if r != '.' && r != ':' && r != '\'' && r != '’' {
		return false
	}
	next, _ := utf8.DecodeRuneInString(text[i+utf8.RuneLen(r):])
	return wordRune(next)
}

// compound emits the parts of a run of word characters, and the run itself where it is more than one plain word.
func (a *analyzer) compound(run string, f func(string)) {
	parts := 0
	var last string
	split(run, func(part string) {
		parts++
		last = part
		if isCJK(part) {
			bigrams(part, f)
			return
		}
		a.word(strings.ToLower(part), f)
	})
	if parts < 2 || strings.ContainsAny(run, "'’") || len(run) > maxTermBytes || isCJK(last) {
		return
	}
	whole := strings.ToLower(strings.Trim(run, "_"))
	if strings.ContainsAny(whole, "_.:0123456789") {
		f(whole)
	} else {
		a.word(whole, f) // PostgreSQL, JavaScript: also written as one plain word
	}
}

// word emits a lower-case word as its stem, unless it is a stop word.
func (a *analyzer) word(word string, f func(string)) {
	if (a.language == "en" || a.question) && englishStopWords[word] {
		return
	}
	stem, ok := a.stems[word]
	if !ok {
		stem = stemCache.stem(a.language, word)
		a.stems[word] = stem
	}
	f(stem)
}

// maxStems bounds what the cache of stems holds, some 10 MB.
const maxStems = 100_000

type languageWord struct{ language, word string }

// stems keeps the stems of words: stemming one costs some fifty times as much as looking it up.
type stems struct {
	mu    sync.RWMutex
	known map[languageWord]string
}

var stemCache = stems{known: map[languageWord]string{}}

func (c *stems) stem(language, word string) string {
	c.mu.RLock()
	stem, ok := c.known[languageWord{language, word}]
	c.mu.RUnlock()
	if ok {
		return stem
	}
	stem = stemOf(language, word)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= maxStems {
		clear(c.known) // frequent words are back at once
	}
	c.known[languageWord{language, strings.Clone(word)}] = stem
	return stem
}

func stemOf(language, word string) string {
	stem := word
	if name, ok := stemmers[language]; ok {
		if s, err := snowball.Stem(word, name, true); err == nil && s != "" {
			stem = s
		}
	}
	if len(stem) > maxTermBytes {
		stem = strings.ToValidUTF8(stem[:maxTermBytes], "")
	}
	return strings.Clone(stem) // not a slice that keeps the whole text
}

// split cuts a run at punctuation, underscores, changes of case and between writing systems with and without spaces.
func split(run string, f func(part string)) {
	start := -1
	flush := func(end int) {
		if start >= 0 && end > start {
			f(run[start:end])
		}
		start = -1
	}
	var before rune
	for i, r := range run {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			flush(i)
			before = 0
			continue
		}
		if start >= 0 && boundary(before, r, run[i:]) {
			flush(i)
		}
		if start < 0 {
			start = i
		}
		before = r
	}
	flush(len(run))
}

// boundary tells that a new part begins at r, with rest beginning there: parse|HTML|Tree, 漢字|kana.
func boundary(before, r rune, rest string) bool {
	switch {
	case cjk(before) != cjk(r):
		return true
	case unicode.IsLower(before) && unicode.IsUpper(r):
		return true
	case unicode.IsUpper(before) && unicode.IsUpper(r):
		next, _ := utf8.DecodeRuneInString(rest[utf8.RuneLen(r):])
		return unicode.IsLower(next)
	}
	return false
}

func cjk(r rune) bool {
	const firstHangul = 0x1100 // none comes before it
	return r >= firstHangul && unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul)
}

func isCJK(s string) bool {
	r, _ := utf8.DecodeRuneInString(s)
	return cjk(r)
}

// bigrams emits each pair of neighbouring characters; a lone one is itself.
func bigrams(s string, f func(string)) {
	r := []rune(s)
	if len(r) == 1 {
		f(strings.Clone(s))
	}
	for i := 1; i < len(r); i++ {
		f(string(r[i-1 : i+1]))
	}
}

// lone tells that a term is one letter or digit: an initial, a variable, a list's number. They are indexed for questions like
// "what is C", and otherwise left out, which gained 2.6 points of nDCG@10 on a collection full of initials.
func lone(term string) bool { return len(term) == 1 }

// enoughTerms of a question make its lone letters superfluous.
const enoughTerms = 3

// queryTerms are the distinct terms of a question with the number of times each occurs, in the languages of the
// collection. Repeated words of a question count.
func queryTerms(text string, languages []string) (terms []string, counts []int) {
	if len(languages) == 0 {
		languages = []string{"en"}
	}
	best := map[string]int{}
	for _, l := range languages {
		n := map[string]int{}
		a := newAnalyzer(l)
		// In a text of another language "the" is a rare word, and would weigh most in an English question.
		a.question = slices.Contains(languages, "en")
		a.each(text, func(t string) {
			if len(n) < maxQueryTerms || n[t] > 0 {
				n[t]++
			}
		})
		for t, c := range n {
			best[t] = max(best[t], c)
		}
	}
	for t := range best {
		terms = append(terms, t)
	}
	if several := slices.DeleteFunc(slices.Clone(terms), lone); len(several) >= enoughTerms {
		terms = several
	}
	slices.Sort(terms)
	for _, t := range terms {
		counts = append(counts, best[t])
	}
	return terms, counts
}
