package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/footnote-rag/footnote/ingest"
)

// foundSources is what the paths of a load name: the documents, and the URI prefixes that were walked whole, below which
// a document without a file is gone.
type foundSources struct {
	sources  []loadSource
	prefixes []string
}

// maxLine bounds one NDJSON document: the server's own limit for a document, escaped.
const maxLine = 192 << 20

// findSources walks, globs and reads what the paths name, in order, and hashes it.
func findSources(stdin *os.File, o loadOptions, paths []string) (foundSources, error) {
	var f foundSources
	for _, arg := range paths {
		if err := f.add(stdin, o, arg); err != nil {
			return f, err
		}
	}
	seen := make(map[string]bool, len(f.sources))
	for _, s := range f.sources {
		if seen[s.uri] {
			return f, usagef("two of the sources have the URI %q: load them with different --prefix", s.uri)
		}
		seen[s.uri] = true
	}
	return f, nil
}

func (f *foundSources) add(stdin *os.File, o loadOptions, arg string) error {
	if arg == "-" {
		return f.addStdin(stdin, o)
	}
	info, err := os.Stat(arg)
	switch {
	case err == nil && info.IsDir():
		return f.addFolder(o, arg)
	case err == nil && isNDJSON(arg):
		file, err := os.Open(arg)
		if err != nil {
			return err
		}
		defer file.Close()
		return f.addLines(file, arg)
	case err == nil:
		return f.addFile(o, arg, path.Join(o.prefix, filepath.ToSlash(strings.TrimLeft(filepath.Clean(arg), "./"))))
	}
	matches, globErr := filepath.Glob(arg)
	if globErr != nil || len(matches) == 0 {
		return usagef("%s: no such file, folder or match", arg)
	}
	for _, m := range matches {
		if err := f.add(stdin, o, m); err != nil {
			return err
		}
	}
	return nil
}

func isNDJSON(name string) bool {
	ext := strings.ToLower(filepath.Ext(name))
	return ext == ".ndjson" || ext == ".jsonl"
}

// addFolder walks a folder; hidden files and folders are skipped, links are not followed.
func (f *foundSources) addFolder(o loadOptions, root string) error {
	abs, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	prefix := filepath.Base(abs)
	if o.prefix != "" {
		prefix = o.prefix
	}
	f.prefixes = append(f.prefixes, prefix+"/")
	return filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name != root && strings.HasPrefix(d.Name(), ".") {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() || !d.Type().IsRegular() || !included(o.include, d.Name()) || !loadable(o, d.Name()) {
			return nil
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		return f.addFile(o, name, prefix+"/"+filepath.ToSlash(rel))
	})
}

func included(patterns []string, name string) bool {
	for _, p := range patterns {
		if ok, _ := filepath.Match(p, name); ok {
			return true
		}
	}
	return len(patterns) == 0
}

// loadable skips, in a walk, what the service could not read (pictures, archives, style sheets) and NDJSON files, which hold
// documents of their own and are named on the command line.
func loadable(o loadOptions, name string) bool {
	return !isNDJSON(name) && (o.mediaType != "" || len(o.include) > 0 || ingest.Supported(name))
}

func (f *foundSources) addFile(o loadOptions, name, uri string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	s := loadSource{uri: uri, mediaType: o.mediaType, metadata: json.RawMessage(o.metadata), read: func() ([]byte, error) { return os.ReadFile(name) }}
	h := sha256.New()
	if s.size, err = io.Copy(h, file); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	h.Sum(s.sha256[:0])
	f.sources = append(f.sources, s)
	return nil
}

func (f *foundSources) addStdin(stdin io.Reader, o loadOptions) error {
	if o.uri == "" {
		return f.addLines(stdin, "standard input")
	}
	b, err := io.ReadAll(stdin)
	if err != nil {
		return fmt.Errorf("read standard input: %w", err)
	}
	f.sources = append(f.sources, bytesSource(o.uri, "", o.mediaType, json.RawMessage(o.metadata), b))
	return nil
}

func bytesSource(uri, title, mediaType string, metadata json.RawMessage, b []byte) loadSource {
	return loadSource{uri: uri, title: title, mediaType: mediaType, metadata: metadata, size: int64(len(b)),
		sha256: sha256.Sum256(b), read: func() ([]byte, error) { return b, nil }}
}

// addLines reads NDJSON documents; a wrong line is named by its number.
func (f *foundSources) addLines(r io.Reader, name string) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 1<<20), maxLine)
	for n := 1; sc.Scan(); n++ {
		line := bytes.TrimSpace(sc.Bytes())
		if len(line) == 0 {
			continue
		}
		var d struct {
			URI       string          `json:"uri"`
			Title     string          `json:"title"`
			Text      string          `json:"text"`
			MediaType string          `json:"media_type"`
			Metadata  json.RawMessage `json:"metadata"`
		}
		if err := json.Unmarshal(line, &d); err != nil {
			return usagef("%s, line %d: %v", name, n, err)
		}
		if d.URI == "" || d.Text == "" {
			return usagef(`%s, line %d: needs "uri" and "text"`, name, n)
		}
		if d.MediaType == "" {
			d.MediaType = "text/plain"
		}
		f.sources = append(f.sources, bytesSource(d.URI, d.Title, d.MediaType, d.Metadata, []byte(d.Text)))
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

// estimate counts the chunks and tokens that a source would make.
func estimate(s loadSource) (chunks, tokens int, err error) {
	b, err := s.read()
	if err != nil {
		return 0, 0, err
	}
	return ingest.Estimate(ingest.Document{URI: s.uri, Title: s.title, MediaType: s.mediaType, Source: b})
}
