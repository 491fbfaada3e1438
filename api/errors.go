package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/footnote-rag/footnote/ingest"
	"github.com/footnote-rag/footnote/retrieval"
	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/workersai"
)

// problem is an error as the client sees it: {"error":{…}}.
type problem struct {
	Code         string `json:"code"`
	Message      string `json:"message"`
	UpstreamCode int    `json:"upstream_code,omitempty"`
	RequestID    string `json:"request_id,omitempty"`

	status     int
	retryAfter time.Duration
}

func (p *problem) Error() string { return p.Code + ": " + p.Message }

type errorBody struct {
	Error *problem `json:"error"`
}

// Errors that this package detects.
var (
	errKeyMissing     = &problem{status: 401, Code: "unauthorized", Message: "this server asks for an API key: send the header Authorization: Bearer with the value of the server's FOOTNOTE_API_KEY"}
	errKeyWrong       = &problem{status: 401, Code: "unauthorized", Message: "the API key is wrong: it must equal the server's FOOTNOTE_API_KEY"}
	errCrossOrigin    = &problem{status: 403, Code: "origin_not_allowed", Message: "a page of another origin sent this request through a browser: call the API from your own server or from a program"}
	errHost           = &problem{status: 421, Code: "host_not_allowed", Message: "a server without API key answers on this machine only to localhost: open http://localhost, or set FOOTNOTE_API_KEY to use other names"}
	errBodySlow       = &problem{status: 408, Code: "request_timeout", Message: "the request body arrived too slowly: send at least 1 KiB a second"}
	errTextUTF8       = &problem{status: 400, Code: "invalid_utf8", Message: "the body is not valid UTF-8: save it as UTF-8, or send the file itself as raw body with its media type"}
	errEmptyDocument  = &problem{status: 400, Code: "empty_document", Message: "the document is empty: send at least one character of text"}
	errOverloaded     = &problem{status: 503, Code: "overloaded", Message: "the server has as much work as it takes at once: try again in a moment", retryAfter: time.Second}
	errServerStopping = &problem{status: 503, Code: "server_stopping", Message: "the server is stopping: ask again in a few seconds", retryAfter: 5 * time.Second}
	errStreamTooLong  = &problem{status: 504, Code: "answer_timeout", Message: "the answer took longer than this server allows: ask for less, or use a faster model"}
	errKeyReused      = &problem{status: 422, Code: "idempotency_key_reused", Message: "this Idempotency-Key was used with another request: use a fresh key for a different document"}
	errNoMedia        = &problem{status: 501, Code: "not_configured", Message: "this server has no models for speech and pictures"}
	errNotAudio       = &problem{status: 415, Code: "unsupported_media_type", Message: "this is no recording: send WAV, MP3, FLAC, OGG, M4A or WebM, as the body or as the form's file audio"}
	errNoSpeech       = &problem{status: 422, Code: "no_speech", Message: "no speech was recognised in the recording: speak closer to the microphone, or type the question"}
	errNoDocument     = &problem{status: 404, Code: "document_not_found", Message: "there is no document with this id: list them with GET /v1/documents"}
	errNoThread       = &problem{status: 404, Code: "thread_not_found", Message: "there is no conversation with this id: list them with GET /v1/threads"}
	errNoAnswer       = &problem{status: 404, Code: "answer_not_found", Message: "no answer with this id is kept: answers in threads are kept with them, resumable ones for a day"}
	errNoEvent        = &problem{status: 400, Code: "invalid_request", Message: "Last-Event-ID names an event that this answer does not have: leave it out to read from the beginning"}
	errOtherQuestion  = &problem{status: 409, Code: "other_question", Message: "Last-Event-ID names an answer to another question: leave it out to ask anew"}
	errAnswerRunning  = &problem{status: 409, Code: "answer_running", Message: "another server is making this answer: read it there, or come again when it is done", retryAfter: 2 * time.Second}
	errAnswerLost     = &problem{status: 410, Code: "answer_lost", Message: "the server that made this answer stopped before its end: ask again"}
	errAbandoned      = &problem{status: statusClientGone, Code: "client_gone", Message: "nobody read this answer any more, so it was not finished: ask again"}
	errAnswerTooLarge = &problem{status: 500, Code: "answer_too_large", Message: "the answer has more events than this server keeps: ask for fewer passages"}
	errNoCollection   = &problem{status: 404, Code: "collection_not_found", Message: "there is no collection of this name: create it with POST /v1/collections, or put a document into it"}
)

// invalid is a 400 about one part of the request.
func invalid(format string, a ...any) *problem {
	return &problem{status: 400, Code: "invalid_request", Message: fmt.Sprintf(format, a...)}
}

func bodyTooLarge(path string, limit int64) *problem {
	if path == "/v1/documents" {
		return &problem{status: 413, Code: "document_too_large", Message: fmt.Sprintf("a request with documents may have %d MiB: split the document into parts with their own uri", limit>>20)}
	}
	return &problem{status: 413, Code: "request_too_large", Message: fmt.Sprintf("this request may have %d bytes", limit)}
}

