package ingest

import (
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

var (
	// unread are elements without text for a reader.
	unread = atoms(atom.Head, atom.Script, atom.Style, atom.Template, atom.Noscript, atom.Nav, atom.Search, atom.Svg, atom.Iframe,
		atom.Object, atom.Canvas, atom.Audio, atom.Video, atom.Select, atom.Datalist, atom.Button, atom.Textarea,
		atom.Progress, atom.Meter, atom.Rt, atom.Rp, atom.Frameset, atom.Noframes)
	// blockElements begin and end a line.
	blockElements = atoms(atom.Address, atom.Article, atom.Aside, atom.Blockquote, atom.Body, atom.Center, atom.Details, atom.Dialog,
		atom.Dir, atom.Div, atom.Dl, atom.Fieldset, atom.Figcaption, atom.Figure, atom.Footer, atom.Form, atom.Header, atom.Hgroup,
		atom.Hr, atom.Legend, atom.Main, atom.Menu, atom.Ol, atom.P, atom.Section, atom.Summary, atom.Ul, atom.Caption, atom.Dt,
		atom.Dd, atom.Li, atom.Pre, atom.Table, atom.Tbody, atom.Thead, atom.Tfoot, atom.Tr, atom.Td, atom.Th,
		atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6, atom.Listing, atom.Xmp, atom.Plaintext)
	headingLevels = map[atom.Atom]int{atom.H1: 1, atom.H2: 2, atom.H3: 3, atom.H4: 4, atom.H5: 5, atom.H6: 6}
	// unreadClasses are navigation and links to a heading itself, as DocBook, Sphinx and others mark them.
	unreadClasses = []string{"navheader", "navfooter", "id_link", "headerlink", "anchor-link", "footnote-backref"}
	unreadRoles   = []string{"navigation", "search", "menu", "menubar"}
	contents      = []string{"toc"} // a table of contents
	// admonitions are DocBook's boxes, whose title ("Note") is marked as a heading but heads nothing after the box.
	admonitions = []string{"note", "tip", "warning", "caution", "important"}
)

// maxIndent bounds the indentation of nested lists: a page of 500 nested lists would otherwise grow hundredfold.
const maxIndent = 8

// htmlWriter renders a page as blocks of text, in one pass.
type htmlWriter struct {
	out          composer
	line         inlineText
	kind         BlockKind // of what is being written
	mark         string    // before the next block, for list items
	depth        int       // of lists
	layout       map[*html.Node]bool
	title        string
	firstHeading string
	contents     bool // tables of contents are read
}

func writeHTML(n *html.Node, title string, contents bool) *htmlWriter {
	w := &htmlWriter{layout: layoutTables(n), title: title, contents: contents}
	w.walk(n)
	w.flush()
	return w
}

func (w *htmlWriter) headingsOnly() bool {
	return !slices.ContainsFunc(w.out.blocks, func(b Block) bool { return b.Kind != Heading })
}

func (w *htmlWriter) walk(n *html.Node) {
	switch n.Type {
	case html.TextNode:
		w.line.write(n.Data)
	case html.DocumentNode:
		w.children(n)
	case html.ElementNode:
		if !w.skips(n) {
			w.element(n)
		}
	}
}

func (w *htmlWriter) children(n *html.Node) {
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		w.walk(c)
	}
}

// skips tells whether an element is not for reading.
func (w *htmlWriter) skips(n *html.Node) bool {
	if unread[n.DataAtom] || n.DataAtom == atom.Input && !taskBox(n) || hidden(n) || slices.Contains(unreadRoles, attribute(n, "role")) {
		return true
	}
	if n.DataAtom == atom.Dialog && !hasAttribute(n, "open") {
		return true
	}
	if n.DataAtom == atom.Footer && n.Parent != nil && n.Parent.DataAtom == atom.Body {
		return true
	}
	return hasClass(n, unreadClasses) || !w.contents && hasClass(n, contents)
}

// taskBox tells whether an input is the box of a task list, as Markdown's renderers write it.
func taskBox(n *html.Node) bool {
	return attribute(n, "type") == "checkbox" && hasAttribute(n, "disabled") && n.Parent != nil && n.Parent.DataAtom == atom.Li
}

func hasClass(n *html.Node, classes []string) bool {
	for class := range strings.FieldsSeq(attribute(n, "class")) {
		if slices.Contains(classes, class) {
			return true
		}
	}
	return false
}

func (w *htmlWriter) element(n *html.Node) {
	switch n.DataAtom {
	case atom.Br:
		w.line.breakLine()
	case atom.Img:
		w.line.write(attribute(n, "alt"))
	case atom.Input: // others are not read
		w.line.write(map[bool]string{true: "[x]", false: "[ ]"}[hasAttribute(n, "checked")])
	case atom.Q:
		w.line.write("“")
		w.children(n)
		w.line.write("”")
	case atom.Pre, atom.Listing, atom.Xmp, atom.Plaintext:
		w.code(n)
	case atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6:
		w.heading(n)
	case atom.Ul, atom.Ol, atom.Menu, atom.Dir, atom.Dl:
		w.list(n)
	case atom.Li, atom.Dt, atom.Dd:
		w.item(n, "")
	case atom.Table:
		w.table(n)
	default:
		w.other(n)
	}
}

