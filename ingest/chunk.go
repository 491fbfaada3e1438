package ingest

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/footnote-rag/footnote/store"
)

// BlockKind names a structural part of a text.
type BlockKind uint8

// Kinds of blocks.
const (
	Paragraph BlockKind = iota
	Heading
	ListItem
	Table
	Code
)

// Block is a part of an extracted text. Start and End count code points; blocks are in order and do not overlap.
type Block struct {
	Kind       BlockKind
	Level      int // of a heading, 1 to 6
	Start, End int
}

// Extracted is the text of a document, which citations point into, with its structure.
type Extracted struct {
	Text     string
	Title    string
	Language string // BCP 47, "" if unknown
	Blocks   []Block
}

// DefaultChunking is used where a collection says nothing: all-MiniLM-L6-v2 was trained on at most 256 tokens, and chunks
// of that size are found better than fuller ones; the overlap keeps a sentence or two of context. A search shows a chunk with its
// section around it: five passages then hold more of what answers a question than five fixed chunks of 400 tokens do
// (docs/quality.md).
var DefaultChunking = store.Chunking{MaxTokens: 256, Overlap: 32, Window: 768}

// maxRunesPerToken bounds a chunk's length where tokens do not: a word of a megabyte is one [UNK] token.
const maxRunesPerToken = 16

// EmbedText is what is embedded for a chunk: its context, so that it is understood by itself, and its text; or the translation
// of both. A summary comes before them.
func EmbedText(c store.Chunk) string {
	text := c.Translation
	if text == "" {
		text = textWithContext(c)
	}
	if c.Summary == "" {
		return text
	}
	return c.Summary + "\n\n" + text
}

func textWithContext(c store.Chunk) string {
	if c.Context == "" {
		return c.Text
	}
	return c.Context + "\n\n" + c.Text
}

// contextOf joins what a chunk's text is embedded below, outermost first.
func contextOf(path []string) string { return strings.Join(path, " > ") }

// Chunk cuts a text at headings, then blocks, sentences, words, and at last characters, and packs the pieces. With its
// context, and a summary where there is to be one, no chunk has more than MaxTokens tokens. Together the chunks hold every
// character that is not blank.
func Chunk(e Extracted, settings store.Chunking) []store.Chunk {
	chunks := cut(e, settings, 0)
	if settings.Context == store.ContextSummary && len(chunks) > 1 { // one chunk needs no summary
		chunks = cut(e, settings, summaryTokens(settings))
	}
	return chunks
}

// cut leaves a reserve of tokens free.
func cut(e Extracted, settings store.Chunking, reserve int) []store.Chunk {
	p := packer{tok: WordPiece(), text: e.Text, settings: settings, reserve: reserve, titled: -1}
	if settings.Split == store.SplitFixed {
		return p.fixed()
	}
	p.title = strings.Join(strings.Fields(e.Title), " ")
	if store.BeginsWith(e.Text, p.title) {
		p.titled = len(e.Text) - len(strings.TrimLeftFunc(e.Text, unicode.IsSpace))
	}
	at, cp := 0, 0
	for _, b := range e.Blocks {
		start := at + byteOffset(e.Text[at:], b.Start-cp)
		p.block(Block{Kind: Paragraph}, at, start)
		end := start + byteOffset(e.Text[start:], b.End-b.Start)
		p.block(b, start, end)
		at, cp = end, b.End
	}
	p.block(Block{Kind: Paragraph}, at, len(e.Text))
	p.endSection()
	return p.chunks
}

// fixed cuts every MaxTokens tokens between words.
func (p *packer) fixed() []store.Chunk {
	p.fit()
	for at := 0; at < len(p.text); {
		stop := at + p.wordEnd(p.text[at:])
		if from, to := trim(p.text, at, stop); from < to {
			p.word(from, to)
		}
		at = stop
	}
	p.flush()
	return p.chunks
}

// byteOffset is the size of the first n code points of s.
func byteOffset(s string, n int) int {
	i := 0
	for ; n > 0 && i < len(s); n-- {
		_, size := utf8.DecodeRuneInString(s[i:])
		i += size
	}
	return i
}

// piece is a stretch of text, in bytes, with its count of tokens and code points.
type piece struct{ start, end, tokens, runes int }

