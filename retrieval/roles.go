package retrieval

import (
	"maps"
	"slices"
	"strings"
)

const (
	// mainShare of a claim's weight makes the sentence that holds it the one that the claim speaks about. Words that a
	// wider window adds do not change who does what in it.
	mainShare = 0.5
	// gapWords: a substitution replaces at most this many words by as many.
	gapWords = 3
	// siblingSwap is how much a word counts that stands elsewhere in the passages, in the place of another one: it may be
	// a paraphrase.
	siblingSwap = 0.8
	// minRoot of two words that differ by their prefixes.
	minRoot = 4
)

// main is the sentence of a window that holds most of the claim; ok is false if none holds enough.
func (c *Checker) main(cl claim, w window) (at int, ok bool) {
	most := 0.0
	for i := w.first; i <= w.last; i++ {
		v := 0.0
		for j, t := range cl.content {
			v += cl.weights[j] * held(t, c.evidence[i].keys)
		}
		if v > most {
			at, most = i, v
		}
	}
	return at, most >= mainShare*cl.weight
}

// pair is one aligned word: indexes in the claim's and the source's content words.
type pair struct{ claim, source int }

// align is a longest common subsequence of two lists of words.
func align(a, b []token) []pair {
	width := len(b) + 1
	length := make([]int, (len(a)+1)*width)
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i].key == b[j].key {
				length[i*width+j] = length[(i+1)*width+j+1] + 1
			} else {
				length[i*width+j] = max(length[(i+1)*width+j], length[i*width+j+1])
			}
		}
	}
	var out []pair
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i].key == b[j].key:
			out = append(out, pair{i, j})
			i, j = i+1, j+1
		case length[(i+1)*width+j] >= length[i*width+j+1]:
			i++
		default:
			j++
		}
	}
	return out
}

// compareOrder looks for words of the claim that stand in the place of others, and for two that have changed places.
// "Synchronous commit loses" where the source says "asynchronous commit loses" is swapped: 1 for a contrary, siblingSwap for
// a word that the passages use for something else. "Ben beat Anna" where it says "Anna beat Ben" is reversed.
func (c *Checker) compareOrder(cl claim, source []token, keys map[string]bool) (swapped, reverse float64) {
	theirs := comparable(source)
	pairs := align(cl.words, theirs)
	reverse = max(reversed(cl.tokens, source), turned(cl.joints, source))
	if cl.round != nil { // "B is A" says the same
		if found := align(cl.round, theirs); len(found) >= len(pairs) {
			swapped, _ = c.compareGaps(cl, cl.round, theirs, found, keys)
			if len(found) > len(pairs) { // this is the order that the source has
				return swapped, reverse
			}
		}
	}
	other, exchanged := c.compareGaps(cl, cl.words, theirs, pairs, keys)
	return max(swapped, other), max(exchanged, reverse)
}

// compareGaps looks at what stands between aligned words.
func (c *Checker) compareGaps(cl claim, mine, theirs []token, pairs []pair, keys map[string]bool) (swapped, exchanged float64) {
	var gaps []gap
	before := pair{-1, -1}
	for _, p := range append(pairs, pair{len(mine), len(theirs)}) {
		g := gap{before.claim + 1, p.claim, before.source + 1, p.source}
		before = p
		if n, m := g.mineEnd-g.mine, g.theirsEnd-g.theirs; n > 0 && n <= gapWords && m > 0 && m <= gapWords {
			gaps = append(gaps, g)
		}
	}
	// u is missing: the source has it more often than the claim, which may have it elsewhere, too.
	missing := func(u token) bool { return !cl.keys[u.key] || count(mine, u) < count(theirs, u) }
	for _, g := range gaps {
		if t, u := mine[g.mine], theirs[g.theirs]; g.mineEnd-g.mine == 1 && g.theirsEnd-g.theirs == 1 {
			switch {
			case t.name && u.name && !t.first && keys[t.key] && !cl.keys[u.key] && !c.question[t.key] && !sharedRoot(t.key, u.key):
				swapped = max(swapped, siblingSwap) // a name that the window tells something else of
			case c.contrast(t, u) == 1 && missing(u) && count(mine, t) > count(theirs, t):
				swapped = 1
			}
		}
		for _, t := range mine[g.mine:g.mineEnd] {
			for _, u := range theirs[g.theirs:g.theirsEnd] {
				if !keys[t.key] && !related(t, keys) && !t.number && !u.number && !t.cue && !u.cue && !c.question[t.key] && missing(u) {
					swapped = max(swapped, c.contrast(t, u))
				}
			}
		}
	}
	if exchangedGaps(gaps, mine, theirs) {
		exchanged = 1
	}
	return swapped, exchanged
}

// count of a word in a list.
func count(words []token, t token) (n int) {
	for _, w := range words {
		if w.key == t.key {
			n++
		}
	}
	return n
}

