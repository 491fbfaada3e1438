package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"github.com/footnote-rag/footnote/ingest"
	"github.com/footnote-rag/footnote/store"
)

const (
	// maxURIBytes keeps uris within what a B-tree entry takes (2,704 bytes).
	maxURIBytes = 2048
	// maxTitleBytes is longer than any title and shorter than a mistaken text.
	maxTitleBytes = 2048
	// maxMetadataBytes: metadata is for filters, not for content.
	maxMetadataBytes = 64 << 10
	// maxFiles of one multipart request.
	maxFiles = 100
	// bufferWait is how long an upload waits for memory before it is told to come again.
	bufferWait = 10 * time.Second
)

// documentInput is the JSON form of a document: a text, or a url to fetch.
type documentInput struct {
	Collection string          `json:"collection"`
	URI        string          `json:"uri"`
	Title      string          `json:"title"`
	Text       *string         `json:"text"`
	URL        string          `json:"url"`
	MediaType  string          `json:"media_type"`
	Language   string          `json:"language"`
	Metadata   json.RawMessage `json:"metadata"`
}

// putResult is the reply to one document.
type putResult struct {
	ID         string           `json:"id"`
	Collection string           `json:"collection"`
	URI        string           `json:"uri"`
	Status     store.Status     `json:"status"`
	Outcome    store.PutOutcome `json:"outcome"`
	Error      *documentError   `json:"error,omitempty"`
}

// httpStatus: 202 while work is left, 200 when the end state is known.
func (r putResult) httpStatus() int {
	if r.Status == store.StatusQueued || r.Status == store.StatusRunning {
		return http.StatusAccepted
	}
	return http.StatusOK
}

// putDocuments takes documents in any of the four forms, told apart by the media type.
func (s *Server) putDocuments(c echo.Context) error {
	switch mediaType(c.Request()) {
	case ndjsonType:
		return s.putBulk(c)
	case multipartType:
		return s.putFiles(c)
	}
	release, err := s.reserve(c.Request().Context(), c.Request().ContentLength)
	if err != nil {
		return err
	}
	body, err := readAll(c.Request().Body, c.Request().ContentLength)
	if err != nil {
		release()
		return err
	}
	return s.putBody(c, body, release)
}

// putBody puts a JSON document or, with ?uri=, a raw one.
func (s *Server) putBody(c echo.Context, body []byte, release func()) error {
	defer release()
	wait, err := waitOf(c)
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	return s.replay(c, body, func() (putResult, error) {
		doc, err := s.bodyDocument(c, body)
		if err != nil {
			return putResult{}, err
		}
		return s.put(ctx, doc, wait)
	})
}

// bodyDocument: application/json without ?uri= is the JSON form; with ?uri= every body is the file itself.
func (s *Server) bodyDocument(c echo.Context, body []byte) (ingest.Document, error) {
	t := mediaType(c.Request())
	if uri := c.QueryParam("uri"); uri == "" {
		if t != "" && t != jsonType && t != formType {
			return ingest.Document{}, invalid("a raw document needs its name: add ?uri=… to the address")
		}
		var in documentInput
		if err := decodeStrict(body, &in); err != nil {
			return ingest.Document{}, err
		}
		return s.inputDocument(c.Request().Context(), in, c.QueryParam("collection"))
	}
	doc := queryDocument(c)
	doc.Source = body
	if t != octetType && t != formType {
		doc.MediaType = t
	}
	return doc, checkDocument(doc)
}

// queryDocument takes what the query says of a raw body or of files.
func queryDocument(c echo.Context) ingest.Document {
	q := c.QueryParam
	doc := ingest.Document{Collection: collectionName(q("collection")), URI: q("uri"), Title: q("title"), Language: q("language")}
	if m := q("metadata"); m != "" {
		doc.Metadata = json.RawMessage(m)
	}
	return doc
}

// inputDocument turns the JSON form into a document, fetching it if it is a url.
func (s *Server) inputDocument(ctx context.Context, in documentInput, collection string) (ingest.Document, error) {
	doc := ingest.Document{
		Collection: collectionName(firstOf(in.Collection, collection)), URI: in.URI, Title: in.Title,
		MediaType: in.MediaType, Language: in.Language, Metadata: in.Metadata,
	}
	switch {
	case in.Text != nil && in.URL != "":
		return doc, invalid("the document has both text and url: give one of them")
	case in.Text != nil:
		if i := strings.IndexByte(*in.Text, 0); i >= 0 {
			return doc, &problem{status: 400, Code: "invalid_text", Message: fmt.Sprintf("the text has a NUL character at byte %d: remove it", i)}
		}
		doc.Source = []byte(*in.Text)
	case in.URL != "":
		fetched, err := s.cfg.Ingest.Fetch(ctx, in.URL)
		if err != nil {
			return doc, err
		}
		doc.Source = fetched.Source
		doc.URI = firstOf(doc.URI, fetched.URI)
		doc.Title = firstOf(doc.Title, fetched.Title)
		doc.MediaType = firstOf(doc.MediaType, fetched.MediaType)
	default:
		return doc, invalid("the document has neither text nor url: give one of them")
	}
	return doc, checkDocument(doc)
}

