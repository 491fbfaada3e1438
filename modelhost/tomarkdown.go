package modelhost

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"mime"
	"net/http"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// convertedFile is one entry of the answer of /ai/tomarkdown.
type convertedFile struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	MimeType string `json:"mimeType"`
	Format   string `json:"format"` // markdown or error
	Tokens   int    `json:"tokens"`
	Data     string `json:"data,omitempty"`
	Error    string `json:"error,omitempty"`
}

// toMarkdown serves POST /ai/tomarkdown: HTML, CSV and text. A file of another kind is that file's error alone.
func (h *Host) toMarkdown(c *call) error {
	c.r.Body = http.MaxBytesReader(c.w, c.r.Body, h.cfg.MaxBody)
	parts, err := c.r.MultipartReader()
	if err != nil {
		return invalid("want multipart/form-data", "send the files as multipart/form-data with the field files")
	}
	docs := []convertedFile{}
	for {
		p, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		var data []byte
		if err == nil {
			data, err = io.ReadAll(p)
		}
		var over *http.MaxBytesError
		if errors.As(err, &over) {
			return tooLarge(h.cfg.MaxBody)
		}
		if err != nil {
			return invalid("multipart: "+err.Error(), "")
		}
		if p.FormName() == "files" || p.FileName() != "" {
			docs = append(docs, convert(p.FileName(), p.Header.Get("Content-Type"), data))
		}
	}
	if len(docs) == 0 {
		return invalid("required properties at '/' are 'files'", "no file in the form: send each as a part named files")
	}
	answer(c, docs)
	return nil
}

// convert goes by the type, or by the name where the type says nothing. Tokens are estimated at four characters each.
func convert(name, contentType string, data []byte) convertedFile {
	kind, _, _ := mime.ParseMediaType(contentType)
	if kind == "" || kind == "application/octet-stream" {
		kind, _, _ = mime.ParseMediaType(typeOf(name))
	}
	out := convertedFile{ID: uuid.NewString(), Name: name, MimeType: kind, Format: "markdown"}
	text, why := markdownOf(kind, data)
	if why != "" {
		out.Format, out.Error = "error", why
		return out
	}
	out.Data, out.Tokens = text, (utf8.RuneCountInString(text)+3)/4
	return out
}

// extensions are the files that are converted, whatever a machine's table of types knows.
var extensions = map[string]string{
	".html": "text/html", ".htm": "text/html", ".xhtml": "application/xhtml+xml", ".csv": "text/csv",
	".md": "text/markdown", ".markdown": "text/markdown", ".txt": "text/plain", ".text": "text/plain", ".log": "text/plain",
}

func typeOf(name string) string {
	ext := strings.ToLower(path.Ext(name))
	if kind := extensions[ext]; kind != "" {
		return kind
	}
	return mime.TypeByExtension(ext)
}

// markdownOf returns the text, or why there is none.
func markdownOf(kind string, data []byte) (text, why string) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	switch {
	case kind != "text/html" && kind != "application/xhtml+xml" && !strings.HasPrefix(kind, "text/"):
		if kind == "" {
			kind = "unknown"
		}
		return "", "unsupported type " + kind + ": this host converts HTML, CSV and plain text"
	case !utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0:
		return "", "the file is not UTF-8 text: convert it to UTF-8"
	case kind == "text/csv":
		return csvTable(data)
	case kind == "text/html" || kind == "application/xhtml+xml":
		return htmlMarkdown(data)
	}
	return string(data), ""
}

// csvTable writes a pipe table; short rows are filled up.
func csvTable(data []byte) (text, why string) {
	r := csv.NewReader(bytes.NewReader(data))
	r.FieldsPerRecord, r.LazyQuotes = -1, true
	rows, err := r.ReadAll()
	if err != nil {
		return "", "the CSV cannot be read: " + err.Error()
	}
	width := 0
	for _, row := range rows {
		width = max(width, len(row))
	}
	var b strings.Builder
	clean := strings.NewReplacer("|", `\|`, "\r\n", " ", "\n", " ")
	for i, row := range rows {
		for k := range width {
			cell := ""
			if k < len(row) {
				cell = clean.Replace(row[k])
			}
			b.WriteString("| " + cell + " ")
		}
		b.WriteString("|\n")
		if i == 0 {
			b.WriteString(strings.Repeat("| --- ", width) + "|\n")
		}
	}
	return b.String(), ""
}

// htmlMarkdown keeps headings, paragraphs, lists, links and emphasis.
func htmlMarkdown(data []byte) (text, why string) {
	root, err := html.Parse(bytes.NewReader(data))
	if err != nil {
		return "", "the HTML cannot be read: " + err.Error()
	}
	var b strings.Builder
	writeMarkdown(&b, root)
	var out []string
	for block := range strings.SplitSeq(b.String(), "\n\n") {
		if block = strings.TrimSpace(block); block != "" {
			out = append(out, block)
		}
	}
	return strings.Join(out, "\n\n") + "\n", ""
}

// around is what stands before and after an element's content.
var around = map[atom.Atom][2]string{
	atom.H1: {"\n\n# ", "\n\n"}, atom.H2: {"\n\n## ", "\n\n"}, atom.H3: {"\n\n### ", "\n\n"},
	atom.H4: {"\n\n#### ", "\n\n"}, atom.H5: {"\n\n##### ", "\n\n"}, atom.H6: {"\n\n###### ", "\n\n"},
	atom.P: {"\n\n", "\n\n"}, atom.Div: {"\n\n", "\n\n"}, atom.Section: {"\n\n", "\n\n"}, atom.Table: {"\n\n", "\n\n"},
	atom.Ul: {"\n\n", "\n\n"}, atom.Ol: {"\n\n", "\n\n"}, atom.Li: {"\n- ", ""}, atom.Tr: {"\n", " |"}, atom.Td: {"| ", " "}, atom.Th: {"| ", " "},
	atom.Strong: {"**", "**"}, atom.B: {"**", "**"}, atom.Em: {"*", "*"}, atom.I: {"*", "*"}, atom.Code: {"`", "`"}, atom.Br: {"\n", ""},
}

func writeMarkdown(b *strings.Builder, n *html.Node) {
	switch n.DataAtom {
	case atom.Script, atom.Style, atom.Head, atom.Noscript, atom.Template:
		return
	}
	if n.Type == html.TextNode {
		writeWords(b, n.Data)
		return
	}
	marks, href := around[n.DataAtom], ""
	if n.DataAtom == atom.A {
		for _, a := range n.Attr {
			if a.Key == "href" {
				href = a.Val
			}
		}
	}
	if href != "" {
		marks = [2]string{"[", "](" + href + ")"}
	}
	b.WriteString(marks[0])
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		writeMarkdown(b, c)
	}
	b.WriteString(marks[1])
}

// writeWords writes text with its white space folded.
func writeWords(b *strings.Builder, text string) {
	words := strings.Join(strings.Fields(text), " ")
	if words == "" {
		words = " "
	} else {
		if strings.TrimLeft(text, " \t\r\n") != text {
			words = " " + words
		}
		if strings.TrimRight(text, " \t\r\n") != text {
			words += " "
		}
	}
	if s := b.String(); s == "" || strings.HasSuffix(s, "\n") || strings.HasSuffix(s, " ") {
		words = strings.TrimLeft(words, " ")
	}
	b.WriteString(words)
}
