package ingest_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/footnote-rag/footnote/ingest"
)

func TestExtractHTMLBlocks(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, source string
		want         []string
	}{
		{"inline elements", "<p>The <b>quick</b> brown\n <i>fox</i>,<span> he</span><em>re</em>.</p>", []string{"The quick brown fox, here."}},
		{"blocks without p", "one<div>two<div>three</div></div>four", []string{"one", "two", "three", "four"}},
		{"line breaks", "<p>a<br>b <br/> c<br><br><br><br>d", []string{"a\nb\nc\n\nd"}},
		{"entities", "<p>&lt;a&gt; &amp; caf&eacute;&nbsp;&#x1F600; soft&shy;ware &#1;x", []string{"<a> & café 😀 software x"}},
		{"quotation", "<p>say <q>yes</q>", []string{"say “yes”"}},
		{"headings", "<h1> A\n<code>b</code> </h1>text<h3>C</h3>", []string{"A b", "text", "C"}},
		{"list", "<ul><li>a <b>b</b></li><li><p>c</p><p>d</p></li></ul>", []string{"- a b", "- c", "  d"}},
		{"numbered list", "<ol start=9><li>i<li>j</ol>", []string{"9. i", "10. j"}},
		{"nested list", "<ul><li>a<ol><li>b<br>c</ol>d</ul>e", []string{"- a", "  1. b\n     c", "  d", "e"}},
		{"definitions", "<dl><dt>term<dd>what<ul><li>x</ul></dl>", []string{"term", "  what", "  - x"}},
		{"table", "<table><caption>T</caption><tr><th>a<th>b</tr><tr><td>1<br>2<td><p>x</p><p>y</p><td></tr><tr><td></tr></table>",
			[]string{"T", "a | b\n1 2 | x y"}},
		{"layout table", "<table><tr><td><h1>a</h1>b<td><table><tr><td>1<td>2</table></table>", []string{"a", "b", "1 | 2"}},
		{"code", "<p>x</p><pre class=c>\n  if a &lt; b {\n\treturn\n  }\n\n</pre>y", []string{"x", "  if a < b {\n\treturn\n  }", "y"}},
		{"code beside line numbers", "<table><tr><td>1<td><pre>a\n b</pre></table>", []string{"1", "a\n b"}},
		{"ruby", "<p><ruby>漢<rp>(</rp><rt>kan</rt><rp>)</rp>字</ruby>", []string{"漢字"}},
		{"picture", "<p>see <img src=x alt='the diagram'>", []string{"see the diagram"}},
		{"note", "<h2>S</h2><div class=note><h3>Note</h3><p>n</div>", []string{"S", "Note", "n"}},
		{"navigation", "<div class='x navheader'>h</div><nav>n</nav><div role=navigation>r</div><p>t<a class=headerlink>#</a></p><footer>f</footer>", []string{"t"}},
		{"main part", "<body><div>menu</div><main><p>m<footer>f</footer></main>x", []string{"m", "f"}},
		{"empty main part", "<body>x<main></main>", []string{"x"}},
		{"only article", "<div>x</div><article>a</article>", []string{"a"}},
		{"articles", "<article>a</article><article>b</article>", []string{"a", "b"}},
		{"hidden main part", "<div hidden><main>x</main></div>y<template><main>z</main></template>", []string{"y"}},
		{"contents", "<h1>A</h1><div class=toc><dl><dt>One</dl></div><p>text", []string{"A", "text"}},
		{"nothing but contents", "<h1>A</h1><div class=toc><dl><dt>One</dl></div>", []string{"A", "One"}},
		{"hidden", "<p hidden>1<p aria-hidden=true>2<p style='color:red; Display : NONE'>3<p style=visibility:hidden>4<template>5</template><p>6", []string{"6"}},
		{"not text", "<script>1</script><style>2</style><noscript>3</noscript><p>4<!-- 5 --><svg><text>6</text></svg><button>7</button><select><option>8</select>", []string{"4"}},
		{"base and refresh", "<base href='http://192.0.2.1/'><meta http-equiv=refresh content='0;url=http://192.0.2.1'><p>x", []string{"x"}},
		{"broken", "<p>a<b>b<p>c</b></div></table><td>d", []string{"ab", "cd"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			wantBlocks(t, extract(t, "text/html", test.source), test.want...)
		})
	}
}

