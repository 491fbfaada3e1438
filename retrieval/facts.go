package retrieval

import (
	"slices"
	"strings"
)

const (
	// scopeWords: a negation reaches this many content words on.
	scopeWords = 3
	// factContext: words on each side of a number or name that must agree with those around it in the source.
	factContext = 3
	// factReach is the same in the source, wider, because a paraphrase is usually shorter.
	factReach = 7
	// besides is what a number of the same sentence must lead by more: it may well be told of in the same words.
	besides = 0.3
	// sentenceClauses keeps the clause numbers of a window's sentences apart.
	sentenceClauses = 1000
)

// signals compares a claim with a window.
func (c *Checker) signals(cl claim, w window) Signals {
	tokens, keys := c.evidence[w.first].tokens, c.keysIn(w)
	if w.last > w.first {
		tokens = nil
		for i, e := range c.evidence[w.first : w.last+1] {
			for _, t := range e.tokens {
				t.clause += i * sentenceClauses
				tokens = append(tokens, t)
			}
		}
	}
	s := Signals{Facts: 1}
	pointing := pronounsIn(c.evidence[w.first].tokens)
	var found, near float64
	for i, t := range cl.content {
		weight, inWindow := cl.weights[i], keys[t.key]
		switch {
		case inWindow:
			found += weight
			near += weight
		case related(t, keys):
			found += 0.8 * weight
			near += 0.8 * weight
			inWindow = true
		case c.around[w.passage][t.key]:
			near += weight
		}
		if inWindow {
			continue
		}
		missing := 1.0
		if c.titles[w.passage][t.key] {
			missing = inTitle
		} else if c.around[w.passage][t.key] {
			missing = elsewhere
		}
		if t.number {
			s.MissingNumbers += missing
		} else if t.name && (!t.first || !c.whole[t.key]) {
			if missing == elsewhere && pointing {
				missing = pointedAt
			}
			s.MissingNames += missing
		}
	}
	s.Coverage, s.Context = found/cl.weight, near/cl.weight
	s.Bigrams, s.Order = sequence(cl.content, tokens)
	s.Facts, s.Displaced = factAgreement(cl.content, tokens, cl.keys)
	s.Negation = negationMismatch(cl, tokens, keys)
	s.Opposite = oppositeMismatch(cl.tokens, tokens)
	s.Overclaims = overclaim(cl.tokens, tokens)
	s.Units = unitMismatch(cl.tokens, tokens)
	if at, ok := c.main(cl, w); ok {
		e := c.evidence[at]
		s.Swapped, s.Reversed = c.compareOrder(cl, e.tokens, e.keys)
	}
	s.Question = share(c.question, keys)
	return s
}

func share(want, have map[string]bool) float64 {
	if len(want) == 0 {
		return 1
	}
	n := 0
	for k := range want {
		if have[k] {
			n++
		}
	}
	return float64(n) / float64(len(want))
}

func contentOf(tokens []token) []token {
	out := make([]token, 0, len(tokens))
	for _, t := range tokens {
		if t.content() {
			out = append(out, t)
		}
	}
	return out
}

// sequence compares word order: shared neighbour pairs, and the longest common subsequence over the shared words.
func sequence(claim, source []token) (bigrams, order float64) {
	source = contentOf(source)
	pairs := map[[2]string]bool{}
	inSource := map[string]bool{}
	for i, t := range source {
		inSource[t.key] = true
		if i > 0 {
			pairs[[2]string{source[i-1].key, t.key}] = true
		}
	}
	matched, shared := 0, 0
	for i, t := range claim {
		if inSource[t.key] {
			matched++
		}
		if i > 0 && pairs[[2]string{claim[i-1].key, t.key}] {
			shared++
		}
	}
	if len(claim) > 1 {
		bigrams = float64(shared) / float64(len(claim)-1)
	} else if matched > 0 {
		bigrams = 1
	}
	if matched > 0 {
		order = float64(commonSubsequence(claim, source)) / float64(matched)
	}
	return bigrams, order
}

func commonSubsequence(a, b []token) int {
	row := make([]int, len(b)+1)
	for i := range a {
		diagonal := 0
		for j := range b {
			above := row[j+1]
			if a[i].key == b[j].key {
				row[j+1] = diagonal + 1
			} else {
				row[j+1] = max(above, row[j])
			}
			diagonal = above
		}
	}
	return row[len(b)]
}

// factAgreement finds for each number and name of the claim the occurrence in the source whose neighbours agree best. It
// is what tells "Anna beat Ben" from "Ben beat Anna", and the right number from another one of the same paragraph. displaced is how
// much better another number fits there, which the claim does not have: "in May 2014" where the source says "in May 2013" and
// tells of 2014 beside.
func factAgreement(claim, source []token, keys map[string]bool) (facts, displaced float64) {
	source = contentOf(source)
	var sum, n float64
	worst := 1.0
	for i, t := range claim {
		if !t.number && !t.name {
			continue
		}
		best, told := 0.0, []int(nil) // the sentences that have it
		for j, u := range source {
			if u.key == t.key {
				best = max(best, neighbourShare(claim, i, source, j))
				told = append(told, u.clause/sentenceClauses)
			}
		}
		if told == nil {
			continue
		}
		if t.number {
			displaced = max(displaced, bestOther(claim, i, source, keys, told)-best)
		}
		sum += best
		worst = min(worst, best)
		n++
	}
	if n == 0 {
		return 1, 0
	}
	return (sum/n + worst) / 2, displaced
}

