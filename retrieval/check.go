package retrieval

import (
	"maps"
	"math"
	"slices"
	"sort"
	"strings"

	"github.com/footnote-rag/footnote/store"
)

const (
	// windowSentences: a claim may rest on up to three adjacent sentences; more would hide what supports it.
	windowSentences = 3
	// windowSeeds: windows are tried around this many of the best single sentences.
	windowSeeds = 6
	// widerCost is what each further sentence must gain, so that the shortest supporting span wins.
	widerCost = 0.03

	// deniedLead: a span of the contrary sense that holds this much more of a sentence keeps it from being supported.
	deniedLead = 0.1

	supportedScore = 0.62 // measured: see TestCheckerCorruptions
	partlyScore    = 0.35

	// wrongNumber and wrongName are what each missing number or name leaves of a score.
	wrongNumber = 0.40
	wrongName   = 0.45
	// elsewhere and inTitle: what a fact counts as missing that stands in the passage but outside the span, or in its
	// title or headings, which a span of the text takes for granted.
	elsewhere = 0.6
	inTitle   = 0.1
	// pointedAt: what a name counts as missing that stands elsewhere in a passage whose span speaks of "it" or "they".
	pointedAt = 0.3
	// conflict: from here on a missing fact, or a word in another's place, keeps a sentence from being supported.
	conflict = 0.5
	// displaced is the lead of another number's surroundings from which on it is the one that belongs there.
	displaced = 0.3
)

// Checker tells whether sentences are supported by a set of passages. It is deterministic and calls no model: words are
// aligned by stem and weighted by rarity, and numbers, names, negations, directions and quantifiers are compared. It is
// safe for concurrent use.
type Checker struct {
	passages  []store.Passage
	nearShare float64
	question  map[string]bool
	evidence  []evidence
	first     []int // index in evidence of each passage's first sentence, and the end
	idf       map[string]float64
	unseen    float64
	around    []map[string]bool // per passage: every key in it, its title and headings
	titles    []map[string]bool // per passage: its title and headings
	whole     map[string]bool   // every key of every passage
}

// evidence is one sentence of a passage.
type evidence struct {
	passage int
	span    Span // in the document
	tokens  []token
	keys    map[string]bool
	read    string // its translation, which is judged instead; "": the sentence itself
}

// NewChecker prepares passages, numbered from 1 in their order. The question completes answers such as "In 1990.".
func NewChecker(question string, passages []store.Passage) *Checker {
	c := &Checker{passages: passages, nearShare: nearShare, question: map[string]bool{}, idf: map[string]float64{}, whole: map[string]bool{}}
	for _, t := range tokenize(question) {
		if t.content() {
			c.question[t.key] = true
		}
	}
	for p, passage := range passages {
		c.first = append(c.first, len(c.evidence))
		around := keysOf(tokenize(passage.Title + " . " + strings.Join(passage.Heading, " . ")))
		c.titles = append(c.titles, maps.Clone(around))
		for _, s := range sentencesOf(passage) {
			tokens := tokenize(s.Text)
			e := evidence{p, Span{passage.Start + s.Span.Start, passage.Start + s.Span.End}, tokens, keysOf(tokens), s.read}
			for k := range e.keys {
				c.idf[k]++
				around[k], c.whole[k] = true, true
			}
			c.evidence = append(c.evidence, e)
		}
		c.around = append(c.around, around)
	}
	c.first = append(c.first, len(c.evidence))
	n := float64(len(c.evidence))
	for k, df := range c.idf {
		c.idf[k] = math.Log(1+(n-df+0.5)/(df+0.5)) + 0.5
	}
	c.unseen = math.Log(1+(n+0.5)/0.5) + 0.5
	return c
}

func keysOf(tokens []token) map[string]bool {
	m := make(map[string]bool, len(tokens))
	for _, t := range tokens {
		m[t.key] = true
	}
	return m
}

// Finding is the checker's opinion on one sentence.
type Finding struct {
	Claim   bool // false: nothing to check, such as a lone bullet
	Verdict Verdict
	Score   float64 // 0..1
	Source  int     // passage, from 1; 0 if unsupported
	Span    Span    // in the document; empty if unsupported
	Quote   string
	Read    string  // the quote's translation, where that was judged
	Signals Signals // of the best span
	Judged  bool    // by the second judge, not by the checker
}

