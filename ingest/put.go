package ingest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/footnote-rag/footnote/store"
)

// chunkerVersion changes when the same text would be cut differently, so that documents are ingested anew.
const chunkerVersion = 4

// settings is the fingerprint of everything besides the source that decides a document's chunks and vectors.
func (s *Service) settings(c store.Collection) string {
	k := c.Chunking // its window changes nothing that is stored
	all := fmt.Sprintf("extract %d, chunk %d, %d tokens, overlap %d, split %s, context %s, space %d", ExtractorVersion, chunkerVersion,
		k.MaxTokens, k.Overlap, cmp.Or(k.Split, store.SplitStructure), cmp.Or(k.Context, store.ContextHeadings), c.Space.ID)
	if c.TranslateTo != "" {
		all += fmt.Sprintf(", translated to %s by %s", c.TranslateTo, s.cfg.TranslateModel)
	}
	return all
}

// Put stores the document and enqueues its processing in one transaction. When it returns nil the document will end in
// completed or error, whatever crashes. ErrInvalidInput, ErrTooLarge, ErrMediaType and store errors.
func (s *Service) Put(ctx context.Context, d Document) (store.Document, store.PutOutcome, error) {
	if err := s.check(&d); err != nil {
		return store.Document{}, "", err
	}
	var doc store.Document
	var outcome store.PutOutcome
	var err error
	for range maxPutTries {
		if doc, outcome, err = s.put(ctx, d); !errors.Is(err, store.ErrNotFound) {
			break // else the document or its collection was deleted meanwhile: the next try creates it
		}
	}
	if errors.Is(err, store.ErrInvalidText) { // half a surrogate pair in the metadata, which Go's JSON lets pass
		err = fmt.Errorf("%w: %w", ErrInvalidInput, err)
	}
	return doc, outcome, err
}

// maxPutTries bounds how often one Put loses against deletions of its document.
const maxPutTries = 10

func (s *Service) put(ctx context.Context, d Document) (store.Document, store.PutOutcome, error) {
	c, _, err := s.EnsureCollection(ctx, d.Collection, store.Chunking{})
	if err != nil {
		return store.Document{}, "", err
	}
	sum := sha256.Sum256(d.Source)
	return s.cfg.Store.PutDocument(ctx, store.NewDocument{Collection: c, URI: d.URI, Title: d.Title, MediaType: d.MediaType, Language: d.Language,
		Metadata: d.Metadata, Source: d.Source, SHA256: sum[:], Settings: s.settings(c)},
		func(ctx context.Context, tx pgx.Tx, doc store.Document) error { return s.enqueue(ctx, tx, c, doc, d) })
}

// check validates what a client sent and fills the media type.
func (s *Service) check(d *Document) error {
	if d.URI == "" || len(d.URI) > maxURIBytes {
		return fmt.Errorf("%w: uri names the document within its collection: give 1 to %d bytes", ErrInvalidInput, maxURIBytes)
	}
	for name, v := range map[string]string{"uri": d.URI, "title": d.Title, "language": d.Language, "collection": d.Collection} {
		if !utf8.ValidString(v) || strings.ContainsRune(v, 0) {
			return fmt.Errorf("%w: %s is not UTF-8 text without NUL characters", ErrInvalidInput, name)
		}
	}
	if len(d.Title) > maxTitleBytes {
		return fmt.Errorf("%w: the title has %d bytes, at most %d are taken", ErrInvalidInput, len(d.Title), maxTitleBytes)
	}
	if int64(len(d.Source)) > s.cfg.MaxBytes {
		return fmt.Errorf("%w: %d bytes, at most %d are taken: split it", ErrTooLarge, len(d.Source), s.cfg.MaxBytes)
	}
	if len(d.Source) == 0 {
		return fmt.Errorf("%w: it is empty", ErrInvalidInput)
	}
	if err := checkMetadata(d.Metadata); err != nil {
		return err
	}
	mediaType, err := DetectMediaType(d.MediaType, d.URI, d.Source)
	d.MediaType = mediaType
	return err
}

func checkMetadata(m json.RawMessage) error {
	if len(m) > maxMetadataBytes {
		return fmt.Errorf("%w: the metadata have %d bytes, at most %d are taken", ErrInvalidInput, len(m), maxMetadataBytes)
	}
	if len(m) == 0 {
		return nil
	}
	if b := bytes.TrimSpace(m); !utf8.Valid(b) || !json.Valid(b) || b[0] != '{' {
		return fmt.Errorf("%w: the metadata are not a JSON object", ErrInvalidInput)
	}
	dec := json.NewDecoder(bytes.NewReader(m))
	dec.UseNumber()
	for depth := 0; ; {
		token, err := dec.Token()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = checkToken(token, &depth)
		}
		if err != nil {
			return fmt.Errorf("%w: the metadata %w", ErrInvalidInput, err)
		}
	}
}

