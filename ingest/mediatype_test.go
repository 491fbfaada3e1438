package ingest_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/ingest"
)

func TestDetectMediaType(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, declared, uri, source, want string }{
		{"declared", "text/csv", "a.txt", "a", "text/csv"},
		{"declared with charset", "Text/Plain; charset=ISO-8859-1; x=y", "a", "a", "text/plain; charset=ISO-8859-1"},
		{"alias", "text/yaml", "a", "a", "application/yaml"},
		{"other text", "text/troff", "a", "a", "text/troff"},
		{"bytes without meaning", "application/octet-stream", "a.csv", "a", "text/csv"},
		{"curl", "application/x-www-form-urlencoded", "a.go", "a", "text/x-source"},
		{"extension", "", "https://example.com/data.JSON?x=.txt#y", "a", "application/json"},
		{"no path", "", "https://example.com", "plain", "text/plain"},
		{"known name", "", "docs/README", "a", "text/plain"},
		{"unknown extension", "", "a.unknown", "some text", "text/plain"},
		{"UTF-16", "", "a.unknown", "\xff\xfea\x00", "text/plain"},
		{"invalid bytes are for Extract to refuse", "", "a", "caf\xe9", "text/plain"},
		{"looks like XML", "", "a", "<?xml version='1.0'?><a/>", "application/xml"},
		{"nothing", "", "", "", "text/plain"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := ingest.DetectMediaType(test.declared, test.uri, []byte(test.source))
			if got != test.want || err != nil {
				t.Errorf("DetectMediaType(%q, %q, %q) = %q, %v, want %q", test.declared, test.uri, test.source, got, err, test.want)
			}
		})
	}
}

func TestDetectMediaTypeRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, declared, uri, source, message string }{
		{"declared picture", "image/png", "a.txt", "a", "image/png"},
		{"program named text", "text/plain", "a.txt", "\x7fELF\x02", "application/x-executable"},
		{"archive named HTML", "text/html", "a.html", "PK\x03\x04", "application/zip"},
		{"NUL", "", "a", "a\x00b", "application/octet-stream"},
		{"unreadable", "text/", "a", "a", `"text/"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := ingest.DetectMediaType(test.declared, test.uri, []byte(test.source))
			if !errors.Is(err, ingest.ErrMediaType) || !strings.Contains(err.Error(), test.message) || !strings.Contains(err.Error(), "text/plain") {
				t.Errorf("DetectMediaType(%q, %q, %q) = %q, %v, want ErrMediaType with %q and a remedy", test.declared, test.uri, test.source, got, err, test.message)
			}
		})
	}
}

func TestSupported(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a.txt", "A.TXT", "x/y.rst", "a.go", "b.yaml", "c.xml", "d.csv", "README", "Makefile", "e.log", "f.tar.toml"} {
		if !ingest.Supported(name) {
			t.Errorf("Supported(%q) = false", name)
		}
	}
	for _, name := range []string{"", ".", "a", "a.png", "a.txt.gz", "a.docx", ".txt.swp"} {
		if ingest.Supported(name) {
			t.Errorf("Supported(%q) = true", name)
		}
	}
}
