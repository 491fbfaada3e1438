package ingest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/footnote-rag/footnote/ingest"
	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

// workerEnv makes the test binary a process that works a queue: it holds the settings.
const workerEnv = "FOOTNOTE_TEST_WORKER"

// workerSettings say where a worker process finds its world.
type workerSettings struct {
	Database, Models string
}

// work is the worker process: it says "ready" and works until it is killed or its input ends.
func work() int {
	if err := runWorker(context.Background(), os.Getenv(workerEnv)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func runWorker(ctx context.Context, settings string) error {
	var ws workerSettings
	if err := json.Unmarshal([]byte(settings), &ws); err != nil {
		return err
	}
	s, err := store.Open(ctx, store.Config{URL: ws.Database, MaxConns: 4})
	if err != nil {
		return err
	}
	defer s.Close()
	models, err := workersai.New(workersai.Config{BaseURL: ws.Models, AccountID: workersaitest.AccountID, Token: "test-token", MaxRetries: -1})
	if err != nil {
		return err
	}
	svc, err := ingest.New(ctx, ingest.Config{Store: s, Models: models, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	if err := svc.Start(ctx); err != nil {
		return err
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if stopped := svc.Stop(short); err == nil {
		err = stopped
	}
	return err
}

// process is a worker process.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
}

// startProcess returns when the process works; the test's end kills it.
func startProcess(t *testing.T, database string, models *workersaitest.Server) *process {
	t.Helper()
	settings, err := json.Marshal(workerSettings{Database: database, Models: models.BaseURL()})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), workerEnv+"="+string(settings))
	cmd.Stderr = t.Output()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, stdin: stdin}
	t.Cleanup(p.kill)
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the worker process says %q, %v, want ready", line, err)
	}
	return p
}

// kill is kill -9, once.
func (p *process) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill() // it may have ended
		_ = p.cmd.Wait()         // its status tells of the kill
	}
}