// sidesOfIs parts a sentence at its only "is".
func sidesOfIs(tokens []token) (one, two []token, ok bool) {
	at := -1
	for i, t := range tokens {
		is := t.lower == "is" || t.lower == "are" || t.lower == "was" || t.lower == "were"
		if t.cue || is && at >= 0 {
			return nil, nil, false
		}
		if is {
			at = i
		}
	}
	if at < 1 || at == len(tokens)-1 {
		return nil, nil, false
	}
	return tokens[:at], tokens[at+1:], true
}

// saysOtherwise: the claim is "A is B", a sentence of the passages says what A is, and the window leaves out what makes it A. "The
// default level is Repeatable" is not supported by "the Repeatable level …" where "Committed is the default level" stands beside.
func (c *Checker) saysOtherwise(cl claim, w window) bool {
	one, two, ok := sidesOfIs(cl.tokens)
	if !ok {
		return false
	}
	holds := func(keys map[string]bool, side []token) bool {
		return !slices.ContainsFunc(side, func(t token) bool { return held(t, keys) == 0 })
	}
	keys := c.keysIn(w)
	for _, side := range [][]token{contentOf(one), contentOf(two)} {
		if len(side) < 2 || holds(keys, side) {
			continue
		}
		if slices.ContainsFunc(c.evidence, func(e evidence) bool {
			_, _, is := sidesOfIs(e.tokens)
			return is && e.passage == w.passage && holds(e.keys, side)
		}) {
			return true
		}
	}
	return false
}

// keysIn are the keys of a window's sentences.
func (c *Checker) keysIn(w window) map[string]bool {
	if w.first == w.last {
		return c.evidence[w.first].keys
	}
	keys := map[string]bool{}
	for _, e := range c.evidence[w.first : w.last+1] {
		maps.Copy(keys, e.keys)
	}
	return keys
}

// comparable words are those with a meaning of their own, "before" and "more" among them.
func comparable(tokens []token) []token {
	var out []token
	for _, t := range tokens {
		if !t.stop || opposites[t.lower] != nil || t.lower == "by" {
			out = append(out, t)
		}
	}
	return out
}

// gap is what stands between two aligned words on both sides.
type gap struct{ mine, mineEnd, theirs, theirsEnd int }

// exchangedGaps: one gap has x for y and another y for x.
func exchangedGaps(gaps []gap, mine, theirs []token) bool {
	has := func(list []token, key string) bool {
		for _, t := range list {
			if t.key == key {
				return true
			}
		}
		return false
	}
	for i, g := range gaps {
		for _, h := range gaps[i+1:] {
			for _, x := range mine[g.mine:g.mineEnd] {
				for _, y := range mine[h.mine:h.mineEnd] {
					if x.content() && y.content() && x.key != y.key && has(theirs[g.theirs:g.theirsEnd], y.key) && has(theirs[h.theirs:h.theirsEnd], x.key) &&
						turns(mine[g.mine:h.mineEnd]) == turns(theirs[g.theirs:h.theirsEnd]) {
						return true
					}
				}
			}
		}
	}
	return false
}

func (c *Checker) contrast(mine, theirs token) float64 {
	switch {
	case meaning(mine.key) == meaning(theirs.key) || sharedRoot(mine.key, theirs.key):
		return 0
	case contraryPrefix(mine.lower, theirs.lower) || opposed(mine, theirs):
		return 1
	case c.whole[mine.key] && c.idf[mine.key] > 0:
		return siblingSwap
	}
	return 0
}

// opposed: the two are the sides of one pair of opposites.
func opposed(a, b token) bool {
	mine, theirs := sides([]token{a}), sides([]token{b})
	for pair, m := range mine {
		if t := theirs[pair]; t != 0 && t != m && t|m == 3 && t != 3 && m != 3 {
			return true
		}
	}
	return false
}

// sharedRoot: forms of one word that the stemmer keeps apart.
func sharedRoot(a, b string) bool {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n >= 5 && n >= min(len(a), len(b))-2
}

// prefixes that turn a word's sense or place. The empty one is among them: "synchronous" is not "asynchronous".
var prefixes = []string{"", "a", "an", "un", "in", "im", "il", "ir", "dis", "non", "anti", "de", "hyper", "hypo", "pre", "post", "sub", "super",
	"inter", "intra", "over", "under", "multi", "mono", "uni", "micro", "macro", "endo", "exo", "homo", "hetero", "symmetr", "asymmetr"}

func contraryPrefix(a, b string) bool {
	for _, p := range prefixes {
		rest, ok := strings.CutPrefix(a, p)
		if !ok || len(rest) < minRoot {
			continue
		}
		root := stem(strings.TrimPrefix(rest, "-"))
		for _, q := range prefixes {
			other, ok := strings.CutPrefix(b, q)
			if ok && p != q && len(other) >= minRoot && stem(other) == root {
				return true
			}
		}
	}
	return false
}