func (w *htmlWriter) other(n *html.Node) {
	switch {
	case blockElements[n.DataAtom]:
		w.flush()
		w.children(n)
		w.flush()
	case attribute(n, "role") == "doc-noteref": // the number of a note, which would read as part of the word before it
		w.line.write("[")
		w.children(n)
		w.line.write("]")
	default:
		w.children(n)
	}
}

// flush ends the open line as a block.
func (w *htmlWriter) flush() { w.add(w.kind, 0, w.line.take()) }

// add appends a block, indented if it is in a list.
func (w *htmlWriter) add(kind BlockKind, level int, text string) {
	if strings.TrimSpace(text) == "" {
		return
	}
	if kind == ListItem {
		indent := strings.Repeat("  ", min(max(w.depth-1, 0), maxIndent))
		below := indent + strings.Repeat(" ", len(w.mark))
		text = indent + w.mark + strings.ReplaceAll(text, "\n", "\n"+below)
		w.mark = strings.Repeat(" ", len(w.mark))
	}
	w.out.add(kind, level, text)
}

func (w *htmlWriter) heading(n *html.Node) {
	w.flush()
	w.children(n)
	text := oneLine(w.line.take())
	if text == "" {
		return
	}
	if hasClass(n.Parent, admonitions) {
		w.add(w.kind, 0, text)
		return
	}
	level := headingLevels[n.DataAtom]
	if w.firstHeading == "" {
		w.firstHeading = text
		if text == w.title {
			level = 1 // it heads the page, though DocBook's reference pages give their sections the same level
		}
	}
	w.add(Heading, level, text)
}

// code keeps white space; the parser has dropped a line end after <pre>.
func (w *htmlWriter) code(n *html.Node) {
	w.flush()
	w.line = inlineText{verbatim: true}
	w.children(n)
	text := strings.ReplaceAll(w.line.take(), "\u00a0", " ")
	w.line = inlineText{}
	w.add(Code, 0, strings.TrimRight(strings.TrimLeft(text, "\n"), " \t\n"))
}

func (w *htmlWriter) list(n *html.Node) {
	w.flush()
	kind, mark := w.kind, w.mark
	w.kind, w.mark, w.depth = ListItem, "", w.depth+1
	number, err := strconv.Atoi(attribute(n, "start"))
	if err != nil {
		number = 1
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		switch {
		case c.DataAtom != atom.Li || w.skips(c):
			w.walk(c)
		case n.DataAtom == atom.Ol:
			w.item(c, strconv.Itoa(number)+". ")
			number++
		default:
			w.item(c, "- ")
		}
	}
	w.flush()
	w.kind, w.mark, w.depth = kind, mark, w.depth-1
}

// item writes a list item, a term, or a description, which stands below its term, indented.
func (w *htmlWriter) item(n *html.Node, mark string) {
	w.flush()
	kind, outer := w.kind, w.mark
	w.kind, w.mark = ListItem, mark
	if n.DataAtom == atom.Dd {
		w.mark = "  "
	}
	w.children(n)
	w.flush()
	w.kind, w.mark = kind, outer
}

// inlineText collapses white space as browsers do, and no-break spaces with it, so that quotes are found as they are typed.
type inlineText struct {
	b        strings.Builder
	pending  bool // a space, should more text follow
	verbatim bool
	flat     bool // line breaks are spaces
}

func (t *inlineText) write(s string) {
	if t.verbatim {
		t.b.WriteString(s)
		return
	}
	for s != "" {
		i := strings.IndexFunc(s, unicode.IsSpace)
		if i < 0 {
			i = len(s)
		}
		if i > 0 {
			t.word(s[:i])
		}
		rest := strings.TrimLeftFunc(s[i:], unicode.IsSpace)
		t.pending = t.pending || len(rest) < len(s[i:])
		s = rest
	}
}

func (t *inlineText) word(s string) {
	if t.pending && t.b.Len() > 0 && !strings.HasSuffix(t.b.String(), "\n") {
		t.b.WriteByte(' ')
	}
	t.pending = false
	t.b.WriteString(s)
}

func (t *inlineText) breakLine() {
	switch {
	case t.verbatim:
		t.b.WriteByte('\n')
	case t.flat:
		t.pending = true
	case strings.HasSuffix(t.b.String(), "\n\n"): // a blank line says as much as many
	default:
		t.b.WriteByte('\n')
		t.pending = false
	}
}

// take empties the line.
func (t *inlineText) take() string {
	s := t.b.String()
	t.b.Reset()
	t.pending = false
	if t.verbatim {
		return s
	}
	return strings.TrimSpace(s)
}
