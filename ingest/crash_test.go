package ingest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/footnote-rag/footnote/ingest"
	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/store/storetest"
	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

// workerEnv makes the test binary a process that works a queue: it holds the settings.
const workerEnv = "FOOTNOTE_TEST_WORKER"

// workerSettings say where a worker process finds its world.
type workerSettings struct {
	Database, Models string
	BatchTexts       int
	ChatModel        string
	Lease            time.Duration // 0: the default
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
	svc, err := ingest.New(ctx, ingest.Config{Store: s, Models: models, BatchTexts: ws.BatchTexts, ChatModel: ws.ChatModel, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	if ws.Lease > 0 {
		svc.ShortenLease(ws.Lease)
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
func startProcess(t *testing.T, ws workerSettings) *process {
	t.Helper()
	settings, err := json.Marshal(ws)
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

// crashWorld is a database whose services run in several processes.
func crashWorld(t *testing.T, opts ...workersaitest.Option) (w world, database string) {
	t.Helper()
	database = storetest.URL(t)
	return world{store: storetest.OpenConfig(t, store.Config{URL: database}), models: workersaitest.New(t, opts...)}, database
}

// TestKilledProcess: a process is killed while it waits for the provider; another one takes its documents over.
func TestKilledProcess(t *testing.T) {
	t.Parallel()
	w, database := crashWorld(t)
	s := w.service(t)
	var ids []string
	var docs []ingest.Document
	for i := range 30 {
		d := text(fmt.Sprint(i), long(fmt.Sprintf("thing %d", i), 2))
		docs, ids = append(docs, d), append(ids, put(t, s, d, store.Created).ID)
	}
	asked := w.models.Calls("")
	w.models.Script(workersaitest.Step{}, workersaitest.Step{Hold: make(chan struct{}), Times: 2})
	p := startProcess(t, workerSettings{Database: database, Models: w.models.BaseURL(), BatchTexts: 5}) // so that both senders have work
	w.models.WaitCalls(t, asked+3)                                                                      // one answered, both senders held
	p.kill()
	killed := time.Now()
	begin(t, s)
	for i, id := range ids {
		w.checkWhole(t, docs[i], wait(t, s, id, store.StatusCompleted))
	}
	if took := time.Since(killed); took > 30*time.Second {
		t.Errorf("the documents were done %v after the kill, want 30 s or less", took)
	}
	idle(t, s)
	storetest.Invariants(t, w.store)
	for _, d := range docs {
		w.checkEmbedded(t, d, 3) // once, again for the batches in flight at the kill
	}
}

// checkEmbedded wants each chunk of the document to have been sent at least once and fewer than most times.
func (w world) checkEmbedded(t *testing.T, d ingest.Document, most int) {
	t.Helper()
	e, err := ingest.Extract(d.MediaType, d.Source)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range ingest.Chunk(e, ingest.DefaultChunking) {
		if n := w.models.TextCount(ingest.EmbedText(c)); n < 1 || n >= most {
			t.Errorf("chunk %d of %s was embedded %d times, want 1 to %d", c.Ordinal, d.URI, n, most-1)
		}
	}
}

// TestLargeDocumentResumes: what a killed process had embedded of a large document is not embedded again.
func TestLargeDocumentResumes(t *testing.T) {
	t.Parallel()
	w, database := crashWorld(t, workersaitest.Dims(32)) // few, because 1,500 vectors take their time with -race
	s := w.service(t)
	d := text("book", long("book", 1020))
	id := put(t, s, d, store.Created).ID
	asked := w.models.Calls("")
	texts := len(w.models.Texts())
	w.models.Script(slices.Repeat([]workersaitest.Step{{}}, 6)...)
	w.models.Script(workersaitest.Hold(make(chan struct{})))
	p := startProcess(t, workerSettings{Database: database, Models: w.models.BaseURL()})
	w.models.WaitCalls(t, asked+7)
	p.kill()
	begin(t, s)
	done := wait(t, s, id, store.StatusCompleted)
	if done.Chunks < 1500 {
		t.Errorf("the document has %d chunks, want 1,500", done.Chunks)
	}
	if n, most := len(w.models.Texts())-texts, done.Chunks+2*ingest.StageChunks; n > most {
		t.Errorf("%d texts were embedded for %d chunks, want at most %d", n, done.Chunks, most)
	}
	storetest.Invariants(t, w.store)
	if got := w.embeddedChunks(t, id); got != done.Chunks {
		t.Errorf("%d vectors are stored for %d chunks", got, done.Chunks)
	}
}

// embeddedChunks counts the document's visible chunks whose vector is that of their text.
func (w world) embeddedChunks(t *testing.T, id string) (n int) {
	t.Helper()
	chunks, err := w.store.Chunks(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	vectors := w.vectors(t, id)
	for i, c := range chunks {
		if workersaitest.Cosine(vectors[i], workersaitest.Vector(ingest.EmbedText(c), len(vectors[i]))) > 0.999 {
			n++
		}
	}
	return n
}

// vectors are the document's stored ones, by ordinal.
func (w world) vectors(t *testing.T, id string) [][]float32 {
	t.Helper()
	rows, err := w.store.Pool().Query(t.Context(), `SELECT e.embedding::text FROM embeddings_1 e JOIN chunks c ON c.id = e.chunk_id
		WHERE c.document_id = $1 ORDER BY c.ordinal`, id)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (v []float32, err error) {
		var s string
		if err = row.Scan(&s); err == nil {
			err = json.Unmarshal([]byte(s), &v)
		}
		return v, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestKillsDuringLoad: processes are killed again and again while documents come in and the provider stumbles. A reader never
// sees half a document, and in the end all are there, once.
func TestKillsDuringLoad(t *testing.T) {
	t.Parallel()
	w, database := crashWorld(t, workersaitest.Dims(32))
	s := w.service(t)
	const kills, perRound = 5, 12
	var ids []string
	var docs []ingest.Document
	for round := range kills {
		for i := range perRound {
			d := text(fmt.Sprintf("%d-%d", round, i), long(fmt.Sprintf("thing %d of %d", i, round), 1+i%3))
			docs, ids = append(docs, d), append(ids, put(t, s, d, store.Created).ID)
		}
		w.models.Script(workersaitest.Step{}, workersaitest.HTML(502, "bad gateway"), workersaitest.Step{}, workersaitest.Reset())
		w.models.Script(workersaitest.Hold(make(chan struct{}))) // one sender; the other waits for it after a fault, or goes on
		p := startProcess(t, workerSettings{Database: database, Models: w.models.BaseURL(), BatchTexts: 5})
		eventually(t, "a sender is held", func() bool { return w.models.Scripted() == 0 })
		storetest.Invariants(t, w.store)
		p.kill()
		storetest.Invariants(t, w.store)
	}
	begin(t, s)
	for i, id := range ids {
		w.checkWhole(t, docs[i], wait(t, s, id, store.StatusCompleted))
	}
	idle(t, s)
	storetest.Invariants(t, w.store)
	if most := w.attempts(t); most > 1 {
		t.Errorf("a job lost %d attempts to kills, want none", most-1)
	}
}

// TestFrozenProcess: a process freezes with a document in its hands; another one does it, and the first one's late result
// changes nothing.
func TestFrozenProcess(t *testing.T) {
	t.Parallel()
	w, database := crashWorld(t)
	s := w.service(t)
	d := text("a", "The sea is blue.")
	id := put(t, s, d, store.Created).ID
	asked := w.models.Calls("")
	release := make(chan struct{})
	w.models.Script(workersaitest.Hold(release))
	p := startProcess(t, workerSettings{Database: database, Models: w.models.BaseURL(), Lease: 5 * time.Second})
	w.models.WaitCalls(t, asked+1)
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	begin(t, s)
	done := wait(t, s, id, store.StatusCompleted)
	close(release)
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.stdin.Close(), p.cmd.Wait()); err != nil { // it stops when it has given its late result
		t.Errorf("the process that was frozen: %v", err)
	}
	again := wait(t, s, id, store.StatusCompleted)
	if diff := cmp.Diff(done, again); diff != "" {
		t.Errorf("the late result changed the document (-before +after):\n%s", diff)
	}
	w.checkWhole(t, d, again)
	idle(t, s)
	storetest.Invariants(t, w.store)
}