// known maps the sentinels of all rooms. Order matters: the first that matches wins. A message of "" means that the
// error's own text is written for the user.
var known = []struct {
	is         error
	status     int
	code       string
	message    string
	retryAfter time.Duration
}{
	{ingest.ErrTooLarge, 413, "document_too_large", "", 0},
	{ingest.ErrMediaType, 415, "unsupported_media_type", "", 0},
	{ingest.ErrURLNotAllowed, 400, "url_not_allowed", "", 0},
	{ingest.ErrFetchFailed, 502, "fetch_failed", "", 0},
	{ingest.ErrInvalidInput, 400, "invalid_document", "", 0},
	{retrieval.ErrInvalidQuestion, 400, "invalid_question", "", 0},
	{store.ErrInvalidFilter, 400, "invalid_filter", "", 0},
	{store.ErrInvalidFusion, 400, "invalid_ranking", "", 0},
	{retrieval.ErrInvalidRanking, 400, "invalid_ranking", "", 0},
	{store.ErrInvalidText, 400, "invalid_text", "", 0},
	{store.ErrSpaceMismatch, 409, "space_mismatch", "the collection was made with another embedding model: use a new collection, or start the server with the collection's model", 0},
	{store.ErrSuperseded, 409, "superseded", "a newer version of the document has arrived: nothing to do", 0},
	{store.ErrStorageFull, 507, "storage_full", "the database's disk is full: free space or grow the disk; searching goes on", 0},
	{store.ErrUnavailable, 503, "database_unavailable", "the database does not answer: try again; if it lasts, see footnote doctor on the server", 2 * time.Second},
	{store.ErrIncompatible, 503, "database_incompatible", "the database is not compatible with this version: see footnote doctor on the server", 0},
	{store.ErrInvalidVector, 502, "bad_upstream_reply", "the embedding model returned an unusable vector: check the model's server", 0},
	{store.ErrNotFound, 404, "not_found", "it does not exist, or no longer", 0},
	{workersai.ErrQuotaExhausted, 429, "quota_exhausted", "the model provider's daily quota is used up: it resets at 00:00 UTC", time.Hour},
	{workersai.ErrRateLimited, 429, "upstream_rate_limited", "the model provider limits its rate: try again in a moment", 2 * time.Second},
	{workersai.ErrModelDeprecated, 404, "model_deprecated", "", 0},
	{workersai.ErrModelNotFound, 404, "model_not_found", "", 0},
	{workersai.ErrContextExceeded, 413, "context_exceeded", "", 0},
	{workersai.ErrInvalidInput, 502, "upstream_refused", "", 0},
	{workersai.ErrUnauthorized, 502, "upstream_unauthorized", "the model provider refused the server's credentials: check CLOUDFLARE_ACCOUNT_ID and CLOUDFLARE_API_TOKEN of the server", 0},
	{io.ErrUnexpectedEOF, 502, "upstream_cut", "the model's answer broke off: ask again", 0},
	{workersai.ErrUnreachable, 503, "upstream_unreachable", "the model service does not answer: try again; if it lasts, see footnote doctor on the server", 2 * time.Second},
	{workersai.ErrBadReply, 502, "bad_upstream_reply", "the model service sent a reply that is no use: check WORKERSAI_BASE_URL and the model's server", 0},
	{context.DeadlineExceeded, 504, "timeout", "the work took too long: try again, or ask for less", 0},
	{context.Canceled, statusClientGone, "client_gone", "the client left before the answer", 0},
}

// statusClientGone is nginx's number for a client that left; only log and metrics see it.
const statusClientGone = 499

// describe is the one place where an error becomes code, status and remedy. Unknown errors say nothing of their cause.
func describe(err error) *problem {
	var own *problem
	if errors.As(err, &own) {
		p := *own
		return &p
	}
	var he *echo.HTTPError
	if errors.As(err, &he) {
		return describeRouting(he)
	}
	p := &problem{status: 500, Code: "internal", Message: "the server has made a mistake: its log tells more under this request_id"}
	var up *workersai.Error
	isUpstream := errors.As(err, &up)
	if isUpstream {
		p = &problem{status: 502, Code: "upstream_error", Message: "the model service reported an error: " + up.Error()}
	}
	for _, k := range known {
		if errors.Is(err, k.is) {
			p = &problem{status: k.status, Code: k.code, Message: k.message, retryAfter: k.retryAfter}
			if p.Message == "" {
				p.Message = err.Error()
			}
			break
		}
	}
	if isUpstream {
		p.UpstreamCode = up.Code
		if up.RetryAfter > 0 {
			p.retryAfter = up.RetryAfter
		}
	}
	return p
}

func describeRouting(he *echo.HTTPError) *problem {
	switch he.Code {
	case http.StatusNotFound:
		return &problem{status: 404, Code: "route_not_found", Message: "there is no such route: /openapi.yaml lists all"}
	case http.StatusMethodNotAllowed:
		return &problem{status: 405, Code: "method_not_allowed", Message: "the route exists, but not with this method: /openapi.yaml lists all"}
	}
	return &problem{status: he.Code, Code: "invalid_request", Message: fmt.Sprint(he.Message)}
}

// handleError writes the error body, unless the reply has begun.
func (s *Server) handleError(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	p := describe(err)
	p.RequestID = requestID(c)
	if p.retryAfter > 0 {
		seconds := int64((p.retryAfter + time.Second - 1) / time.Second)
		c.Response().Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
	}
	if p.status == 413 || p.status == 408 {
		c.Response().Header().Set("Connection", "close") // the rest of the body is not worth reading
	}
	if c.Request().Method == http.MethodHead {
		_ = c.NoContent(p.status)
		return
	}
	_ = c.JSON(p.status, errorBody{p}) // a client that left cannot be told
}

// missing names what was not found.
func missing(err error, what *problem) error {
	if errors.Is(err, store.ErrNotFound) {
		return what
	}
	return err
}