// reversed is 1 if two words stand on opposite sides of a third in claim and source ("Anna beat Ben", "Ben beat Anna").
func reversed(claim, source []token) float64 {
	places, where := occurrences(claim), occurrences(source)
	for i, v := range claim {
		at, once := single(where, v)
		if _, mine := single(places, v); !once || !mine || !v.content() {
			continue
		}
		x, okx := nearest(claim, where, i, -1)
		y, oky := nearest(claim, where, i, 1)
		if !okx || !oky {
			continue
		}
		sx, sy := where[claim[x].key][0], where[claim[y].key][0]
		if sy < at && at < sx && sameClause(source, sy, sx) && sameClause(claim, x, y) &&
			turns(claim[x:y+1]) == turns(source[sy:sx+1]) && !listed(claim[x:y+1]) && !listed(source[sy:sx+1]) {
			return 1
		}
	}
	return 0
}

// turned is 1 if the claim has two words the other way round about the same small words: "from April through November" where the
// source has "from November through April".
func turned(claim []joint, source []token) float64 {
	if len(claim) == 0 {
		return 0
	}
	theirs := jointsOf(source)
	for _, j := range claim {
		if j.a != j.b && slices.Contains(theirs, joint{j.b, j.between, j.a}) && !slices.Contains(theirs, j) {
			return 1
		}
	}
	return 0
}

// joint is two neighbouring words of meaning and the small words between them.
type joint struct{ a, between, b string }

// bothWays are the small words about which two others may change places.
var bothWays = set("and or is are was were be being been with as like not")

// jointsOf a sentence are those whose small words have an order.
func jointsOf(tokens []token) (out []joint) {
	last := -1
	for i, t := range tokens {
		if t.stop {
			continue
		}
		if last >= 0 && i > last+1 && tokens[last].clause == t.clause && !hasAny(tokens[last+1:i], bothWays) {
			between := make([]string, 0, i-last-1)
			for _, s := range tokens[last+1 : i] {
				between = append(between, s.lower)
			}
			out = append(out, joint{tokens[last].key, strings.Join(between, " "), t.key})
		}
		last = i
	}
	return out
}

func occurrences(tokens []token) map[string][]int {
	m := map[string][]int{}
	for i, t := range tokens {
		m[t.key] = append(m[t.key], i)
	}
	return m
}

func single(where map[string][]int, t token) (int, bool) {
	if at := where[t.key]; len(at) == 1 {
		return at[0], true
	}
	return 0, false
}

// nearest content word on one side that the source has once.
func nearest(claim []token, where map[string][]int, from, step int) (int, bool) {
	for i := from + step; i >= 0 && i < len(claim); i += step {
		if claim[i].content() {
			_, once := single(where, claim[i])
			return i, once
		}
	}
	return 0, false
}

func sameClause(tokens []token, from, to int) bool { return tokens[from].clause == tokens[to].clause }

// turns counts the words that turn a relation round, as in the passive.
func turns(tokens []token) (n int) {
	for _, t := range tokens {
		if t.lower == "by" || t.lower == "from" || t.lower == "of" || t.lower == "in" || t.lower == "for" || t.lower == "with" {
			n++
		}
	}
	return n
}

func listed(tokens []token) bool {
	for _, t := range tokens {
		if t.lower == "and" || t.lower == "or" {
			return true
		}
	}
	return false
}

// units that change a number.
var units = set(`km m cm mm mile feet foot inch kg g mg gram pound ton second minute hour day week month year decad centuri percent
	dollar euro pound cent mb gb kb tb byte bit ms hz khz mhz ghz volt watt degre celsius fahrenheit liter litr ml million billion`)

// unitMismatch is 1 if a number of the claim stands before one unit here and only before others in the source.
func unitMismatch(claim, source []token) float64 {
	for i, t := range claim {
		unit := unitAfter(claim, i)
		if !t.number || unit == "" {
			continue
		}
		same, other := false, false
		for j, u := range source {
			if u.key == t.key {
				theirs := unitAfter(source, j)
				same = same || theirs == unit || theirs == ""
				other = other || theirs != "" && theirs != unit
			}
		}
		if other && !same {
			return 1
		}
	}
	return 0
}

func unitAfter(tokens []token, at int) string {
	if at+1 < len(tokens) && units[tokens[at+1].key] {
		return tokens[at+1].key
	}
	return ""
}

// pronounsIn: a sentence that speaks of "it" takes its names from the one before.
func pronounsIn(tokens []token) bool {
	for _, t := range tokens {
		if pronouns[t.lower] {
			return true
		}
	}
	return false
}