// packer fills chunks with pieces.
type packer struct {
	tok      *Tokenizer
	text     string
	settings store.Chunking
	reserve  int // tokens of a chunk that are left free

	title     string   // of the document
	titled    int      // where the text begins with the title; -1: it does not
	path      []string // headings, outermost first
	levels    []int
	heading   []string // of the open chunk: path cut to its share of tokens
	context   string   // title and heading
	budget    int      // tokens left for text beside heading and special tokens
	pieces    []piece  // of the open chunk
	before    []piece  // of the chunk before it, if that is of the same section
	fresh     bool     // pieces holds more than overlap
	bytes, cp int      // a byte offset and its code point, for counting forward
	chunks    []store.Chunk
}

func (p *packer) block(b Block, start, end int) {
	if b.Kind == Heading && strings.TrimSpace(p.text[start:end]) != "" {
		p.endSection()
		p.pieces = nil
		p.enter(b.Level, strings.Join(strings.Fields(p.text[start:end]), " "))
	}
	if p.budget == 0 {
		p.fit()
	}
	for at := start; at < end; {
		stop := at + sentenceEnd(p.text[at:end], b.Kind)
		p.sentence(at, stop)
		at = stop
	}
}

func (p *packer) enter(level int, title string) {
	for len(p.levels) > 0 && p.levels[len(p.levels)-1] >= level {
		p.levels, p.path = p.levels[:len(p.levels)-1], p.path[:len(p.path)-1]
	}
	p.levels, p.path = append(p.levels, level), append(slices.Clone(p.path), title)
	p.fit()
}

// fit keeps the deepest headings that take at most a quarter of the tokens, then the title, and leaves the rest for text.
func (p *packer) fit() {
	p.heading = p.path
	for len(p.heading) > 0 && p.tooLong(p.heading) {
		p.heading = p.heading[1:]
	}
	p.context = ""
	if p.settings.Context != store.ContextNone {
		p.context = contextOf(p.heading)
		if all := append([]string{p.title}, p.heading...); p.title != "" && !slices.Contains(p.heading, p.title) && !p.tooLong(all) {
			p.context = contextOf(all)
		}
	}
	p.budget = p.settings.MaxTokens - specialTokens - p.reserve - p.tok.count(p.context)
}

func (p *packer) tooLong(path []string) bool {
	return p.tok.count(contextOf(path)) > p.settings.MaxTokens/4
}

func (p *packer) maxRunes() int { return p.settings.MaxTokens * maxRunesPerToken }

// sentence adds a sentence, or its words where it does not fit into a chunk.
func (p *packer) sentence(start, end int) {
	start, end = trim(p.text, start, end)
	if start == end {
		return
	}
	s := p.measure(start, end)
	if s.tokens <= p.budget && s.runes <= p.maxRunes() {
		p.add(s)
		return
	}
	for at := start; at < end; {
		stop := at + p.wordEnd(p.text[at:end])
		if from, to := trim(p.text, at, stop); from < to {
			p.word(from, to)
		}
		at = stop
	}
}

// word adds a word, or runs of characters of one that does not fit. A character has at most three tokens (a Hangul
// syllable), so a run always fits in the end.
func (p *packer) word(start, end int) {
	for start < end {
		stop := start + byteOffset(p.text[start:end], p.maxRunes())
		w := p.measure(start, stop)
		for w.tokens > p.budget && w.runes > 1 {
			stop = start + byteOffset(p.text[start:stop], w.runes/2)
			w = p.measure(start, stop)
		}
		if stop < end || p.cuts(start) {
			p.flush()
			p.pieces, p.before = nil, nil // a cut word does not count additively with its rest
		}
		p.add(w)
		start = stop
	}
}

// cuts tells whether the open chunk ends at start in the middle of a word.
func (p *packer) cuts(start int) bool {
	if len(p.pieces) == 0 || p.pieces[len(p.pieces)-1].end != start {
		return false
	}
	before, _ := utf8.DecodeLastRuneInString(p.text[:start])
	after, _ := utf8.DecodeRuneInString(p.text[start:])
	return !p.tok.isolates(before) && !p.tok.isolates(after)
}

func (p *packer) measure(start, end int) piece {
	text := p.text[start:end]
	return piece{start, end, p.tok.count(text), utf8.RuneCountInString(text)}
}

// add puts a piece into the open chunk, closing it first if the piece does not fit beside what is there.
func (p *packer) add(s piece) {
	if !p.fits(s) {
		p.flush()
	}
	for len(p.pieces) > 0 && !p.fits(s) {
		p.pieces = p.pieces[1:]
	}
	p.pieces = append(p.pieces, s)
	p.fresh = true
}

