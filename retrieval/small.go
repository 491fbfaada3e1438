package retrieval

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/workersai/prompt"
)

const (
	// digestTokens of passages are shown to a small model. It loses the thread in more, and on two cores, which read
	// some 200 tokens a second, the user waits for each.
	digestTokens = 320
	// digestPassages is how many passages the sentences may come from, digestSources how many of the best are looked at.
	digestPassages = 3
	digestSources  = 5
	// smallSentences: after these a small model repeats itself or rambles.
	smallSentences = 3
	// smallTokens of an answer: three sentences.
	smallTokens = 120
	// digestSentenceTokens: a longer sentence is a listing or a table, which derails a small model.
	digestSentenceTokens = 120
)

// errEnough ends a stream from a small model that has said what it can.
var errEnough = errors.New("enough said")

// pick is a sentence that may be shown.
type pick struct {
	at    int // in Checker.evidence
	value float64
}

// digest shortens the passages to the sentences that speak most about the question, and their successors, which often
// hold the answer. Each passage keeps its order; the passage with the best sentence comes first.
func (c *Checker) digest(question string, budget int) []store.Passage {
	chosen, order := map[int]bool{}, []int{}
	passages := map[int]bool{}
	for _, p := range c.picks(question, digestSources, true) {
		e := c.evidence[p.at]
		if !passages[e.passage] && len(passages) == digestPassages {
			continue
		}
		cost := prompt.Tokens(c.sentence(p.at))
		if chosen[p.at] || cost > digestSentenceTokens || cost > budget {
			continue
		}
		if !passages[e.passage] {
			passages[e.passage] = true
			order = append(order, e.passage)
		}
		chosen[p.at] = true
		budget -= cost
	}
	var out []store.Passage
	for _, p := range order {
		var text []string
		for i := c.first[p]; i < c.first[p+1]; i++ {
			if chosen[i] {
				text = append(text, strings.Join(strings.Fields(c.sentence(i)), " "))
			}
		}
		short := c.passages[p]
		short.Text, short.Translation = strings.Join(text, " "), ""
		out = append(out, short)
	}
	return out
}

// picks ranks the sentences of the first passages by how well they answer the question. With successors most of a sentence's
// worth passes on to the next one.
func (c *Checker) picks(question string, passages int, successors bool) []pick {
	value := c.valuer(question)
	var out []pick
	before := 0.0
	for i, e := range c.evidence[:c.first[min(passages, len(c.passages))]] {
		own := value(i)
		v := own
		if successors && i > c.first[e.passage] {
			v = max(v, before-successor)
		}
		if v > 0 && len(e.tokens) >= minPickTokens {
			out = append(out, pick{i, v})
		}
		before = own
	}
	slices.SortStableFunc(out, func(a, b pick) int { return cmp.Compare(b.value, a.value) })
	return out
}

// What a sentence is worth as an answer, beside the share of the question's words in it: its passage's score over the best one's,
// what the question expects, and that it is a whole sentence. Chosen on Chroma's chunking evaluation, XQuAD and WikiQA, where
// any of them may be half or twice as much (docs/grounding.md).
const (
	passageWorth  = 1.0
	expectedWorth = 0.25
	wholeWorth    = 0.1
	// successor is what the sentence behind is worth less.
	successor = 1.0 / 6
	// minPickTokens: fewer are a heading or a bullet.
	minPickTokens = 4
)

// valuer tells what sentences are worth as answers to a question; 0: it has no word of it.
func (c *Checker) valuer(question string) func(at int) float64 {
	cl, kind, top := c.newClaim(question), expectedBy(question), 0.0
	for _, p := range c.passages {
		top = max(top, p.Score)
	}
	return func(at int) float64 {
		e := c.evidence[at]
		v := c.relevance(cl, at)
		if v <= 0 {
			return 0
		}
		place := 1 - 0.05*float64(e.passage) // of passages without scores
		if top > 0 {
			place = c.passages[e.passage].Score / top
		}
		v += passageWorth*place + expectedWorth*kind.met(cl, e.tokens)
		if complete(c.sentence(at)) {
			v += wholeWorth
		}
		return v
	}
}

// relevance is the share of the question's words, by weight, in a sentence; words of its title count half.
func (c *Checker) relevance(question claim, at int) float64 {
	e, v := c.evidence[at], 0.0
	for j, t := range question.content {
		switch {
		case e.keys[t.key] || related(t, e.keys):
			v += question.weights[j]
		case c.titles[e.passage][t.key]:
			v += question.weights[j] / 2
		}
	}
	return v / question.weight
}

func (c *Checker) sentence(at int) string {
	e := c.evidence[at]
	return cmp.Or(e.read, c.quote(window{e.passage, at, at}))
}

// enough reports whether a small model's next sentence is not wanted: it is the fourth, or was said before.
func (a *answering) enough(sentence string) bool {
	if a.s.cfg.ChatStrength != Small {
		return false
	}
	key := strings.ToLower(strings.Join(strings.Fields(sentence), " "))
	if a.said == nil {
		a.said = map[string]bool{}
	}
	if a.said[key] {
		return true
	}
	a.said[key] = true
	return len(a.said) > smallSentences
}

// complete: neither cut off by max_tokens nor a lead-in ("Here is an example:") nor a heading.
func complete(sentence string) bool {
	r := []rune(strings.TrimRight(sentence, " \n"))
	for len(r) > 0 && isCloser(r[len(r)-1]) {
		r = r[:len(r)-1]
	}
	return len(r) > 0 && (isTerminator(r[len(r)-1]) || isWideTerminator(r[len(r)-1]))
}

// backUp adds the documents' best sentence for each part of the question where nothing that a small model said is supported: what is quoted is
// right even if the model was not.
func (a *answering) backUp() error {
	if a.s.cfg.ChatStrength != Small || a.supported > 0 || a.declined || a.done.Reason != "" {
		return nil
	}
	asked := a.asked()
	found := a.checker.extract(asked, len(asked))
	if len(found) == 0 {
		return nil
	}
	a.done.Reason = ReasonModelless
	return a.showQuotes(found)
}

// circular: a sentence that repeats its own words more often than it adds one to the question's ("a window function is a
// function that takes a window function"). It is never wrong and tells nothing.
func circular(question, sentence string) bool {
	known, seen := keysOf(tokenize(question)), map[string]bool{}
	repeated, added := 0, 0
	for _, t := range contentOf(tokenize(sentence)) {
		switch {
		case seen[t.key]:
			repeated++
		case !known[t.key]:
			added++
		}
		seen[t.key] = true
	}
	return repeated > added
}
