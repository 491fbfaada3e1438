package ingest

import (
	"bytes"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/renderer/html"
	"golang.org/x/text/language"
	"gopkg.in/yaml.v3"
)

// markdown is CommonMark with GitHub's tables, task lists, strikethrough and bare links. HTML passes through, since what is
// read of it is decided when the page is read.
var markdown = goldmark.New(goldmark.WithExtensions(extension.GFM, extension.Footnote), goldmark.WithRendererOptions(html.WithUnsafe()))

// extractMarkdown renders to HTML and reads that, so that there is one rule for what a reader sees.
func extractMarkdown(text string) (Extracted, error) {
	meta, body := cutFrontMatter(text)
	var page bytes.Buffer
	if err := markdown.Convert([]byte(body), &page); err != nil {
		return Extracted{}, extractErrorf(CodeMalformed, "the Markdown cannot be read (%v); send it as text/plain", err)
	}
	e, err := readHTML(page.String(), oneLine(clean(meta.title)))
	if tag, err := language.Parse(meta.lang); err == nil && tag != language.Und {
		e.Language = tag.String()
	}
	return e, err
}

// frontMatter is what is used of the YAML that site generators put before a text.
type frontMatter struct{ title, lang string }

// maxFrontMatterBytes is far above what pages carry; a text that begins with a line of dashes is not searched to its end.
const maxFrontMatterBytes = 64 << 10

// cutFrontMatter parts YAML between two lines of "---" at the very start from the text. What is no YAML mapping is text.
func cutFrontMatter(text string) (frontMatter, string) {
	var meta frontMatter
	rest, ok := strings.CutPrefix(text, "---\n")
	if !ok {
		return meta, text
	}
	end := strings.Index(rest[:min(len(rest), maxFrontMatterBytes)], "\n---\n")
	if end < 0 {
		return meta, text
	}
	var fields map[string]any
	if err := yaml.Unmarshal([]byte(rest[:end]), &fields); err != nil || len(fields) == 0 {
		return meta, text
	}
	meta.title, _ = fields["title"].(string)
	meta.lang, _ = fields["lang"].(string)
	return meta, rest[end+len("\n---\n"):]
}