// bestOther is how well the neighbours of claim[i], a number that these sentences tell, agree with those of a number that
// the claim does not have.
func bestOther(claim []token, i int, source []token, keys map[string]bool, told []int) (best float64) {
	for j, u := range source {
		if !u.number || keys[u.key] {
			continue
		}
		share := neighbourShare(claim, i, source, j)
		if slices.Contains(told, u.clause/sentenceClauses) {
			share -= besides
		}
		best = max(best, share)
	}
	return best
}

func neighbourShare(claim []token, i int, source []token, j int) float64 {
	near := map[string]bool{}
	for k := max(0, j-factReach); k < min(len(source), j+factReach+1); k++ {
		if k != j && source[k].clause/sentenceClauses == source[j].clause/sentenceClauses {
			near[source[k].key] = true
		}
	}
	have, all := 0, 0
	for k := max(0, i-factContext); k < min(len(claim), i+factContext+1); k++ {
		if k == i {
			continue
		}
		all++
		if near[claim[k].key] {
			have++
		}
	}
	if all == 0 {
		return 1
	}
	return float64(have) / float64(all)
}

// scope is what one negation governs.
type scope []string

// negationScopes lists for each negating word the next content words of its clause, or the ones before if none follow.
func negationScopes(tokens []token) []scope {
	var out []scope
	for i, t := range tokens {
		if !t.cue || (i == 0 && t.lower == "no" && len(tokens) > 1 && tokens[1].clause != t.clause) {
			continue // "No, it …" answers the question, it negates nothing that follows
		}
		if t.lower == "not" && i+1 < len(tokens) && tokens[i+1].lower == "only" {
			continue
		}
		var s scope
		for j := i + 1; j < len(tokens) && tokens[j].clause == t.clause && len(s) < scopeWords; j++ {
			if tokens[j].content() {
				s = append(s, tokens[j].key)
			}
		}
		for j := i - 1; len(s) == 0 && j >= 0 && tokens[j].clause == t.clause; j-- {
			if tokens[j].content() {
				s = append(s, tokens[j].key)
			}
		}
		out = append(out, s)
	}
	return out
}

// negationMismatch is 1 if either side negates words that the other asserts.
func negationMismatch(cl claim, source []token, keys map[string]bool) float64 {
	scopes := negationScopes(source)
	if oneSided(cl.scopes, scopes, keys, len(scopes) == 0) || oneSided(scopes, cl.scopes, cl.keys, false) {
		return 1
	}
	return prefixNegation(cl, source, keys)
}

// oneSided: a scope of a whose words occur on the other side, but that agrees with none of its scopes.
func oneSided(a, b []scope, otherKeys map[string]bool, strict bool) bool {
	for _, s := range a {
		asserted := strict
		for _, k := range s {
			asserted = asserted || otherKeys[k]
		}
		agrees := func(other scope) bool { return s.agrees(other) }
		if asserted && !slices.ContainsFunc(b, agrees) {
			return true
		}
	}
	return false
}

// agrees: two scopes negate the same if they share half of the shorter one's words, the negated verb or noun among them:
// "does not delete dead rows" says nothing like "has no dead rows".
func (s scope) agrees(other scope) bool {
	same := func(k string) bool { return len(s) > 0 && meaning(k) == meaning(s[0]) }
	if !slices.ContainsFunc(other, same) {
		return false
	}
	shared := 0
	for _, k := range s {
		for _, o := range other {
			if meaning(k) == meaning(o) {
				shared++
				break
			}
		}
	}
	return shared > 0 && 2*shared >= min(len(s), len(other))
}

// meaning maps the stems of verbs that negations are often paraphrased with to one of them.
func meaning(key string) string {
	if m, is := synonyms[key]; is {
		return m
	}
	return key
}

var synonyms = func() map[string]string {
	m := map[string]string{}
	for _, line := range strings.Split(strings.TrimSpace(synonymList), "\n") {
		words := strings.Fields(line)
		for _, w := range words {
			m[stem(w)] = stem(words[0])
		}
	}
	return m
}()

// One group a line.
const synonymList = `
remove delete reclaim drop erase discard eliminate purge
allow permit let enable
need require
block prevent stop
change modify alter update
use employ utilize
return give
keep retain preserve
contain hold include
begin start
show display
create make build
`

// prefixNegation finds "unstable" against "stable".
func prefixNegation(cl claim, source []token, keys map[string]bool) float64 {
	for _, t := range cl.content {
		if !keys[t.key] && hasPositive(t.lower, source, cl.keys) {
			return 1
		}
	}
	for _, t := range source {
		if t.content() && !cl.keys[t.key] && hasPositive(t.lower, cl.content, keys) {
			return 1
		}
	}
	return 0
}