// checkToken refuses what the database would refuse, or could not index.
func checkToken(token json.Token, depth *int) error {
	switch v := token.(type) {
	case json.Delim:
		if v == '}' || v == ']' {
			*depth--
		} else if *depth++; *depth > maxMetadataDepth {
			return fmt.Errorf("are nested more than %d deep", maxMetadataDepth)
		}
	case string:
		if strings.ContainsRune(v, 0) {
			return errors.New("hold a NUL character")
		}
	case json.Number:
		if _, err := v.Float64(); err != nil {
			return fmt.Errorf("hold the number %.20s, which is out of range", v)
		}
	}
	return nil
}

// Planned is what Put would do with a source, and where the stored document stands.
type Planned struct {
	Outcome store.PutOutcome
	ID      string       // "" for a new one
	Status  store.Status // "" for a new one
}

// Plan tells for each uri, with the SHA-256 of its bytes, whether Put would create, change or leave the document. It does not
// see titles and metadata: a Put that changes only those still changes the document.
func (s *Service) Plan(ctx context.Context, collection string, sources map[string][]byte) (map[string]Planned, error) {
	plan := make(map[string]Planned, len(sources))
	c, err := s.cfg.Store.Collection(ctx, cmp.Or(collection, defaultCollection))
	if errors.Is(err, store.ErrNotFound) {
		for uri := range sources {
			plan[uri] = Planned{Outcome: store.Created}
		}
		return plan, nil
	}
	if err == nil {
		err = s.sameModel(c)
	}
	if err != nil {
		return nil, err
	}
	uris := make([]string, 0, len(sources))
	for uri := range sources {
		uris = append(uris, uri)
	}
	known, err := s.cfg.Store.KnownSources(ctx, c.ID, uris)
	if err != nil {
		return nil, err
	}
	now := s.settings(c)
	for uri, sum := range sources {
		k, ok := known[uri]
		p := Planned{Outcome: store.Created, ID: k.ID, Status: k.Status}
		if ok {
			p.Outcome = store.Changed
			if bytes.Equal(k.SHA256, sum) && k.Settings == now && k.Status != store.StatusError {
				p.Outcome = store.Unchanged
			}
		}
		plan[uri] = p
	}
	return plan, nil
}

// Estimate extracts and cuts a document on this machine and counts chunks and tokens to embed. It is for dry runs and
// stores nothing. Of a recording it knows nothing: 0 and 0.
func Estimate(d Document) (chunks, tokens int, err error) {
	mediaType, err := DetectMediaType(d.MediaType, d.URI, d.Source)
	if err != nil {
		return 0, 0, err
	}
	if isAudio(mediaType) {
		return 0, 0, nil
	}
	e, err := Extract(mediaType, d.Source)
	if err != nil {
		return 0, 0, err
	}
	all := Chunk(e, DefaultChunking)
	for _, c := range all {
		tokens += c.Tokens
	}
	return len(all), tokens, nil
}

// waitPoll is how often Wait looks for a document that another process works on.
const waitPoll = 500 * time.Millisecond

// Wait returns when the document's newest revision ended (completed or error) or ctx is done, with the newest state. The
// end of ctx is not an error: the state tells.
func (s *Service) Wait(ctx context.Context, documentID string) (store.Document, error) {
	ended, forget := s.ends.watch(documentID)
	defer forget()
	for {
		d, err := s.cfg.Store.Document(context.WithoutCancel(ctx), documentID)
		if err != nil || d.Status == store.StatusCompleted || d.Status == store.StatusError || ctx.Err() != nil {
			return d, err
		}
		t := time.NewTimer(waitPoll)
		select {
		case <-ctx.Done():
		case <-ended:
		case <-t.C:
		}
		t.Stop()
	}
}

// ends tells waiters in this process that a document ended.
type ends struct {
	mu sync.Mutex
	by map[string]map[chan struct{}]struct{}
}

func (e *ends) watch(id string) (ended <-chan struct{}, forget func()) {
	ch := make(chan struct{}, 1)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.by == nil {
		e.by = map[string]map[chan struct{}]struct{}{}
	}
	if e.by[id] == nil {
		e.by[id] = map[chan struct{}]struct{}{}
	}
	e.by[id][ch] = struct{}{}
	return ch, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.by[id], ch)
		if len(e.by[id]) == 0 {
			delete(e.by, id)
		}
	}
}

func (e *ends) tell(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for ch := range e.by[id] {
		select {
		case ch <- struct{}{}:
		default: // it has been told already
		}
	}
}
