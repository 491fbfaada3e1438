// Package eval measures a running service on test collections: which documents and spans a search finds, and whether
// answers cite, refuse and say what they should.
//
// A collection is a folder in the layout of BEIR (corpus.jsonl, queries.jsonl, qrels/test.tsv), a folder in that of Chroma's
// chunking evaluation (questions_df.csv beside its texts), or a file of questions (JSONL or CSV). A BEIR folder whose documents
// are parts of longer ones can be opened as these, to measure how texts are cut. Collect asks each question of a Server and
// scores the replies into a Run; runs are saved, compared with a significance test, and shown as a page.
package eval

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
)

// ErrCollection is wrapped by every complaint about a collection's files.
var ErrCollection = errors.New("test collection")

// Collection is what is asked, and where its documents are.
type Collection struct {
	Name      string
	Questions []Question
	dir       string
	documents func(dir string) iter.Seq2[Document, error] // nil: the collection brings none
}

// Question is one thing to ask, with what is known of the right reply. Fields that are empty are not scored.
type Question struct {
	ID           string         `json:"id"`
	Text         string         `json:"text"`
	Grades       map[string]int `json:"grades,omitempty"` // by document: how relevant it is; 0 or less is not
	Quotes       []Quote        `json:"quotes,omitempty"` // spans that a good passage holds
	Unanswerable bool           `json:"unanswerable,omitempty"`
	References   []string       `json:"references,omitempty"` // right answers
}

// Quote is a stretch of a document. Start and End count code points of its extracted text.
type Quote struct {
	Document string `json:"document"`
	Text     string `json:"text"`
	Start    int    `json:"start"`
	End      int    `json:"end"`
}

// Document is one to load. MediaType is never empty.
type Document struct {
	URI       string
	Title     string
	Text      string
	MediaType string
}

// Documents yields the collection's own documents; ok is false if it has none, as a file of questions.
func (c Collection) Documents() (seq iter.Seq2[Document, error], ok bool) {
	if c.documents == nil {
		return nil, false
	}
	return c.documents(c.dir), true
}

// Open reads the questions of a folder or file. split names the judgements of a folder in BEIR's layout: "" means test.
func Open(path, split string) (Collection, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Collection{}, fmt.Errorf("%w: %w", ErrCollection, err)
	}
	name := strings.TrimSuffix(filepath.Base(filepath.Clean(path)), filepath.Ext(path))
	switch {
	case !info.IsDir():
		return openFile(path, name)
	case isFile(filepath.Join(path, "queries.jsonl")):
		return openBEIR(path, filepath.Base(filepath.Clean(path)), split)
	case isFile(filepath.Join(path, spansFile)):
		return openSpans(path, filepath.Base(filepath.Clean(path)))
	}
	return Collection{}, fmt.Errorf("%w: %s holds neither queries.jsonl (BEIR) nor %s (chunking evaluation)", ErrCollection, path, spansFile)
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// Server is what is measured. It is called from several goroutines.
type Server interface {
	// Search returns at most limit passages, best first.
	Search(ctx context.Context, query string, limit int) (Results, error)
	// Answer asks for an answer with citations.
	Answer(ctx context.Context, question string) (Answer, error)
	// Text is the extracted text of the document with this URI; an error if there is none.
	Text(ctx context.Context, uri string) (string, error)
}

// Results of one search.
type Results struct {
	Hits     []Hit
	EmbedMS  float64 // as the server says
	SearchMS float64
}

// Hit is a passage that was found.
type Hit struct {
	Document   string          `json:"document"` // URI
	DocumentID string          `json:"document_id,omitempty"`
	Title      string          `json:"title,omitempty"`
	Start      int             `json:"start"`
	End        int             `json:"end"`
	Text       string          `json:"text,omitempty"`
	Score      float64         `json:"score"`
	Details    json.RawMessage `json:"details,omitempty"`
}

// Answer is a whole answer.
type Answer struct {
	Text      string     `json:"text"`
	Refused   bool       `json:"refused"`
	Reason    string     `json:"reason,omitempty"`
	Evidence  float64    `json:"evidence"` // of the refusal's decision, 0..1
	Citations []Citation `json:"citations,omitempty"`
	FirstMS   float64    `json:"first_ms"` // until the first text
	TotalMS   float64    `json:"total_ms"`
}

// Citation is a sentence of an answer with its verdict and what it rests on. Document is "" if nothing supports it.
type Citation struct {
	Sentence   string `json:"sentence"`
	Verdict    string `json:"verdict"` // supported, partly or unsupported
	Document   string `json:"document,omitempty"`
	DocumentID string `json:"document_id,omitempty"`
	Start      int    `json:"start"`
	End        int    `json:"end"`
	Quote      string `json:"quote,omitempty"`
}
