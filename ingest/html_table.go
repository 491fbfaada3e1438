package ingest

import (
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// layoutTables finds the tables that arrange a page instead of data: those with headings or tables inside, marked as
// presentation, or with code in a single row, as line numbers beside a listing.
func layoutTables(page *html.Node) map[*html.Node]bool {
	layout, single, outer := map[*html.Node]bool{}, map[*html.Node]bool{}, map[*html.Node]*html.Node{}
	var visit func(n, table *html.Node)
	visit = func(n, table *html.Node) {
		switch {
		case n.DataAtom == atom.Table || headingLevels[n.DataAtom] > 0:
			for t := table; t != nil && !layout[t]; t = outer[t] {
				layout[t] = true
			}
		case n.DataAtom == atom.Pre && single[table]:
			layout[table] = true
		}
		if n.DataAtom == atom.Table {
			outer[n], single[n], layout[n] = table, singleRow(n), attribute(n, "role") == "presentation"
			table = n
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			visit(c, table)
		}
	}
	visit(page, nil)
	return layout
}

func singleRow(table *html.Node) bool {
	rows := 0
	for body := table.FirstChild; body != nil; body = body.NextSibling {
		for c := body.FirstChild; c != nil && rows < 2; c = c.NextSibling {
			if c.DataAtom == atom.Tr {
				rows++
			}
		}
	}
	return rows == 1
}

// table writes a row a line, its cells separated by " | ".
func (w *htmlWriter) table(n *html.Node) {
	w.flush()
	if w.layout[n] {
		w.children(n)
		w.flush()
		return
	}
	var rows []string
	w.rows(n, &rows)
	w.add(Table, 0, strings.Join(rows, "\n"))
}

// rows collects the rows; a caption and what else is not in a row becomes a paragraph before the table.
func (w *htmlWriter) rows(n *html.Node, rows *[]string) {
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		switch {
		case c.Type != html.ElementNode || w.skips(c):
		case c.DataAtom == atom.Tr:
			if row := w.row(c); row != "" {
				*rows = append(*rows, row)
			}
		case c.DataAtom == atom.Thead || c.DataAtom == atom.Tbody || c.DataAtom == atom.Tfoot:
			w.rows(c, rows)
		case c.DataAtom == atom.Caption:
			w.walk(c)
		}
	}
}

func (w *htmlWriter) row(tr *html.Node) string {
	var cells []string
	filled := 0
	for c := tr.FirstChild; c != nil; c = c.NextSibling {
		if c.Type == html.ElementNode && !w.skips(c) {
			line := inlineText{flat: true}
			w.cell(c, &line)
			cells = append(cells, line.take())
			if cells[len(cells)-1] != "" {
				filled = len(cells)
			}
		}
	}
	return strings.Join(cells[:filled], " | ")
}

// cell writes everything in a cell as one line.
func (w *htmlWriter) cell(n *html.Node, line *inlineText) {
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		switch {
		case c.Type == html.TextNode:
			line.write(c.Data)
		case c.Type != html.ElementNode || w.skips(c):
		case c.DataAtom == atom.Br:
			line.breakLine()
		case c.DataAtom == atom.Img:
			line.write(attribute(c, "alt"))
		case blockElements[c.DataAtom]:
			line.breakLine()
			w.cell(c, line)
			line.breakLine()
		default:
			w.cell(c, line)
		}
	}
}
