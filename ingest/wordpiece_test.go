package ingest_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/footnote-rag/footnote/ingest"
)

// referenceVersion pins the tokenizer that ours is compared with.
const referenceVersion = "tokenizers==0.23.3"

func TestTokenizerAgreesWithGolden(t *testing.T) {
	t.Parallel()
	file, err := os.Open("testdata/tokenizer_golden.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	compared := 0
	for lines.Scan() {
		var golden struct {
			Text string `json:"text"`
			IDs  []int  `json:"ids"`
		}
		if err := json.Unmarshal(lines.Bytes(), &golden); err != nil {
			t.Fatal(err)
		}
		compareTokens(t, golden.Text, golden.IDs)
		compared++
	}
	if compared < 300 {
		t.Fatalf("compared %d golden texts, want at least 300", compared)
	}
}

// TestTokenizerAgreesWithReference runs the reference itself over real and generated texts.
func TestTokenizerAgreesWithReference(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("runs the reference tokenizer: leave out -short")
	}
	packages := installReference(t)
	texts := append(realTexts(t, 6000), generatedTexts(3000)...)
	ids := referenceIDs(t, packages, texts)
	for i, text := range texts {
		compareTokens(t, text, ids[i])
		if t.Failed() {
			t.FailNow()
		}
	}
	if len(texts) < 8000 {
		t.Fatalf("compared %d texts, want at least 8000", len(texts))
	}
	t.Logf("%d texts agree token by token with %s", len(texts), referenceVersion)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		writeGolden(t, texts, ids)
	}
}

func compareTokens(t *testing.T, text string, want []int) {
	t.Helper()
	tokens := ingest.WordPiece().Encode(text)
	got := make([]int, len(tokens))
	length := utf8.RuneCountInString(text)
	for i, tok := range tokens {
		got[i] = tok.ID
		if tok.Start < 0 || tok.End > length || tok.Start > tok.End {
			t.Errorf("Encode(%.80q) token %d spans %d to %d of %d", text, i, tok.Start, tok.End, length)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Encode(%.200q) (-want +got):\n%s", text, diff)
	}
	if n := ingest.WordPiece().Count(text); n != len(want) {
		t.Errorf("Count(%.200q) = %d, want %d", text, n, len(want))
	}
}

// installReference puts the pinned reference into the user's cache folder, once.
func installReference(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skip("no cache folder for the reference tokenizer: set HOME")
	}
	dir := filepath.Join(cache, "footnote", "test", strings.ReplaceAll(referenceVersion, "==", "-"))
	if _, err := os.Stat(filepath.Join(dir, "tokenizers")); err == nil {
		return dir
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), "installing-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(fresh)
	out, err := exec.CommandContext(t.Context(), "python3", "-m", "pip", "install", "--quiet", "--no-deps", "--target", fresh, referenceVersion).CombinedOutput()
	if err != nil {
		t.Skipf("the reference tokenizer cannot be installed (needs python3 with pip and its package index); the golden file still counts: %v\n%s", err, out)
	}
	if err := os.Rename(fresh, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		if _, statErr := os.Stat(filepath.Join(dir, "tokenizers")); statErr != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func referenceIDs(t *testing.T, packages string, texts []string) [][]int {
	t.Helper()
	vocabulary := filepath.Join(t.TempDir(), "vocab.txt")
	if err := os.WriteFile(vocabulary, gunzip(t, "data/bert_uncased_vocab.txt.gz"), 0o600); err != nil {
		t.Fatal(err)
	}
	var in bytes.Buffer
	enc := json.NewEncoder(&in)
	for _, text := range texts {
		if err := enc.Encode(text); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "python3", "testdata/reference_tokenizer.py", vocabulary)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+packages)
	cmd.Stdin, cmd.Stderr = &in, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all [][]int
	dec := json.NewDecoder(bytes.NewReader(out))
	for dec.More() {
		var ids []int
		if err := dec.Decode(&ids); err != nil {
			t.Fatal(err)
		}
		all = append(all, ids)
	}
	if len(all) != len(texts) {
		t.Fatalf("reference answered %d of %d texts", len(all), len(texts))
	}
	return all
}

// realTexts cuts Go's own sources, documents and Unicode test files, and the pages of the quickstart, into pieces of
// the size of chunks.
func realTexts(t *testing.T, limit int) []string {
	t.Helper()
	root := runtimeGOROOT(t)
	var texts []string
	add := func(path string, most int) {
		data, err := os.ReadFile(path)
		if err != nil || !utf8.Valid(data) {
			return
		}
		runes := []rune(string(data))
		for n := 0; len(runes) > 0 && n < most; n++ {
			size := min(len(runes), 900)
			texts = append(texts, string(runes[:size]))
			runes = runes[size:]
		}
	}
	pages, _ := filepath.Glob("../cmd/footnote/manual/*")
	for _, page := range pages {
		add(page, 25)
	}
	for _, dir := range []string{"src/unicode", "src/strconv/testdata", "src/go/doc", "test", "doc", "api", "src/net/http", "src/html", "src/text", "src/internal/trace", "src/vendor/golang.org/x/text", "src/vendor/golang.org/x/net/idna"} {
		_ = filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && len(texts) < limit {
				add(path, 40)
			}
			return nil
		})
	}
	if len(texts) < 5000 {
		t.Fatalf("found %d real texts, want at least 5000", len(texts))
	}
	return texts
}

