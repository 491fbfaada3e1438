package retrieval

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/footnote-rag/footnote/workersai"
)

const (
	// maxTopicWords are added to a follow-up, maxAnswerNames of them from the last answer.
	maxTopicWords, maxAnswerNames = 8, 4
	// maxFollowUps in a row are resolved.
	maxFollowUps = 6
)

var (
	pronouns    = set("it its he she him her his hers they them their theirs latter former")
	persons     = set("he she him her his hers they them their theirs")
	pointers    = set("this that these those")
	connectives = set("and or but also so then plus")
	openers     = set("what who whom whose which when where why how is are was were do does did can could may might must should will would has have had")
	copulas     = set("is are was were be do does did can could may might must should will would has have had i we you much many long far old often")
	asking      = set("what who whom whose which when where why how")
	// vagueWords of a question name nothing that a later one could mean.
	vagueWords = set("take takes took get gets got use uses used need needs make makes work works mean means tell tells explain describe know happen happens long much many often big far old there")
)

// word is a word as written.
type word struct {
	text  string
	token token
	at    int  // byte offset in the text
	name  bool // written like a name, and not only because it is the first
}

var wordPattern = regexp.MustCompile(`[\p{L}\p{N}]+(?:['’._-][\p{L}\p{N}]+)*`)

func wordsOf(text string) (out []word) {
	for i, at := range wordPattern.FindAllStringIndex(text, -1) {
		w := word{text: text[at[0]:at[1]], at: at[0]}
		tokens := tokenize(w.text)
		if len(tokens) == 0 {
			continue
		}
		w.token = tokens[0]
		first, size := utf8.DecodeRuneInString(w.text)
		w.name = i > 0 && unicode.IsUpper(first) && !w.token.stop || strings.ContainsFunc(w.text[size:], unicode.IsUpper)
		out = append(out, w)
	}
	return out
}

func (w word) content() bool { return w.token.content() }
func (w word) vague() bool   { return vagueWords[w.token.lower] }

// isFollowUp reports whether a question needs the conversation before it: it points back ("when was it closed?") or
// leaves out what it asks about ("and for Germany?", "why?").
func isFollowUp(question string) bool {
	if parts := split(question); parts != nil {
		return isFollowUp(parts[0]) // the others point back to it
	}
	words := wordsOf(question)
	content := 0
	for _, w := range words {
		if w.content() && !w.vague() {
			content++
		}
	}
	for i := range words {
		if pointsBack(words, i, content) {
			return true
		}
	}
	if content == 0 || len(words) > 0 && connectives[words[0].token.lower] && content <= 3 {
		return true
	}
	if content <= 2 && choosesOfThese(words) {
		return true
	}
	whole := len(words) > 1 && openers[words[0].token.lower] && (!asking[words[0].token.lower] || copulas[words[1].token.lower] || words[1].content())
	elliptic := len(words) > 2 && (words[0].token.lower == "what" || words[0].token.lower == "how") && words[1].token.lower == "about"
	return content <= 2 && (!whole || elliptic)
}

// choosesOfThese: "which is the default?" names nothing to choose from.
func choosesOfThese(words []word) bool {
	return len(words) > 1 && words[0].token.lower == "which" && copulas[words[1].token.lower] &&
		!slices.ContainsFunc(words, func(w word) bool { return w.name })
}

func pointsBack(words []word, i, content int) bool {
	lower := words[i].token.lower
	last := i == len(words)-1
	switch {
	case lower == "it" && content > 1: // "how long does it take to …" points nowhere
		return !slices.ContainsFunc(words[i+1:], func(w word) bool { return w.token.lower == "to" })
	case pronouns[lower]:
		return true
	case pointers[lower]: // "papers that mention X" goes on, it does not point
		return content <= 3 && (i == 0 || !words[i-1].content())
	case lower == "there":
		return last && (i == 0 || !copulas[words[i-1].token.lower])
	}
	return false
}

// standalone completes a follow-up by rule. Where it puts a name or a number in the place of another ("and for Germany?"),
// the question before is asked again with it; otherwise the words that the conversation is about are added.
func standalone(question string, history []workersai.Message) string {
	return standaloneAt(question, history, maxFollowUps)
}

func standaloneAt(question string, history []workersai.Message, depth int) string {
	if depth == 0 || !isFollowUp(question) {
		return question
	}
	last := -1
	for i := len(history) - 1; i >= 0 && last < 0; i-- {
		if history[i].Role == "user" && len(history[i].Content) <= maxQuestionBytes {
			last = i
		}
	}
	if last < 0 {
		return question
	}
	before := standaloneAt(history[last].Content, history[:last], depth-1)
	if replaced := replaceInto(before, question); replaced != "" {
		return replaced
	}
	topic := topicOf(before, question)
	if last+1 < len(history) {
		topic = append(topic, namesFor(question, history[last+1].Content, topic)...)
	}
	if len(topic) == 0 {
		return question
	}
	return strings.TrimSpace(question) + " (" + strings.Join(topic, " ") + ")"
}

