package ingest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Token ids of the BERT uncased vocabulary.
const (
	idUnknown = 100
	idCLS     = 101
	idSEP     = 102
)

// specialTokens is what Count and Encode add to a text: [CLS] before and [SEP] after it.
const specialTokens = 2

// maxWordRunes is the reference's max_input_chars_per_word: a longer word becomes one [UNK].
const maxWordRunes = 100

var (
	//go:embed data/bert_uncased_vocab.txt.gz
	vocabularyGzip []byte
	//go:embed data/bert_normalize.txt.gz
	normalizeGzip []byte
)

// Token is one WordPiece of a text. Start and End count code points of the text; [CLS] and [SEP] have Start == End.
type Token struct {
	ID         int
	Start, End int
}

// Tokenizer cuts text into the WordPiece tokens of BERT uncased, as Hugging Face's BertNormalizer, BertPreTokenizer and
// WordPiece do. The names of special tokens in a text, such as "[SEP]", are plain text: a document cannot control the
// model's input. It is safe for concurrent use and does not change.
type Tokenizer struct {
	words, tails trie
	runes        runeTable
}

// WordPiece returns the tokenizer that bge-*-en-v1.5 and all-MiniLM-L6-v2 share. It is built once, at the first call.
var WordPiece = sync.OnceValue(func() *Tokenizer {
	t := &Tokenizer{}
	t.words, t.tails = vocabulary()
	t.runes = normalization()
	return t
})

// Count is the number of tokens of text, with [CLS] and [SEP].
func (t *Tokenizer) Count(text string) int { return t.count(text) + specialTokens }

// Encode returns the tokens of text, with [CLS] and [SEP].
func (t *Tokenizer) Encode(text string) []Token {
	tokens := []Token{{ID: idCLS}}
	s := scanner{t: t, emit: func(tok Token) { tokens = append(tokens, tok) }}
	end := s.run(text)
	return append(tokens, Token{ID: idSEP, Start: end, End: end})
}

// Whole tells whether a word is one token: the vocabulary has the common words of English, and names.
func (t *Tokenizer) Whole(word string) bool {
	tokens := t.Encode(word)
	return len(tokens) == specialTokens+1 && tokens[1].ID != idUnknown
}

// count is the number of tokens without [CLS] and [SEP]. It is additive over parts cut at white space.
func (t *Tokenizer) count(text string) int {
	s := scanner{t: t}
	s.run(text)
	return s.tokens
}

// isolates tells whether a character beyond ASCII is always a word of its own: counts are additive on either side of it.
func (t *Tokenizer) isolates(r rune) bool {
	return r >= utf8.RuneSelf && t.runes.code(r) == runeIsolate
}

// scanner normalises a text rune by rune into words and matches each against the vocabulary.
type scanner struct {
	t      *Tokenizer
	emit   func(Token) // nil: only count
	tokens int

	word   [maxWordRunes * utf8.UTFMax]byte
	source [maxWordRunes * utf8.UTFMax]int // code point of the text that each byte of word came from
	size   int                             // bytes in word
	runes  int                             // runes of the word, also beyond maxWordRunes
	start  int                             // code point of the word's first rune
	end    int                             // code point after the word's last rune
}

// run scans the text and returns its length in code points.
func (s *scanner) run(text string) int {
	at := 0
	for i := 0; i < len(text); at++ {
		if b := text[i]; b < utf8.RuneSelf {
			i++
			s.ascii(b, at)
			continue
		}
		r, n := utf8.DecodeRuneInString(text[i:])
		i += n
		s.rune(r, at)
	}
	s.flush()
	return at
}

func (s *scanner) ascii(b byte, at int) {
	switch c := asciiClass[b]; c {
	case asciiDelete:
	case asciiSpace:
		s.flush()
	case asciiPunct:
		s.flush()
		s.push(rune(b), at)
		s.flush()
	default:
		if s.runes >= maxWordRunes {
			s.runes, s.end = s.runes+1, at+1
			return
		}
		if s.runes == 0 {
			s.start = at
		}
		s.word[s.size] = c
		s.source[s.size] = at
		s.size++
		s.runes++
		s.end = at + 1
	}
}

// rune handles anything beyond ASCII.
func (s *scanner) rune(r rune, at int) {
	if hangulBase <= r && r < hangulBase+hangulCount {
		s.hangul(r-hangulBase, at)
		return
	}
	switch code := s.t.runes.code(r); code {
	case runeKeep:
		s.push(r, at)
	case runeDelete:
	case runeSpace:
		s.flush()
	case runeIsolate:
		s.flush()
		s.push(r, at)
		s.flush()
	default:
		for _, m := range s.t.runes.maps[code-runeMap] {
			s.mapped(m, at)
		}
	}
}

