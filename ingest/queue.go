package ingest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/footnote-rag/footnote/store"
)

// documentArgs is the job: one revision of one document.
type documentArgs struct {
	DocumentID string `json:"document_id"`
	Revision   int64  `json:"revision"`
}

// Kind implements river.JobArgs.
func (documentArgs) Kind() string { return "document" }

// Numbers of the queue.
const (
	// lockQueue and lockProcesses are keys of Postgres advisory locks; any distinct constants do.
	lockQueue     int64 = 0x666f6f74_0101
	lockProcesses int32 = 0x666f6f74 // first half of the key that each living process holds

	maxAttempts    = 10              // of a job that fails for reasons nobody foresaw; what is waited for costs no attempt
	releaseTimeout = 5 * time.Second // for jobs to give themselves back when a stop runs out of time
	rescueEvery    = 3 * time.Second
	// defaultLease is how long a process may say nothing before Postgres ends the connection that holds its lock: a frozen one
	// keeps its connections open. Ten rounds of the watch may be late.
	defaultLease  = 45 * time.Second
	sweepEvery    = 30 * time.Second
	maintainEvery = 5 * time.Second
	// stuckBackstop is River's own rescue, for what ours should miss; it must exceed any honest job.
	stuckBackstop = 24 * time.Hour
)

// Documents of a collection that has few waiting go to a queue of their own, so that they need not wait for another
// collection's bulk load. Both queues are always worked, so neither starves.
const (
	expressQueue   = "express"
	expressBacklog = 16      // unfinished documents of a collection; the next ones are a bulk load
	expressBytes   = 1 << 20 // of a source; larger ones would occupy the few workers
)

// enqueue inserts the document's job within the put's transaction.
func (s *Service) enqueue(ctx context.Context, tx pgx.Tx, c store.Collection, stored store.Document, d Document) error {
	queue, err := queueOf(ctx, tx, c, d)
	if err != nil {
		return err
	}
	_, err = s.queue.InsertTx(ctx, tx, documentArgs{DocumentID: stored.ID, Revision: stored.Revision}, &river.InsertOpts{Queue: queue})
	return err
}

func queueOf(ctx context.Context, tx pgx.Tx, c store.Collection, d Document) (string, error) {
	if isAudio(d.MediaType) {
		return speechQueue, nil
	}
	if c.Chunking.Context == store.ContextSummary {
		return summaryQueue, nil
	}
	if len(d.Source) > expressBytes {
		return river.QueueDefault, nil
	}
	waiting, err := store.Unfinished(ctx, tx, c.ID, expressBacklog+1)
	if err != nil || waiting > expressBacklog { // the document itself is counted
		return river.QueueDefault, err
	}
	return expressQueue, nil
}

// migrateQueue brings River's tables up to date; other processes wait.
func migrateQueue(ctx context.Context, pool *pgxpool.Pool) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", lockQueue); err != nil {
		return err
	}
	defer func() { _, _ = conn.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", lockQueue) }()
	m, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	_, err = m.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}

func (s *Service) newQueue() (*river.Client[pgx.Tx], error) {
	workers := river.NewWorkers()
	if err := river.AddWorkerSafely(workers, &documentWorker{service: s}); err != nil {
		return nil, err
	}
	return river.NewClient(riverpgxv5.New(s.cfg.Store.Pool()), &river.Config{
		ID: s.id,
		Queues: map[string]river.QueueConfig{
			river.QueueDefault: {MaxWorkers: s.cfg.Workers},
			expressQueue:       {MaxWorkers: s.cfg.Workers},
			speechQueue:        {MaxWorkers: s.cfg.Concurrency},
			summaryQueue:       {MaxWorkers: s.cfg.Workers},
		},
		Workers:                     workers,
		JobTimeout:                  -1,
		RescueStuckJobsAfter:        stuckBackstop,
		MaxAttempts:                 maxAttempts,
		FetchCooldown:               20 * time.Millisecond,
		FetchPollInterval:           time.Second,
		CompletedJobRetentionPeriod: time.Hour,
		Logger:                      slog.New(warnOnly{s.cfg.Logger.Handler()}),
	})
}

// warnOnly hides River's routine messages.
type warnOnly struct{ slog.Handler }

func (h warnOnly) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && h.Handler.Enabled(ctx, l)
}

// documentWorker works one job.
type documentWorker struct {
	river.WorkerDefaults[documentArgs]
	service *Service
}

