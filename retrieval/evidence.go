package retrieval

import (
	"math"

	"github.com/footnote-rag/footnote/store"
)

// evidencePassages are looked at together: an answer may lie in any of the first few.
const evidencePassages = 5

// Features of a question and the passages found for it. Each is a function of its arguments alone, so that a refusal is the
// same each time.
type evidenceFeatures struct {
	Cosine   float64 // best cosine
	Nearness float64 // the same on the model's own scale (scale.nearness), up to nearEnough
	Beyond   float64 // what it has above that
	Vectors  bool    // the three are known
	Passage  float64 // rarity-weighted share of the question's words in the best single passage
	Together float64 // the same in the first few together
	Sentence float64 // the same in the best two adjacent sentences
	Apart    float64 // Together less Passage, for a question of few words
	Stated   float64 // the checker's score of the question, taken for a statement
	Denied   float64 // 1: the best span negates what the question asserts, or the other way round
	Opposed  float64 // 1: it speaks of the contrary
}

func featuresOf(question string, passages []store.Passage, sc scale, b *background) (f evidenceFeatures) {
	for _, p := range passages {
		if p.Vector != nil {
			f.Cosine, f.Vectors = max(f.Cosine, p.Vector.Score), true
		}
	}
	if f.Vectors {
		near, known := sc.nearness(f.Cosine, b.size())
		f.Nearness, f.Beyond, f.Vectors = min(near, nearEnough), max(near-nearEnough, 0), known
	}
	passages = passages[:min(len(passages), evidencePassages)]
	f.cover(weighQuestion(question, b), passages)
	best := NewChecker("", passages).Check(question)
	f.Stated, f.Denied, f.Opposed = best.Score, best.Signals.Negation, best.Signals.Opposite
	return f
}

// weighted is a question's words with what each is worth.
type weighted struct {
	tokens  []token // all
	words   []token // content words, each once
	weights []float64
	sum     float64
}

func weighQuestion(question string, b *background) weighted {
	w := weighted{tokens: tokenize(question)}
	seen := map[string]bool{}
	for _, t := range contentOf(w.tokens) {
		if seen[t.key] || askingWords[t.lower] {
			continue
		}
		seen[t.key] = true
		weight := 0.15 + b.rarity(t.key)
		if t.name && !t.first || t.number {
			weight *= 1.5
		}
		w.words = append(w.words, t)
		w.weights = append(w.weights, weight)
		w.sum += weight
	}
	return w
}

// share of the weight that keys hold.
func (w weighted) share(keys map[string]bool) float64 {
	if w.sum == 0 {
		return 1 // "what is this?": only vectors can tell
	}
	got := 0.0
	for i, t := range w.words {
		got += w.weights[i] * held(t, keys)
	}
	return got / w.sum
}

// terseness is 1 for a question of two content words and falls with the square of their number: "the capital of Mongolia" is not
// in two passages of which one speaks of capitals and one of Mongolia, while a long question may well find its words in several.
func (w weighted) terseness() float64 {
	few := 2 / float64(max(len(w.words), 2))
	return few * few
}

// held is 1 for a word that is there, less for one of the same root.
func held(t token, keys map[string]bool) float64 {
	switch {
	case keys[t.key]:
		return 1
	case related(t, keys):
		return 0.8
	}
	return 0
}

// cover fills what words tell.
func (f *evidenceFeatures) cover(w weighted, passages []store.Passage) {
	all := map[string]bool{}
	for _, p := range passages {
		title := keysOf(tokenize(p.Title))
		for _, h := range p.Heading {
			add(title, keysOf(tokenize(h)))
		}
		whole := keysOf(tokenize(reading(p)))
		add(whole, title)
		add(all, whole)
		f.Passage = max(f.Passage, w.share(whole))
		f.coverSentences(w, p, title)
	}
	f.Together = w.share(all)
	f.Apart = (f.Together - f.Passage) * w.terseness()
}

// coverSentences looks at each sentence with the one before it and the title.
func (f *evidenceFeatures) coverSentences(w weighted, p store.Passage, title map[string]bool) {
	var before []token
	for _, s := range Sentences(reading(p)) {
		tokens := tokenize(s.Text)
		both := append(append([]token(nil), before...), tokens...)
		keys := keysOf(both)
		add(keys, title)
		before = tokens
		f.Sentence = max(f.Sentence, w.share(keys))
	}
}

func add(to, from map[string]bool) {
	for k := range from {
		to[k] = true
	}
}

// askingWords ask and do not name: "how many", "what kind of".
var askingWords = set("many much kind type sort name year date time people person percentage number amount long often far old tell explain describe mean work happen list give define")

// Weights of the evidence score, fitted by TestFitEvidence on questions of some collections asked of their own and of
// another, and on unanswerable ones; measured on the others (docs/grounding.md). That words stand in one sentence tells more than
// that they stand in one passage, which is why passage counts against them.
type evidenceWeights struct{ bias, near, beyond, together, passage, apart, stated, denied, opposed, focus float64 }

var (
	withVectors = evidenceWeights{bias: -3.4, near: 11, beyond: 1.5, together: 2, passage: -0.7, apart: -3.5, stated: 1.2, denied: -1, opposed: -1, focus: 0.9}
	wordsAlone  = evidenceWeights{bias: -3.2, together: 6.5, stated: 0.3, denied: -0.2, opposed: -0.25, focus: 0.4}
)

// score is 0..1.
func (f evidenceFeatures) score() float64 {
	w := wordsAlone
	if f.Vectors {
		w = withVectors
	}
	return logistic(w.bias + w.near*f.Nearness + w.beyond*f.Beyond + w.together*f.Together + w.passage*f.Passage + w.apart*f.Apart + w.stated*f.Stated + w.denied*f.Denied +
		w.opposed*f.Opposed + w.focus*(f.Sentence-f.Passage))
}

func logistic(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