func TestExtractHTMLPage(t *testing.T) {
	t.Parallel()
	e := extract(t, "text/html", "<html lang='de-ch'><title> Ein\n Titel&#7;</title><h2>Ein Titel</h2><h2>Mehr</h2>")
	if e.Title != "Ein Titel" || e.Language != "de-CH" {
		t.Errorf("title and language = %q, %q, want Ein Titel, de-CH", e.Title, e.Language)
	}
	if e.Blocks[0].Level != 1 || e.Blocks[1].Level != 2 {
		t.Errorf("levels = %d, %d, want 1 for the heading that is the title, and 2", e.Blocks[0].Level, e.Blocks[1].Level)
	}
	if e := extract(t, "text/html", "<html lang='?!'><h2>First</h2><h1>Second</h1>"); e.Title != "First" || e.Language != "" {
		t.Errorf("title and language = %q, %q, want First and none", e.Title, e.Language)
	}
	if e := extract(t, "text/html", "<title>"+strings.Repeat("long ", 1000)+"</title>x"); len(e.Title) > 310 {
		t.Errorf("the title has %d bytes, want it cut", len(e.Title))
	}
}

func TestExtractHTMLCharset(t *testing.T) {
	t.Parallel()
	for name, source := range map[string]string{
		"meta charset":    "<meta charset=windows-1252><p>caf\xe9",
		"meta http-equiv": "<meta http-equiv=content-type content='text/html; charset=iso-8859-1'><p>caf\xe9",
		"XML declaration": "<?xml version='1.0' encoding='ISO-8859-1'?><html><p>caf\xe9</p></html>",
	} {
		if e := extract(t, "text/html", source); e.Text != "café" {
			t.Errorf("with %s the text is %q, want café", name, e.Text)
		}
	}
	if e := extract(t, "text/html; charset=utf-8", "<meta charset=windows-1252><p>café"); e.Text != "café" {
		t.Errorf("with a charset in the media type the text is %q, want café", e.Text)
	}
	_, err := ingest.Extract("text/html", []byte("<p>caf\xe9"))
	wantCode(t, err, ingest.CodeInvalidEncoding)
}

func TestExtractXHTML(t *testing.T) {
	t.Parallel()
	source := "<?xml version='1.0'?><html xml:lang='en'><head><title/><script src='x'/></head><body><a id='i'/>one<br/><![CDATA[<two>]]></body></html>"
	e := extract(t, "application/xhtml+xml", source)
	wantBlocks(t, e, "one\n<two>")
	if e.Language != "en" {
		t.Errorf("language = %q, want en", e.Language)
	}
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var refused *ingest.ExtractError
	if !errors.As(err, &refused) || refused.Code != code {
		t.Errorf("error is %v, want %s", err, code)
	}
}

func TestExtractHTMLRefuses(t *testing.T) {
	t.Parallel()
	_, err := ingest.Extract("text/html", []byte(strings.Repeat("<div>", 600)+"x"))
	wantCode(t, err, ingest.CodeTooComplex)
	_, err = ingest.Extract("text/html", []byte("<script>x</script><p hidden>y</p>"))
	wantCode(t, err, ingest.CodeNoText)
}