func runtimeGOROOT(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// generatedTexts mixes scripts, accents, emoji, marks, controls and words too long to match; the same ones every time.
func generatedTexts(n int) []string {
	rng := rand.New(rand.NewPCG(1, 2))
	ranges := [][2]rune{
		{0, 0x7F}, {0x20, 0x7E}, {0x80, 0x24F}, {0x300, 0x36F}, {0x370, 0x52F}, {0x590, 0x6FF}, {0x900, 0xDFF}, {0xE00, 0xFFF},
		{0x1100, 0x11FF}, {0x1E00, 0x1FFF}, {0x2000, 0x206F}, {0x2070, 0x2BFF}, {0x3000, 0x30FF}, {0x4E00, 0x9FFF}, {0xAC00, 0xD7A3},
		{0xE000, 0xF8FF}, {0xF900, 0xFAFF}, {0xFB00, 0xFFFF}, {0x10000, 0x10FFF}, {0x1D100, 0x1D1FF}, {0x1F300, 0x1FAFF}, {0x20000, 0x2FA1F}, {0xE0000, 0xE01EF}, {0, 0x10FFFF},
	}
	words := []string{"the", "embedding", "Zürich", "naïve", "ＦＵＬＬ", "東京都", "데이터베이스", "I\u0307", "ǅ", "ß", "ﬁ", "[SEP]", "##ing", "don't", "a\u0000b", "\u00a0", "\ufeff", "👩‍👩‍👧", "e\u0301\u0323", "\u302e\u302f", strings.Repeat("x", 100), strings.Repeat("y", 101), strings.Repeat("가", 40)}
	texts := make([]string, n)
	for i := range texts {
		var b strings.Builder
		for range 1 + rng.IntN(60) {
			if rng.IntN(2) == 0 {
				b.WriteString(words[rng.IntN(len(words))])
			} else {
				span := ranges[rng.IntN(len(ranges))]
				for range 1 + rng.IntN(8) {
					r := span[0] + rng.Int32N(span[1]-span[0]+1)
					if utf8.ValidRune(r) {
						b.WriteRune(r)
					}
				}
			}
			if rng.IntN(3) > 0 {
				b.WriteByte(' ')
			}
		}
		texts[i] = b.String()
	}
	return texts
}

func writeGolden(t *testing.T, texts []string, ids [][]int) {
	t.Helper()
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	for i := len(texts) - 3000; i < len(texts); i += 9 {
		if err := enc.Encode(map[string]any{"text": texts[i], "ids": ids[i]}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile("testdata/tokenizer_golden.jsonl", out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestTokenizerIsAdditiveAtWhiteSpace(t *testing.T) {
	t.Parallel()
	tok := ingest.WordPiece()
	texts := generatedTexts(400)
	for i := 1; i < len(texts); i++ {
		a, b := texts[i-1], texts[i]
		if got, want := tok.Count(a+" "+b), tok.Count(a)+tok.Count(b)-2; got != want {
			t.Errorf("Count(%q + %q) = %d, want %d", a, b, got, want)
		}
	}
}

func TestTokenizerOffsets(t *testing.T) {
	t.Parallel()
	text := "Ünïcode 東京 unbelievable"
	runes := []rune(text)
	var got []string
	for _, tok := range ingest.WordPiece().Encode(text) {
		got = append(got, string(runes[tok.Start:tok.End]))
	}
	want := []string{"", "Ünïcode", "東", "京", "unbelievable", ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("token texts (-want +got):\n%s", diff)
	}
}

// goRoot is where the toolchain keeps Go's sources.
func goRoot() string {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

func BenchmarkTokenizerCount(b *testing.B) {
	data, err := os.ReadFile(filepath.Join(goRoot(), "src/net/http/server.go"))
	if err != nil {
		b.Skip("needs Go's sources")
	}
	text := string(data)
	tok := ingest.WordPiece()
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		tok.Count(text)
	}
}

func FuzzTokenizer(f *testing.F) {
	for _, text := range generatedTexts(20) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tok := ingest.WordPiece()
		tokens := tok.Encode(text)
		if n := tok.Count(text); n != len(tokens) {
			t.Errorf("Count = %d, Encode gives %d", n, len(tokens))
		}
		at, length := 0, utf8.RuneCountInString(text)
		for _, tk := range tokens {
			if tk.Start < 0 || tk.End > length || tk.End < at {
				t.Fatalf("token %+v after offset %d of %d", tk, at, length)
			}
			at = max(at, tk.Start)
		}
	})
}

func TestWholeWords(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]bool{"whale": true, "eggs": true, "painted": true, "photografphs": false, "tabl": false, "": false, "two words": false, "\u1234": false} {
		if got := ingest.WordPiece().Whole(word); got != want {
			t.Errorf("Whole(%q) = %v, want %v", word, got, want)
		}
	}
}
