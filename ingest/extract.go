package ingest

import (
	"fmt"
	"mime"
	"strings"
	"unicode/utf8"
)

// ExtractorVersion grows whenever the text or the blocks of any format change, so that documents extracted by an older
// version can be told apart and done again.
const ExtractorVersion = 1

// Codes of ExtractError.
const (
	CodeEmptyDocument        = "empty_document"         // no bytes, or only white space
	CodeNoText               = "no_text"                // well formed, but nothing in it is text
	CodeInvalidEncoding      = "invalid_encoding"       // bytes that are not of the character encoding
	CodeUnsupportedMediaType = "unsupported_media_type" // no extractor for the format
	CodeMalformed            = "malformed"              // not of the format it claims
	CodeTooComplex           = "too_complex"            // nested too deeply
	CodeDocumentTooLarge     = "document_too_large"     // its text exceeds maxExtractedBytes
	CodeParserTimeout        = "parser_timeout"         // the extractor ran out of time
	CodeParserMemory         = "parser_memory"          // the extractor ran out of memory
	CodeParserCrashed        = "parser_crashed"         // the extractor died twice
)

// ExtractError says why a document has no text and what its owner can do. It is permanent: the same bytes fail again.
type ExtractError struct{ Code, Message string }

func (e *ExtractError) Error() string { return e.Code + ": " + e.Message }

func extractErrorf(code, format string, args ...any) error {
	return &ExtractError{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Extract turns a source into text. The text is valid UTF-8 with "\n" for line ends and no control characters but "\n" and
// "\t"; the blocks are in order, do not overlap, and none is blank. A parameter "charset" of the media type is obeyed.
// Every error is an *ExtractError.
func Extract(mediaType string, source []byte) (Extracted, error) {
	name, params, err := mime.ParseMediaType(mediaType)
	if err != nil {
		return Extracted{}, extractErrorf(CodeUnsupportedMediaType, "media type %q cannot be read; write it like text/plain; charset=utf-8", mediaType)
	}
	f, ok := formatOf(name)
	if !ok {
		return Extracted{}, extractErrorf(CodeUnsupportedMediaType, "%s", unsupported(name))
	}
	if f.extract == nil {
		return Extracted{}, extractErrorf(CodeUnsupportedMediaType, "%s is transcribed by a speech model, not extracted", name)
	}
	charset := params["charset"]
	if charset == "" && f.charset != nil {
		charset = f.charset(source)
	}
	text, err := decode(source, charset)
	if err != nil {
		return Extracted{}, err
	}
	if strings.TrimSpace(text) == "" {
		return Extracted{}, extractErrorf(CodeEmptyDocument, "the document holds nothing but white space; send one with text, or delete it")
	}
	e, err := f.extract(text)
	if err == nil && strings.TrimSpace(e.Text) == "" {
		err = extractErrorf(CodeNoText, "the document has no visible text; send one with text, or delete it")
	}
	if err != nil {
		return Extracted{}, err
	}
	if len(e.Text) > maxExtractedBytes {
		return Extracted{}, textTooLarge()
	}
	e.Title = truncate(e.Title, maxTitleRunes)
	return e, nil
}

// maxExtractedBytes bounds a text; sources have the same limit, but some formats swell.
const maxExtractedBytes = 64 << 20

func textTooLarge() error {
	return extractErrorf(CodeDocumentTooLarge, "the text of the document is longer than %d MiB; split it", maxExtractedBytes>>20)
}

// maxTitleRunes bounds titles: they are shown in lists, and a page can claim megabytes of one.
const maxTitleRunes = 300

func truncate(s string, runes int) string {
	if end := byteOffset(s, runes); end < len(s) {
		return strings.TrimSpace(s[:end]) + "…"
	}
	return s
}

// composer writes a text block by block.
type composer struct {
	text   strings.Builder
	runes  int
	blocks []Block
}

// add appends a block, after a blank line, or after a line end where two list items follow each other. Blank text is left out.
func (c *composer) add(kind BlockKind, level int, text string) {
	text = clean(text) // entities can stand for any character
	if strings.TrimSpace(text) == "" {
		return
	}
	if n := len(c.blocks); n > 0 {
		separator := "\n\n"
		if kind == ListItem && c.blocks[n-1].Kind == ListItem {
			separator = "\n"
		}
		c.text.WriteString(separator)
		c.runes += len(separator)
	}
	start := c.runes
	c.text.WriteString(text)
	c.runes += utf8.RuneCountInString(text)
	c.blocks = append(c.blocks, Block{Kind: kind, Level: level, Start: start, End: c.runes})
}

func (c *composer) extracted() Extracted {
	return Extracted{Text: c.text.String(), Blocks: c.blocks}
}
