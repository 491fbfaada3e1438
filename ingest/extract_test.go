package ingest_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/footnote-rag/footnote/ingest"
)

// blockTexts cuts a text into its blocks, and checks what Extract promises of them.
func blockTexts(t *testing.T, e ingest.Extracted) []string {
	t.Helper()
	if !utf8.ValidString(e.Text) {
		t.Error("text is not valid UTF-8")
	}
	runes, last := []rune(e.Text), 0
	var texts []string
	for i, b := range e.Blocks {
		if b.Start < last || b.End <= b.Start || b.End > len(runes) {
			t.Fatalf("block %d is %+v, after code point %d of %d", i, b, last, len(runes))
		}
		text := string(runes[b.Start:b.End])
		if strings.TrimSpace(text) == "" {
			t.Errorf("block %d is blank: %q", i, text)
		}
		if (b.Kind == ingest.Heading) != (b.Level >= 1 && b.Level <= 6) {
			t.Errorf("block %d has kind %d and level %d", i, b.Kind, b.Level)
		}
		if gap := string(runes[last:b.Start]); strings.TrimSpace(gap) != "" {
			t.Errorf("text %q before block %d is in no block", gap, i)
		}
		texts, last = append(texts, text), b.End
	}
	if rest := string(runes[last:]); strings.TrimSpace(rest) != "" {
		t.Errorf("text %q is in no block", rest)
	}
	return texts
}

func extract(t *testing.T, mediaType, source string) ingest.Extracted {
	t.Helper()
	e, err := ingest.Extract(mediaType, []byte(source))
	if err != nil {
		t.Fatalf("Extract(%q): %v", mediaType, err)
	}
	return e
}

func wantBlocks(t *testing.T, e ingest.Extracted, want ...string) {
	t.Helper()
	if got := blockTexts(t, e); strings.Join(got, "\x00") != strings.Join(want, "\x00") {
		t.Errorf("blocks = %q, want %q", got, want)
	}
}

func TestExtractPlainText(t *testing.T) {
	t.Parallel()
	wantBlocks(t, extract(t, "text/plain", "One\ntwo.\n\n \t\nThréé.\r\n\r\n\r\n  four\n\n"), "One\ntwo.", "Thréé.", "  four")
	wantBlocks(t, extract(t, "TEXT/Plain; Charset=UTF-8", "\n\nlate"), "late")
	wantBlocks(t, extract(t, "text/x-go", "package a\n\nfunc f() {}\n"), "package a\n\nfunc f() {}")
	if e := extract(t, "text/csv", "a,b\n1,2\n"); e.Blocks[0].Kind != ingest.Table {
		t.Errorf("CSV is %+v, want one table", e.Blocks)
	}
}

func TestExtractRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, mediaType, source, code, message string }{
		{"nothing", "text/plain", "", ingest.CodeEmptyDocument, "send"},
		{"white space", "text/plain", " \n\t\u00a0", ingest.CodeEmptyDocument, "send"},
		{"byte order mark only", "text/plain", "\xef\xbb\xbf", ingest.CodeEmptyDocument, "send"},
		{"control characters only", "text/plain", "\x01\x02", ingest.CodeEmptyDocument, "send"},
		{"invalid byte", "text/plain", "caf\xe9 au lait", ingest.CodeInvalidEncoding, "offset 3"},
		{"invalid byte after a mark", "text/plain", "\xef\xbb\xbfa\xff", ingest.CodeInvalidEncoding, "offset 4"},
		{"surrogate", "text/plain", "a\xed\xa0\x80", ingest.CodeInvalidEncoding, "offset 1"},
		{"cut character", "text/plain", "ab\xe2\x82", ingest.CodeInvalidEncoding, "offset 2"},
		{"NUL", "text/plain", "abc\x00", ingest.CodeInvalidEncoding, "offset 3"},
		{"UTF-16 without a mark", "text/plain", "h\x00i\x00", ingest.CodeInvalidEncoding, "utf-16le"},
		{"NUL in UTF-16", "text/plain", "\xff\xfea\x00\x00\x00", ingest.CodeInvalidEncoding, "character 1"},
		{"half a pair in UTF-16", "text/plain", "\xff\xfe\x3d\xd8a\x00", ingest.CodeInvalidEncoding, "utf-16"},
		{"unknown charset", "text/plain; charset=klingon", "a", ingest.CodeInvalidEncoding, "klingon"},
		{"wrong charset", "text/plain; charset=shift_jis", "\x85\xff\xff", ingest.CodeInvalidEncoding, "shift_jis"},
		{"picture", "image/png", "a", ingest.CodeUnsupportedMediaType, "text/plain"},
		{"no media type", "", "a", ingest.CodeUnsupportedMediaType, "text/plain"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := ingest.Extract(test.mediaType, []byte(test.source))
			var refused *ingest.ExtractError
			if !errors.As(err, &refused) || refused.Code != test.code || !strings.Contains(refused.Message, test.message) {
				t.Errorf("Extract(%q, %q) = %v, want %s with %q", test.mediaType, test.source, err, test.code, test.message)
			}
		})
	}
}

func TestExtractRefusesLongText(t *testing.T) {
	t.Parallel()
	_, err := ingest.Extract("text/plain", bytes.Repeat([]byte("long "), 64<<20/5+10))
	wantCode(t, err, ingest.CodeDocumentTooLarge)
}

func TestExtractDecodesAndCleans(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, mediaType, source, want string }{
		{"mark of UTF-8", "text/plain", "\xef\xbb\xbfé", "é"},
		{"mark before declared charset", "text/plain; charset=iso-8859-1", "\xef\xbb\xbfé", "é"},
		{"UTF-16 little endian", "text/plain", "\xff\xfeh\x00\xe9\x00\x3d\xd8\x00\xde", "hé😀"},
		{"UTF-16 big endian", "text/plain", "\xfe\xff\x00h\x00\xe9", "hé"},
		{"declared UTF-16", "text/plain; charset=utf-16le", "h\x00i\x00", "hi"},
		{"declared Latin", "text/plain; charset=iso-8859-1", "caf\xe9 \x80", "café €"},
		{"declared GB18030", "text/plain; charset=GB18030", "\xc4\xe3\xba\xc3", "你好"},
		{"line ends", "text/plain", "a\r\nb\rc\u2028d\u0085e\ff", "a\nb\nc\nd\ne\nf"},
		{"control characters", "text/plain", "a\x01\x1b[0m\x7f\tb", "a[0m\tb"},
		{"reordering", "text/plain", "a\u202eb\u2066c\ufeffd", "abcd"},
		{"shaping stays", "text/plain", "سلام\u200cها שלום 👩\u200d🚀", "سلام\u200cها שלום 👩\u200d🚀"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if e := extract(t, test.mediaType, test.source); e.Text != test.want {
				t.Errorf("Extract(%q, %q) = %q, want %q", test.mediaType, test.source, e.Text, test.want)
			}
		})
	}
}
