package ingest_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/footnote-rag/footnote/ingest"
	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/store/storetest"
	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

// attempts lists how often each live or failed job has been tried without success.
func (w world) attempts(t *testing.T) (most int) {
	t.Helper()
	err := w.store.Pool().QueryRow(t.Context(), "SELECT coalesce(max(attempt), 0) FROM river_job WHERE kind = 'document'").Scan(&most)
	if err != nil {
		t.Fatal(err)
	}
	return most
}

// TestWaitsForTheProvider: whatever the provider recovers from costs no document and no attempt.
func TestWaitsForTheProvider(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.start(t)
	wait(t, s, put(t, s, text("first", "It asks for the dimensions."), store.Created).ID, store.StatusCompleted)
	for name, fault := range map[string]workersaitest.Step{
		"capacity":            workersaitest.Capacity(""),
		"a proxy's page":      workersaitest.HTML(502, "<html><h1>Bad gateway</h1></html>"),
		"no answer in time":   workersaitest.HTML(504, "<html></html>"),
		"unavailable":         workersaitest.HTML(503, ""),
		"server error":        workersaitest.Edge(500, 1000, "internal"),
		"reset":               workersaitest.Reset(),
		"cut in the body":     workersaitest.CutAt(100),
		"cut before the body": workersaitest.CutAt(0),
		"ends early":          workersaitest.ShortAt(100),
		"wrong token":         workersaitest.BadToken(),
		"token refused":       workersaitest.Edge(401, 10000, "Authentication error"),
		"forbidden":           workersaitest.Edge(403, 9109, "Unauthorized to access requested resource"),
		"model not found":     workersaitest.NoRoute(),
		"quota":               workersaitest.Quota(),
	} {
		t.Run(name, func(t *testing.T) {
			fault.Times = 4
			if name == "ends early" {
				fault.Times = 2 // a bad reply is asked for again at most twice
			}
			w.models.Script(fault)
			d := text(name, "The sea is blue in "+name)
			w.checkWhole(t, d, wait(t, s, put(t, s, d, store.Created).ID, store.StatusCompleted))
			if w.models.Scripted() != 0 {
				t.Errorf("%d faults are left, want all met", w.models.Scripted())
			}
			if most := w.attempts(t); most > 1 {
				t.Errorf("a job was tried %d times, want once", most)
			}
		})
	}
}

// TestRetryAfter: no call of any sender before the time that the provider named.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.service(t, func(c *ingest.Config) { c.BatchTexts = 2 })
	var ids []string
	for i := range 10 {
		ids = append(ids, put(t, s, text(fmt.Sprint(i), fmt.Sprintf("Fact number %d.", i)), store.Created).ID)
	}
	before := w.models.Calls("")
	w.models.Script(workersaitest.Capacity("1"), workersaitest.Capacity("1")) // both senders may be under way
	begin(t, s)
	w.models.WaitCalls(t, before+2)
	for _, id := range ids {
		wait(t, s, id, store.StatusCompleted)
	}
	calls := w.models.CallTimes("")[before:]
	if early := calls[1].Sub(calls[0]); early > 500*time.Millisecond && early < time.Second {
		t.Errorf("the second call came %v after the refusal, want 1 s", early)
	}
	if gap := calls[2].Sub(calls[0]); gap < time.Second {
		t.Errorf("a call came %v after the refusal, want 1 s or more", gap)
	}
	storetest.Invariants(t, w.store)
}

