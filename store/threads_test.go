package store_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/store"
)

// asked records a question and, unless text is "", its answer.
func asked(t *testing.T, s *store.Store, a store.NewAnswer, text string) string {
	t.Helper()
	a.Collection = "default"
	id, err := s.BeginAnswer(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	if text != "" {
		end(t, s, store.EndedAnswer{ID: id, Text: text, Status: store.AnswerCompleted, Events: json.RawMessage(`[]`)})
	}
	return id
}

func end(t *testing.T, s *store.Store, a store.EndedAnswer) {
	t.Helper()
	if err := s.EndAnswer(t.Context(), a); err != nil {
		t.Fatal(err)
	}
}

func TestThreadKeepsAConversation(t *testing.T) {
	t.Parallel()
	s, _ := setup(t)
	thread, err := s.CreateThread(t.Context(), "default", strings.Repeat("ä", 500))
	if err != nil || len([]rune(thread.Title)) != 200 {
		t.Fatalf("CreateThread = %+v, %v", thread, err)
	}
	first := asked(t, s, store.NewAnswer{ThreadID: thread.ID, Question: "one?"}, "One.")
	second := asked(t, s, store.NewAnswer{ThreadID: thread.ID, PreviousID: first, Question: "two?"}, "Two.")
	fork := asked(t, s, store.NewAnswer{ThreadID: thread.ID, PreviousID: first, Question: "other?"}, "Other.")
	running := asked(t, s, store.NewAnswer{ThreadID: thread.ID, PreviousID: fork, Question: "four?"}, "")

	for id, want := range map[string]string{second: "one? One. two? Two.", fork: "one? One. other? Other.", running: "one? One. other? Other."} {
		chain, err := s.Conversation(t.Context(), id, 10)
		var got []string
		for _, a := range chain {
			got = append(got, a.Question, a.Text)
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("Conversation = %q, %v, want %q", got, err, want)
		}
	}
	if chain, err := s.Conversation(t.Context(), second, 1); err != nil || len(chain) != 1 || chain[0].ID != second {
		t.Errorf("Conversation of one = %+v, %v", chain, err)
	}
	if last, err := s.LastAnswer(t.Context(), thread.ID); err != nil || last != fork {
		t.Errorf("LastAnswer = %q, %v, want %q", last, err, fork)
	}
	page, more, err := s.ThreadAnswers(t.Context(), thread.ID, "", 3)
	if err != nil || !more || len(page) != 3 || page[0].ID != first || page[2].PreviousID != first {
		t.Errorf("first page = %+v, %v, %v", page, more, err)
	}
	page, more, err = s.ThreadAnswers(t.Context(), thread.ID, page[2].ID, 3)
	if err != nil || more || len(page) != 1 || page[0].Status != store.AnswerRunning || page[0].Events != nil {
		t.Errorf("second page = %+v, %v, %v", page, more, err)
	}
}

func TestAnswerKeepsItsEventsToTheByte(t *testing.T) {
	t.Parallel()
	s, _ := setup(t)
	events := json.RawMessage(`[{"event":"delta", "data":{"z":1,"a":"\u0000 😀","a":2.50}}]`)
	id := asked(t, s, store.NewAnswer{Question: "x"}, "")
	end(t, s, store.EndedAnswer{ID: id, Text: "a\x00b\xff", Reason: "no_evidence", Status: store.AnswerFailed, Events: events})
	a, err := s.Answer(t.Context(), id)
	if err != nil || string(a.Events) != string(events) || a.Text != "ab\uFFFD" || a.EndedAt == nil || a.ThreadID != "" {
		t.Errorf("Answer = %+v, %v", a, err)
	}
}

func TestThreadsByPage(t *testing.T) {
	t.Parallel()
	s, _ := setup(t)
	var ids []string
	for i := range 5 {
		thread, err := s.CreateThread(t.Context(), "default", fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, thread.ID)
	}
	asked(t, s, store.NewAnswer{ThreadID: ids[0], Question: "x"}, "y") // the newest now
	var got []string
	q := store.ThreadQuery{Collection: "default", Limit: 2}
	for more := true; more; {
		page, next, err := s.Threads(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, thread := range page {
			got = append(got, thread.Title)
		}
		q.Before, more = &page[len(page)-1], next
	}
	if want := "0 4 3 2 1"; strings.Join(got, " ") != want {
		t.Errorf("threads = %v, want %s", got, want)
	}
}

func TestConversationsAreDeleted(t *testing.T) {
	t.Parallel()
	s, _ := setup(t)
	gone, _ := s.CreateThread(t.Context(), "default", "a")
	kept, _ := s.CreateThread(t.Context(), "default", "b")
	of := asked(t, s, store.NewAnswer{ThreadID: gone.ID, Question: "x"}, "y")
	alone := asked(t, s, store.NewAnswer{Question: "x"}, "y")
	if err := s.DeleteThread(t.Context(), gone.ID); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteThread(t.Context(), gone.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	if _, err := s.Answer(t.Context(), of); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("answer of a deleted thread: %v", err)
	}
	if err := s.EndAnswer(t.Context(), store.EndedAnswer{ID: of, Status: store.AnswerCompleted}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("answer ended after its thread: %v", err)
	}
	if err := s.DeleteCollection(t.Context(), "default"); err != nil {
		t.Fatal(err)
	}
	_, errThread := s.Thread(t.Context(), kept.ID)
	_, errAnswer := s.Answer(t.Context(), alone)
	if !errors.Is(errThread, store.ErrNotFound) || !errors.Is(errAnswer, store.ErrNotFound) {
		t.Errorf("after the collection: thread %v, answer %v", errThread, errAnswer)
	}
}

func TestConversationsOfNothing(t *testing.T) {
	t.Parallel()
	s, _ := setup(t)
	for _, id := range []string{"", "x", "00000000-0000-7000-8000-000000000000"} {
		_, errThread := s.Thread(t.Context(), id)
		_, errAnswer := s.Answer(t.Context(), id)
		if !errors.Is(errThread, store.ErrNotFound) || !errors.Is(errAnswer, store.ErrNotFound) {
			t.Errorf("%q: thread %v, answer %v", id, errThread, errAnswer)
		}
	}
	if _, err := s.CreateThread(t.Context(), "absent", "x"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("thread in no collection: %v", err)
	}
	if _, err := s.BeginAnswer(t.Context(), store.NewAnswer{Collection: "default", ThreadID: "00000000-0000-7000-8000-000000000000", Question: "x"}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("answer in no thread: %v", err)
	}
}
