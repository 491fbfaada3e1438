package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	// loneAnswerLife is how long an answer outside any thread is kept, for a client that takes its stream up again.
	loneAnswerLife = 24 * time.Hour
	// maxTitle of a thread in code points; a title is the beginning of its first question.
	maxTitle = 200
)

// Thread is a conversation about one collection.
type Thread struct {
	ID         string
	Collection string
	Title      string
	Answers    int
	CreatedAt  time.Time
	UpdatedAt  time.Time // of its newest answer
}

// AnswerStatus of a stored answer.
type AnswerStatus string

const (
	AnswerRunning   AnswerStatus = "running"
	AnswerCompleted AnswerStatus = "completed"
	AnswerFailed    AnswerStatus = "error"
)

// Answer is a question and what was answered, in a thread or alone.
type Answer struct {
	ID         string
	Collection string
	ThreadID   string // "": none
	PreviousID string // "": the first
	Question   string
	Text       string
	Reason     string
	Status     AnswerStatus
	Events     json.RawMessage // as sent; nil while running
	CreatedAt  time.Time
	EndedAt    *time.Time
}

const selectThreads = `
	SELECT t.id, c.name, t.title, (SELECT count(*) FROM answers a WHERE a.thread_id = t.id), t.created_at, t.updated_at
	FROM threads t JOIN collections c ON c.id = t.collection_id`

func scanThread(row pgx.CollectableRow) (t Thread, err error) {
	err = row.Scan(&t.ID, &t.Collection, &t.Title, &t.Answers, &t.CreatedAt, &t.UpdatedAt)
	return t, err
}

const selectAnswers = `
	SELECT a.id, c.name, coalesce(a.thread_id::text, ''), coalesce(a.previous_id::text, ''), a.question, a.answer, a.reason,
	       a.status, a.events, a.created_at, a.ended_at
	FROM answers a JOIN collections c ON c.id = a.collection_id`

func scanAnswer(row pgx.CollectableRow) (a Answer, err error) {
	err = row.Scan(&a.ID, &a.Collection, &a.ThreadID, &a.PreviousID, &a.Question, &a.Text, &a.Reason, &a.Status, &a.Events, &a.CreatedAt, &a.EndedAt)
	return a, err
}

// CreateThread begins a conversation. ErrNotFound without the collection.
func (s *Store) CreateThread(ctx context.Context, collection, title string) (Thread, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Thread{}, err
	}
	t, err := one(ctx, s.pool, scanThread, `
		WITH c AS (SELECT id, name FROM collections WHERE name = $2),
		     t AS (INSERT INTO threads (id, collection_id, title) SELECT $1, id, $3 FROM c RETURNING *)
		SELECT t.id, c.name, t.title, 0, t.created_at, t.updated_at FROM t, c`, id.String(), collection, threadTitle(title))
	return t, mapped("create a thread in "+collection, err)
}

func threadTitle(title string) string {
	r := []rune(title)
	return string(r[:min(len(r), maxTitle)])
}

// Thread by id; ErrNotFound.
func (s *Store) Thread(ctx context.Context, id string) (Thread, error) {
	if uuid.Validate(id) != nil {
		return Thread{}, fmt.Errorf("thread %q: %w", id, ErrNotFound)
	}
	t, err := one(ctx, s.pool, scanThread, selectThreads+" WHERE t.id = $1", id)
	return t, mapped("thread "+id, err)
}

// ThreadQuery selects threads, newest first. Zero fields select all.
type ThreadQuery struct {
	Collection string
	Limit      int // default 100, at most 1000
	Before     *Thread
}

// Threads returns one page; more tells whether another follows, Before its last.
func (s *Store) Threads(ctx context.Context, q ThreadQuery) (page []Thread, more bool, err error) {
	if q.Limit <= 0 {
		q.Limit = defaultPage
	}
	q.Limit = min(q.Limit, maxPage)
	args := []any{q.Collection, q.Limit + 1}
	where := " WHERE ($1 = '' OR c.name = $1)"
	if q.Before != nil {
		where += " AND (t.updated_at, t.id) < ($3, $4)"
		args = append(args, q.Before.UpdatedAt, q.Before.ID)
	}
	page, err = many(ctx, s.pool, scanThread, selectThreads+where+" ORDER BY t.updated_at DESC, t.id DESC LIMIT $2", args...)
	if len(page) > q.Limit {
		page, more = page[:q.Limit], true
	}
	return page, more, mapped("list threads", err)
}

// DeleteThread removes it with its answers; ErrNotFound.
func (s *Store) DeleteThread(ctx context.Context, id string) error {
	if uuid.Validate(id) != nil {
		return fmt.Errorf("delete thread %q: %w", id, ErrNotFound)
	}
	_, err := one(ctx, s.pool, pgx.RowTo[string], "DELETE FROM threads WHERE id = $1 RETURNING id::text", id)
	return mapped("delete thread "+id, err)
}

// NewAnswer is an answer that begins.
type NewAnswer struct {
	Collection string
	ThreadID   string // "": kept for a day
	PreviousID string
	Question   string
}

