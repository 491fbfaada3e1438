package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func writeFiles(t *testing.T, files map[string]string) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "docs")
	for name, text := range files {
		full := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func uris(f foundSources) []string {
	var u []string
	for _, s := range f.sources {
		u = append(u, s.uri)
	}
	slices.Sort(u)
	return u
}

func TestFindSources(t *testing.T) {
	t.Parallel()
	root := writeFiles(t, map[string]string{
		"a.md": "# A", "sub/b.txt": "b", "sub/c.html": "<p>c", ".hidden/d.md": "no", ".e.md": "no", "picture.png": "no",
		"lines.ndjson": `{"uri":"x","text":"one"}` + "\n\n" + `{"uri":"y","text":"two","title":"Y","metadata":{"k":1}}` + "\n",
	})
	tests := []struct {
		name     string
		o        loadOptions
		args     []string
		want     []string
		prefixes []string
	}{
		{"folder", loadOptions{}, []string{root}, []string{"docs/a.md", "docs/sub/b.txt", "docs/sub/c.html"}, []string{"docs/"}},
		{"folder with prefix", loadOptions{prefix: "v2"}, []string{root}, []string{"v2/a.md", "v2/sub/b.txt", "v2/sub/c.html"}, []string{"v2/"}},
		{"include", loadOptions{include: []string{"*.md"}}, []string{root}, []string{"docs/a.md"}, []string{"docs/"}},
		{"lines", loadOptions{}, []string{filepath.Join(root, "lines.ndjson")}, []string{"x", "y"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f, err := findSources(nil, tt.o, tt.args)
			if err != nil {
				t.Fatal(err)
			}
			if got := uris(f); !slices.Equal(got, tt.want) {
				t.Errorf("uris = %q, want %q", got, tt.want)
			}
			if !slices.Equal(f.prefixes, tt.prefixes) {
				t.Errorf("prefixes = %q, want %q", f.prefixes, tt.prefixes)
			}
		})
	}
}

func TestFindSourcesRefuses(t *testing.T) {
	t.Parallel()
	root := writeFiles(t, map[string]string{
		"bad.ndjson": `{"uri":"x","text":"one"}` + "\n{oops\n", "empty.jsonl": `{"uri":"x"}`, "a.md": "a",
	})
	for _, tt := range []struct{ name, arg, want string }{
		{"a path that is not there", filepath.Join(root, "nothing"), "no such file"},
		{"a line that is not JSON", filepath.Join(root, "bad.ndjson"), "line 2"},
		{"a line without text", filepath.Join(root, "empty.jsonl"), `needs "uri" and "text"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := findSources(nil, loadOptions{}, []string{tt.arg})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("findSources(%q) = %v, want an error with %q", tt.arg, err, tt.want)
			}
		})
	}
	if _, err := findSources(nil, loadOptions{}, []string{root, root}); err == nil || !strings.Contains(err.Error(), "two of the sources") {
		t.Errorf("the same folder twice = %v, want an error", err)
	}
}

func TestReadSSE(t *testing.T) {
	t.Parallel()
	const whole = ": ping\n\nevent: delta\ndata: {\"text\":\"a\"}\n\nevent: done\ndata: {}\n\n"
	for cut := range len(whole) + 1 {
		var names []string
		var last error
		readSSE(strings.NewReader(whole[:cut]), func(ev sseEvent, err error) bool {
			if err == nil {
				names = append(names, ev.Name)
			}
			last = err
			return true
		})
		if complete := slices.Contains(names, "done"); complete != (last == nil) {
			t.Errorf("cut at %d: events %q, last error %v: a cut stream must end in an error, a whole one must not", cut, names, last)
		}
	}
}