// TestParkedQueueSaysWhy: while a person must act, Stats tell, and nothing is lost.
func TestParkedQueueSaysWhy(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fault workersaitest.Step
		says  string
	}{
		"wrong token":     {workersaitest.Edge(401, 10000, "Authentication error"), "Authentication error"},
		"quota":           {workersaitest.Quota(), "daily"},
		"model not found": {workersaitest.NoRoute(), "No route"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			s := w.service(t)
			s.ShortenPauses(time.Hour)
			d := put(t, s, text("a", "text"), store.Created)
			before := w.models.Calls("")
			w.models.Script(tt.fault)
			begin(t, s)
			var st ingest.Stats
			eventually(t, "the queue parks", func() bool {
				var err error
				st, err = s.Stats(t.Context())
				return err == nil && st.PausedUntil != ""
			})
			if !strings.Contains(st.PauseReason, tt.says) || st.Running != 1 {
				t.Errorf("Stats = %+v, want a reason with %q and one job running", st, tt.says)
			}
			if err := s.Stop(expired(t)); err != nil {
				t.Errorf("Stop: %v", err)
			}
			if n := w.models.Calls("") - before; n != 1 {
				t.Errorf("%d calls while parked, want 1", n)
			}
			if most := w.attempts(t); most != 0 {
				t.Errorf("a parked job lost %d attempts", most)
			}
			again := w.start(t) // as after the token was mended
			wait(t, again, d.ID, store.StatusCompleted)
			storetest.Invariants(t, w.store)
		})
	}
}

// TestTooLargeBatchIsHalved: 413 for more than 7 texts.
func TestTooLargeBatchIsHalved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.service(t, func(c *ingest.Config) { c.Concurrency = 1 })
	d := text("a", long("soil", 20))
	id := put(t, s, d, store.Created).ID
	before := w.models.Calls("")
	w.models.Script(workersaitest.Context(), workersaitest.Context(), workersaitest.Step{}, workersaitest.Context())
	begin(t, s)
	done := wait(t, s, id, store.StatusCompleted)
	w.checkWhole(t, d, done)
	if n := w.models.Calls("") - before; n > 10 {
		t.Errorf("%d calls, want few", n)
	}
}

// TestPoisonText: the document of a text that the model refuses ends in error, those beside it complete.
func TestPoisonText(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		code int
		want string
	}{
		"refused":  {workersai.CodeInvalidInput, "rejected_by_model"},
		"too long": {workersai.CodeContextExceeded, "context_exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, workersaitest.Poison(func(text string) int {
				if strings.Contains(text, "number 37 ") {
					return tt.code
				}
				return 0
			}))
			s := w.service(t, func(c *ingest.Config) { c.Concurrency, c.Workers = 1, 100 })
			release := make(chan struct{})
			var ids []string
			for i := range 100 {
				ids = append(ids, put(t, s, text(fmt.Sprint(i), fmt.Sprintf("Fact number %d is true.", i)), store.Created).ID)
			}
			before := w.models.Calls("")
			w.models.Script(workersaitest.Hold(release))
			begin(t, s)
			eventually(t, "all documents run", func() bool { st, err := s.Stats(t.Context()); return err == nil && st.Running == 100 })
			close(release)
			for i, id := range ids {
				if i != 37 {
					wait(t, s, id, store.StatusCompleted)
				} else if got := wait(t, s, id, store.StatusError); got.ErrorCode != tt.want || got.ErrorText == "" {
					t.Errorf("the poisoned document: %s %q, want %s", got.ErrorCode, got.ErrorText, tt.want)
				}
			}
			if n := w.models.Calls("") - before; n > 2*7+1+2 {
				t.Errorf("%d calls, want at most 2·log2(100)+1 and the one or two before", n)
			}
			storetest.Invariants(t, w.store)
		})
	}
}