// BeginAnswer records a question, before it is answered, and returns the answer's id. ErrNotFound where the collection or
// the thread has gone.
func (s *Store) BeginAnswer(ctx context.Context, a NewAnswer) (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", err
	}
	err = s.write(ctx, func(tx pgx.Tx) error {
		if a.ThreadID == "" {
			// Each one that comes takes away what is too old.
			if _, err := tx.Exec(ctx, "DELETE FROM answers WHERE thread_id IS NULL AND created_at < now() - $1::interval", loneAnswerLife); err != nil {
				return err
			}
		} else if err := tx.QueryRow(ctx, "UPDATE threads SET updated_at = now() WHERE id = $1 RETURNING id::text", a.ThreadID).Scan(new(string)); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `
			INSERT INTO answers (id, collection_id, thread_id, previous_id, question)
			SELECT $1, id, nullif($3, '')::uuid, nullif($4, '')::uuid, $5 FROM collections WHERE name = $2 RETURNING id::text`,
			id.String(), a.Collection, a.ThreadID, a.PreviousID, a.Question).Scan(new(string))
	})
	return id.String(), mapped("record a question", err)
}

// EndedAnswer is what became of an answer.
type EndedAnswer struct {
	ID     string
	Text   string
	Reason string
	Status AnswerStatus
	Events json.RawMessage
}

// EndAnswer records it. ErrNotFound where it was deleted meanwhile.
func (s *Store) EndAnswer(ctx context.Context, a EndedAnswer) error {
	_, err := one(ctx, s.pool, pgx.RowTo[string], `
		UPDATE answers SET answer = $2, reason = $3, status = $4, events = $5, ended_at = now() WHERE id = $1 RETURNING id::text`,
		a.ID, strings.ReplaceAll(strings.ToValidUTF8(a.Text, "\uFFFD"), "\x00", ""), a.Reason, a.Status, a.Events)
	return mapped("record answer "+a.ID, err)
}

// Answer by id; ErrNotFound.
func (s *Store) Answer(ctx context.Context, id string) (Answer, error) {
	if uuid.Validate(id) != nil {
		return Answer{}, fmt.Errorf("answer %q: %w", id, ErrNotFound)
	}
	a, err := one(ctx, s.pool, scanAnswer, selectAnswers+" WHERE a.id = $1", id)
	return a, mapped("answer "+id, err)
}

// DeleteAnswer removes one; those that went on from it lose what was before. ErrNotFound.
func (s *Store) DeleteAnswer(ctx context.Context, id string) error {
	if uuid.Validate(id) != nil {
		return fmt.Errorf("delete answer %q: %w", id, ErrNotFound)
	}
	_, err := one(ctx, s.pool, pgx.RowTo[string], "DELETE FROM answers WHERE id = $1 RETURNING id::text", id)
	return mapped("delete answer "+id, err)
}

// ThreadAnswers returns one page of a thread's answers in the order in which they were asked, after the one of that id
// ("": from the first); more tells whether another page follows.
func (s *Store) ThreadAnswers(ctx context.Context, threadID, after string, limit int) (page []Answer, more bool, err error) {
	if after == "" {
		after = uuid.Nil.String()
	}
	if uuid.Validate(threadID) != nil || uuid.Validate(after) != nil {
		return nil, false, fmt.Errorf("answers of thread %q after %q: %w", threadID, after, ErrNotFound)
	}
	if limit <= 0 {
		limit = defaultPage
	}
	limit = min(limit, maxPage)
	page, err = many(ctx, s.pool, scanAnswer, selectAnswers+" WHERE a.thread_id = $1 AND a.id > $2 ORDER BY a.id LIMIT $3", threadID, after, limit+1)
	if len(page) > limit {
		page, more = page[:limit], true
	}
	return page, more, mapped("answers of thread "+threadID, err)
}

// LastAnswer of a thread that was completed; "" if there is none.
func (s *Store) LastAnswer(ctx context.Context, threadID string) (string, error) {
	all, err := many(ctx, s.pool, pgx.RowTo[string], "SELECT id::text FROM answers WHERE thread_id = $1 AND status = 'completed' ORDER BY id DESC LIMIT 1", threadID)
	if err != nil || len(all) == 0 {
		return "", mapped("last answer of thread "+threadID, err)
	}
	return all[0], nil
}

// Conversation is the completed answer of that id and those before it, oldest first, at most limit. Events are left out.
func (s *Store) Conversation(ctx context.Context, answerID string, limit int) ([]Answer, error) {
	if uuid.Validate(answerID) != nil {
		return nil, fmt.Errorf("answer %q: %w", answerID, ErrNotFound)
	}
	all, err := many(ctx, s.pool, scanAnswer, `
		WITH RECURSIVE chain AS (
			SELECT a.*, 1 AS depth FROM answers a WHERE a.id = $1
			UNION ALL
			SELECT a.*, depth + 1 FROM answers a JOIN chain ON a.id = chain.previous_id WHERE depth < $2)
		SELECT a.id, c.name, coalesce(a.thread_id::text, ''), coalesce(a.previous_id::text, ''), a.question, a.answer, a.reason,
		       a.status, NULL::json, a.created_at, a.ended_at
		FROM chain a JOIN collections c ON c.id = a.collection_id WHERE a.status = 'completed' ORDER BY a.depth DESC`, answerID, limit)
	return all, mapped("conversation of answer "+answerID, err)
}
