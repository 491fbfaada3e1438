package retrieval_test

import (
	"math/rand/v2"
	"regexp"
	"strings"
)

// More ways to make a false sentence of a true one; see corruptions.

var wordPattern = regexp.MustCompile(`\b[a-z]{5,}\b`)

// anotherSubject replaces a word by one of the same form from another sentence of the document.
func anotherSubject(s, text string, rng *rand.Rand) string {
	words := wordPattern.FindAllStringIndex(s, -1)
	if len(words) == 0 {
		return ""
	}
	at := words[rng.IntN(len(words))]
	old := s[at[0]:at[1]]
	var others []string
	for _, w := range wordPattern.FindAllString(text, -1) {
		if !strings.Contains(s, w) && w[len(w)-2:] == old[len(old)-2:] && w[:3] != old[:3] {
			others = append(others, w)
		}
	}
	if len(others) == 0 {
		return ""
	}
	return s[:at[0]] + others[rng.IntN(len(others))] + s[at[1]:]
}

// exchanged exchanges two names of the sentence.
func exchanged(s, _ string, rng *rand.Rand) string {
	names := namePattern.FindAllStringIndex(s, -1)
	if len(names) < 2 {
		return ""
	}
	i := rng.IntN(len(names) - 1)
	a, b := names[i], names[i+1]
	x, y := s[a[0]:a[1]], s[b[0]:b[1]]
	between := strings.TrimSpace(s[a[1]:b[0]])
	if x == y || between == "" || a[0] == 0 && stopLike[x] || strings.ContainsAny(between, ",(") || strings.Contains(" "+between+" ", " and ") || strings.Contains(" "+between+" ", " or ") {
		return "" // a name of two words, or a list
	}
	return s[:a[0]] + y + s[a[1]:b[0]] + x + s[b[1]:]
}

// contraries of this test are not the checker's list: pairs that documents often use.
var contraries = [][2]string{{"increased", "decreased"}, {"increase", "decrease"}, {"higher", "lower"}, {"high", "low"}, {"before", "after"},
	{"more than", "less than"}, {"larger", "smaller"}, {"large", "small"}, {"first", "last"}, {"most", "least"}, {"positive", "negative"},
	{"always", "never"}, {"upper", "lower"}, {"strong", "weak"}, {"early", "late"}, {"better", "worse"}, {"longer", "shorter"},
	{"northern", "southern"}, {"eastern", "western"}, {"maximum", "minimum"}, {"internal", "external"}, {"increases", "decreases"},
	{"faster", "slower"}, {"younger", "older"}, {"above", "below"}, {"presence", "absence"}, {"present", "absent"}, {"laminar", "turbulent"},
	{"subsonic", "supersonic"}, {"improved", "worsened"}, {"majority", "minority"}, {"rise", "fall"}, {"gain", "loss"}, {"rich", "poor"},
	{"major", "minor"}, {"inner", "outer"}, {"highest", "lowest"}, {"easily", "hardly"}, {"public", "private"}, {"ancient", "modern"}}

func contrary(s, _ string, rng *rand.Rand) string {
	var out []string
	for _, p := range contraries {
		for i := range 2 {
			pattern := regexp.MustCompile(`\b` + p[i] + `\b`)
			if at := pattern.FindStringIndex(s); at != nil {
				out = append(out, s[:at[0]]+p[1-i]+s[at[1]:])
			}
		}
	}
	if len(out) == 0 {
		return ""
	}
	return out[rng.IntN(len(out))]
}

var unitPattern = regexp.MustCompile(`(\d+(?:\.\d+)?)[ -](percent|per cent|years?|days?|hours?|minutes?|weeks?|months?|miles?|feet|inches|km|kg|mg|million|billion|degrees)\b`)

func anotherUnit(s, _ string, rng *rand.Rand) string {
	at := unitPattern.FindStringSubmatchIndex(s)
	if at == nil {
		return ""
	}
	fresh := []string{"days", "hours", "miles", "kg", "months", "percent", "billion"}[rng.IntN(7)]
	old := s[at[4]:at[5]]
	if strings.HasPrefix(fresh, strings.TrimSuffix(old, "s")) {
		return ""
	}
	return s[:at[4]] + fresh + s[at[5]:]
}

// denied negates in other words than "not".
func denied(s, _ string, rng *rand.Rand) string {
	at := auxPattern.FindStringIndex(s)
	if at == nil || notPattern.MatchString(s) {
		return ""
	}
	aux := s[at[0]:at[1]]
	if rng.IntN(2) == 0 && aux != "may" && aux != "will" && aux != "can" {
		return s[:at[1]] + "n't" + s[at[1]:]
	}
	return s[:at[1]] + []string{" never", " no longer"}[rng.IntN(2)] + s[at[1]:]
}

func init() {
	corruptions["subject"] = anotherSubject
	corruptions["exchanged"] = exchanged
	corruptions["contrary"] = contrary
	corruptions["unit"] = anotherUnit
	corruptions["denied"] = denied
}