// Work implements river.Worker: it decides what an error means for the job.
func (w *documentWorker) Work(ctx context.Context, job *river.Job[documentArgs]) error {
	s, a := w.service, job.Args
	err := s.process(ctx, a)
	defer s.ends.tell(a.DocumentID)
	var permanent *ExtractError
	switch {
	case err == nil:
		s.done.Add(1)
		return nil
	case errors.Is(err, store.ErrSuperseded), errors.Is(err, store.ErrNotFound):
		return nil // a newer revision has its own job; a deleted document needs none
	case ctx.Err() != nil:
		return river.JobSnooze(0) // stopping: given back, no attempt lost
	case errors.As(err, &permanent):
		return s.fail(ctx, a, permanent.Code, permanent.Message)
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrStorageFull):
		s.cfg.Logger.Warn("the database is not ready, the document waits", "document", a.DocumentID, "error", err)
		return river.JobSnooze(2*time.Second + rand.N(time.Second))
	case errors.Is(err, store.ErrInvalidText):
		return s.fail(ctx, a, "invalid_text", "the text holds characters that cannot be stored: "+err.Error())
	case job.Attempt >= job.MaxAttempts:
		s.cfg.Logger.Error("giving the document up", "document", a.DocumentID, "error", err)
		return s.fail(ctx, a, "internal", fmt.Sprintf("it failed %d times: %v", job.Attempt, err))
	}
	return err
}

// fail makes the error the document's end. If even that cannot be stored, the job runs again.
func (s *Service) fail(ctx context.Context, a documentArgs, code, text string) error {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\ufffd"), "\x00", "\ufffd") // it may quote the document or a server
	err := s.cfg.Store.Fail(ctx, a.DocumentID, a.Revision, code, text)
	if errors.Is(err, store.ErrSuperseded) || errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return river.JobSnooze(2 * time.Second)
	}
	s.failed.Add(1)
	return nil
}

// process takes one revision from source to visible chunks.
func (s *Service) process(ctx context.Context, a documentArgs) error {
	work, err := s.cfg.Store.BeginWork(ctx, a.DocumentID, a.Revision)
	if err != nil {
		return err
	}
	if err := s.sameModel(work.Collection); err != nil {
		return &ExtractError{Code: "model_changed", Message: err.Error()}
	}
	e, times, err := s.read(ctx, work)
	if err != nil {
		return err
	}
	e.Language = cmp.Or(work.Document.Language, e.Language, store.DetectLanguage(e.Text))
	work.Source = nil // not needed any more, and large
	e.Title = cmp.Or(work.Document.Title, e.Title)
	chunks := Chunk(e, work.Collection.Chunking)
	if len(chunks) == 0 {
		return &ExtractError{Code: "no_text", Message: "no text was found in it"}
	}
	if err := s.summarize(ctx, work, e, chunks); err != nil {
		return err
	}
	if err := s.translate(ctx, work, e, chunks); err != nil {
		return err
	}
	s.batches.dimensions.Store(int64(work.Collection.Space.Dimensions))
	last, err := s.embed(ctx, a, chunks)
	if err != nil {
		return err
	}
	done := store.Completion{DocumentID: a.DocumentID, Revision: a.Revision, Text: e.Text, Language: e.Language, Chunks: last, Total: len(chunks), Times: times}
	if work.Document.Title == "" {
		done.Title = e.Title
	}
	return s.cfg.Store.Complete(ctx, done)
}

// read gets the text of a source, of a recording with its times.
func (s *Service) read(ctx context.Context, work store.Work) (Extracted, *store.Times, error) {
	if isAudio(work.Document.MediaType) {
		return s.listen(ctx, work.Document.ID, work.Source)
	}
	e, err := s.extract.Extract(ctx, work.Document.MediaType, work.Source)
	return e, nil, err
}

// stageChunks is how many embedded chunks are staged at once: a kill costs at most these.
const stageChunks = 100

// embed gives the chunks their vectors. Those of a large document are staged as they come; the last ones are returned.
func (s *Service) embed(ctx context.Context, a documentArgs, chunks []store.Chunk) (last []store.Chunk, err error) {
	if len(chunks) <= stageChunks {
		return chunks, s.batches.embed(ctx, chunks)
	}
	staged, err := s.cfg.Store.StagedOrdinals(ctx, a.DocumentID, a.Revision)
	if err != nil {
		return nil, err
	}
	var left []store.Chunk
	for _, c := range chunks {
		if sum, ok := staged[c.Ordinal]; !ok || sum != store.SumOf(c) {
			left = append(left, c)
		}
	}
	for len(left) > stageChunks {
		if err := s.batches.embed(ctx, left[:stageChunks]); err != nil {
			return nil, err
		}
		if err := s.cfg.Store.StageChunks(ctx, a.DocumentID, a.Revision, left[:stageChunks]); err != nil {
			return nil, err
		}
		left = left[stageChunks:]
	}
	return left, s.batches.embed(ctx, left)
}

// processKey is the second half of a process's advisory lock.
func processKey(id string) int32 {
	sum := sha256.Sum256([]byte(id))
	return int32(binary.BigEndian.Uint32(sum[:]))
}

