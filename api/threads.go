package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/footnote-rag/footnote/retrieval"
	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/workersai"
)

const (
	// newThread as a request's thread begins one.
	newThread = "new"
	// defaultThreadPage and maxThreadPage count the answers of one reply, each with its sources.
	defaultThreadPage, maxThreadPage = 50, 200
)

// conversationInput is the part of a search or an answer's request that holds or names the conversation before it.
type conversationInput struct {
	Messages   []turn `json:"messages"`
	Thread     string `json:"thread"`      // "new" or an id: the conversation to go on with
	PreviousID string `json:"previous_id"` // the answer to go on from
}

// keeping says how an answer is kept: in a thread, for a day, or not at all.
type keeping struct {
	kept             bool
	thread, previous string
	messages         []workersai.Message // the conversation before
}

// startView tells the ids of a kept answer.
type startView struct {
	ID         string  `json:"id"`
	Thread     *string `json:"thread"`
	PreviousID *string `json:"previous_id"`
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// keep finds the conversation that a question belongs to, and gives the question its collection.
func (s *Server) keep(c echo.Context, in conversationInput, collection *string) (keeping, error) {
	k := keeping{kept: in.Thread != "" || in.PreviousID != "", thread: in.Thread, previous: in.PreviousID}
	if in.Thread == "" && in.PreviousID == "" {
		return k, nil
	}
	if len(in.Messages) > 0 {
		return k, invalid("send the conversation as messages, or name its thread or previous_id, not both")
	}
	if in.Thread != "" && in.Thread != newThread {
		if err := s.keepInThread(c, collection, &k); err != nil {
			return k, err
		}
	}
	if k.previous == "" {
		return k, nil
	}
	return k, s.keepAfter(c, collection, &k)
}

// keepInThread goes on after the thread's last answer, unless another is named.
func (s *Server) keepInThread(c echo.Context, collection *string, k *keeping) error {
	t, err := s.cfg.Store.Thread(c.Request().Context(), k.thread)
	if err != nil {
		return missing(err, errNoThread)
	}
	if err := within(c, collection, t.Collection); err != nil {
		return err
	}
	if k.previous == "" {
		k.previous, err = s.cfg.Store.LastAnswer(c.Request().Context(), t.ID)
	}
	return err
}

// keepAfter reads the conversation that ends with an answer.
func (s *Server) keepAfter(c echo.Context, collection *string, k *keeping) error {
	a, err := s.cfg.Store.Answer(c.Request().Context(), k.previous)
	if err != nil {
		return missing(err, errNoAnswer)
	}
	if k.thread == "" {
		k.thread = a.ThreadID
	}
	if k.thread != newThread && k.thread != a.ThreadID {
		return invalid("previous_id is an answer of another thread")
	}
	if a.Status != store.AnswerCompleted {
		return invalid("previous_id is an answer that has not been completed")
	}
	if err := within(c, collection, a.Collection); err != nil {
		return err
	}
	chain, err := s.cfg.Store.Conversation(c.Request().Context(), k.previous, maxTurns/2)
	for _, a := range chain {
		k.messages = append(k.messages, workersai.Message{Role: "user", Content: a.Question}, workersai.Message{Role: "assistant", Content: a.Text})
	}
	return err
}

// within: a conversation stays in its collection, which the request need not name.
func within(c echo.Context, named *string, collection string) error {
	if other := firstOf(*named, c.QueryParam("collection")); other != "" && other != collection {
		return invalid("the conversation is about the collection %q, not %q: begin a new thread", collection, other)
	}
	*named = collection
	return nil
}

// answerKept replies with an answer that goes on, for a while, when the client leaves.
func (s *Server) answerKept(c echo.Context, q retrieval.Question, k keeping, streamed bool) error {
	a, err := s.startLive(c.Request().Context(), q, k, requestID(c))
	if err != nil {
		return err
	}
	defer a.detach()
	if streamed {
		return s.follow(c, a, 0)
	}
	records, err := a.wait(c.Request().Context())
	if err != nil {
		return err
	}
	whole, err := resultOf(records)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, whole)
}

// resultOf puts the events of an answer together into the object that POST /v1/answer replies with.
func resultOf(records []record) (map[string]json.RawMessage, error) {
	whole := map[string]json.RawMessage{}
	steps, citations := []json.RawMessage{}, []json.RawMessage{}
	for _, r := range records {
		switch r.Event {
		case "step":
			steps = append(steps, r.Data)
		case "citation":
			citations = append(citations, r.Data)
		case "start", "sources", "done":
			if err := json.Unmarshal(r.Data, &whole); err != nil {
				return nil, fmt.Errorf("read event %s: %w", r.Event, err)
			}
		}
	}
	whole["steps"], _ = json.Marshal(steps) // encoded before
	whole["citations"], _ = json.Marshal(citations)
	return whole, nil
}

// storedView is one answer of a thread. Result is what POST /v1/answer replied.
type storedView struct {
	startView
	Collection string                     `json:"collection"`
	Question   string                     `json:"question"`
	Status     store.AnswerStatus         `json:"status"`
	Result     map[string]json.RawMessage `json:"result"`
	Error      json.RawMessage            `json:"error"`
	CreatedAt  time.Time                  `json:"created_at"`
	EndedAt    *time.Time                 `json:"ended_at"`
}

