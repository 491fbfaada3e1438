package ingest

import (
	"bytes"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strings"
)

// format is a kind of document that can be extracted.
type format struct {
	mediaType  string
	aliases    []string                             // other media types in use for it
	extensions []string                             // of file names, lower case, separated by spaces in the table
	extract    func(text string) (Extracted, error) // nil for recordings, which are transcribed
	charset    func(source []byte) string           // the charset that the document itself declares, "" if none; may be nil
}

// formats is the registry. The first format with an extension wins.
var formats = []format{
	{mediaType: "text/plain", extensions: words(".txt .text .log .rst .adoc .asciidoc .org .textile .tex"), extract: extractPlain},
	{mediaType: "text/markdown", aliases: words("text/x-markdown"), extensions: words(".md .markdown .mkd"), extract: extractMarkdown},
	{mediaType: "text/html", extensions: words(".html .htm .shtml"), extract: extractHTML, charset: htmlCharset},
	{mediaType: "application/xhtml+xml", extensions: words(".xhtml .xht"), extract: extractXHTML, charset: htmlCharset},
	{mediaType: "text/csv", extensions: words(".csv"), extract: extractTable},
	{mediaType: "text/tab-separated-values", extensions: words(".tsv"), extract: extractTable},
	{mediaType: "application/json", aliases: words("text/json application/ld+json application/x-ndjson"),
		extensions: words(".json .jsonl .ndjson"), extract: extractCode},
	{mediaType: "application/yaml", aliases: words("application/x-yaml text/yaml"), extensions: words(".yaml .yml"), extract: extractCode},
	{mediaType: "application/toml", extensions: words(".toml"), extract: extractCode},
	{mediaType: "application/xml", aliases: words("text/xml"), extensions: words(".xml .xsd .xsl"), extract: extractCode},
	// Programs share one media type: they are read alike, and most languages have none that is registered.
	{mediaType: "text/x-source", aliases: words("text/javascript application/javascript application/typescript application/sql text/css application/x-sh"),
		extensions: words(".go .py .js .mjs .ts .tsx .jsx .java .kt .scala .c .h .cc .cpp .hpp .cs .rs .rb .php .pl .lua .swift .r .sh " +
			".bash .zsh .ps1 .sql .css .proto .graphql .tf .ini .cfg .conf .properties .dockerfile .mk .cmake .gradle .el .clj .ex .exs .erl .hs .ml .zig"),
		extract: extractCode},
	{mediaType: "audio/wav", aliases: words("audio/x-wav audio/wave audio/vnd.wave"), extensions: words(".wav .wave")},
	{mediaType: "audio/mpeg", aliases: words("audio/mp3 audio/x-mp3 audio/mpeg3"), extensions: words(".mp3")},
	{mediaType: "audio/flac", aliases: words("audio/x-flac"), extensions: words(".flac")},
	{mediaType: "audio/ogg", aliases: words("application/ogg audio/opus audio/vorbis"), extensions: words(".ogg .oga .opus")},
	{mediaType: "audio/mp4", aliases: words("audio/m4a audio/x-m4a video/mp4"), extensions: words(".m4a .mp4")},
	{mediaType: "audio/webm", aliases: words("video/webm audio/x-matroska"), extensions: words(".webm")},
}

func words(s string) []string { return strings.Fields(s) }

var (
	byMediaType = map[string]*format{}
	byExtension = map[string]*format{}
	// byName are files that go without an extension, in lower case.
	byName = map[string]string{"readme": ".txt", "license": ".txt", "copying": ".txt", "authors": ".txt", "changelog": ".txt",
		"changes": ".txt", "news": ".txt", "todo": ".txt", "notice": ".txt", "makefile": ".mk", "dockerfile": ".dockerfile"}
)

func init() {
	for i := range formats {
		f := &formats[i]
		for _, name := range append([]string{f.mediaType}, f.aliases...) {
			byMediaType[name] = f
		}
		for _, extension := range f.extensions {
			if byExtension[extension] == nil {
				byExtension[extension] = f
			}
		}
	}
}

// formatOf finds the format of a media type without parameters, in lower case. Other types of text are plain text, or, like
// text/x-python, programs.
func formatOf(mediaType string) (*format, bool) {
	if f := byMediaType[mediaType]; f != nil {
		return f, true
	}
	if strings.HasPrefix(mediaType, "text/x-") {
		return byMediaType["text/x-source"], true
	}
	f := byMediaType["text/plain"]
	return f, strings.HasPrefix(mediaType, "text/")
}

// formatOfName finds the format of a file name or path.
func formatOfName(name string) *format {
	base := strings.ToLower(path.Base(name))
	if extension := path.Ext(base); extension != "" {
		return byExtension[extension]
	}
	return byExtension[byName[base]]
}

// Supported tells whether a file of this name is of a kind that can be extracted.
func Supported(name string) bool { return formatOfName(name) != nil }

// undeclared are media types that clients send when they know none; curl sends the second.
var undeclared = map[string]bool{"": true, "application/octet-stream": true, "application/x-www-form-urlencoded": true, "binary/octet-stream": true}

