package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/footnote-rag/footnote/eval"
)

// evalServer is a collection of a running server as eval sees it.
type evalServer struct {
	c          *client
	collection string
	mode       string
	window     int // below 0: the collection's setting
	extractive bool
	ranking    map[string]json.RawMessage // fields of each search and answer
	ids        sync.Map                   // of documents, by URI
}

// settings says what is being measured: the mode, and the collection's model and chunking.
func (s *evalServer) settings(ctx context.Context) (map[string]string, error) {
	var k struct {
		Model    string          `json:"model"`
		Chunks   int64           `json:"chunks"`
		Chunking json.RawMessage `json:"chunking"`
	}
	if err := s.c.getJSON(ctx, "/v1/collections/"+url.PathEscape(s.collection), nil, &k); err != nil {
		return nil, fmt.Errorf("collection %s: %w", s.collection, err)
	}
	if k.Chunks == 0 {
		return nil, usagef("the collection %s is empty: load its documents, or give --load", s.collection)
	}
	set := map[string]string{"mode": s.mode, "model": k.Model, "chunking": string(k.Chunking), "chunks": fmt.Sprint(k.Chunks)}
	if s.window >= 0 {
		set["window"] = fmt.Sprint(s.window)
	}
	if len(s.ranking) > 0 {
		b, err := json.Marshal(s.ranking)
		if err != nil {
			return nil, err
		}
		set["ranking"] = string(b)
	}
	return set, nil
}

// evalTries is how often a question is asked of a server that is busy or away for a moment.
const evalTries = 6

func (s *evalServer) Search(ctx context.Context, query string, limit int) (eval.Results, error) {
	in := map[string]any{"collection": s.collection, "query": query, "limit": limit, "mode": s.mode}
	if s.window >= 0 {
		in["window"] = s.window
	}
	for field, value := range s.ranking {
		in[field] = value
	}
	var out struct {
		Passages []passage `json:"passages"`
		Degraded bool      `json:"degraded"`
		Timings  struct {
			EmbedMS  float64 `json:"embed_ms"`
			SearchMS float64 `json:"search_ms"`
		} `json:"timings"`
	}
	err := patiently(ctx, evalTries, nil, func() error { return s.c.postJSON(ctx, "/v1/search", in, &out) })
	if err == nil && out.Degraded {
		err = fmt.Errorf("the embedding model was away: words alone were searched")
	}
	r := eval.Results{EmbedMS: out.Timings.EmbedMS, SearchMS: out.Timings.SearchMS}
	for _, p := range out.Passages {
		s.ids.Store(p.Document.URI, p.Document.ID)
		r.Hits = append(r.Hits, eval.Hit{Document: p.Document.URI, DocumentID: p.Document.ID, Title: p.Document.Title,
			Start: p.Start, End: p.End, Text: p.Text, Score: p.Score, Details: p.Details})
	}
	return r, err
}

func (s *evalServer) Answer(ctx context.Context, q string) (eval.Answer, error) {
	in := question{Collection: s.collection, Question: q, Extractive: s.extractive, ranking: s.ranking}
	var out eval.Answer
	err := patiently(ctx, evalTries, nil, func() error {
		start := time.Now()
		first := 0.0
		a, err := streamAnswer(ctx, s.c, in, func(string) {
			if first == 0 {
				first = float64(time.Since(start).Microseconds()) / 1000
			}
		}, func(step) {})
		out = s.answerOf(a)
		out.FirstMS, out.TotalMS = first, float64(time.Since(start).Microseconds())/1000
		return err
	})
	return out, err
}

// answerOf takes what is scored. An answer quoted from the documents is no refusal.
func (s *evalServer) answerOf(a answer) eval.Answer {
	reason := a.reason()
	out := eval.Answer{Text: a.Text, Reason: reason, Refused: reason != "" && reason != "extractive", Evidence: a.Done.Evidence}
	for _, c := range a.Citations {
		k := eval.Citation{Sentence: runeSlice(a.Text, c.Sentence.Start, c.Sentence.End), Verdict: c.Verdict, Start: c.Start, End: c.End, Quote: c.Quote}
		if c.Document != nil && c.Source > 0 {
			k.Document, k.DocumentID = c.Document.URI, c.Document.ID
			s.ids.Store(k.Document, k.DocumentID)
		}
		out.Citations = append(out.Citations, k)
	}
	return out
}

// maxTextBytes bounds a document's text that is read to check quotes.
const maxTextBytes = 256 << 20

func (s *evalServer) Text(ctx context.Context, uri string) (string, error) {
	id, err := s.documentID(ctx, uri)
	if err != nil {
		return "", err
	}
	var text []byte
	err = patiently(ctx, evalTries, nil, func() error {
		resp, err := s.c.send(ctx, http.MethodGet, "/v1/documents/"+url.PathEscape(id)+"/text", nil, "", "text/plain")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err = io.ReadAll(io.LimitReader(resp.Body, maxTextBytes))
		return err
	})
	return string(text), err
}

func (s *evalServer) documentID(ctx context.Context, uri string) (string, error) {
	if id, ok := s.ids.Load(uri); ok {
		return id.(string), nil
	}
	var page struct {
		Documents []document `json:"documents"`
	}
	if err := s.c.getJSON(ctx, "/v1/documents", url.Values{"collection": {s.collection}, "uri": {uri}}, &page); err != nil {
		return "", err
	}
	if len(page.Documents) != 1 {
		return "", fmt.Errorf("the collection %s has no document %q: load it, or mend the URI in the questions", s.collection, uri)
	}
	return page.Documents[0].ID, nil
}