// mapped handles a rune that normalisation produced: it is not normalised again, only split.
func (s *scanner) mapped(r rune, at int) {
	switch {
	case r == ' ':
		s.flush()
	case r < utf8.RuneSelf && asciiClass[r] == asciiPunct, r >= utf8.RuneSelf && s.t.runes.punct(r):
		s.flush()
		s.push(r, at)
		s.flush()
	default:
		s.push(r, at)
	}
}

// Hangul syllables decompose by formula: The Unicode Standard, section 3.12.
const (
	hangulBase  = 0xAC00
	hangulCount = 11172
	jamoL       = 0x1100
	jamoV       = 0x1161
	jamoT       = 0x11A7
)

func (s *scanner) hangul(i rune, at int) {
	s.push(jamoL+i/588, at)
	s.push(jamoV+i%588/28, at)
	if t := i % 28; t != 0 {
		s.push(jamoT+t, at)
	}
}

// push appends a normalised rune to the word, marks in canonical order.
func (s *scanner) push(r rune, at int) {
	if s.runes == 0 {
		s.start = at
	}
	s.runes++
	s.end = at + 1
	if s.runes > maxWordRunes {
		return
	}
	n := utf8.EncodeRune(s.word[s.size:], r)
	for i := range n {
		s.source[s.size+i] = at
	}
	s.size += n
	if r >= firstMark {
		s.reorder(n)
	}
}

// firstMark is the lowest code point with a combining class.
const firstMark = 0x300

// reorder moves the last rune, n bytes long, before the marks of a higher combining class that precede it.
func (s *scanner) reorder(n int) {
	last := s.size - n
	class := norm.NFD.Properties(s.word[last:s.size]).CCC()
	if class == 0 {
		return
	}
	to := last
	for to > 0 {
		_, k := utf8.DecodeLastRune(s.word[:to])
		if norm.NFD.Properties(s.word[to-k:to]).CCC() <= class {
			break
		}
		to -= k
	}
	if to == last {
		return
	}
	var moved [utf8.UTFMax]byte
	copy(moved[:], s.word[last:s.size])
	copy(s.word[to+n:s.size], s.word[to:last])
	copy(s.word[to:], moved[:n])
}

// flush matches the word against the vocabulary, longest piece first, and begins the next word.
func (s *scanner) flush() {
	if s.runes == 0 {
		return
	}
	if !s.match() {
		s.tokens++
		if s.emit != nil {
			s.emit(Token{ID: idUnknown, Start: s.start, End: s.end})
		}
	}
	s.size, s.runes = 0, 0
}

// match emits the word's pieces; false, with nothing emitted, if they do not cover it.
func (s *scanner) match() bool {
	if s.runes > maxWordRunes {
		return false
	}
	var pieces [maxWordRunes * utf8.UTFMax]int32
	var ends [maxWordRunes * utf8.UTFMax]int
	n, at := 0, 0
	for dict := &s.t.words; at < s.size; dict = &s.t.tails {
		id, size := dict.longest(s.word[at:s.size])
		if size == 0 {
			return false
		}
		at += size
		pieces[n], ends[n] = id, at
		n++
	}
	s.tokens += n
	if s.emit != nil {
		s.emitPieces(pieces[:n], ends[:n])
	}
	return true
}

func (s *scanner) emitPieces(ids []int32, ends []int) {
	from := 0
	for i, id := range ids {
		s.emit(Token{ID: int(id), Start: s.source[from], End: s.source[ends[i]-1] + 1})
		from = ends[i]
	}
}

// trie holds byte strings with an id each. The children of a node lie side by side, so that a node is an index and a count.
type trie struct {
	labels []byte // of the edge that leads to each node
	first  []int32
	count  []uint16
	ids    []int32 // -1: not an entry
}

// longest returns the id and size of the longest entry that begins text; size 0 if there is none.
func (t *trie) longest(text []byte) (id int32, size int) {
	node := int32(0)
	for i, b := range text {
		first := t.first[node]
		k := bytes.IndexByte(t.labels[first:first+int32(t.count[node])], b)
		if k < 0 {
			break
		}
		node = first + int32(k)
		if t.ids[node] >= 0 {
			id, size = t.ids[node], i+1
		}
	}
	return id, size
}

type entry struct {
	text string
	id   int32
}

