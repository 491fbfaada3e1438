package api

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/footnote-rag/footnote/ingest"
	"github.com/footnote-rag/footnote/store"
)

// documentError is why a document ended in error.
type documentError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// waitingView is what a document waits for that is not ours to hasten.
type waitingView struct {
	For    string    `json:"for"` // the kind of models
	Until  time.Time `json:"until"`
	Reason string    `json:"reason"`
}

// documentView is a document as the API shows it.
type documentView struct {
	ID         string          `json:"id"`
	Collection string          `json:"collection"`
	URI        string          `json:"uri"`
	Title      string          `json:"title"`
	MediaType  string          `json:"media_type"`
	Language   string          `json:"language"`
	Metadata   json.RawMessage `json:"metadata"`
	Status     store.Status    `json:"status"`
	Error      *documentError  `json:"error"`
	Waiting    *waitingView    `json:"waiting,omitempty"`
	Chunks     int             `json:"chunks"`
	Tokens     int             `json:"tokens"`
	SHA256     string          `json:"sha256"`
	Generation int64           `json:"generation"`
	CreatedAt  time.Time       `json:"created_at"`
	UpdatedAt  time.Time       `json:"updated_at"`
}

// viewDocuments shows documents, and what those wait for that are not done.
func (s *Server) viewDocuments(ctx context.Context, docs ...store.Document) []documentView {
	views := make([]documentView, len(docs))
	pauses := s.cfg.Ingest.Pauses()
	collections := map[string]store.Collection{}
	for i, d := range docs {
		views[i] = viewDocument(d)
		if len(pauses) == 0 || d.Status == store.StatusCompleted || d.Status == store.StatusError {
			continue
		}
		c, ok := collections[d.Collection]
		if !ok {
			c, _ = s.cfg.Store.Collection(ctx, d.Collection) // one that is gone by now has nothing that waits
			collections[d.Collection] = c
		}
		if at := slices.IndexFunc(pauses, func(p ingest.Pause) bool { return p.Holds(d, c) }); at >= 0 {
			p := pauses[at]
			views[i].Waiting = &waitingView{string(p.Kind), p.Until, p.Reason}
		}
	}
	return views
}

func viewDocument(d store.Document) documentView {
	return documentView{
		ID: d.ID, Collection: d.Collection, URI: d.URI, Title: d.Title, MediaType: d.MediaType, Language: d.Language,
		Metadata: objectOrEmpty(d.Metadata), Status: d.Status, Error: errorOf(d), Chunks: d.Chunks, Tokens: d.Tokens,
		SHA256: hex.EncodeToString(d.SHA256), Generation: d.Generation, CreatedAt: d.CreatedAt, UpdatedAt: d.UpdatedAt,
	}
}

func errorOf(d store.Document) *documentError {
	if d.Status != store.StatusError {
		return nil
	}
	return &documentError{d.ErrorCode, d.ErrorText}
}

func objectOrEmpty(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage("{}")
	}
	return raw
}

// documentID reads the path's id. What is no UUID cannot exist and need not reach the database.
func documentID(c echo.Context) (string, error) {
	id, err := uuid.Parse(c.Param("id"))
	if err != nil {
		return "", errNoDocument
	}
	return id.String(), nil
}

// document answers GET /v1/documents/{id}; with ?wait= when its end state is reached or the time is over.
func (s *Server) document(c echo.Context) error {
	id, err := documentID(c)
	if err != nil {
		return err
	}
	wait, err := waitOf(c)
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	d, err := s.cfg.Store.Document(ctx, id)
	if err == nil && wait > 0 {
		d, err = s.waitFor(ctx, d, wait)
	}
	if err != nil {
		return missing(err, errNoDocument)
	}
	return c.JSON(http.StatusOK, s.viewDocuments(ctx, d)[0])
}

func (s *Server) documentText(c echo.Context) error {
	id, err := documentID(c)
	if err != nil {
		return err
	}
	text, err := s.cfg.Store.DocumentText(c.Request().Context(), id)
	if err != nil {
		return missing(err, errNoDocument)
	}
	return c.Blob(http.StatusOK, "text/plain; charset=utf-8", []byte(text))
}

// chunkView is a chunk as the API shows it.
type chunkView struct {
	Ordinal     int      `json:"ordinal"`
	Heading     []string `json:"heading"`
	Start       int      `json:"start"`
	End         int      `json:"end"`
	Tokens      int      `json:"tokens"`
	Text        string   `json:"text"`
	Translation string   `json:"translation,omitempty"`
	Summary     string   `json:"summary,omitempty"`
}

