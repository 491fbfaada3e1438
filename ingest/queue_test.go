package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/footnote-rag/footnote/ingest"
	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/store/storetest"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

// held puts a document whose embedding the model server holds until release is closed.
func (w world) held(t *testing.T, s *ingest.Service, d ingest.Document) (id string, release chan struct{}) {
	t.Helper()
	if _, _, err := s.EnsureCollection(t.Context(), d.Collection, store.Chunking{}); err != nil {
		t.Fatal(err)
	}
	release = make(chan struct{})
	calls := w.models.Calls("")
	w.models.Script(workersaitest.Hold(release))
	id = put(t, s, d, store.Created).ID
	w.models.WaitCalls(t, calls+1)
	return id, release
}

// idle waits until no job is left.
func idle(t *testing.T, s *ingest.Service) {
	t.Helper()
	eventually(t, "the queue is empty", func() bool {
		st, err := s.Stats(t.Context())
		return err == nil && st.Queued+st.Running == 0
	})
}

func TestReplacedWhileEmbedding(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.start(t)
	id, release := w.held(t, s, text("a", "The sea is blue."))
	next := text("a", "The sea is green.")
	put(t, s, next, store.Changed)
	done := wait(t, s, id, store.StatusCompleted) // by the other sender, while the first is held
	close(release)
	idle(t, s)
	w.checkWhole(t, next, done)
	if d := wait(t, s, id, store.StatusCompleted); d.Generation != 2 || d.Revision != 2 {
		t.Errorf("generation %d, revision %d, want 2, 2", d.Generation, d.Revision)
	}
	storetest.Invariants(t, w.store)
}

func TestDeletedWhileEmbedding(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]func(context.Context, *store.Store, string) error{
		"document":   func(ctx context.Context, s *store.Store, id string) error { return s.DeleteDocument(ctx, id) },
		"collection": func(ctx context.Context, s *store.Store, _ string) error { return s.DeleteCollection(ctx, "default") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			s := w.start(t)
			id, release := w.held(t, s, text("a", "The sea is blue."))
			if err := remove(t.Context(), w.store, id); err != nil {
				t.Fatal(err)
			}
			close(release)
			idle(t, s)
			if _, err := s.Wait(t.Context(), id); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("Wait: %v, want not found", err)
			}
			if most := w.attempts(t); most > 1 {
				t.Errorf("the job was tried %d times, want once", most)
			}
			storetest.Invariants(t, w.store)
			d := text("a", "The sea is back.") // nothing of the old one is in the way
			w.checkWhole(t, d, wait(t, s, put(t, s, d, store.Created).ID, store.StatusCompleted))
			storetest.Invariants(t, w.store)
		})
	}
}

func TestTwoServicesShareWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	few := func(c *ingest.Config) { c.Workers = 2 }
	a, b := w.service(t, few), w.service(t, few)
	var ids []string
	var docs []ingest.Document
	for i := range 40 {
		d := text(fmt.Sprint(i), fmt.Sprintf("Fact number %d.", i))
		docs, ids = append(docs, d), append(ids, put(t, []*ingest.Service{a, b}[i%2], d, store.Created).ID)
	}
	asked := len(w.models.Texts())
	begin(t, a)
	begin(t, b)
	for i, id := range ids {
		w.checkWhole(t, docs[i], wait(t, a, id, store.StatusCompleted))
	}
	if n := len(w.models.Texts()) - asked; n != 40 {
		t.Errorf("%d texts were embedded, want each of 40 once", n)
	}
	idle(t, a)
	doneA, doneB := stats(t, a).DocumentsDone, stats(t, b).DocumentsDone
	if doneA+doneB != 40 || doneA == 0 || doneB == 0 {
		t.Errorf("the services did %d and %d documents, want 40 together and some each", doneA, doneB)
	}
	storetest.Invariants(t, w.store)
}

func stats(t *testing.T, s *ingest.Service) ingest.Stats {
	t.Helper()
	st, err := s.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// TestOtherModelsWork: a service never mixes the vectors of its model into a collection of another one.
func TestOtherModelsWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old := w.service(t)
	id := put(t, old, text("a", "text"), store.Created).ID
	other := w.start(t, func(c *ingest.Config) { c.EmbedModel = "@cf/baai/bge-base-zh-v1.5" }) // of as many dimensions
	if got := wait(t, other, id, store.StatusError); got.ErrorCode != "model_changed" || got.Chunks != 0 {
		t.Errorf("the document: %s %q, want model_changed", got.ErrorCode, got.ErrorText)
	}
	if _, _, err := other.Put(t.Context(), text("b", "text")); !errors.Is(err, store.ErrSpaceMismatch) {
		t.Errorf("Put: %v, want a mismatch of spaces", err)
	}
	storetest.Invariants(t, w.store)
}

// TestStopGivesJobsBack: time is up while the provider hangs; the job keeps its attempts and another service goes on.
func TestStopGivesJobsBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.start(t)
	id, release := w.held(t, s, text("a", "The sea is blue."))
	defer close(release)
	if err := s.Stop(expired(t)); err != nil {
		t.Errorf("Stop: %v", err)
	}
	w.models.WaitAborts(t, 1)
	if st := stats(t, s); st.Queued != 1 || st.Running != 0 || w.attempts(t) != 0 {
		t.Errorf("after Stop: %d queued, %d running, %d attempts lost, want 1, 0, 0", st.Queued, st.Running, w.attempts(t))
	}
	storetest.Invariants(t, w.store)
	next := w.start(t)
	w.checkWhole(t, text("a", "The sea is blue."), wait(t, next, id, store.StatusCompleted))
}