func viewStored(a store.Answer) (storedView, error) {
	v := storedView{startView: startView{a.ID, optional(a.ThreadID), optional(a.PreviousID)}, Collection: a.Collection,
		Question: a.Question, Status: a.Status, CreatedAt: a.CreatedAt, EndedAt: a.EndedAt}
	records, err := recordsOf(a)
	if err != nil || len(records) == 0 {
		return v, err
	}
	if last := records[len(records)-1]; last.Event == "error" {
		var body struct{ Error json.RawMessage }
		err = json.Unmarshal(last.Data, &body)
		v.Error = body.Error
		return v, err
	}
	v.Result, err = resultOf(records)
	return v, err
}

func (s *Server) storedAnswer(c echo.Context) error {
	a, err := s.cfg.Store.Answer(c.Request().Context(), c.Param("id"))
	if err != nil {
		return missing(err, errNoAnswer)
	}
	v, err := viewStored(a)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, v)
}

// deleteAnswer also ends the work on one that is being made here.
func (s *Server) deleteAnswer(c echo.Context) error {
	id := c.Param("id")
	if err := s.cfg.Store.DeleteAnswer(c.Request().Context(), id); err != nil {
		return missing(err, errNoAnswer)
	}
	if a := s.live.find(id); a != nil {
		a.cancel(errAbandoned)
	}
	return c.NoContent(http.StatusNoContent)
}

type threadView struct {
	ID         string    `json:"id"`
	Collection string    `json:"collection"`
	Title      string    `json:"title"`
	Count      int       `json:"count"` // of answers
	CreatedAt  time.Time `json:"created_at"`
	UpdatedAt  time.Time `json:"updated_at"`
}

func viewThread(t store.Thread) threadView {
	return threadView{t.ID, t.Collection, t.Title, t.Answers, t.CreatedAt, t.UpdatedAt}
}

func (s *Server) createThread(c echo.Context) error {
	var in struct {
		Collection string `json:"collection"`
		Title      string `json:"title"`
	}
	if err := decode(c, &in); err != nil {
		return err
	}
	name := collectionName(firstOf(in.Collection, c.QueryParam("collection")))
	if err := checkCollectionName(name); err != nil {
		return err
	}
	t, err := s.cfg.Store.CreateThread(c.Request().Context(), name, in.Title)
	if err != nil {
		return missing(err, errNoCollection)
	}
	return c.JSON(http.StatusCreated, viewThread(t))
}

// listThreads by the time of their last answer, the newest first; a cursor is the id of a page's last thread.
func (s *Server) listThreads(c echo.Context) error {
	q := store.ThreadQuery{Collection: c.QueryParam("collection")}
	if q.Collection != "" {
		if err := checkCollectionName(q.Collection); err != nil {
			return err
		}
	}
	var err error
	if q.Limit, err = number(c, "limit", 1, 1000, 0); err != nil {
		return err
	}
	if cursor := c.QueryParam("cursor"); cursor != "" {
		before, err := s.cfg.Store.Thread(c.Request().Context(), cursor)
		if err != nil {
			return missing(err, errNoThread)
		}
		q.Before = &before
	}
	page, more, err := s.cfg.Store.Threads(c.Request().Context(), q)
	if err != nil {
		return err
	}
	views := make([]threadView, len(page))
	for i, t := range page {
		views[i] = viewThread(t)
	}
	return c.JSON(http.StatusOK, map[string]any{"threads": views, "next_cursor": cursorOf(views, more, func(v threadView) string { return v.ID })})
}

func cursorOf[T any](page []T, more bool, id func(T) string) *string {
	if !more || len(page) == 0 {
		return nil
	}
	last := id(page[len(page)-1])
	return &last
}

// thread with its answers, the oldest first.
func (s *Server) thread(c echo.Context) error {
	t, err := s.cfg.Store.Thread(c.Request().Context(), c.Param("id"))
	if err != nil {
		return missing(err, errNoThread)
	}
	limit, err := number(c, "limit", 1, maxThreadPage, defaultThreadPage)
	if err != nil {
		return err
	}
	cursor := c.QueryParam("cursor")
	if cursor != "" && uuid.Validate(cursor) != nil {
		return invalid("cursor is %q: give the next_cursor of the page before", cursor)
	}
	answers, more, err := s.cfg.Store.ThreadAnswers(c.Request().Context(), t.ID, cursor, limit)
	if err != nil {
		return err
	}
	views := make([]storedView, len(answers))
	for i, a := range answers {
		if views[i], err = viewStored(a); err != nil {
			return err
		}
	}
	return c.JSON(http.StatusOK, struct {
		threadView
		Answers    []storedView `json:"answers"`
		NextCursor *string      `json:"next_cursor"`
	}{viewThread(t), views, cursorOf(views, more, func(v storedView) string { return v.ID })})
}

func (s *Server) deleteThread(c echo.Context) error {
	if err := s.cfg.Store.DeleteThread(c.Request().Context(), c.Param("id")); err != nil {
		return missing(err, errNoThread)
	}
	return c.NoContent(http.StatusNoContent)
}