func hasPositive(word string, others []token, alsoSaid map[string]bool) bool {
	for _, prefix := range [...]string{"un", "in", "im", "ir", "dis", "non", "il"} {
		rest, found := strings.CutPrefix(word, prefix)
		if !found || len(rest) < 4 {
			continue
		}
		key := stem(rest)
		for _, o := range others {
			if o.key == key && !alsoSaid["#both#"+key] {
				return true
			}
		}
	}
	return false
}

// oppositeMismatch is 1 if the claim uses a word whose opposite stands in the source, and neither side uses both.
func oppositeMismatch(claim, source []token) float64 {
	mine, theirs := sides(claim), sides(source)
	for pair, m := range mine {
		if t := theirs[pair]; t != 0 && m != 3 && t != 3 && m != t {
			return 1
		}
	}
	return 0
}

// sides marks per pair of opposites which side occurs: 1, 2, or 3 for both.
func sides(tokens []token) map[int]int {
	m := map[int]int{}
	for _, t := range tokens {
		for _, o := range opposites[t.lower] {
			m[o.pair] |= o.side
		}
		for _, o := range oppositeStems[t.key] {
			m[o.pair] |= o.side
		}
	}
	return m
}

type opposite struct{ pair, side int }

// opposites by word form; oppositeStems by stem.
var opposites, oppositeStems = func() (words, stems map[string][]opposite) {
	words, stems = map[string][]opposite{}, map[string][]opposite{}
	for i, line := range strings.Split(strings.TrimSpace(oppositeList), "\n") {
		left, right, _ := strings.Cut(line, "|")
		for side, list := range []string{left, right} {
			for _, w := range strings.Fields(list) {
				o := opposite{i, side + 1}
				if stopWords[w] {
					words[w] = append(words[w], o)
				} else {
					k := stem(w)
					if l := stems[k]; len(l) == 0 || l[len(l)-1] != o {
						stems[k] = append(stems[k], o)
					}
				}
			}
		}
	}
	return words, stems
}()

// One pair of opposites a line.
const oppositeList = `
increase increases increased increasing raise raises rise rises elevate elevated elevation enhance enhanced higher greater promote promotes upregulate upregulated upregulation stimulate improve improved boost accelerate amplify grow induce induces more stronger | decrease decreases decreased decreasing reduce reduces reduction lower lowers diminish diminished attenuate suppress suppressed inhibit inhibits inhibition downregulate downregulated downregulation impair impaired decline worsen prevent fall drop slow impede fewer less weaker
before earlier prior precede | after later following subsequent
first | last
high | low
large larger big | small smaller
long longer | short shorter
early | late
maximum most maximal | minimum least minimal
always | never
all every | none
enable enabled allow allows permit | disable disabled forbid prohibit deny
open | close closed
start begin | end stop finish
accept accepted | reject rejected refuse
include included | exclude excluded
positive positively | negative negatively
active activate activates activation | inactive deactivate inactivate inactivates inactivation
same identical | different
hot | cold
old older | young younger new
north northern | south southern
east eastern | west western
male men | female women
win won victory | lose lost defeat
true | false
possible | impossible
presence present | absence absent lack lacking
required mandatory must | optional
above over | below under
inside internal | outside external
upper | lower
left | right
good better best | bad worse worst
strong | weak
success succeed successful | failure fail unsuccessful
buy bought | sell sold
import | export
add added | remove removed
beneficial benefit protective | harmful detrimental
majority most | minority few
ancient | modern
rich wealthy | poor
inner | outer
major | minor
highest | lowest
gain gained | loss lost
wide wider broad | narrow narrower
thick thicker | thin thinner
heavy heavier | light lighter
wet | dry
simple simpler | complex complicated
common frequent | rare infrequent
cheap cheaper | expensive costly
easy easily | hard hardly difficult
input | output
read reads reading | write writes writing
send sends sent | receive receives received
encrypt | decrypt
synchronous synchronously | asynchronous asynchronously
static | dynamic
local | remote
single | multiple several
horizontal | vertical
forward | backward backwards
agree agreed | disagree disagreed
born birth | died death
rural | urban
mother | father
husband | wife
son | daughter
even | odd
worsened | improved
shallow | deep
near | far
full | empty
supersonic | subsonic
laminar | turbulent
public | private
ascending | descending
sensitive sensitivity | resistant resistance insensitive
susceptible | immune
acute | chronic
dependent | independent
faster fast | slower slow
`

// overclaim is 1 if the claim says "all" or "always" and the source does not, or the source only says "may".
func overclaim(claim, source []token) float64 {
	if (hasAny(claim, universals) && !hasAny(source, universals)) ||
		(hasAny(source, hedges) && !hasAny(claim, hedges)) {
		return 1
	}
	return 0
}

var (
	universals = set("all every always each only entirely completely exclusively")
	hedges     = set("may might could possibly perhaps sometimes some potentially suggests suggest likely")
)

func hasAny(tokens []token, words map[string]bool) bool {
	for _, t := range tokens {
		if words[t.lower] && (t.lower != "may" || !t.name) {
			return true
		}
	}
	return false
}