// topicOf lists the words of a question that say what it is about and are not in the next one.
func topicOf(question, next string) (topic []string) {
	have := keysOf(tokenize(next))
	for _, w := range wordsOf(question) {
		if w.content() && !w.vague() && !have[w.token.key] && len(topic) < maxTopicWords {
			have[w.token.key] = true
			topic = append(topic, w.text)
		}
	}
	return topic
}

// namesFor lists names of the last answer for a question about "him" or "them".
func namesFor(question, answer string, topic []string) (names []string) {
	if !slices.ContainsFunc(wordsOf(question), func(w word) bool { return persons[w.token.lower] }) {
		return nil
	}
	have := keysOf(tokenize(question + " " + strings.Join(topic, " ")))
	for _, w := range wordsOf(answer) {
		if w.name && !have[w.token.key] && len(names) < maxAnswerNames {
			have[w.token.key] = true
			names = append(names, w.text)
		}
	}
	return names
}

// replaceInto asks the question before again, with the names or the number that the follow-up has alone. "" where the
// follow-up says more than these, or the question before has not exactly one place for them.
func replaceInto(before, question string) string {
	var names, numbers []string
	for _, w := range wordsOf(question) {
		switch {
		case pronouns[w.token.lower] || pointers[w.token.lower]:
			return ""
		case w.token.number:
			numbers = append(numbers, w.text)
		case w.name:
			names = append(names, w.text)
		case w.content() || asking[w.token.lower] && w.token.lower != "what" && w.token.lower != "how":
			return ""
		}
	}
	if len(numbers) == 1 && len(names) == 0 {
		return replaceRun(before, numbers[0], func(w word) bool { return w.token.number })
	}
	if len(names) > 0 && len(numbers) == 0 {
		return replaceRun(before, strings.Join(names, " "), func(w word) bool { return w.name })
	}
	return ""
}

// replaceRun puts text in the place of the only run of words that are so; "" if there is none or another.
func replaceRun(in, text string, so func(word) bool) string {
	from, to, runs, before := 0, 0, 0, false
	for _, w := range wordsOf(in) {
		is := so(w)
		if is && !before {
			runs++
			from = w.at
		}
		if is {
			to = w.at + len(w.text)
		}
		before = is
	}
	if runs != 1 {
		return ""
	}
	return in[:from] + text + in[to:]
}

var (
	compoundHint = regexp.MustCompile(`(?i)\b(and|as well as|versus|vs|compare[sd]?|difference|differ|both)\b|\?.*\?`)
	secondPart   = regexp.MustCompile(`(?i)^(.+?),?\s+and\s+(?:also\s+)?((?:what|how|when|where|who|whom|whose|why|which|is|are|was|were|does|do|did|can|could|should|will)\b.+)$`)
	togetherOnly = regexp.MustCompile(`(?i)\b(between|both|either|whether|compare)\b`)
)

// seemsCompound: it may ask several things. It is cheap and errs to yes; split and the model decide.
func seemsCompound(question string) bool {
	return compoundHint.MatchString(question) && (split(question) != nil || comparison.MatchString(question))
}

// comparison asks about two things, each of which wants its own search.
var comparison = regexp.MustCompile(`(?i)\b(versus|vs|compare[sd]?|difference|differ)\b`)

// split cuts a question of several by rule: "What is X? How do I install it?", "What is X and how do I install it?". A
// later part gets the words that it points back to. nil: it is one question.
func split(question string) (parts []string) {
	for _, sentence := range strings.SplitAfter(question, "?") {
		if sentence = strings.TrimSpace(sentence); sentence == "" {
			continue
		}
		rest := sentence
		for len(parts) < maxParts {
			m := secondPart.FindStringSubmatch(rest)
			if m == nil || togetherOnly.MatchString(m[1]) || !openers[firstWord(m[1])] || !asks(m[1]) || !asks(m[2]) {
				break
			}
			parts = append(parts, strings.TrimRight(m[1], " ,")+"?")
			rest = strings.ToUpper(m[2][:1]) + m[2][1:]
		}
		parts = append(parts, rest)
	}
	if len(parts) < 2 || len(parts) > maxParts || slices.ContainsFunc(parts, func(p string) bool { return !asks(p) || !openers[firstWord(p)] }) {
		return nil
	}
	for i := 1; i < len(parts); i++ {
		parts[i] = standalone(parts[i], []workersai.Message{{Role: "user", Content: parts[i-1]}})
	}
	return parts
}

func firstWord(text string) string {
	words := wordsOf(text)
	if len(words) == 0 {
		return ""
	}
	return words[0].token.lower
}

// asks: it names something.
func asks(text string) bool { return slices.ContainsFunc(wordsOf(text), word.content) }
