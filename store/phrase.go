package store

import (
	"cmp"
	"context"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5"
)

const (
	// maxPhrases of a question are looked for; the others are words like any.
	maxPhrases = 4

	// A single word in quotation marks is looked for as it stands in a question of up to as many words; in a longer one the
	// marks are emphasis or distance.
	singleWordQuestion = 6

	// maxPhraseTexts bounds the texts that are read to see whether a phrase is there: the best by words.
	maxPhraseTexts = 200

	// maxPhraseHolders bounds the chunks with all the words of a phrase that are ranked for that.
	maxPhraseHolders = 1 << 16
)

// phrase is what a question has in quotation marks.
type phrase struct {
	words  string     // spaced
	lists  [][]string // its terms in each language of the collection
	places [][]int    // these terms in weighted; nil for a list of which one is in no chunk
}

// Quoted is what stands in quotation marks: it is looked for as it stands, whatever its spelling.
var Quoted = regexp.MustCompile(`"[^"]{0,400}"|“[^“”]{0,400}”`)

// phrasesOf are the parts of a question in quotation marks.
func phrasesOf(text string, languages []string) (phrases []phrase) {
	if len(languages) == 0 {
		languages = []string{"en"}
	}
	long := len(strings.Fields(spaced(text))) > singleWordQuestion
	for _, q := range Quoted.FindAllString(text, -1) {
		p := phrase{words: spaced(q)}
		n := len(strings.Fields(p.words))
		if n == 0 || n == 1 && long || len(phrases) == maxPhrases {
			continue
		}
		words := strings.Map(func(r rune) rune { // without compounds, which the text may continue
			if unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.Is(unicode.Mn, r) {
				return unicode.ToLower(r)
			}
			return ' '
		}, q)
		for _, l := range languages {
			terms := termsOf(words, []string{l})
			if !slices.ContainsFunc(p.lists, func(have []string) bool { return slices.Equal(have, terms) }) {
				p.lists = append(p.lists, terms)
			}
		}
		phrases = append(phrases, p)
	}
	return phrases
}

// spaced are the words of a text, folded and in lower case, with a space before and behind each. Characters of writing systems
// without spaces are words.
func spaced(text string) string {
	var b strings.Builder
	b.WriteByte(' ')
	gap := true
	for _, r := range fold(text) {
		if r == '\'' || r == '’' {
			continue // it's, its: one word
		}
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			if !gap {
				b.WriteByte(' ')
			}
			gap = true
			continue
		}
		if alone := cjk(r); alone && !gap {
			b.WriteByte(' ')
		}
		b.WriteRune(unicode.ToLower(r))
		if gap = cjk(r); gap {
			b.WriteByte(' ')
		}
	}
	if !gap {
		b.WriteByte(' ')
	}
	return b.String()
}

// place finds a phrase's terms among those of the question. A term that was left out of the question is not looked for.
func (l *lexicalLeg) place(p *phrase) {
	p.places = p.places[:0]
	for _, terms := range p.lists {
		places := []int{}
		for _, term := range terms {
			at := slices.IndexFunc(l.weighted, func(t weightedTerm) bool { return t.term == term })
			if _, asked := slices.BinarySearch(l.terms, term); at >= 0 {
				places = append(places, at)
			} else if asked {
				places = nil
				break
			}
		}
		if places != nil {
			p.places = append(p.places, places)
		}
	}
}

func (l *lexicalLeg) holds(chunk int64, places []int) bool {
	return !slices.ContainsFunc(places, func(at int) bool { return !l.weighted[at].in(chunk) })
}

func (t *weightedTerm) in(chunk int64) bool {
	for _, part := range t.parts {
		if _, ok := part.find(chunk); ok {
			return true
		}
	}
	return false
}

// mayHold tells that a chunk has all the words of a phrase, in whatever order.
func (l *lexicalLeg) mayHold(chunk int64, phrases []phrase) bool {
	return slices.ContainsFunc(phrases, func(p phrase) bool {
		return slices.ContainsFunc(p.places, func(places []int) bool { return l.holds(chunk, places) })
	})
}

// holders are the best chunks that have all the words of a phrase.
func (l *lexicalLeg) holders(phrases []phrase) []scored {
	seen := map[int64]bool{}
	best := best{k: maxPhraseTexts}
	allowed := l.allow.walk()
	for i := range phrases {
		l.place(&phrases[i])
		for _, places := range phrases[i].places {
			if len(places) == 0 {
				continue // stop words alone
			}
			rarest := slices.MinFunc(places, func(a, b int) int { return cmp.Compare(l.weighted[a].size(), l.weighted[b].size()) })
			for _, part := range l.weighted[rarest].parts {
				for _, posting := range part.list() {
					chunk := posting.chunk
					if len(seen) < maxPhraseHolders && !seen[chunk] && (l.allow == nil || allowed.has(chunk)) && l.holds(chunk, places) {
						seen[chunk] = true
						best.offer(scored{chunk, float64(l.scoreOf(chunk))})
					}
				}
			}
		}
	}
	return best.inOrder()
}

// raisePhrases puts candidates that have the question's phrases word for word before the others. Scores stay in 0 to 1: with n
// of m phrases a score becomes (n + score)/(m + 1), unless no candidate has any.
func (r *search) raisePhrases(ctx context.Context, all []candidate) error {
	var ids []int64
	for _, c := range all {
		if r.lexical.mayHold(c.chunk, r.phrases) && len(ids) < 2*maxPhraseTexts {
			ids = append(ids, c.chunk)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	type text struct {
		Chunk   int64
		Title   string
		Heading []string
		Text    string
	}
	texts, err := many(ctx, r.store.read, pgx.RowToStructByPos[text],
		"SELECT k.id, d.title, k.heading, k.text FROM chunks k JOIN documents d ON d.id = k.document_id WHERE k.id = ANY($1)", ids)
	if err != nil {
		return err
	}
	found := map[int64]int{}
	for _, t := range texts {
		words := spaced(t.Title) + "|" + spaced(strings.Join(t.Heading, " ")) + "|" + spaced(t.Text)
		for _, p := range r.phrases {
			if strings.Contains(words, p.words) {
				found[t.Chunk]++
			}
		}
	}
	if len(found) == 0 {
		return nil
	}
	for i := range all {
		c := &all[i]
		n := found[c.chunk]
		c.phrases = &n
		c.score = (float64(n) + c.score) / float64(len(r.phrases)+1)
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return cmp.Compare(b.score, a.score) })
	return nil
}
