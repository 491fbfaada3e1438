package ingest_test

import (
	"errors"
	"strings"
	"testing"
	"unicode"

	"github.com/footnote-rag/footnote/ingest"
)

func FuzzTextClean(f *testing.F) {
	for _, seed := range []string{"a\r\nb\rc", "\xef\xbb\xbfx", "\xff\xfea\x00", "\xfe\xff\xd8\x00", "a\x00", "\xed\xa0\x80", "\u202e\u0085\u2028x\u00ad", " \n\n a\n\t\n b "} {
		for _, mediaType := range []string{"text/plain", "text/plain; charset=gb18030", "text/x-go", "text/csv; charset=utf-16be"} {
			f.Add(mediaType, []byte(seed))
		}
	}
	f.Fuzz(func(t *testing.T, mediaType string, source []byte) {
		e, err := ingest.Extract(mediaType, source)
		var refused *ingest.ExtractError
		if err != nil {
			if !errors.As(err, &refused) || refused.Code == "" || refused.Message == "" {
				t.Errorf("Extract(%q, %q) = %v, want an ExtractError with code and message", mediaType, source, err)
			}
			return
		}
		blockTexts(t, e)
		unwanted := func(r rune) bool {
			return unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.Is(unicode.Bidi_Control, r) && r > 0x2000 && r != 0x200e && r != 0x200f || r == 0xfeff
		}
		if i := strings.IndexFunc(e.Text+e.Title, unwanted); i >= 0 {
			t.Errorf("Extract(%q, %q) has an unwanted character at %d of %q", mediaType, source, i, e.Text)
		}
	})
}

func BenchmarkExtract(b *testing.B) {
	paragraph := "The quick brown fox, seen by 3 dögs.\r\nIt jumps.\n\n"
	for name, source := range map[string]string{
		"text/plain":    strings.Repeat(paragraph, 20000),
		"text/html":     strings.Repeat("<h2>Title</h2><p>The <b>quick</b> brown fox &amp; dog.</p><ul><li>one<li>two</ul>", 10000),
		"text/markdown": strings.Repeat("## Title\n\nThe **quick** brown `fox`.\n\n- one\n- two\n\n", 10000),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(source)))
			for b.Loop() {
				if _, err := ingest.Extract(name, []byte(source)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
