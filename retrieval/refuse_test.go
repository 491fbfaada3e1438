package retrieval

import (
	"math"
	"sort"
	"testing"
)

// asked is a question with what was found for it.
type asked struct {
	collection, kind, question string // kind: own, foreign, general, adversarial
	evidenceFeatures
}

// generalQuestions are about nothing that the collections hold.
var generalQuestions = []string{"How do I bake sourdough bread?", "Who won the 1998 World Cup?", "What is the boiling point of ethanol?",
	"Which team won the Super Bowl in 2010?", "How do I change a flat bicycle tire?", "What is the best recipe for chocolate cake?",
	"Who painted the Mona Lisa?", "When did the Titanic sink?", "What is the population of Reykjavik?", "How do I train for a marathon?"}

// askAll asks each collection its own questions, those of the others, general and unanswerable ones; then all documents
// together, once with and once without the question's collection.
func askAll(t testing.TB, names []string, questions, size int) (out []asked) {
	t.Helper()
	var samples []sample
	var texts []string
	texts = append(texts, generalQuestions...)
	for _, n := range names {
		s := readSample(t, n, questions, size)
		samples = append(samples, s)
		texts = append(append(texts, s.own...), s.unanswered...)
	}
	vectors := EvalVectors(t, texts)
	sc := miniLMScale(t)
	ask := func(m *memory, collection, kind string, questions []string) {
		for _, q := range questions {
			out = append(out, asked{collection, kind, q, featuresOf(q, m.search(q, vectors[q], 8), sc, m.ground)})
		}
	}
	var all []evalDoc
	for i, s := range samples {
		m := newMemory(t, s.docs)
		all = append(all, s.docs...)
		ask(m, s.name, "own", s.own)
		ask(m, s.name, "adversarial", s.unanswered)
		ask(m, s.name, "general", generalQuestions)
		for j, o := range samples {
			if i != j {
				ask(m, s.name, "foreign", o.own[:min(len(o.own), questions/2)])
			}
		}
	}
	whole := newMemory(t, all)
	for i, s := range samples {
		var others []evalDoc
		for j, o := range samples {
			if i != j {
				others = append(others, o.docs...)
			}
		}
		ask(whole, "all with "+s.name, "own", s.own)
		ask(newMemory(t, others), "all with "+s.name, "foreign", s.own)
	}
	return out
}

// miniLMScale is measured by the probes, as the service does.
func miniLMScale(t testing.TB) scale {
	t.Helper()
	var texts []string
	for _, p := range probes {
		texts = append(texts, p.question)
	}
	for _, p := range probes {
		texts = append(texts, p.passage)
	}
	byText := EvalVectors(t, texts)
	var vectors [][]float32
	for _, text := range texts {
		vectors = append(vectors, byText[text])
	}
	sc, err := scaleFrom(vectors)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(sc.mean-plainScale.mean) > 0.02 || math.Abs(sc.deviation-plainScale.deviation) > 0.02 || math.Abs(sc.together-plainScale.together) > 0.02 {
		t.Errorf("scale %+v, plainScale is %+v", sc, plainScale)
	}
	return sc
}

func pick2(all []asked, collection string, value func(asked) float64, kinds ...string) (out []float64) {
	for _, a := range all {
		for _, k := range kinds {
			if a.kind == k && (collection == "" || a.collection == collection) {
				out = append(out, value(a))
			}
		}
	}
	return out
}

func byScore(a asked) float64  { return a.score() }
func byCosine(a asked) float64 { return a.Cosine }

// TestRefusals measures the evidence score on real questions with real vectors: the collections that the weights were fitted
// on, and the others.
func TestRefusals(t *testing.T) {
	names, questions, size := []string{"squad2", "med"}, 12, 24
	if EvalFull() {
		names, questions, size = append(append([]string{}, tunedOn...), heldOut...), 30, 60
	}
	all := askAll(t, names, questions, size)
	collections := []string{""}
	for _, n := range names {
		collections = append(collections, n, "all with "+n)
	}
	t.Log("| collection | questions own / others | AUC | cosine alone | own answered | others answered |")
	t.Log("|---|---|---|---|---|---|")
	for _, c := range collections {
		own, other := pick2(all, c, byScore, "own"), pick2(all, c, byScore, "foreign", "general")
		area := rankArea(own, other)
		t.Logf("| %s | %d / %d | %.3f | %.3f | %.2f | %.2f |", c, len(own), len(other), area,
			rankArea(pick2(all, c, byCosine, "own"), pick2(all, c, byCosine, "foreign", "general")), answered(own, defaultThreshold), answered(other, defaultThreshold))
		if area < 0.97 {
			t.Errorf("%q: AUC %.3f, want at least 0.97", c, area)
		}
	}
	adversarial(t, all)
	t.Log("")
	t.Log("| threshold | refused rightly (recall) | of the refused, rightly (as many of both) | own answered |")
	t.Log("|---|---|---|---|")
	for _, threshold := range []float64{0.3, 0.4, 0.5, 0.6, 0.7} {
		own, other := answered(pick2(all, "", byScore, "own"), threshold), answered(pick2(all, "", byScore, "foreign", "general"), threshold)
		t.Logf("| %.1f | %.3f | %.3f | %.3f |",
			threshold, 1-other, (1-other)/(2-other-own), own)
	}
}

