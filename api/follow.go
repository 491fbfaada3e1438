package api

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/footnote-rag/footnote/store"
)

const lastEventIDHeader = "Last-Event-ID"

// eventID names an event of a kept answer: the answer's id and the number of the event in it, from 1.
func eventID(answer string, n int) string { return answer + ":" + strconv.Itoa(n) }

// lastEventID reads where a client stopped reading. answer is "" for a bare number, ok false for anything else.
func lastEventID(id string) (answer string, n int, ok bool) {
	answer, number, both := strings.Cut(id, ":")
	if !both {
		answer, number = "", id
	}
	n, err := strconv.Atoi(number)
	return answer, n, err == nil && n >= 0 && (!both || uuid.Validate(answer) == nil)
}

// answerEvents is GET /v1/answers/:id/events: the stream of a kept answer, from its beginning or after Last-Event-ID.
func (s *Server) answerEvents(c echo.Context) error {
	id, after := c.Param("id"), 0
	if header := firstOf(c.Request().Header.Get(lastEventIDHeader), c.QueryParam("after")); header != "" {
		answer, n, ok := lastEventID(header)
		if !ok || answer != "" && answer != id {
			return invalid("Last-Event-ID is %q: give the id of an event of this answer, as it was received", header)
		}
		after = n
	}
	return s.resume(c, id, after, "")
}

// resume sends the events of an answer after the first n: of this process while it is in the making, else as stored. It
// is refused to another question than the answer's; "" is any.
func (s *Server) resume(c echo.Context, id string, n int, question string) error {
	if a := s.live.find(id); a != nil {
		if question != "" && question != a.question {
			return errOtherQuestion
		}
		a.attach()
		defer a.detach()
		if have, _, _ := a.since(0); n > len(have) {
			return errNoEvent
		}
		return s.follow(c, a, n)
	}
	stored, err := s.cfg.Store.Answer(c.Request().Context(), id)
	if err != nil {
		return missing(err, errNoAnswer)
	}
	if question != "" && question != stored.Question {
		return errOtherQuestion
	}
	if stored.Status == store.AnswerRunning {
		return s.unfinished(stored)
	}
	records, err := recordsOf(stored)
	if err != nil {
		return err
	}
	if n > len(records) {
		return errNoEvent
	}
	return s.sendAll(c, id, records, n)
}

// unfinished: another server makes it, or has died of it.
func (s *Server) unfinished(a store.Answer) error {
	if time.Since(a.CreatedAt) > s.cfg.MaxStream+storeTimeout {
		return errAnswerLost
	}
	return errAnswerRunning
}

func recordsOf(a store.Answer) (records []record, err error) {
	if a.Events == nil {
		return nil, nil
	}
	return records, json.Unmarshal(a.Events, &records)
}

// follow writes an answer's events after the first n, as they come, to its end.
func (s *Server) follow(c echo.Context, a *liveAnswer, n int) error {
	ctx, lost := context.WithCancelCause(c.Request().Context())
	defer lost(nil)
	out := s.startEvents(c, lost)
	defer out.close()
	if n > 0 { // perhaps nothing is left to send: an empty stream, not an empty reply
		if err := out.open(); err != nil {
			return err
		}
	}
	for {
		records, ended, changed := a.since(n)
		for _, r := range records {
			n++
			if err := out.sendRecord(eventID(a.id, n), r); err != nil {
				return err
			}
		}
		if ended {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *Server) sendAll(c echo.Context, id string, records []record, n int) error {
	ctx, lost := context.WithCancelCause(c.Request().Context())
	defer lost(nil)
	c.SetRequest(c.Request().WithContext(ctx))
	out := s.startEvents(c, lost)
	defer out.close()
	if err := out.open(); err != nil { // nothing is left to send: an empty stream, not an empty reply
		return err
	}
	for i, r := range records[n:] {
		if err := out.sendRecord(eventID(id, n+i+1), r); err != nil {
			return err
		}
	}
	return nil
}
