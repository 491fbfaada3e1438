package ingest

import (
	"bytes"
	"regexp"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
	"golang.org/x/net/html/charset"
	"golang.org/x/text/language"
)

// extractHTML keeps what a reader sees of a page's main part. Not text: scripts, styles, forms, navigation, tables of
// contents (unless there is nothing else), and what is hidden by the attribute hidden, by aria-hidden="true", or by an own style with display:none or
// visibility:hidden. Style sheets are not read.
func extractHTML(text string) (Extracted, error) { return readHTML(text, "") }

// readHTML reads a page. A title that is known decides before the page's own.
func readHTML(text, title string) (Extracted, error) {
	page, err := html.Parse(strings.NewReader(text))
	if err != nil { // the reader gives none, so it is the parser's limit of 512 open elements
		return Extracted{}, extractErrorf(CodeTooComplex, "the page cannot be parsed (%v); simplify it, or send its text", err)
	}
	if title == "" {
		title = oneLine(clean(textOf(find(page, atom.Title))))
	}
	w := writeHTML(mainPart(page), title, false)
	if w.headingsOnly() { // as a chapter's first page, which says with its contents what the chapter is about
		w = writeHTML(mainPart(page), title, true)
	}
	if len(w.out.blocks) == 0 {
		w = writeHTML(page, title, true)
	}
	e := w.out.extracted()
	e.Title, e.Language = title, pageLanguage(page)
	if e.Title == "" {
		e.Title = w.firstHeading
	}
	return e, nil
}

// extractXHTML also reads pages that are only right as XML.
func extractXHTML(text string) (Extracted, error) { return extractHTML(openSelfClosed(text)) }

// openSelfClosed writes <script/>, which as HTML would swallow the rest of the page, as <script></script>, and CDATA as text.
func openSelfClosed(text string) string {
	z, out := html.NewTokenizer(strings.NewReader(text)), strings.Builder{}
	z.AllowCDATA(true)
	for {
		kind := z.Next()
		raw := z.Raw()
		switch {
		case kind == html.ErrorToken:
			out.Write(raw)
			return out.String()
		case kind == html.SelfClosingTagToken:
			z.NextIsNotRawText()
			name, _ := z.TagName()
			out.Write(raw[:len(raw)-len("/>")])
			out.WriteByte('>')
			if !voidElements[atom.Lookup(name)] {
				out.WriteString("</" + string(name) + ">")
			}
		case kind == html.TextToken && strings.HasPrefix(string(raw[:min(len(raw), len(cdata))]), cdata):
			out.WriteString(html.EscapeString(string(z.Text())))
		default:
			out.Write(raw)
		}
	}
}

const cdata = "<![CDATA["

// voidElements have no content and no end tag.
var voidElements = atoms(atom.Area, atom.Base, atom.Br, atom.Col, atom.Embed, atom.Hr, atom.Img, atom.Input, atom.Link, atom.Meta,
	atom.Source, atom.Track, atom.Wbr)

func atoms(list ...atom.Atom) map[atom.Atom]bool {
	set := make(map[atom.Atom]bool, len(list))
	for _, a := range list {
		set[a] = true
	}
	return set
}

var xmlEncoding = regexp.MustCompile(`^\s*<\?xml[^>]*?encoding=["']([A-Za-z0-9._:-]+)["']`)

// htmlCharset is the charset of a page's XML declaration or meta element, as far in as browsers look; UTF-8 if there is none.
func htmlCharset(source []byte) string {
	if m := xmlEncoding.FindSubmatch(source[:min(len(source), 1000)]); m != nil {
		return string(m[1])
	}
	head := bytes.ToValidUTF8(source[:min(len(source), 1000)], nil)
	_, name, _ := charset.DetermineEncoding(append(head, "é "...), "") // é: without a declaration it then says UTF-8, and no guess
	return name
}

// mainPart is the page's <main>, or its only <article>, or the whole. Nothing that is hidden is looked into.
func mainPart(page *html.Node) *html.Node {
	var main *html.Node
	var articles []*html.Node
	var visit func(n *html.Node)
	visit = func(n *html.Node) {
		if main != nil || unread[n.DataAtom] || hidden(n) {
			return
		}
		if n.DataAtom == atom.Main || attribute(n, "role") == "main" {
			main = n
		}
		if n.DataAtom == atom.Article {
			articles = append(articles, n)
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			visit(c)
		}
	}
	visit(page)
	if main == nil && len(articles) == 1 {
		return articles[0]
	}
	if main == nil {
		return page
	}
	return main
}

func pageLanguage(page *html.Node) string {
	root := find(page, atom.Html)
	if root == nil {
		return ""
	}
	for _, key := range []string{"lang", "xml:lang"} {
		if tag, err := language.Parse(attribute(root, key)); err == nil && tag != language.Und {
			return tag.String()
		}
	}
	return ""
}

func find(page *html.Node, a atom.Atom) *html.Node {
	for n := range page.Descendants() {
		if n.Type == html.ElementNode && n.DataAtom == a && n.Namespace == "" {
			return n
		}
	}
	return nil
}

func attribute(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func hasAttribute(n *html.Node, key string) bool {
	for _, a := range n.Attr {
		if a.Key == key {
			return true
		}
	}
	return false
}

func hidden(n *html.Node) bool {
	if n.Type != html.ElementNode {
		return false
	}
	style := strings.ToLower(strings.Join(strings.Fields(attribute(n, "style")), ""))
	return hasAttribute(n, "hidden") || strings.EqualFold(attribute(n, "aria-hidden"), "true") ||
		strings.Contains(style, "display:none") || strings.Contains(style, "visibility:hidden")
}

// textOf joins the text below an element, as it is.
func textOf(n *html.Node) string {
	var b strings.Builder
	if n != nil {
		for d := range n.Descendants() {
			if d.Type == html.TextNode {
				b.WriteString(d.Data)
			}
		}
	}
	return b.String()
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