// TestUnusableVectors: retried a few times, never stored.
func TestUnusableVectors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.start(t)
	wait(t, s, put(t, s, text("first", "It asks for the dimensions."), store.Created).ID, store.StatusCompleted)
	for name, fault := range map[string]workersaitest.Step{
		"missing row": workersaitest.MissingRow(0),
		"extra row":   workersaitest.ExtraRow(),
		"short row":   workersaitest.ShortRow(0),
		"NaN":         workersaitest.Element(0, 3, "NaN"),
		"null":        workersaitest.Element(0, 3, "null"),
		"string":      workersaitest.Element(0, 3, `"0.1"`),
		"infinite":    workersaitest.Element(0, 3, "1e39"),
		"zeros":       workersaitest.ZeroRow(0),
		"no JSON":     workersaitest.JSON(200, "{"),
		"no result":   workersaitest.JSON(200, `{"result":null,"success":true,"errors":[],"messages":[]}`),
	} {
		t.Run(name, func(t *testing.T) {
			before := w.models.Calls("")
			fault.Times = ingest.MaxBadReplies
			w.models.Script(fault)
			d := text(name, "The sea is blue in "+name)
			id := put(t, s, d, store.Created).ID
			got := wait(t, s, id, store.StatusError)
			if got.ErrorCode != "bad_upstream_reply" || got.Chunks != 0 {
				t.Errorf("the document: %s %q, %d chunks, want bad_upstream_reply and none", got.ErrorCode, got.ErrorText, got.Chunks)
			}
			if n := w.models.Calls("") - before; n != ingest.MaxBadReplies {
				t.Errorf("%d calls, want %d", n, ingest.MaxBadReplies)
			}
			put(t, s, d, store.Changed) // a document in error is tried again
			w.checkWhole(t, d, wait(t, s, id, store.StatusCompleted))
			storetest.Invariants(t, w.store)
		})
	}
}

// TestErrorTextIsStorable: what a server says becomes the document's error even if Postgres cannot store it as it is.
func TestErrorTextIsStorable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.service(t)
	id := put(t, s, text("a", "text"), store.Created).ID
	w.models.Script(workersaitest.Fail(workersai.CodeInvalidInput, "no \x00 and no \xff"))
	begin(t, s)
	if got := wait(t, s, id, store.StatusError); got.ErrorCode != "rejected_by_model" || !strings.Contains(got.ErrorText, "and no") {
		t.Errorf("the document: %s %q", got.ErrorCode, got.ErrorText)
	}
}

// TestOneProbe: after a pause one call tries the provider, not one of each sender.
func TestOneProbe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const senders, pause = 4, 300 * time.Millisecond
	s := w.service(t, func(c *ingest.Config) { c.Concurrency, c.BatchTexts = senders, 1 })
	s.ShortenPauses(pause)
	var ids []string
	for i := range 8 {
		ids = append(ids, put(t, s, text(fmt.Sprint(i), fmt.Sprintf("Fact number %d.", i)), store.Created).ID)
	}
	before := w.models.Calls("")
	quota := workersaitest.Quota()
	quota.Times = senders + 3
	w.models.Script(quota)
	begin(t, s)
	for _, id := range ids {
		wait(t, s, id, store.StatusCompleted)
	}
	refused := w.models.CallTimes("")[before:][senders:quota.Times]
	for i := 1; i < len(refused); i++ {
		if gap := refused[i].Sub(refused[i-1]); gap < pause {
			t.Errorf("probe %d came %v after the one before, want %v", i, gap, pause)
		}
	}
}

// TestRetryAfterHoldsOtherServices: what one process is told, the others obey.
func TestRetryAfterHoldsOtherServices(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.service(t), w.service(t)
	first := put(t, a, text("a", "The sea is blue."), store.Created)
	before := w.models.Calls("")
	w.models.Script(workersaitest.Capacity("2"))
	begin(t, a)
	eventually(t, "the first service waits", func() bool { return stats(t, a).PausedUntil != "" })
	second := put(t, b, text("b", "The sea is green."), store.Created)
	begin(t, b)
	wait(t, a, first.ID, store.StatusCompleted)
	wait(t, a, second.ID, store.StatusCompleted)
	calls := w.models.CallTimes("")[before:]
	for i, at := range calls[1:] {
		if gap := at.Sub(calls[0]); gap < 2*time.Second {
			t.Errorf("call %d came %v after the refusal, want 2 s or more", i+1, gap)
		}
	}
}