func (s *Server) documentChunks(c echo.Context) error {
	id, err := documentID(c)
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	if _, err := s.cfg.Store.Document(ctx, id); err != nil {
		return missing(err, errNoDocument)
	}
	chunks, err := s.cfg.Store.Chunks(ctx, id)
	if err != nil {
		return missing(err, errNoDocument)
	}
	views := make([]chunkView, len(chunks))
	for i, k := range chunks {
		views[i] = chunkView{k.Ordinal, notNil(k.Heading), k.Start, k.End, k.Tokens, k.Text, k.Translation, k.Summary}
	}
	return c.JSON(http.StatusOK, map[string]any{"chunks": views})
}

// documentSource returns the bytes as they came, never as something that a browser would run.
func (s *Server) documentSource(c echo.Context) error {
	id, err := documentID(c)
	if err != nil {
		return err
	}
	source, _, err := s.cfg.Store.DocumentSource(c.Request().Context(), id)
	if err != nil {
		return missing(err, errNoDocument)
	}
	c.Response().Header().Set("Content-Disposition", `attachment; filename="`+id+`"`)
	return c.Blob(http.StatusOK, octetType, source)
}

func (s *Server) deleteDocument(c echo.Context) error {
	id, err := documentID(c)
	if err != nil {
		return err
	}
	if err := s.cfg.Store.DeleteDocument(c.Request().Context(), id); err != nil {
		return missing(err, errNoDocument)
	}
	return c.NoContent(http.StatusNoContent)
}

type documentPage struct {
	Documents  []documentView `json:"documents"`
	NextCursor *string        `json:"next_cursor"`
}

// listDocuments answers one page; ?uri= selects one document by its exact uri.
func (s *Server) listDocuments(c echo.Context) error {
	q, err := s.listQuery(c)
	// A fresh server has no collection yet; asking it for all documents is no mistake.
	if errors.Is(err, store.ErrNotFound) && collectionName(c.QueryParam("collection")) == defaultCollection {
		return c.JSON(http.StatusOK, documentPage{Documents: []documentView{}})
	}
	if err != nil {
		return missing(err, errNoCollection)
	}
	docs, next, err := s.findDocuments(c, q)
	if err != nil {
		return err
	}
	page := documentPage{Documents: s.viewDocuments(c.Request().Context(), docs...)}
	if next != "" {
		page.NextCursor = &next
	}
	return c.JSON(http.StatusOK, page)
}

func (s *Server) listQuery(c echo.Context) (store.ListQuery, error) {
	q := store.ListQuery{Status: store.Status(c.QueryParam("status")), URIPrefix: c.QueryParam("uri_prefix"), Cursor: c.QueryParam("cursor")}
	switch q.Status {
	case "", store.StatusQueued, store.StatusRunning, store.StatusCompleted, store.StatusError:
	default:
		return q, invalid("status is %q: it is one of queued, running, completed, error", q.Status)
	}
	if _, err := uuid.Parse(q.Cursor); q.Cursor != "" && err != nil {
		return q, invalid("the cursor is not one of ours: pass next_cursor of the page before, unchanged")
	}
	if err := checkText("uri_prefix", q.URIPrefix, maxURIBytes); err != nil {
		return q, err
	}
	var err error
	if q.Limit, err = number(c, "limit", 1, 1000, 100); err != nil {
		return q, err
	}
	name := collectionName(c.QueryParam("collection"))
	if err := checkCollectionName(name); err != nil {
		return q, err
	}
	collection, err := s.cfg.Store.Collection(c.Request().Context(), name)
	q.CollectionID = collection.ID
	return q, err
}

func (s *Server) findDocuments(c echo.Context, q store.ListQuery) ([]store.Document, string, error) {
	uri := c.QueryParam("uri")
	if uri == "" {
		return s.cfg.Store.Documents(c.Request().Context(), q)
	}
	if err := checkText("uri", uri, maxURIBytes); err != nil {
		return nil, "", err
	}
	d, err := s.cfg.Store.DocumentByURI(c.Request().Context(), q.CollectionID, uri)
	if errors.Is(err, store.ErrNotFound) || err == nil && q.Status != "" && d.Status != q.Status {
		return nil, "", nil
	}
	return []store.Document{d}, "", err
}

// notNil makes JSON show an empty list as [].
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