// checkDocument refuses at the door what could only fail later.
func checkDocument(d ingest.Document) error {
	if err := checkCollectionName(d.Collection); err != nil {
		return err
	}
	if d.URI == "" {
		return invalid("the document has no uri: give it a name that is its own within the collection, such as notes/a.md")
	}
	if len(bytes.TrimSpace(d.Source)) == 0 {
		return errEmptyDocument
	}
	if len(d.Metadata) > maxMetadataBytes {
		return invalid("metadata has %d bytes: it takes at most %d; put content into the text", len(d.Metadata), maxMetadataBytes)
	}
	if m := bytes.TrimSpace(d.Metadata); len(m) > 0 && string(m) != "null" && (m[0] != '{' || !json.Valid(m)) {
		return invalid(`metadata must be a JSON object, such as {"team":"x"}`)
	}
	return errors.Join(checkText("uri", d.URI, maxURIBytes), checkText("title", d.Title, maxTitleBytes))
}

func checkText(name, text string, limit int) error {
	switch {
	case len(text) > limit:
		return invalid("%s has %d bytes: it takes at most %d", name, len(text), limit)
	case !utf8.ValidString(text):
		return invalid("%s is not valid UTF-8", name)
	case strings.IndexByte(text, 0) >= 0:
		return invalid("%s has a NUL character: remove it", name)
	}
	return nil
}

// put stores one document and waits for its end if asked to.
func (s *Server) put(ctx context.Context, doc ingest.Document, wait time.Duration) (putResult, error) {
	d, outcome, err := s.cfg.Ingest.Put(ctx, doc)
	if err != nil {
		return putResult{}, err
	}
	r := putResult{ID: d.ID, Collection: d.Collection, URI: d.URI, Status: d.Status, Outcome: outcome, Error: errorOf(d)}
	return r, s.awaitResult(ctx, &r, wait)
}

// waitFor returns the document's end state, or its state when the time is over.
func (s *Server) waitFor(ctx context.Context, d store.Document, wait time.Duration) (store.Document, error) {
	if wait <= 0 || d.Status == store.StatusCompleted || d.Status == store.StatusError {
		return d, nil
	}
	timed, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	now, err := s.cfg.Ingest.Wait(timed, d.ID)
	if timed.Err() == nil || ctx.Err() != nil {
		return now, err
	}
	return s.cfg.Store.Document(ctx, d.ID)
}

// reserve takes n bytes (unknown: a whole document) of the memory for uploads.
func (s *Server) reserve(ctx context.Context, n int64) (release func(), err error) {
	if most := s.cfg.MaxDocumentBytes + documentOverheadBytes; n < 0 || n > most {
		n = most
	}
	n = min(n, s.cfg.MaxBufferedBytes)
	timed, cancel := context.WithTimeout(ctx, bufferWait)
	defer cancel()
	if s.buffers.Acquire(timed, n) != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, errOverloaded
	}
	return func() { s.buffers.Release(n) }, nil
}

// itemResult is one document of several: its state or why it was refused.
type itemResult struct {
	Line       int              `json:"line,omitempty"` // of a bulk, from 1
	ID         string           `json:"id,omitempty"`
	Collection string           `json:"collection,omitempty"`
	URI        string           `json:"uri"`
	Status     store.Status     `json:"status,omitempty"`
	Outcome    store.PutOutcome `json:"outcome,omitempty"`
	Error      any              `json:"error,omitempty"` // *problem, or the *documentError of a document that ended in error
}

func itemOf(uri string, r putResult, err error) itemResult {
	if err != nil {
		return itemResult{URI: uri, Error: describe(err)}
	}
	item := itemResult{ID: r.ID, Collection: r.Collection, URI: r.URI, Status: r.Status, Outcome: r.Outcome}
	if r.Error != nil {
		item.Error = r.Error
	}
	return item
}

// putFiles reads a multipart body part by part. One file is answered as any document, several as a list.
func (s *Server) putFiles(c echo.Context) error {
	wait, err := waitOf(c)
	if err != nil {
		return err
	}
	parts, err := c.Request().MultipartReader()
	if err != nil {
		return invalid("malformed multipart body: %v", err)
	}
	release, err := s.reserve(c.Request().Context(), -1)
	if err != nil {
		return err
	}
	defer release()
	f := fileForm{server: s, fields: queryDocument(c)}
	if err := f.read(c.Request().Context(), parts); err != nil {
		return err
	}
	return f.reply(c, wait)
}