func (p *packer) fits(s piece) bool {
	tokens, start := s.tokens+tokensOf(p.pieces), s.start
	if len(p.pieces) > 0 {
		start = p.pieces[0].start
	}
	return tokens <= p.budget && s.end-start <= p.maxRunes()*utf8.UTFMax && (len(p.pieces) == 0 || utf8.RuneCountInString(p.text[start:s.end]) <= p.maxRunes())
}

// flush closes the open chunk and keeps its last pieces as overlap of the next.
func (p *packer) flush() {
	if !p.fresh {
		return
	}
	c := store.Chunk{Ordinal: len(p.chunks), Heading: p.heading, Context: p.contextAt(p.pieces[0].start), Start: p.codePoint(p.pieces[0].start)}
	p.chunks = append(p.chunks, p.filled(c, p.pieces))
	p.before, p.pieces = p.pieces, p.overlap(p.pieces)
	p.fresh = false
}

// contextAt is the context of the chunk that starts there: one that begins with the title needs to be told the headings alone.
func (p *packer) contextAt(start int) string {
	if start == p.titled && p.context != "" {
		return contextOf(p.heading)
	}
	return p.context
}

// filled is a chunk with the text of pieces.
func (p *packer) filled(c store.Chunk, pieces []piece) store.Chunk {
	c.Text = p.text[pieces[0].start:pieces[len(pieces)-1].end]
	c.End = c.Start + utf8.RuneCountInString(c.Text)
	c.Tokens = p.tok.Count(EmbedText(c))
	return c
}

// overlap is the last pieces that together have at most Overlap tokens, but never the whole chunk.
func (p *packer) overlap(pieces []piece) []piece {
	keep, tokens := len(pieces), 0
	for keep > 1 && tokens+pieces[keep-1].tokens <= p.settings.Overlap {
		keep--
		tokens += pieces[keep].tokens
	}
	return slices.Clone(pieces[keep:])
}

// endSection closes a section's last chunk. What is left for it may be a sentence or two, which say little by themselves and which
// BM25 ranks too high for being short: then the last two chunks share their text evenly.
func (p *packer) endSection() {
	if p.fresh && p.before != nil && 2*tokensOf(p.pieces) < p.budget {
		p.share()
	}
	p.flush()
	p.before = nil
}

func (p *packer) share() {
	all := slices.Clone(p.before)
	for _, s := range p.pieces {
		if s.start > p.before[len(p.before)-1].start {
			all = append(all, s)
		}
	}
	half, n, tokens := tokensOf(all)/2, 0, 0
	for n < len(all)-1 && tokens+all[n].tokens/2 <= half {
		tokens += all[n].tokens
		n++
	}
	if n == 0 || n >= len(p.before) {
		return
	}
	first, second := all[:n], append(p.overlap(all[:n]), all[n:]...)
	if tokensOf(second) > p.budget || utf8.RuneCountInString(p.text[second[0].start:second[len(second)-1].end]) > p.maxRunes() {
		return
	}
	last := &p.chunks[len(p.chunks)-1]
	*last = p.filled(*last, first)
	p.pieces = second
}

func tokensOf(pieces []piece) (n int) {
	for _, s := range pieces {
		n += s.tokens
	}
	return n
}

// codePoint converts a byte offset; chunks begin in ascending order, so each byte is counted once.
func (p *packer) codePoint(offset int) int {
	p.cp += utf8.RuneCountInString(p.text[p.bytes:offset])
	p.bytes = offset
	return p.cp
}

func trim(text string, start, end int) (int, int) {
	s := text[start:end]
	left := strings.TrimLeftFunc(s, unicode.IsSpace)
	start += len(s) - len(left)
	return start, start + len(strings.TrimRightFunc(left, unicode.IsSpace))
}

// sentenceEnd is the size of the first sentence of s; of code and tables, of the first line.
func sentenceEnd(s string, kind BlockKind) int {
	for i, r := range s {
		next := i + utf8.RuneLen(r)
		switch {
		case r == '\n' && (kind == Code || kind == Table || strings.HasPrefix(s[next:], "\n")):
			return next
		case strings.ContainsRune("。！？", r):
			return next
		case (r == '.' || r == '!' || r == '?') && kind != Code && next < len(s) && (s[next] == ' ' || s[next] == '\n'):
			return next + 1
		}
	}
	return len(s)
}

// wordEnd is the size of the first word of s: up to white space, or one character that is a word of its own, as in Chinese.
func (p *packer) wordEnd(s string) int {
	for i, r := range s {
		if unicode.IsSpace(r) || p.tok.isolates(r) {
			if i == 0 {
				return utf8.RuneLen(r)
			}
			return i
		}
	}
	return len(s)
}