// Signals explain a score. All but the counts are 0..1.
type Signals struct {
	Coverage       float64 // rarity-weighted share of the sentence's words found in the span
	Context        float64 // the same with the passage's other words, title and headings counted
	Bigrams        float64 // share of its neighbouring word pairs that are neighbours there too
	Order          float64 // share of the found words that stand in the same order
	MissingNumbers float64 // numbers not found; one found elsewhere in the passage counts less
	MissingNames   float64 // names not found; likewise
	Facts          float64 // how well the words around its numbers and names agree
	Displaced      float64 // how much better those around a number that it does not have agree
	Negation       float64 // 1: one negates what the other asserts
	Opposite       float64 // 1: opposite directions, such as rises and falls
	Overclaims     float64 // 1: "all" or "always" where the span is weaker
	Swapped        float64 // a word stands in the place of another that means something else
	Reversed       float64 // 1: two words have exchanged their places
	Units          float64 // 1: a number has another unit
	Question       float64 // share of the question's words that the span holds
	Near           float64 // how near the nearest sentence of the span is by its vector
	Compared       bool    // vectors were compared
}

// Check judges one sentence of an answer. cited are the passages the model named for it; they break ties.
func (c *Checker) Check(sentence string, cited ...int) Finding {
	return c.check(c.newClaim(sentence), nil, cited)
}

// check judges with what vectors tell, where that is known.
func (c *Checker) check(cl claim, near closeness, cited []int) Finding {
	if cl.empty() {
		return Finding{Verdict: Unsupported}
	}
	best := Finding{Claim: true, Verdict: Unsupported}
	bestValue, denied := math.Inf(-1), 0.0
	var span window
	for _, w := range c.windows(cl) {
		f := c.judge(cl, w, near)
		if f.Signals.Negation > 0 {
			denied = max(denied, f.Signals.Coverage)
		}
		if value := valueOf(f, w, cited); value > bestValue+1e-9 {
			best, bestValue, span = f, value, w
		}
	}
	if denied > best.Signals.Coverage+deniedLead || // what speaks most about it says the contrary
		best.Score >= supportedScore && c.saysOtherwise(cl, span) {
		best.Score = min(best.Score, supportedScore-0.01)
	}
	best.Verdict = verdictOf(best.Score)
	if best.Verdict == Unsupported { // a span that does not support would only lend its look to the sentence
		best.Source, best.Span, best.Quote, best.Read = 0, Span{}, "", ""
	}
	return best
}

// valueOf ranks findings: of equal scores the shorter span wins, then what answers the question or was cited.
func valueOf(f Finding, w window, cited []int) float64 {
	value := f.Score - widerCost*float64(w.last-w.first) + 0.03*f.Signals.Question
	if slices.Contains(cited, f.Source) {
		value += 0.02
	}
	return value
}

func verdictOf(score float64) Verdict {
	switch {
	case score >= supportedScore:
		return Supported
	case score >= partlyScore:
		return Partly
	}
	return Unsupported
}

// claim is a sentence of the answer, ready to compare.
type claim struct {
	tokens  []token
	content []token
	keys    map[string]bool
	weights []float64 // of content
	weight  float64
	scopes  []scope
	words   []token // comparable, as they stand
	round   []token // comparable, of "A is B" as "B is A"; nil for other sentences
	joints  []joint
}

// empty: there is nothing to check.
func (cl claim) empty() bool { return cl.weight == 0 && len(cl.tokens) == 0 }

func (c *Checker) newClaim(sentence string) claim {
	cl := claim{tokens: tokenize(sentence)}
	cl.keys = keysOf(cl.tokens)
	cl.scopes = negationScopes(cl.tokens)
	cl.words, cl.joints = comparable(cl.tokens), jointsOf(cl.tokens)
	if one, two, ok := sidesOfIs(cl.tokens); ok {
		cl.round = comparable(slices.Concat(two, one)) // "is" has no meaning of its own
	}
	for _, t := range cl.tokens {
		if !t.content() {
			continue
		}
		w := c.weightOf(t)
		cl.content = append(cl.content, t)
		cl.weights = append(cl.weights, w)
		cl.weight += w
	}
	if len(cl.content) == 0 { // "It is not so.": nothing but small words; compare those
		for _, t := range cl.tokens {
			cl.content = append(cl.content, t)
			cl.weights = append(cl.weights, 1)
			cl.weight++
		}
	}
	return cl
}

