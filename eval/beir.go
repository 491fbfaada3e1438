package eval

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// maxLine bounds one line of a collection's files.
const maxLine = 64 << 20

// openBEIR reads queries and judgements. Only judged queries are asked, as evaluation tools count only those. Questions in
// unanswerable.jsonl, if it is there, are asked too and have no answer in the collection.
func openBEIR(dir, name, split string) (Collection, error) {
	c := Collection{Name: name, dir: dir, documents: beirDocuments}
	grades, err := readFile(filepath.Join(dir, "qrels", cmp.Or(split, "test")+".tsv"), ParseQrels)
	if err != nil {
		return c, err
	}
	queries, err := readFile(filepath.Join(dir, "queries.jsonl"), parseQueries)
	if err != nil {
		return c, err
	}
	for _, q := range queries {
		if q.Grades = grades[q.ID]; q.Grades != nil {
			c.Questions = append(c.Questions, q)
			delete(grades, q.ID)
		}
	}
	for id := range grades {
		return c, fmt.Errorf("%w: %s judges query %q, which queries.jsonl does not have", ErrCollection, dir, id)
	}
	none, err := readFile(filepath.Join(dir, "unanswerable.jsonl"), parseQueries)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	for _, q := range none {
		q.Unanswerable = true
		c.Questions = append(c.Questions, q)
	}
	return c, checkQuestions(c)
}

// checkQuestions refuses a collection in which a reply could not be told from another.
func checkQuestions(c Collection) error {
	seen := make(map[string]bool, len(c.Questions))
	for _, q := range c.Questions {
		if seen[q.ID] {
			return fmt.Errorf("%w: %s has two questions with the id %q", ErrCollection, c.Name, q.ID)
		}
		seen[q.ID] = true
	}
	if len(c.Questions) == 0 {
		return fmt.Errorf("%w: %s has no questions", ErrCollection, c.Name)
	}
	return nil
}

func readFile[T any](path string, parse func(io.Reader) (T, error)) (T, error) {
	f, err := os.Open(path)
	if err != nil {
		var none T
		return none, fmt.Errorf("%w: %w", ErrCollection, err)
	}
	defer f.Close()
	v, err := parse(f)
	if err != nil {
		return v, fmt.Errorf("%s: %w", path, err)
	}
	return v, nil
}

// eachLine calls f with every line that is not blank; numbers begin at 1. An error of f is wrapped with the line's number.
func eachLine(r io.Reader, f func(n int, line []byte) error) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 64<<10), maxLine)
	for n := 1; sc.Scan(); n++ {
		if line := bytes.TrimSpace(sc.Bytes()); len(line) > 0 {
			if err := f(n, line); err != nil {
				return fmt.Errorf("%w: line %d: %w", ErrCollection, n, err)
			}
		}
	}
	return sc.Err()
}

// ParseQrels reads judgements in BEIR's form, tab-separated query-id, corpus-id and score with a header, or in TREC's, four
// columns with the iteration second. The result is by query, then by document.
func ParseQrels(r io.Reader) (map[string]map[string]int, error) {
	grades := map[string]map[string]int{}
	err := eachLine(r, func(n int, line []byte) error {
		f := strings.Split(string(line), "\t")
		if len(f) == 1 {
			f = strings.Fields(string(line))
		}
		if len(f) == 4 {
			f = []string{f[0], f[2], f[3]}
		}
		if len(f) != 3 {
			return fmt.Errorf("%d columns: a judgement is query-id, corpus-id, score", len(f))
		}
		grade, err := strconv.Atoi(strings.TrimSpace(f[2]))
		if n == 1 && err != nil {
			return nil // the header
		}
		if err != nil || f[0] == "" || f[1] == "" {
			return fmt.Errorf("%q is no judgement: query-id, corpus-id and a whole number", line)
		}
		if grades[f[0]] == nil {
			grades[f[0]] = map[string]int{}
		}
		grades[f[0]][f[1]] = grade
		return nil
	})
	return grades, err
}

func parseQueries(r io.Reader) ([]Question, error) {
	var all []Question
	err := eachLine(r, func(_ int, line []byte) error {
		var q struct {
			ID   string `json:"_id"`
			Text string `json:"text"`
		}
		if err := json.Unmarshal(line, &q); err != nil {
			return err
		}
		if q.ID == "" || strings.TrimSpace(q.Text) == "" {
			return errors.New("a query has _id and text")
		}
		all = append(all, Question{ID: q.ID, Text: q.Text})
		return nil
	})
	return all, err
}

// beirDocuments yields corpus.jsonl. A document without text has its title as text; one with neither is left out, since there is
// nothing to find.
func beirDocuments(dir string) iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		for d, err := range beirParts(dir) {
			text := cmp.Or(strings.TrimSpace(d.Text), strings.TrimSpace(d.Title))
			if (err != nil || text != "") && !yield(Document{d.ID, d.Title, text, "text/plain"}, err) {
				return
			}
		}
	}
}

// beirPart is a line of corpus.jsonl.
type beirPart struct {
	ID    string `json:"_id"`
	Title string `json:"title"`
	Text  string `json:"text"`
}

// beirParts yields the lines of corpus.jsonl; an error is the last.
func beirParts(dir string) iter.Seq2[beirPart, error] {
	return func(yield func(beirPart, error) bool) {
		f, err := os.Open(filepath.Join(dir, "corpus.jsonl"))
		if err != nil {
			yield(beirPart{}, fmt.Errorf("%w: %w", ErrCollection, err))
			return
		}
		defer f.Close()
		err = eachLine(f, func(_ int, line []byte) error {
			var d beirPart
			if err := json.Unmarshal(line, &d); err != nil {
				return err
			}
			if !yield(d, nil) {
				return errStopped
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(beirPart{}, fmt.Errorf("%s: %w", f.Name(), err))
		}
	}
}

var errStopped = errors.New("stopped by the caller")
