package modelhost_test

import (
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/workersai"
)

func TestToMarkdownContract(t *testing.T) {
	t.Parallel()
	c := clientOf(t, newHost(t, newUpstream(t).URL, nil))
	page := `<html><head><title>x</title><style>p{}</style></head><body><h1>Tea &amp; rain</h1><p>A <b>warm</b>
		<a href="/cup">cup</a>.</p><ul><li>black</li><li>green</li></ul><script>no()</script></body></html>`
	docs, err := c.ToMarkdown(t.Context(),
		workersai.File{Name: "page.html", MimeType: "text/html; charset=utf-8", Data: []byte(page)},
		workersai.File{Name: "table.csv", Data: []byte("a,b\n1,x|y\n2\n")},
		workersai.File{Name: "note.txt", Data: []byte("as it is\n")},
		workersai.File{Name: "scan.pdf", MimeType: "application/pdf", Data: []byte("%PDF-1.7")},
		workersai.File{Name: "old.txt", MimeType: "text/plain", Data: []byte("caf\xe9")},
	)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{
		"# Tea & rain\n\nA **warm** [cup](/cup).\n\n- black\n- green\n",
		"| a | b |\n| --- | --- |\n| 1 | x\\|y |\n| 2 |  |\n",
		"as it is\n",
	} {
		if docs[i].Err != nil || docs[i].Markdown != want || docs[i].Tokens == 0 {
			t.Errorf("%s = %q, %v, %d tokens, want %q", docs[i].Name, docs[i].Markdown, docs[i].Err, docs[i].Tokens, want)
		}
	}
	for i, want := range map[int]string{3: "unsupported type application/pdf", 4: "not UTF-8"} {
		if docs[i].Err == nil || !strings.Contains(docs[i].Err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", docs[i].Name, docs[i].Err, want)
		}
	}
}