func (c *Checker) weightOf(t token) float64 {
	w, seen := c.idf[t.key]
	if !seen {
		w = c.unseen
		if !t.name && !t.number {
			w *= 0.75 // an unknown common word is often a paraphrase, an unknown name never
		}
	}
	if t.name || t.number {
		w *= 1.3
	}
	return w
}

// window is a run of adjacent sentences of one passage, by index in evidence.
type window struct{ passage, first, last int }

// windows lists candidates: the best sentences by coverage and the runs that contain them.
func (c *Checker) windows(cl claim) []window {
	seeds := c.seeds(cl)
	seen := map[window]bool{}
	var out []window
	for _, s := range seeds[:min(windowSeeds, len(seeds))] {
		p := c.evidence[s.at].passage
		for width := range windowSentences {
			for from := s.at - width; from <= s.at; from++ {
				w := window{p, from, from + width}
				if from >= c.first[p] && from+width < c.first[p+1] && !seen[w] {
					seen[w] = true
					out = append(out, w)
				}
			}
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].last-out[i].first < out[j].last-out[j].first })
	return out
}

// related: a word of the same root that the stemmer keeps apart ("activation", "activated" share "activat").
func related(t token, keys map[string]bool) bool {
	if t.number || t.name || len(t.key) < 6 {
		return false
	}
	for cut := 1; cut <= 3; cut++ {
		if len(t.key)-cut >= 5 && keys[t.key[:len(t.key)-cut]] {
			return true
		}
	}
	for _, suffix := range [...]string{"e", "ion", "ive", "or", "al", "ic", "iti", "ment"} {
		if keys[t.key+suffix] {
			return true
		}
	}
	return false
}

func (c *Checker) judge(cl claim, w window, near closeness) Finding {
	s := c.signals(cl, w)
	s.Compared, s.Near = near != nil, near.of(w)
	return Finding{Claim: true, Score: scoreOf(s, len(cl.content), c.nearShare), Source: w.passage + 1, Signals: s,
		Span: Span{c.evidence[w.first].span.Start, c.evidence[w.last].span.End}, Quote: c.quote(w), Read: c.read(w)}
}

// read joins the translations of a span's sentences.
func (c *Checker) read(w window) string {
	var all []string
	for _, e := range c.evidence[w.first : w.last+1] {
		if e.read != "" {
			all = append(all, e.read)
		}
	}
	return strings.Join(all, " ")
}

func (c *Checker) quote(w window) string {
	p := c.passages[w.passage]
	runes := []rune(p.Text)
	return string(runes[c.evidence[w.first].span.Start-p.Start : c.evidence[w.last].span.End-p.Start])
}

// scoreOf combines the signals. Coverage carries the score, and every kind of contradiction takes its part of it. The
// constants were chosen by hand and measured on scientific claims and on corrupted sentences; see TestCheckerClaims and
// TestCheckerCorruptions.
func scoreOf(s Signals, words int, share float64) float64 {
	base := 0.75*s.Coverage + 0.15*s.Context + 0.10*math.Max(s.Bigrams, 0.6*s.Order*s.Coverage)
	penalty := s.penalty()
	score := base * base * (3 - 2*base) * penalty // soft step: half a sentence is little support
	if s.Compared {
		score = s.fuse(score, penalty, share)
	}
	if s.conflicts() {
		score = math.Min(score, supportedScore-0.01)
	}
	if words <= 3 { // a fragment is no more than its question makes it
		score = math.Min(score, 0.45+s.Question)
	}
	return math.Max(0, math.Min(1, score))
}

// penalty is what contradictions leave of a score.
func (s Signals) penalty() float64 {
	p := math.Pow(wrongNumber, s.MissingNumbers) * math.Pow(wrongName, s.MissingNames)
	p *= 0.35 + 0.65*s.Facts
	p *= 1 - 0.70*s.Negation
	p *= 1 - 0.45*s.Opposite
	p *= 1 - 0.15*s.Overclaims
	p *= 1 - 0.50*s.Swapped
	p *= 1 - 0.55*s.Reversed
	p *= 1 - 0.55*s.Units
	return p
}

func (s Signals) conflicts() bool {
	return max(s.MissingNumbers, s.MissingNames, s.Negation, s.Opposite, s.Swapped, s.Reversed, s.Units) >= conflict || s.Displaced >= displaced
}