// newTrie builds level by level from the sorted entries.
func newTrie(entries []entry) trie {
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.text, b.text) })
	t := trie{labels: []byte{0}, first: []int32{0}, count: []uint16{0}, ids: []int32{-1}}
	type span struct{ from, to, depth int }
	spans := []span{{0, len(entries), 0}}
	for node := 0; node < len(spans); node++ {
		sp := spans[node]
		i := sp.from
		if i < sp.to && len(entries[i].text) == sp.depth {
			t.ids[node] = entries[i].id
			i++
		}
		t.first[node] = int32(len(t.labels))
		for i < sp.to {
			b, from := entries[i].text[sp.depth], i
			for i < sp.to && entries[i].text[sp.depth] == b {
				i++
			}
			t.labels = append(t.labels, b)
			t.first, t.count, t.ids = append(t.first, 0), append(t.count, 0), append(t.ids, -1)
			spans = append(spans, span{from, i, sp.depth + 1})
			t.count[node]++
		}
	}
	return t
}

// vocabulary reads the embedded entries: those that begin a word, and those that continue one ("##…").
func vocabulary() (words, tails trie) {
	var starts, rest []entry
	id := int32(0)
	for line := range gzipLines(vocabularyGzip) {
		if tail, ok := strings.CutPrefix(line, "##"); ok && tail != "" {
			rest = append(rest, entry{tail, id})
		} else {
			starts = append(starts, entry{line, id})
		}
		id++
	}
	return newTrie(starts), newTrie(rest)
}

// Classes of ASCII bytes; any other value is the byte that a letter or digit becomes.
const (
	asciiDelete byte = iota
	asciiSpace
	asciiPunct
)

var asciiClass = func() (class [utf8.RuneSelf]byte) {
	for b := range class {
		switch c := byte(b); {
		case c == '\t' || c == '\n' || c == '\r' || c == ' ':
			class[b] = asciiSpace
		case c < ' ' || c == 0x7F:
			class[b] = asciiDelete
		case '0' <= c && c <= '9' || 'a' <= c && c <= 'z':
			class[b] = c
		case 'A' <= c && c <= 'Z':
			class[b] = c + 'a' - 'A'
		default:
			class[b] = asciiPunct
		}
	}
	return class
}()

// Codes of a runeTable; from runeMap on, an index into maps.
const (
	runeKeep uint16 = iota
	runeDelete
	runeSpace
	runeIsolate
	runeMap
)

// runeTable says what normalisation does with each code point, in pages of 256.
type runeTable struct {
	page       [(utf8.MaxRune + 1) >> 8]uint16
	pages      [][256]uint16
	maps       [][]rune
	punctuated []runeRange // sorted
}

type runeRange struct{ first, last rune }

func (t *runeTable) code(r rune) uint16 { return t.pages[t.page[r>>8]][r&0xFF] }

func (t *runeTable) punct(r rune) bool {
	_, found := slices.BinarySearchFunc(t.punctuated, r, func(p runeRange, r rune) int {
		switch {
		case p.last < r:
			return -1
		case p.first > r:
			return 1
		}
		return 0
	})
	return found
}

func (t *runeTable) set(r rune, code uint16) {
	if t.page[r>>8] == 0 {
		t.pages = append(t.pages, [256]uint16{})
		t.page[r>>8] = uint16(len(t.pages) - 1)
	}
	t.pages[t.page[r>>8]][r&0xFF] = code
}

// normalization reads the embedded table; data/README.md describes its lines.
func normalization() runeTable {
	t := runeTable{pages: make([][256]uint16, 1)}
	codes := map[string]uint16{"delete": runeDelete, "space": runeSpace, "isolate": runeIsolate, "punct": runeIsolate}
	for line := range gzipLines(normalizeGzip) {
		fields := strings.Fields(line)
		runes := make([]rune, len(fields)-1)
		for i, f := range fields[1:] {
			v, err := strconv.ParseInt(f, 16, 32)
			if err != nil {
				panic(fmt.Sprintf("embedded normalisation table: %v", err))
			}
			runes[i] = rune(v)
		}
		if fields[0] == "map" {
			t.set(runes[0], runeMap+uint16(len(t.maps)))
			t.maps = append(t.maps, runes[1:])
			continue
		}
		if fields[0] == "punct" {
			t.punctuated = append(t.punctuated, runeRange{runes[0], runes[1]})
		}
		for r := runes[0]; r <= runes[1]; r++ {
			t.set(r, codes[fields[0]])
		}
	}
	return t
}

// gzipLines yields the lines of embedded data, which is part of the program: damage to it is a bug of the build.
func gzipLines(data []byte) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		zr, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			panic(fmt.Sprintf("embedded data: %v", err))
		}
		lines := bufio.NewScanner(zr)
		for lines.Scan() {
			if !yield(lines.Text()) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			panic(fmt.Sprintf("embedded data: %v", err))
		}
	}
}