// TestStopFinishesJobs: with time left, jobs in flight end.
func TestStopFinishesJobs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.start(t)
	id, release := w.held(t, s, text("a", "The sea is blue."))
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(ctx) }()
	close(release)
	if err := <-stopped; err != nil {
		t.Errorf("Stop: %v", err)
	}
	wait(t, s, id, store.StatusCompleted)
	storetest.Invariants(t, w.store)
}

// TestRacingPutsAndDeletes: whatever comes back as acknowledged, the last one is what is visible.
func TestRacingPutsAndDeletes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.start(t)
	const uris, writers, turns = 10, 10, 6 // ten writers a uri, each with a uri of its own too
	var wg sync.WaitGroup
	for u := range uris {
		for g := range writers {
			wg.Go(func() {
				for n := range turns {
					if err := raceOnce(t.Context(), s, w.store, u, g, n); err != nil {
						t.Errorf("uri %d, writer %d, turn %d: %v", u, g, n, err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	storetest.Invariants(t, w.store)
	for u := range uris {
		shared := text(fmt.Sprintf("shared-%d", u), fmt.Sprintf("The last word on %d.", u))
		d, _, err := s.Put(t.Context(), shared)
		if err != nil {
			t.Fatal(err)
		}
		w.checkWhole(t, shared, wait(t, s, d.ID, store.StatusCompleted))
		for g := range writers {
			w.checkOwn(t, s, u, g, turns)
		}
	}
	idle(t, s)
	storetest.Invariants(t, w.store)
}

// raceOnce fights over a shared document and writes a serial history of one of its own.
func raceOnce(ctx context.Context, s *ingest.Service, st *store.Store, u, g, n int) error {
	shared, _, err := s.Put(ctx, text(fmt.Sprintf("shared-%d", u), fmt.Sprintf("Word %d of %d on %d.", n, g, u)))
	if err != nil {
		return fmt.Errorf("put shared: %w", err)
	}
	if (g+n)%4 == 0 {
		if err := st.DeleteDocument(ctx, shared.ID); err != nil && !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("delete shared: %w", err)
		}
	}
	own, _, err := s.Put(ctx, ownText(u, g, n))
	if err != nil {
		return fmt.Errorf("put own: %w", err)
	}
	if n == g%3 {
		if err := st.DeleteDocument(ctx, own.ID); err != nil {
			return fmt.Errorf("delete own: %w", err)
		}
	}
	return nil
}

func ownText(u, g, n int) ingest.Document {
	return text(fmt.Sprintf("own-%d-%d", u, g), fmt.Sprintf("Turn %d of %d at %d.", n, g, u))
}

// checkOwn wants the last acknowledged content.
func (w world) checkOwn(t *testing.T, s *ingest.Service, u, g, turns int) {
	t.Helper()
	want := ownText(u, g, turns-1)
	c, err := w.store.Collection(t.Context(), "default")
	if err != nil {
		t.Fatal(err)
	}
	d, err := w.store.DocumentByURI(t.Context(), c.ID, want.URI)
	if err != nil {
		t.Fatal(err)
	}
	d = wait(t, s, d.ID, store.StatusCompleted)
	got, err := w.store.DocumentText(t.Context(), d.ID)
	if err != nil || got != string(want.Source) {
		t.Errorf("%s holds %q (%v), want %q", want.URI, got, err, want.Source)
	}
}

// TestLockIsHeldBeforeTheFirstJob: else another process takes a running job for that of a dead one.
func TestLockIsHeldBeforeTheFirstJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.service(t)
	class, object := s.ProcessLock()
	free := func() (free bool) {
		t.Helper()
		err := w.store.Pool().QueryRow(t.Context(), `SELECT NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND classid::int8::int4 = $1 AND objid::int8 = $2)`,
			class, int64(uint32(object))).Scan(&free)
		if err != nil {
			t.Fatal(err)
		}
		return free
	}
	if !free() {
		t.Error("the lock is held before Start")
	}
	begin(t, s)
	if free() {
		t.Error("the lock is free after Start")
	}
	stop(t, s)
	eventually(t, "Postgres has seen the connection close", free)
}

// TestLostConnections: Postgres drops every connection of the service; it goes on, and holds its lock again.
func TestLostConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.start(t)
	id, release := w.held(t, s, text("a", "The sea is blue."))
	_, err := w.store.Pool().Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	if err != nil {
		t.Fatal(err)
	}
	close(release)
	eventually(t, "the held document completes", func() bool {
		d, err := s.Wait(t.Context(), id)
		return err == nil && d.Status == store.StatusCompleted
	})
	w.checkWhole(t, text("a", "The sea is blue."), wait(t, s, id, store.StatusCompleted))
	d := text("b", "The sea is green.")
	w.checkWhole(t, d, wait(t, s, put(t, s, d, store.Created).ID, store.StatusCompleted))
	idle(t, s)
	storetest.Invariants(t, w.store)
}

// TestDocumentWithoutAJob: nothing should make one; yet it gets a job, and ends.
func TestDocumentWithoutAJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.service(t)
	id := put(t, s, text("a", "The sea is blue."), store.Created).ID
	for _, sql := range []string{"DELETE FROM river_job", "UPDATE documents SET updated_at = now() - interval '1 hour'"} {
		if _, err := w.store.Pool().Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	begin(t, s)
	w.checkWhole(t, text("a", "The sea is blue."), wait(t, s, id, store.StatusCompleted))
	idle(t, s)
	storetest.Invariants(t, w.store)
}