// adversarial compares the score with the cosine alone on questions that the paragraph at hand does not answer.
func adversarial(t *testing.T, all []asked) {
	own, not := pick2(all, "squad2", byScore, "own"), pick2(all, "squad2", byScore, "adversarial")
	area := rankArea(own, not)
	cosine := rankArea(pick2(all, "squad2", byCosine, "own"), pick2(all, "squad2", byCosine, "adversarial"))
	t.Logf("| squad2, unanswerable | %d / %d | %.3f | %.3f | %.2f | %.2f |", len(own), len(not), area, cosine, answered(own, defaultThreshold), answered(not, defaultThreshold))
	if want := cosine + 0.05; EvalFull() && area < want {
		t.Errorf("unanswerable questions: AUC %.3f, want at least %.3f, the cosine's and 0.05", area, want)
	}
}

func answered(scores []float64, threshold float64) float64 {
	n := 0
	for _, s := range scores {
		if s >= threshold {
			n++
		}
	}
	return float64(n) / float64(len(scores))
}

// rankArea is the chance that one of a is above one of b.
func rankArea(a, b []float64) float64 {
	b = append([]float64(nil), b...)
	sort.Float64s(b)
	sum := 0.0
	for _, v := range a {
		below := sort.SearchFloat64s(b, v)
		upTo := sort.Search(len(b), func(i int) bool { return b[i] > v })
		sum += float64(below+upTo) / 2
	}
	return sum / float64(len(a)*len(b))
}

// TestFitEvidence fits the weights on tunedOn by logistic regression and prints them beside those in use. Own and other
// questions weigh the same, unanswerable ones a third.
func TestFitEvidence(t *testing.T) {
	if !EvalFull() {
		t.Skip("set FOOTNOTE_EVAL=1 to fit the weights of the evidence score")
	}
	all := askAll(t, tunedOn, 30, 60)
	var rows [][]float64
	var yes []bool
	var share []float64
	for _, a := range all {
		rows = append(rows, []float64{1, a.Nearness, a.Together, a.Stated, a.Denied, a.Opposed, a.Sentence - a.Passage, a.Apart, a.Beyond, a.Passage})
		yes = append(yes, a.kind == "own")
		share = append(share, map[string]float64{"adversarial": 1.0 / 3}[a.kind]+map[bool]float64{true: 1}[a.kind != "adversarial"])
	}
	w := fitLogistic(rows, yes, share)
	t.Logf("fitted: bias %.2f near %.2f together %.2f stated %.2f denied %.2f opposed %.2f focus %.2f apart %.2f beyond %.2f passage %.2f; in use: %+v", w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], w[8], w[9], withVectors)
	area := func(score func(i int) float64) float64 {
		var own, other []float64
		for i, a := range all {
			switch a.kind {
			case "own":
				own = append(own, score(i))
			case "foreign", "general":
				other = append(other, score(i))
			}
		}
		return rankArea(own, other)
	}
	fitted := area(func(i int) float64 { return dotProduct(w, rows[i]) })
	used := area(func(i int) float64 { return all[i].score() })
	if t.Logf("AUC fitted %.4f, in use %.4f", fitted, used); used < fitted-0.01 {
		t.Errorf("the weights in use have an AUC of %.3f, fitted ones %.3f: take these", used, fitted)
	}
}

func dotProduct(a, b []float64) (s float64) {
	for i := range a {
		s += a[i] * b[i]
	}
	return s
}

// fitLogistic is ridge-regularised logistic regression by gradient descent; both classes weigh the same.
func fitLogistic(rows [][]float64, yes []bool, share []float64) []float64 {
	const rounds, rate, ridge = 20000, 0.5, 0.0005
	total := map[bool]float64{}
	for i := range rows {
		total[yes[i]] += share[i]
	}
	w := make([]float64, len(rows[0]))
	for range rounds {
		gradient := make([]float64, len(w))
		for i, row := range rows {
			miss := -logistic(dotProduct(w, row))
			if yes[i] {
				miss++
			}
			for j := range w {
				gradient[j] += miss * row[j] * share[i] / (2 * total[yes[i]])
			}
		}
		for j := range w {
			w[j] += rate * (gradient[j] - ridge*w[j]*map[bool]float64{true: 1}[j > 0])
		}
	}
	return w
}
