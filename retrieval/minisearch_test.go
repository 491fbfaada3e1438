package retrieval

import (
	"bufio"
	"hash/fnv"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/store"
)

type evalDoc struct {
	ID    string `json:"_id"`
	Title string `json:"title"`
	Text  string `json:"text"`
}

// sample is a part of a collection that is searched in memory: some questions, the documents that answer them, and others.
type sample struct {
	name       string
	docs       []evalDoc
	own        []string // questions that it answers
	unanswered []string // questions about its documents that they do not answer
}

// collections of the measurements. Weights are fitted on the first ones and reported on the rest.
var (
	tunedOn = []string{"squad2", "cranfield", "cacm"}
	heldOut = []string{"anthropic-docs-rag", "med", "scifact"}
)

func hashOf(s string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(s))
	return h.Sum32()
}

// byHash orders by hash: a selection that is random and the same each time.
func byHash[T any](all []T, key func(T) string) []T {
	sort.Slice(all, func(i, j int) bool { return hashOf(key(all[i])) < hashOf(key(all[j])) })
	return all
}

// readQrels lists the relevant documents of each question.
func readQrels(t testing.TB, path string) map[string][]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := map[string][]string{}
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if p := strings.Fields(sc.Text()); len(p) >= 3 && p[2] != "0" && p[0] != "query-id" {
			out[p[0]] = append(out[p[0]], p[1])
		}
	}
	return out
}

// readSample takes questions and their documents, then other documents up to size.
func readSample(t testing.TB, name string, questions, size int) sample {
	t.Helper()
	dir := filepath.Join(EvalData(t), name)
	s := sample{name: name}
	docs := byHash(ReadLines[evalDoc](t, filepath.Join(dir, "corpus.jsonl")), func(d evalDoc) string { return d.ID })
	queries := byHash(ReadLines[evalDoc](t, filepath.Join(dir, "queries.jsonl")), func(d evalDoc) string { return d.ID })
	qrels := readQrels(t, filepath.Join(dir, "qrels", "test.tsv"))
	wanted := map[string]bool{}
	for _, q := range queries {
		if len(s.own) == questions || len(wanted) > size*4/5 {
			break
		}
		if gold := qrels[q.ID]; len(gold) > 0 {
			s.own = append(s.own, q.Text)
			for _, d := range gold[:min(len(gold), 3)] {
				wanted[d] = true
			}
		}
	}
	fill := size - len(wanted)
	for _, d := range docs {
		if wanted[d.ID] {
			s.docs = append(s.docs, d)
		} else if fill > 0 && d.Text != "" {
			fill--
			s.docs = append(s.docs, d)
		}
	}
	if name == "squad2" {
		s.unanswered = unanswerable(t, filepath.Join(dir, "unanswerable.jsonl"), s.docs, 3*questions)
	}
	return s
}

func unanswerable(t testing.TB, path string, docs []evalDoc, most int) (out []string) {
	have := map[string]bool{}
	for _, d := range docs {
		have[d.ID] = true
	}
	type line struct {
		ID        string `json:"_id"`
		Text      string `json:"text"`
		Paragraph string `json:"paragraph"`
	}
	for _, l := range byHash(ReadLines[line](t, path), func(l line) string { return l.ID }) {
		if have[l.Paragraph] && len(out) < most {
			out = append(out, l.Text)
		}
	}
	return out
}

// text that is embedded and shown, about one chunk.
func (d evalDoc) chunk() string {
	r := []rune(strings.TrimSpace(d.Title + "\n\n" + d.Text))
	return string(r[:min(len(r), 800)])
}

// memory is a collection searched in memory by the product's rule: half of the cosine and half of BM25, each over its best.
type memory struct {
	texts   []string
	vectors [][]float32
	words   []map[string]float64
	length  []float64
	mean    float64
	df      map[string]float64
	ground  *background
}

func newMemory(t testing.TB, docs []evalDoc) *memory {
	t.Helper()
	m := &memory{df: map[string]float64{}}
	for _, d := range docs {
		m.texts = append(m.texts, d.chunk())
	}
	vectors := EvalVectors(t, m.texts)
	var drawn []string
	for _, text := range m.texts {
		m.vectors = append(m.vectors, vectors[text])
		words, n := map[string]float64{}, 0.0
		for _, k := range contentOf(tokenize(text)) {
			words[k.key]++
			n++
		}
		for k := range words {
			m.df[k]++
		}
		m.words, m.length, m.mean = append(m.words, words), append(m.length, n), m.mean+n
		if len(drawn) < backgroundChunks {
			drawn = append(drawn, text)
		}
	}
	m.mean /= float64(len(docs))
	m.ground = newBackground(store.Collection{Chunks: int64(len(docs))}, drawn)
	return m
}

func (m *memory) bm25(question []token, at int) (score float64) {
	const k1, b = 1.2, 0.75
	n := float64(len(m.texts))
	for _, w := range question {
		if tf := m.words[at][w.key]; tf > 0 {
			score += math.Log(1+(n-m.df[w.key]+0.5)/(m.df[w.key]+0.5)) * tf / (tf + k1*(1-b+b*m.length[at]/m.mean))
		}
	}
	return score
}

func (m *memory) search(question string, vector []float32, limit int) []store.Passage {
	words := contentOf(tokenize(question))
	out := make([]store.Passage, len(m.texts))
	var topCosine, topWords float64
	for i, text := range m.texts {
		out[i] = store.Passage{Text: text, End: len([]rune(text)), Vector: &store.LegScore{Score: cosineOf(vector, m.vectors[i])}, Lexical: &store.LegScore{Score: m.bm25(words, i)}}
		topCosine, topWords = max(topCosine, out[i].Vector.Score), max(topWords, out[i].Lexical.Score)
	}
	for i := range out {
		out[i].Score = 0.5*out[i].Vector.Score/math.Max(topCosine, 1e-9) + 0.5*out[i].Lexical.Score/math.Max(topWords, 1e-9)
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Score > out[j].Score })
	return out[:min(limit, len(out))]
}
