package eval

import (
	"cmp"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// OpenJoined opens a folder in BEIR's layout whose documents are parts of longer ones, such as the paragraphs of an article or
// the sections of a page, and joins them again, so that it measures how texts are cut. The document that a part belongs to is
// told by its id: what stands before the last #, as in an address with a fragment; else what stands before the last _, if only
// digits follow. Parts follow each other as in the corpus.
//
// The joined documents are Markdown: a part's title is a heading, unless the part before it has the same. A question's
// judgements become Quotes, the whole text of each part that answers it, and its Grades are left out: what is measured is the
// share of those characters that a search returns. Questions without an answer are left out, too.
func OpenJoined(path, split string) (Collection, error) {
	if !isFile(filepath.Join(path, "corpus.jsonl")) {
		return Collection{}, fmt.Errorf("%w: %s has no corpus.jsonl whose documents could be joined", ErrCollection, path)
	}
	c, err := Open(path, split)
	if err != nil {
		return c, err
	}
	pages, parts, err := joinParts(beirParts(c.dir))
	if err != nil {
		return c, err
	}
	var questions []Question
	for _, q := range c.Questions {
		if q.Unanswerable {
			continue
		}
		if q, err = quoteParts(q, parts); err != nil {
			return c, err
		}
		questions = append(questions, q)
	}
	c.Questions = questions
	c.documents = func(string) iter.Seq2[Document, error] { return markdownDocuments(pages) }
	return c, checkQuestions(c)
}

// joined is a document under way: its Markdown, and how many code points of text that reads as.
type joined struct {
	id, lastTitle string
	source        strings.Builder
	runes         int
}

// joinParts builds the documents in the corpus's order, and by a part's id the text that it became.
func joinParts(all iter.Seq2[beirPart, error]) ([]*joined, map[string]Quote, error) {
	var pages []*joined
	byID := map[string]*joined{}
	parts := map[string]Quote{}
	for part, err := range all {
		if err != nil {
			return nil, nil, err
		}
		id := wholeOf(part.ID)
		page := byID[id]
		if page == nil {
			page = &joined{id: id}
			byID[id], pages = page, append(pages, page)
		}
		parts[part.ID] = page.add(part)
	}
	return pages, parts, nil
}

// wholeOf is the id of the document that a part belongs to.
func wholeOf(id string) string {
	if i := strings.LastIndexByte(id, '#'); i > 0 {
		return id[:i]
	}
	i := strings.LastIndexByte(id, '_')
	if i > 0 && i+1 < len(id) && strings.Trim(id[i+1:], "0123456789") == "" {
		return id[:i]
	}
	return id
}

// add appends a part and returns where its text stands. What a part repeats of its title at its start is left out. A part that
// is nothing but its title is its heading.
func (j *joined) add(part beirPart) (q Quote) {
	title := strings.Join(strings.Fields(part.Title), " ")
	body := strings.TrimSpace(part.Text)
	if rest, ok := strings.CutPrefix(body, title); ok && (rest == "" || rest[0] == '\n') {
		body = rest
	}
	if title != "" && title != j.lastTitle {
		q = j.block("# "+escapeMarkdown(title), title)
	}
	j.lastTitle = title
	var said []string
	for source, text := range markdownBlocks(body) {
		at := j.block(source, text)
		if said == nil {
			q = at
		}
		said = append(said, text)
		q.End = at.End
	}
	if said != nil {
		q.Text = strings.Join(said, "\n\n")
	}
	return q
}

// block appends one block, which reads as text.
func (j *joined) block(source, text string) Quote {
	if j.runes > 0 {
		j.source.WriteString("\n\n")
		j.runes += len("\n\n")
	}
	j.source.WriteString(source)
	start := j.runes
	j.runes += utf8.RuneCountInString(text)
	return Quote{Document: j.id, Text: text, Start: start, End: j.runes}
}

const fence = "```"

// markdownBlocks yields a plain text's blocks as Markdown, and as they read: paragraphs line by line, with what stands between
// two lines of ``` as code.
func markdownBlocks(text string) iter.Seq2[string, string] {
	return func(yield func(source, text string) bool) {
		lines := strings.Split(text, "\n")
		for len(lines) > 0 {
			var source, text string
			if source, text, lines = firstBlock(lines); text != "" && !yield(source, text) {
				return
			}
		}
	}
}

// firstBlock takes the first block off the lines; its text is "" if there is nothing to read.
func firstBlock(lines []string) (source, text string, rest []string) {
	if strings.TrimSpace(lines[0]) == fence {
		for i, line := range lines[1:] {
			if strings.TrimSpace(line) == fence {
				text = strings.TrimRight(strings.TrimLeft(strings.Join(lines[1:i+1], "\n"), "\n"), " \t\n")
				return fence + "\n" + text + "\n" + fence, text, lines[i+2:]
			}
		}
	}
	var said []string
	n := 0
	for ; n < len(lines) && (n == 0 || strings.TrimSpace(lines[n]) != fence); n++ {
		line := strings.Join(strings.Fields(lines[n]), " ")
		if line == "" {
			n++
			break
		}
		said = append(said, line)
	}
	text = strings.Join(said, "\n")
	return strings.ReplaceAll(escapeMarkdown(text), "\n", "  \n"), text, lines[n:]
}

// escapeMarkdown makes a text read as it stands: in CommonMark a backslash before any ASCII punctuation takes its meaning.
func escapeMarkdown(text string) string {
	var b strings.Builder
	for _, r := range text {
		if strings.ContainsRune("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// quoteParts replaces a question's judgements by the texts of the parts that are relevant.
func quoteParts(q Question, parts map[string]Quote) (Question, error) {
	for id, grade := range q.Grades {
		if grade <= 0 {
			continue
		}
		quote, ok := parts[id]
		if !ok || quote.Text == "" {
			return q, fmt.Errorf("%w: question %s is judged by %q, which the corpus does not have or which is empty", ErrCollection, q.ID, id)
		}
		q.Quotes = append(q.Quotes, quote)
	}
	q.Grades = nil
	slices.SortFunc(q.Quotes, func(a, b Quote) int {
		return cmp.Or(strings.Compare(a.Document, b.Document), cmp.Compare(a.Start, b.Start))
	})
	return q, nil
}

func markdownDocuments(pages []*joined) iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		for _, p := range pages {
			if p.runes > 0 && !yield(Document{URI: p.id, Text: p.source.String(), MediaType: "text/markdown"}, nil) {
				return
			}
		}
	}
}