func TestExtractHTMLInLinearTime(t *testing.T) {
	t.Parallel()
	const n = 1 << 17
	for name, source := range map[string]string{
		"attribute of 50 MB": "<p title='" + strings.Repeat("x", 50_000_000) + "'>text",
		"line breaks":        "a" + strings.Repeat("<br>", n) + "b",
		"spaces":             "a" + strings.Repeat("<b> </b>", n) + "b",
		"items":              "<ul>" + strings.Repeat("<li>x", n),
		"lists":              strings.Repeat(strings.Repeat("<ul>", 400)+"x"+strings.Repeat("</ul>", 400), n/400),
		"tables":             strings.Repeat(strings.Repeat("<table><tr><td>", 100)+"<h1>x</h1>"+strings.Repeat("</table>", 100), n/400),
		"listings":           "<table><tr><td>" + strings.Repeat("<pre>x</pre>", n) + strings.Repeat("<tbody></tbody>", n),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			started := time.Now()
			e := extract(t, "text/html", source)
			if took := time.Since(started); took > 30*time.Second || len(e.Text) > 10*len(source) {
				t.Errorf("%d bytes of source took %s and became %d bytes", len(source), took, len(e.Text))
			}
		})
	}
}

// TestExtractManual reads the pages of the PostgreSQL manual that come with Footnote, and all of it where it is installed.
func TestExtractManual(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../cmd/footnote/manual/*.html")
	if err != nil || len(pages) < 50 {
		t.Fatalf("found %d bundled pages, %v", len(pages), err)
	}
	installed, err := filepath.Glob("/usr/share/doc/postgresql-doc-15/html/*.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, installed...) {
		source, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		mediaType, err := ingest.DetectMediaType("", page, source)
		if err != nil {
			t.Fatal(err)
		}
		e := extract(t, mediaType, string(source))
		texts := blockTexts(t, e)
		if e.Title == "" || len(texts) == 0 {
			t.Errorf("%s: title %q and %d blocks", page, e.Title, len(texts))
		}
		for _, i := range []int{0, len(texts) - 1} {
			if strings.HasPrefix(texts[i], "Prev") || strings.HasSuffix(texts[i], "Next") || strings.Contains(texts[i], " | Home") {
				t.Errorf("%s: the text begins or ends with navigation: %q", page, texts[i])
			}
		}
		if t.Failed() {
			return
		}
	}
}

func TestExtractManualPage(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("../cmd/footnote/manual/routine-vacuuming.html")
	if err != nil {
		t.Fatal(err)
	}
	e := extract(t, "text/html", string(source))
	texts := blockTexts(t, e)
	var headings []string
	for i, b := range e.Blocks {
		if b.Kind == ingest.Heading {
			headings = append(headings, texts[i])
		}
	}
	if !strings.HasSuffix(e.Title, "Routine Vacuuming") || len(headings) < 6 || headings[0] != e.Title || !strings.HasSuffix(headings[1], "Vacuuming Basics") {
		t.Errorf("title = %q, headings = %q", e.Title, headings)
	}
	for _, want := range []string{
		"has to process each table on a regular basis for several reasons:\n\n1. To recover or reuse disk space occupied by updated or deleted rows.\n2. To update data",
		"VACUUM creates a substantial amount of I/O traffic, which can cause poor performance for other active sessions.",
		"\n\nSELECT c.oid::regclass as table_name,\n       greatest(age(c.relfrozenxid),age(t.relfrozenxid)) as age\nFROM pg_class c",
	} {
		if !strings.Contains(e.Text, want) {
			t.Errorf("the text lacks %q", want)
		}
	}
}

func FuzzHTMLText(f *testing.F) {
	for _, seed := range []string{"<p>a<b>b", "<ul><li><pre> x\n</pre><table><tr><td>1<td>2", "<h1>&#1;</h1><ol start=-1><li><br>a", "<?xml?><a/><![CDATA[<b>]]>x",
		"<dl><dt>a<dd>b<h7><plaintext>c", "<svg><title>x</svg><math><mi>y", "<table><caption><pre>\n\n a</table>"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, source string) {
		for _, mediaType := range []string{"text/html", "application/xhtml+xml"} {
			e, err := ingest.Extract(mediaType, []byte(source))
			var refused *ingest.ExtractError
			if err != nil && !errors.As(err, &refused) {
				t.Errorf("Extract(%q) = %v, want an ExtractError", source, err)
			}
			if err == nil {
				blockTexts(t, e)
			}
		}
	})
}