// fileForm puts the files of a form one after the other, holding one of them in memory. Fields may stand before or
// after a single file; with several files they must come first.
type fileForm struct {
	server  *Server
	fields  ingest.Document
	pending *ingest.Document // the file read last
	results []putResult
	errs    []error
}

func (f *fileForm) read(ctx context.Context, parts *multipart.Reader) error {
	for {
		part, err := parts.NextPart()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return multipartError(err)
		}
		if part.FileName() == "" {
			err = f.field(part)
		} else {
			err = f.file(ctx, part)
		}
		if err != nil {
			return err
		}
	}
}

func multipartError(err error) error {
	var own *problem
	if errors.As(err, &own) {
		return own
	}
	return invalid("malformed multipart body: %v", err)
}

func (f *fileForm) field(part *multipart.Part) error {
	if len(f.results) > 0 {
		return invalid("field %q stands after several files: put fields before files", part.FormName())
	}
	raw, err := readAll(io.LimitReader(part, maxMetadataBytes+1), 0)
	if err != nil {
		return multipartError(err)
	}
	switch name := part.FormName(); name {
	case "collection":
		f.fields.Collection = collectionName(string(raw))
	case "uri":
		f.fields.URI = string(raw)
	case "title":
		f.fields.Title = string(raw)
	case "language":
		f.fields.Language = string(raw)
	case "media_type":
		f.fields.MediaType = string(raw)
	case "metadata":
		f.fields.Metadata = raw
	default:
		return &problem{status: 400, Code: "unknown_field", Message: fmt.Sprintf("unknown field %q: this form takes file, collection, uri, title, language, media_type, metadata", name)}
	}
	return nil
}

func (f *fileForm) file(ctx context.Context, part *multipart.Part) error {
	if f.pending != nil {
		if len(f.results)+1 >= maxFiles {
			return invalid("the request has more than %d files: send the rest in another", maxFiles)
		}
		f.flush(ctx, false)
	}
	limit := f.server.cfg.MaxDocumentBytes
	source, err := readAll(io.LimitReader(part, limit+1), 0)
	if err != nil {
		return multipartError(err)
	}
	if int64(len(source)) > limit {
		return bodyTooLarge("/v1/documents", limit)
	}
	f.pending = &ingest.Document{URI: part.FileName(), Source: source}
	if t := part.Header.Get("Content-Type"); t != octetType {
		f.pending.MediaType, _, _ = strings.Cut(t, ";")
	}
	return nil
}

// flush puts the pending file with the form's fields; only a single file takes the form's uri and title.
func (f *fileForm) flush(ctx context.Context, single bool) {
	doc := *f.pending
	f.pending = nil
	doc.Collection, doc.Language, doc.Metadata = f.fields.Collection, f.fields.Language, f.fields.Metadata
	doc.MediaType = firstOf(f.fields.MediaType, doc.MediaType)
	if single {
		doc.URI, doc.Title = firstOf(f.fields.URI, doc.URI), f.fields.Title
	}
	var result putResult
	err := checkDocument(doc)
	if err == nil {
		result, err = f.server.put(ctx, doc, 0)
	}
	if err != nil {
		result.URI = doc.URI
	}
	f.results, f.errs = append(f.results, result), append(f.errs, err)
}

func (f *fileForm) reply(c echo.Context, wait time.Duration) error {
	if f.pending == nil {
		return invalid("the form has no file: send one as a part with a file name")
	}
	ctx := c.Request().Context()
	f.flush(ctx, len(f.results) == 0)
	status := http.StatusOK
	items := make([]itemResult, len(f.results))
	for i := range f.results {
		if f.errs[i] == nil {
			f.errs[i] = f.server.awaitResult(ctx, &f.results[i], wait)
			status = max(status, f.results[i].httpStatus())
		}
		items[i] = itemOf(f.results[i].URI, f.results[i], f.errs[i])
	}
	if len(items) > 1 {
		return c.JSON(status, map[string]any{"documents": items})
	}
	if f.errs[0] != nil {
		return f.errs[0]
	}
	return c.JSON(status, f.results[0])
}

// awaitResult brings a put's result up to date after waiting for the document's end.
func (s *Server) awaitResult(ctx context.Context, r *putResult, wait time.Duration) error {
	if wait <= 0 || r.httpStatus() == http.StatusOK {
		return nil
	}
	d, err := s.waitFor(ctx, store.Document{ID: r.ID, Status: r.Status}, wait)
	r.Status, r.Error = d.Status, errorOf(d)
	return err
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