// announce takes this process's lock, which Postgres releases when the process dies, freezes or loses its network. It must be held before the first job
// runs, or another process takes that job over.
func (s *Service) announce(ctx context.Context) (*pgx.Conn, error) {
	pooled, err := s.cfg.Store.Pool().Acquire(ctx)
	if err != nil {
		return nil, err
	}
	conn := pooled.Hijack() // its lock belongs to this process and not to whoever gets the connection next
	_, err = conn.Exec(ctx, `SELECT set_config('idle_session_timeout', $1, false), set_config('tcp_keepalives_idle', '10', false),
		set_config('tcp_keepalives_interval', '5', false), set_config('tcp_keepalives_count', '4', false)`, strconv.FormatInt(s.lease.Milliseconds(), 10))
	if err == nil {
		_, err = conn.Exec(ctx, "SELECT pg_advisory_lock($1, $2)", lockProcesses, processKey(s.id))
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
	}
	return conn, nil
}

// rescueLoop holds the lock and gives the jobs of processes whose lock is free back to the queue.
func (s *Service) rescueLoop(ctx context.Context, conn *pgx.Conn) {
	for {
		err := s.guard(ctx, conn)
		for err != nil && ctx.Err() == nil {
			s.cfg.Logger.Warn("the watch over the queue was interrupted", "error", err)
			pause(ctx, rescueEvery)
			conn, err = s.announce(ctx)
		}
		if ctx.Err() != nil {
			if conn != nil {
				_ = conn.Close(context.WithoutCancel(ctx)) // the process is done with it
			}
			return
		}
	}
}

// guard works on the connection that holds the lock, until it breaks; it closes it.
func (s *Service) guard(ctx context.Context, conn *pgx.Conn) error {
	defer conn.Close(context.WithoutCancel(ctx))
	var swept time.Time
	for {
		if err := s.rescueDead(ctx, conn); err != nil {
			return err
		}
		if time.Since(swept) > sweepEvery {
			swept = time.Now()
			if err := s.sweep(ctx, conn); err != nil {
				return err
			}
		}
		if pause(ctx, rescueEvery); ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// rescueDead looks at each process that has running jobs: one whose lock can be taken is dead.
func (s *Service) rescueDead(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, `SELECT DISTINCT attempted_by[array_upper(attempted_by, 1)] FROM river_job WHERE state = 'running' AND kind = 'document'`)
	if err != nil {
		return err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, id := range ids {
		if id == s.id {
			continue
		}
		if err := s.rescueOf(ctx, conn, id); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) rescueOf(ctx context.Context, conn *pgx.Conn, id string) error {
	var dead bool
	if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1, $2)", lockProcesses, processKey(id)).Scan(&dead); err != nil || !dead {
		return err
	}
	defer func() {
		_, _ = conn.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1, $2)", lockProcesses, processKey(id))
	}()
	tag, err := conn.Exec(ctx, `UPDATE river_job SET state = 'available', scheduled_at = now(), attempt = greatest(attempt - 1, 0)
		WHERE state = 'running' AND kind = 'document' AND attempted_by[array_upper(attempted_by, 1)] = $1`, id)
	if n := tag.RowsAffected(); n > 0 {
		s.cfg.Logger.Info("took over the work of a process that is gone", "documents", n)
	}
	return err
}

// sweep gives a job to documents that wait without one: nothing should make such a document, and nobody would notice it.
func (s *Service) sweep(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, `
		SELECT d.id::text, d.revision FROM documents d
		WHERE d.status IN ('queued', 'running') AND d.updated_at < now() - interval '30 seconds' AND NOT EXISTS (
			SELECT FROM river_job j WHERE j.kind = 'document' AND j.args->>'document_id' = d.id::text AND (j.args->>'revision')::bigint = d.revision
			AND j.state IN ('available', 'pending', 'retryable', 'running', 'scheduled'))
		LIMIT 1000`)
	if err != nil {
		return err
	}
	lost, err := pgx.CollectRows(rows, pgx.RowToStructByPos[documentArgs])
	if err != nil {
		return err
	}
	for _, a := range lost {
		if _, err := s.queue.Insert(ctx, a, nil); err != nil {
			return err
		}
		s.cfg.Logger.Warn("a document waited without a job and got one", "document", a.DocumentID)
	}
	return nil
}

// maintainLoop lets the store build its indexes when a load pauses.
func (s *Service) maintainLoop(ctx context.Context) {
	for {
		if pause(ctx, maintainEvery); ctx.Err() != nil {
			return
		}
		if err := s.cfg.Store.Maintain(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Logger.Warn("maintenance of the database failed", "error", err)
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

func countJobs(ctx context.Context, pool *pgxpool.Pool) (queued, running int64, err error) {
	err = pool.QueryRow(ctx, `SELECT count(*) FILTER (WHERE state <> 'running'), count(*) FILTER (WHERE state = 'running')
		FROM river_job WHERE kind = 'document' AND state IN ('available', 'pending', 'retryable', 'running', 'scheduled')`).Scan(&queued, &running)
	return queued, running, err
}