// DetectMediaType decides what a document is: by its first bytes if they are of a binary format, else as declared, else by
// the extension of its URI or file name, else by looking at it. Parameters of the declared type are kept. The error wraps ErrMediaType.
func DetectMediaType(declared, uri string, source []byte) (string, error) {
	if binary := binaryType(source); binary != "" {
		return supportedType(binary, nil)
	}
	name, params, err := mime.ParseMediaType(declared)
	if err != nil && declared != "" {
		return "", fmt.Errorf("%w: %q cannot be read; write it like text/plain; charset=utf-8, or leave it out", ErrMediaType, declared)
	}
	if !undeclared[name] {
		return supportedType(name, params)
	}
	if f := formatOfName(pathOf(uri)); f != nil {
		return f.mediaType, nil
	}
	return sniff(source)
}

func supportedType(name string, params map[string]string) (string, error) {
	f, ok := formatOf(name)
	if !ok {
		return "", fmt.Errorf("%w: %s", ErrMediaType, unsupported(name))
	}
	if byMediaType[name] != nil {
		name = f.mediaType
	}
	if charset := params["charset"]; charset != "" {
		return mime.FormatMediaType(name, map[string]string{"charset": charset}), nil
	}
	return name, nil
}

// unsupported names what could be sent instead.
func unsupported(name string) string {
	var names []string
	for _, f := range formats {
		names = append(names, f.mediaType)
	}
	return fmt.Sprintf("documents of type %s cannot be read; convert it to one of %s", name, strings.Join(names, ", "))
}

// pathOf is the path of a URI, so that "https://example.com" has no extension; what is not a URI is a path.
func pathOf(uri string) string {
	if u, err := url.Parse(uri); err == nil && u.Scheme != "" && u.Host != "" {
		return u.Path
	}
	return uri
}

// signatures of formats that are not text, and would otherwise pass for it or be refused for a reason that does not help.
var signatures = []struct{ prefix, mediaType string }{
	{"%PDF-", "application/pdf"},
	{"PK\x03\x04", "application/zip"}, // also office documents
	{"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"},
	{"\x1f\x8b", "application/gzip"},
	{"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"},
	{"\xfd7zXZ\x00", "application/x-xz"},
	{"\x28\xb5\x2f\xfd", "application/zstd"},
	{"\x89PNG\r\n\x1a\n", "image/png"},
	{"\xff\xd8\xff", "image/jpeg"},
	{"GIF87a", "image/gif"},
	{"GIF89a", "image/gif"},
	{"\x7fELF", "application/x-executable"},
	{"SQLite format 3\x00", "application/vnd.sqlite3"},
	{"{\\rtf", "application/rtf"},
}

func binaryType(source []byte) string {
	if recording := audioType(source); recording != "" {
		return recording
	}
	for _, s := range signatures {
		if bytes.HasPrefix(source, []byte(s.prefix)) {
			return s.mediaType
		}
	}
	return ""
}

// audioType tells recordings by their first bytes, "" if they are of none.
func audioType(source []byte) string {
	has := func(at int, s string) bool { return len(source) >= at && bytes.HasPrefix(source[at:], []byte(s)) }
	switch {
	case has(0, "RIFF") && has(8, "WAVE"):
		return "audio/wav"
	case has(0, "ID3") && len(source) > 3 && source[3] < 5, mp3Frame(source):
		return "audio/mpeg"
	case has(0, "fLaC\x00"), has(0, "fLaC\x80"):
		return "audio/flac"
	case has(0, "OggS\x00"):
		return "audio/ogg"
	case has(0, "\x00\x00") && has(4, "ftyp"):
		return "audio/mp4"
	case has(0, "\x1a\x45\xdf\xa3"): // Matroska, of which WebM is a part
		return "audio/webm"
	}
	return ""
}

// mp3Frame knows the header of a frame of MPEG audio, layer III: eleven set bits, a version, the layer, a bit rate and a sample
// rate that exist. The mark of UTF-16 is another layer.
func mp3Frame(source []byte) bool {
	return len(source) > 3 && source[0] == 0xff && source[1]&0xe6 == 0xe2 && source[1]&0x18 != 0x08 && source[2]>>4 != 15 && source[2]>>4 != 0 && source[2]&0x0c != 0x0c
}

// sniff tells HTML and XML from other text, and text from what cannot be read. Whether text is valid is found out later.
func sniff(source []byte) (string, error) {
	for _, mark := range utf16Marks {
		if bytes.HasPrefix(source, mark) {
			return "text/plain", nil
		}
	}
	guess, _, err := mime.ParseMediaType(http.DetectContentType(source))
	if guess == "text/xml" && bytes.Contains(source[:min(len(source), 1024)], []byte("<html")) {
		guess = "application/xhtml+xml"
	}
	if guess == "audio/mpeg" { // by its letters ID3 alone; audioType looks closer
		guess = "text/plain"
	}
	if err != nil || bytes.IndexByte(source, 0) >= 0 {
		guess = "application/octet-stream"
	}
	return supportedType(guess, nil)
}
