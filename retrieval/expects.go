package retrieval

import (
	"regexp"
	"strings"
)

// expects is the kind of thing that answers a question, as far as its words say.
type expects int

const (
	anything expects = iota
	aTime
	aNumber
	aName
	aDefinition
)

var expectations = []struct {
	kind expects
	how  *regexp.Regexp
}{
	{aDefinition, regexp.MustCompile(`^(?:what|who) (?:is|are|was|were) (?:(?:an?|the) )?[\pL\pN .'_-]{1,40}\??$`)},
	{aTime, regexp.MustCompile(`\bwhen\b|\b(?:what|which) (?:year|date|day|month|century|decade|time)\b`)},
	{aNumber, regexp.MustCompile(`\bhow (?:many|much|long|old|far|tall|big|large|high|often|fast|deep|wide|heavy)\b` +
		`|\bwhat (?:percent|percentage|number|amount|age|distance|size|speed|temperature|fraction|proportion)\b` +
		`|\bwhat (?:is|was|are|were) the (?:number|population|cost|price|total|percentage|amount|average|length|height|size|age)\b`)},
	{aName, regexp.MustCompile(`\bwho(?:se|m)?\b|\bwhere\b` +
		`|\b(?:what|which) (?:person|group|company|organi[sz]ation|team|band|player|coach|actor|king|president|city|country|state|town|place|county|region|location|river|continent)\b`)},
}

// expectedBy a question. Only English ones say.
func expectedBy(question string) expects {
	q := strings.ToLower(strings.TrimSpace(question))
	for _, a := range expectations {
		if a.how.MatchString(q) {
			return a.kind
		}
	}
	return anything
}

// yearDigits, and the words that tell a time without a year.
const yearDigits = 4

var (
	months    = set(strings.Join(monthNames, " "))
	timeWords = set("centuri decad spring summer autumn winter monday tuesday wednesday thursday friday saturday sunday today yesterday tomorrow")
)

// met is how far a sentence holds what a question expects, 0 to 1: a time, a number or a name that the question does not
// have, or its subject before an "is".
func (kind expects) met(question claim, sentence []token) float64 {
	switch kind {
	case aTime:
		for _, t := range sentence {
			if t.number && len(t.lower) == yearDigits && t.lower < "2100" && t.lower >= "1000" || timeWords[t.key] || months[t.key] && t.name {
				return 1
			}
		}
	case aNumber:
		for _, t := range sentence {
			if t.number && !question.keys[t.key] {
				return 1
			}
		}
	case aName:
		for _, t := range sentence {
			if t.name && !t.first && !t.number && !question.keys[t.key] {
				return 1
			}
		}
	case aDefinition:
		return subjectShare(question, sentence)
	}
	return 0
}

// leadTokens is how far into a sentence its subject may reach.
const leadTokens = 16

var equating = set("is are was were refers refer means mean denotes describes")

// subjectShare is how much of the question stands before the sentence's "is".
func subjectShare(question claim, sentence []token) float64 {
	before := map[string]bool{}
	for _, t := range sentence[:min(len(sentence), leadTokens)] {
		if equating[t.lower] {
			found := 0.0
			for _, q := range question.content {
				found += held(q, before)
			}
			return found / float64(max(len(question.content), 1))
		}
		before[t.key] = true
	}
	return 0
}
