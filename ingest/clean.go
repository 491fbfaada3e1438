package ingest

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/html/charset"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/unicode"
)

var (
	utf8Mark    = []byte("\xef\xbb\xbf")
	utf16Marks  = [][]byte{[]byte("\xff\xfe"), []byte("\xfe\xff")}
	replacement = string(utf8.RuneError)
)

// decode turns bytes into clean UTF-8. A byte order mark decides before the declared charset, which "" means UTF-8. What
// is not valid in its charset is refused, never guessed: a quote of guessed text would not be the document's.
func decode(source []byte, declared string) (string, error) {
	if body, ok := bytes.CutPrefix(source, utf8Mark); ok {
		return decodeUTF8(body, len(utf8Mark))
	}
	for _, mark := range utf16Marks {
		if bytes.HasPrefix(source, mark) {
			return decodeWith(unicode.UTF16(unicode.BigEndian, unicode.UseBOM), "utf-16", source)
		}
	}
	if declared == "" {
		return decodeUTF8(source, 0)
	}
	enc, name := charset.Lookup(declared)
	if enc == nil {
		return "", extractErrorf(CodeInvalidEncoding, "charset %q is not known; convert the document to UTF-8", declared)
	}
	if name == "utf-8" {
		return decodeUTF8(source, 0)
	}
	return decodeWith(enc, name, source)
}

// decodeUTF8 reports offsets from the start of the source, of which the first skipped bytes are cut off.
func decodeUTF8(body []byte, skipped int) (string, error) {
	text := string(body)
	if i := strings.IndexByte(text, 0); i >= 0 {
		return "", extractErrorf(CodeInvalidEncoding, "there is a NUL byte at offset %d, so this is not text; "+
			"send the file with its own media type, or, if it is UTF-16, with charset=utf-16le", skipped+i)
	}
	if i := invalidUTF8(text); i >= 0 {
		return "", extractErrorf(CodeInvalidEncoding, "byte 0x%02x at offset %d is not valid UTF-8; convert the document to UTF-8, "+
			"or name its charset in the media type, as in text/plain; charset=windows-1252", text[i], skipped+i)
	}
	return clean(text), nil
}

// invalidUTF8 is the offset of the first byte that is not UTF-8, or -1.
func invalidUTF8(text string) int {
	if utf8.ValidString(text) {
		return -1
	}
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

func decodeWith(enc encoding.Encoding, name string, source []byte) (string, error) {
	decoded, err := enc.NewDecoder().Bytes(source)
	text := string(decoded)
	if err != nil || strings.Contains(text, replacement) {
		return "", extractErrorf(CodeInvalidEncoding, "the document is not valid %s; name its right charset, or convert it to UTF-8", name)
	}
	if i := strings.IndexByte(text, 0); i >= 0 {
		return "", extractErrorf(CodeInvalidEncoding, "character %d, decoded as %s, is NUL, so this is not text; "+
			"name the right charset or media type", utf8.RuneCountInString(text[:i]), name)
	}
	return clean(text), nil
}

// clean ends lines with "\n", whatever ended them before, and drops what is never seen: other control characters but the
// tab, byte order marks, soft hyphens, and marks that reorder text, so that it would read otherwise than it is stored.
// Marks that shape or part words (joiners, zero-width spaces) are part of the text and stay.
func clean(text string) string {
	text = lineEnds.Replace(text)
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r < 0x20, 0x7f <= r && r < 0xa0, r == 0xad, r == 0xfeff:
			return -1
		case 0x202a <= r && r <= 0x202e, 0x2066 <= r && r <= 0x2069: // embeddings, overrides and isolates of UAX 9
			return -1
		}
		return r
	}, text)
}

var lineEnds = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\v", "\n", "\f", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n")
