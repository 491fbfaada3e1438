package eval

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// questionLine is a question as files have it, JSONL or the columns of a CSV.
type questionLine struct {
	ID         string   `json:"id"`
	Question   string   `json:"question"`
	Document   string   `json:"document"`  // URI of a document that answers it
	Documents  []string `json:"documents"` // or several
	Quote      string   `json:"quote"`     // words that a good passage holds
	Quotes     []string `json:"quotes"`
	Answerable *bool    `json:"answerable"` // default true
	Answers    []string `json:"answers"`    // right answers

	references []Quote // of the column "references", as in the chunking evaluation
}

// question checks a line and fills it into a Question. n is its number, its id if it has none.
func (l questionLine) question(n int) (Question, error) {
	q := Question{ID: l.ID, Text: strings.TrimSpace(l.Question), References: l.Answers, Quotes: l.references}
	if q.ID == "" {
		q.ID = strconv.Itoa(n)
	}
	if q.Text == "" {
		return q, errors.New("it has no question")
	}
	if l.Document != "" {
		l.Documents = append(l.Documents, l.Document)
	}
	if l.Quote != "" {
		l.Quotes = append(l.Quotes, l.Quote)
	}
	q.Unanswerable = l.Answerable != nil && !*l.Answerable
	if q.Unanswerable && (len(l.Documents) > 0 || len(l.Quotes) > 0 || len(l.Answers) > 0) {
		return q, errors.New("it is not answerable and yet expects a document, quote or answer")
	}
	if len(l.Quotes) > 0 && len(l.Documents) != 1 {
		return q, fmt.Errorf("it has quotes and %d documents: name the one document that they are from", len(l.Documents))
	}
	for _, text := range l.Quotes {
		q.Quotes = append(q.Quotes, Quote{Document: l.Documents[0], Text: text})
	}
	for _, d := range l.Documents {
		if q.Grades == nil {
			q.Grades = map[string]int{}
		}
		q.Grades[d] = 1
	}
	return q, nil
}

func openFile(path, name string) (Collection, error) {
	c := Collection{Name: name}
	parse := ParseQuestions
	if strings.EqualFold(filepath.Ext(path), ".csv") {
		parse = ParseQuestionsCSV
	}
	var err error
	if c.Questions, err = readFile(path, parse); err != nil {
		return c, err
	}
	return c, checkQuestions(c)
}

// ParseQuestions reads questions as JSON, one a line, with the fields id, question, document or documents, quote or quotes,
// answerable and answers.
func ParseQuestions(r io.Reader) ([]Question, error) {
	var all []Question
	err := eachLine(r, func(n int, line []byte) error {
		var l questionLine
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&l); err != nil {
			return err
		}
		if dec.More() {
			return errors.New("there is more than one object on it")
		}
		q, err := l.question(n)
		all = append(all, q)
		return err
	})
	return all, err
}

// ParseQuestionsCSV reads a CSV whose header names the columns: those of ParseQuestions, documents, quotes and answers
// separated by |, or question, references and corpus_id of the chunking evaluation.
func ParseQuestionsCSV(r io.Reader) ([]Question, error) {
	rows := csv.NewReader(r)
	header, err := rows.Read()
	if err != nil {
		return nil, fmt.Errorf("%w: read the header: %w", ErrCollection, err)
	}
	var all []Question
	for {
		row, err := rows.Read()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCollection, err)
		}
		line, _ := rows.FieldPos(0)
		l, err := csvLine(header, row)
		if err == nil {
			var q Question
			q, err = l.question(line)
			all = append(all, q)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrCollection, line, err)
		}
	}
}

func csvLine(header, row []string) (l questionLine, err error) {
	var corpus, references string
	for i, name := range header {
		switch v := strings.TrimSpace(row[i]); strings.ToLower(strings.TrimSpace(strings.TrimPrefix(name, "\ufeff"))) {
		case "id":
			l.ID = v
		case "question":
			l.Question = v
		case "document", "documents":
			l.Documents = append(l.Documents, list(v)...)
		case "quote", "quotes":
			l.Quotes = append(l.Quotes, list(v)...)
		case "answers":
			l.Answers = append(l.Answers, list(v)...)
		case "answerable":
			if v != "" {
				b, err := strconv.ParseBool(strings.ToLower(v))
				if err != nil {
					return l, fmt.Errorf("answerable is %q: true or false", v)
				}
				l.Answerable = &b
			}
		case "references":
			references = v
		case "corpus_id":
			corpus = v
		default:
			return l, fmt.Errorf("unknown column %q", name)
		}
	}
	if references == "" {
		return l, nil
	}
	l.references, err = parseReferences(corpus, references)
	return l, err
}

func list(v string) []string {
	var out []string
	for part := range strings.SplitSeq(v, "|") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

func parseReferences(corpus, raw string) ([]Quote, error) {
	var refs []struct {
		Content string `json:"content"`
		Start   int    `json:"start_index"`
		End     int    `json:"end_index"`
	}
	if err := json.Unmarshal([]byte(raw), &refs); err != nil {
		return nil, fmt.Errorf("references: %w", err)
	}
	if corpus == "" {
		return nil, errors.New("it has references and no corpus_id")
	}
	var quotes []Quote
	for _, r := range refs {
		quotes = append(quotes, Quote{corpus + spansExt, r.Content, r.Start, r.End})
	}
	return quotes, nil
}

// The layout of Chroma's chunking evaluation (Smith and Troynikov, "Evaluating Chunking Strategies for Retrieval", 2024).
const (
	spansFile = "questions_df.csv"
	spansExt  = ".md"
)

func openSpans(dir, name string) (Collection, error) {
	c := Collection{Name: name, dir: dir, documents: spansDocuments}
	var err error
	if c.Questions, err = readFile(filepath.Join(dir, spansFile), ParseQuestionsCSV); err != nil {
		return c, err
	}
	return c, checkQuestions(c)
}

// spansDocuments yields the texts as plain text, so that offsets are those of the file.
func spansDocuments(dir string) iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		paths, err := filepath.Glob(filepath.Join(dir, "*"+spansExt))
		if err == nil && len(paths) == 0 {
			err = fmt.Errorf("%w: %s has no *%s", ErrCollection, dir, spansExt)
		}
		if err != nil {
			yield(Document{}, err)
			return
		}
		for _, p := range paths {
			b, err := os.ReadFile(p)
			if !yield(Document{URI: filepath.Base(p), Text: string(b), MediaType: "text/plain"}, err) || err != nil {
				return
			}
		}
	}
}
