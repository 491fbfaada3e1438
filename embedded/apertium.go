package embedded

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// apertiumPackages are Debian's: the program, and English and Spanish in both directions.
var apertiumPackages = []string{"apertium", "apertium-eng-spa"}

// Limits of a translation: a megabyte of text takes Apertium about 20 seconds on one core.
const (
	apertiumTimeout  = 2 * time.Minute
	maxApertiumText  = 4 << 20  // bytes
	maxApertiumReply = 16 << 20 // bytes
)

// ApertiumFiles is an installed Apertium.
type ApertiumFiles struct {
	Program string   // path of apertium
	Data    string   // folder of the language data
	Pairs   []string // that it translates: eng-spa, spa-eng
}

// FindApertium looks for Apertium with at least one pair of languages. ErrUnavailable says how to install it.
func FindApertium() (ApertiumFiles, error) {
	program, err := exec.LookPath("apertium")
	if err != nil {
		return ApertiumFiles{}, fmt.Errorf("%w: Apertium is not installed: %s", ErrUnavailable, apertiumRemedy())
	}
	data := cmp.Or(os.Getenv("APERTIUM_DATADIR"), filepath.Join(filepath.Dir(filepath.Dir(program)), "share", "apertium"))
	modes, err := filepath.Glob(filepath.Join(data, "modes", "*.mode"))
	if err != nil {
		return ApertiumFiles{}, err
	}
	var pairs []string
	for _, m := range modes {
		if name := strings.TrimSuffix(filepath.Base(m), ".mode"); strings.Count(name, "-") == 1 {
			pairs = append(pairs, name)
		}
	}
	if len(pairs) == 0 {
		return ApertiumFiles{}, fmt.Errorf("%w: Apertium is here, but no pair of languages: %s", ErrUnavailable, apertiumRemedy())
	}
	slices.Sort(pairs)
	return ApertiumFiles{Program: program, Data: data, Pairs: pairs}, nil
}

func apertiumRemedy() string {
	return "on Debian and Ubuntu, `apt-get install " + strings.Join(apertiumPackages, " ") + "`, and further apertium-… packages for other languages"
}

// Apertium returns the installed Apertium. Where there is none and we are root on Debian or a relative of it, it installs
// the packages. ErrUnavailable otherwise, saying what to run.
func (c *Cache) Apertium(ctx context.Context) (ApertiumFiles, error) {
	found, err := FindApertium()
	if err == nil {
		return found, nil
	}
	if _, aptErr := exec.LookPath("apt-get"); aptErr != nil || os.Geteuid() != 0 || c.Offline {
		return ApertiumFiles{}, err
	}
	install := append([]string{"install", "--yes", "--quiet", "--no-install-recommends"}, apertiumPackages...)
	for i, args := range [][]string{{"update", "--quiet"}, install} {
		c.progress("apertium", int64(i), 2)
		words := &tail{}
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		cmd.Stdout, cmd.Stderr = words, words
		if err := cmd.Run(); err != nil {
			return ApertiumFiles{}, fmt.Errorf("%w: apt-get %s: %w: %s", ErrUnavailable, args[0], err, words)
		}
	}
	c.progress("apertium", 2, 2)
	return FindApertium()
}

// Apertium translates by rules, a process of Apertium a text, behind the protocol of Apertium's own HTTP service:
// /translate and /listPairs. Sentences and line breaks stay as they are.
type Apertium struct {
	loopback
	files ApertiumFiles
	who   account
	slots chan struct{} // processes at a time
}

// NewApertium starts nothing before Acquire.
func NewApertium(files ApertiumFiles) (*Apertium, error) {
	if files.Program == "" {
		return nil, errors.New("embedded: Apertium without a program")
	}
	who, err := chooseAccount()
	if err != nil {
		return nil, err
	}
	a := &Apertium{files: files, who: who, slots: make(chan struct{}, runtime.NumCPU())}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /listPairs", a.listPairs)
	mux.HandleFunc("POST /translate", a.translate)
	a.handler = mux
	return a, nil
}

func (a *Apertium) listPairs(w http.ResponseWriter, _ *http.Request) {
	pairs := []map[string]string{}
	for _, p := range a.files.Pairs {
		from, to, _ := strings.Cut(p, "-")
		pairs = append(pairs, map[string]string{"sourceLanguage": from, "targetLanguage": to})
	}
	replyJSON(w, http.StatusOK, map[string]any{"responseData": pairs, "responseDetails": nil, "responseStatus": http.StatusOK})
}

func (a *Apertium) translate(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 3*maxApertiumText) // a form needs up to three bytes for one
	text, pair := r.PostFormValue("q"), strings.ReplaceAll(r.PostFormValue("langpair"), "|", "-")
	if !slices.Contains(a.files.Pairs, pair) {
		apertiumError(w, http.StatusBadRequest, "That pair is not installed")
		return
	}
	if len(text) > maxApertiumText {
		apertiumError(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("a text of %d bytes: Apertium gets at most %d at a time", len(text), maxApertiumText))
		return
	}
	out, err := a.run(r.Context(), pair, text)
	if err != nil {
		apertiumError(w, http.StatusInternalServerError, err.Error())
		return
	}
	replyJSON(w, http.StatusOK, map[string]any{"responseData": map[string]string{"translatedText": out}, "responseDetails": nil, "responseStatus": http.StatusOK})
}

func apertiumError(w http.ResponseWriter, status int, why string) {
	replyJSON(w, status, map[string]any{"status": "error", "code": status, "message": http.StatusText(status), "explanation": why})
}

// run translates one text in a process group of its own, which ends with ctx.
func (a *Apertium) run(ctx context.Context, pair, text string) (string, error) {
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, apertiumTimeout)
	defer cancel()
	out, words := &bounded{max: maxApertiumReply}, &tail{}
	// Apertium opens /dev/stdin by name, which fails on a pipe of another user's: cat gives it one of its own.
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", `cat | "$@"`, "sh", a.files.Program, "-d", a.files.Data, "-u", "-f", "txt", pair)
	cmd.Dir, cmd.Env = "/", []string{"PATH=" + os.Getenv("PATH"), "HOME=/"}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(strings.ReplaceAll(text, "\x00", "")), out, words // NUL flushes its pipeline
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: a.who.credential(), Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = engineStop
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("apertium %s: %w: %s", pair, errors.Join(err, ctx.Err()), words)
	}
	return out.String(), nil
}

// bounded is a buffer that refuses to grow over max bytes.
type bounded struct {
	bytes.Buffer
	max int
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.max {
		return 0, fmt.Errorf("an output of over %d bytes", b.max)
	}
	return b.Buffer.Write(p)
}

// replyJSON answers with v; an error means that the caller left.
func replyJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
