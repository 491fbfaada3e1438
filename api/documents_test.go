package api_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

func TestDocumentLife(t *testing.T) {
	t.Parallel()
	w := setup(t)
	put := w.add("notes/a.md", handbook)
	if put.Outcome != "created" || put.Collection != "default" || put.URI != "notes/a.md" {
		t.Errorf("put = %+v", put)
	}
	var doc struct {
		Status, SHA256, Title string
		Chunks                int
		Metadata              map[string]any
		Error                 any
	}
	w.into(w.get("/v1/documents/"+put.ID), 200, &doc)
	if hash := sha256.Sum256([]byte(handbook)); doc.Status != "completed" || doc.SHA256 != hex.EncodeToString(hash[:]) || doc.Chunks == 0 || doc.Error != nil {
		t.Errorf("document = %+v", doc)
	}
	source := w.get("/v1/documents/" + put.ID + "/source")
	if string(source.body) != handbook || source.Header.Get("Content-Type") != "application/octet-stream" ||
		!strings.HasPrefix(source.Header.Get("Content-Disposition"), "attachment") || source.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("source: %v %.80s", source.Header, source.body)
	}
	w.checkChunks(put.ID)

	var again putReply
	w.into(w.send("POST", "/v1/documents?uri=notes/a.md&title=Title+of+notes/a.md", "text/markdown", strings.NewReader(handbook)), 200, &again)
	if again.Outcome != "unchanged" || again.ID != put.ID {
		t.Errorf("same bytes again = %+v", again)
	}
	w.into(w.send("DELETE", "/v1/documents/"+put.ID, "", nil), 204, nil)
	w.refused(w.get("/v1/documents/"+put.ID), 404, "document_not_found")
	w.refused(w.send("DELETE", "/v1/documents/"+put.ID, "", nil), 404, "document_not_found")
}

// checkChunks compares every chunk with the extracted text at its code points.
func (w *world) checkChunks(id string) {
	w.Helper()
	text := []rune(string(w.get("/v1/documents/" + id + "/text").body))
	var list struct {
		Chunks []struct {
			Ordinal, Start, End int
			Text                string
		}
	}
	w.into(w.get("/v1/documents/"+id+"/chunks"), 200, &list)
	if len(list.Chunks) == 0 {
		w.Fatal("no chunks")
	}
	for _, c := range list.Chunks {
		if got := string(text[c.Start:c.End]); got != c.Text {
			w.Errorf("chunk %d: text[%d:%d] = %q, want %q", c.Ordinal, c.Start, c.End, got, c.Text)
		}
	}
}

func TestMultipart(t *testing.T) {
	t.Parallel()
	w := setup(t)
	form := func(parts ...[3]string) (string, io.Reader) { // name, file name, content
		var b bytes.Buffer
		m := multipart.NewWriter(&b)
		for _, p := range parts {
			var out io.Writer
			if p[1] == "" {
				out, _ = m.CreateFormField(p[0])
			} else {
				out, _ = m.CreateFormFile(p[0], p[1])
			}
			_, _ = io.WriteString(out, p[2])
		}
		m.Close()
		return m.FormDataContentType(), &b
	}
	t.Run("one file, fields behind it", func(t *testing.T) {
		kind, body := form([3]string{"file", "../../etc/a.md", handbook}, [3]string{"uri", "", "b/a.md"}, [3]string{"metadata", "", `{"team":"x"}`})
		var p putReply
		w.into(w.send("POST", "/v1/documents?wait=60s", kind, body), 200, &p)
		if p.URI != "b/a.md" || p.Status != "completed" {
			t.Errorf("put = %+v", p)
		}
	})
	t.Run("several files, one bad", func(t *testing.T) {
		kind, body := form([3]string{"file", "one.txt", "one"}, [3]string{"file", "empty.txt", ""}, [3]string{"file", "../x/two.txt", "two"})
		var list struct{ Documents []putReply }
		w.into(w.send("POST", "/v1/documents", kind, body), 202, &list)
		if len(list.Documents) != 3 || list.Documents[0].Outcome != "created" || list.Documents[1].Error == nil ||
			list.Documents[1].Error.Code != "empty_document" || list.Documents[2].URI != "two.txt" {
			t.Errorf("documents = %+v", list.Documents)
		}
	})
	t.Run("unknown field", func(t *testing.T) {
		kind, body := form([3]string{"titel", "", "x"}, [3]string{"file", "one.txt", "one"})
		w.refused(w.send("POST", "/v1/documents", kind, body), 400, "unknown_field")
	})
	t.Run("cut", func(t *testing.T) {
		kind, body := form([3]string{"file", "cut.txt", "half of it"})
		b, _ := io.ReadAll(body)
		w.refused(w.send("POST", "/v1/documents", kind, bytes.NewReader(b[:len(b)-20])), 400, "invalid_request")
		if docs := w.list("uri=cut.txt"); len(docs) != 0 {
			t.Errorf("a cut upload left %v", docs)
		}
	})
}

func (w *world) list(query string) []putReply {
	w.Helper()
	var page struct {
		Documents  []putReply
		NextCursor *string `json:"next_cursor"`
	}
	w.into(w.get("/v1/documents?"+query), 200, &page)
	return page.Documents
}

func TestListPagesThroughAll(t *testing.T) {
	t.Parallel()
	w := setup(t)
	if docs := w.list(""); len(docs) != 0 {
		t.Errorf("a fresh server lists %v", docs)
	}
	for i := range 5 {
		w.into(w.post("/v1/documents", fmt.Sprintf(`{"uri":"p/%d","text":"text number %d"}`, i, i)), 202, nil)
	}
	var seen []string
	for cursor := ""; ; {
		var page struct {
			Documents  []putReply
			NextCursor *string `json:"next_cursor"`
		}
		w.into(w.get("/v1/documents?limit=2&uri_prefix=p/&cursor="+cursor), 200, &page)
		for _, d := range page.Documents {
			seen = append(seen, d.URI)
		}
		if page.NextCursor == nil {
			break
		}
		cursor = *page.NextCursor
	}
	if got := strings.Join(seen, " "); got != "p/0 p/1 p/2 p/3 p/4" {
		t.Errorf("pages = %s", got)
	}
}

func TestBulkStreamsLineByLine(t *testing.T) {
	t.Parallel()
	w := setup(t)
	lines, feed := io.Pipe()
	r, _ := http.NewRequestWithContext(t.Context(), "POST", w.url+"/v1/documents?collection=bulk", lines)
	r.Header.Set("Content-Type", "application/x-ndjson")
	got := make(chan *http.Response, 1)
	go func() {
		resp, err := w.client.Do(r)
		if err != nil {
			t.Error(err)
		}
		got <- resp
	}()
	_, _ = io.WriteString(feed, `{"uri":"1","text":"first"}`+"\n")
	resp := <-got
	defer resp.Body.Close()
	replies := json.NewDecoder(resp.Body)
	next := func() (p putReply) {
		t.Helper()
		if err := replies.Decode(&p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	if p := next(); p.Line != 1 || p.Outcome != "created" || p.Collection != "bulk" { // answered while the body is open
		t.Errorf("line 1 = %+v", p)
	}
	_, _ = io.WriteString(feed, "{\"uri\":\"2\",\n\n"+`{"uri":"4","text":"x","colour":1}`+"\n"+`{"uri":"1","text":"first"}`+"\n"+`{"uri":"6","text":"last, without line break"}`)
	feed.Close()
	for i, want := range []string{"2 invalid_json", "4 unknown_field", "5 unchanged", "6 created"} {
		p := next()
		got := fmt.Sprint(p.Line, " ", p.Outcome)
		if p.Error != nil {
			got = fmt.Sprint(p.Line, " ", p.Error.Code)
		}
		if got != want {
			t.Errorf("reply %d = %s, want %s", i+2, got, want)
		}
	}
	if _, err := replies.Token(); err != io.EOF {
		t.Errorf("after the last reply: %v", err)
	}
}

func TestBulkSkipsLongLine(t *testing.T) {
	t.Parallel()
	w := setup(t, small)
	body := `{"uri":"long","text":"` + strings.Repeat("x", 3<<20) + "\"}\n" + `{"uri":"short","text":"fine"}` + "\n"
	r := w.send("POST", "/v1/documents", "application/x-ndjson", strings.NewReader(body))
	lines := strings.Split(strings.TrimSpace(string(r.body)), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "document_too_large") || !strings.Contains(lines[1], `"created"`) {
		t.Errorf("replies = %q", lines)
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	w := setup(t)
	hash := func(s string) string { h := sha256.Sum256([]byte(s)); return hex.EncodeToString(h[:]) }
	plan := func() string {
		var out struct{ Documents []putReply }
		w.into(w.post("/v1/documents/plan", fmt.Sprintf(`{"documents":[{"uri":"a","sha256":%q},{"uri":"b","sha256":%q},{"uri":"c","sha256":%q}]}`,
			hash("alpha"), hash("new beta"), hash("gamma"))), 200, &out)
		var s []string
		for _, d := range out.Documents {
			s = append(s, d.URI+" "+d.Outcome)
		}
		return strings.Join(s, ", ")
	}
	if got := plan(); got != "a created, b created, c created" {
		t.Errorf("plan on an empty server = %s", got)
	}
	w.into(w.send("POST", "/v1/documents?uri=a&wait=60s", "text/plain", strings.NewReader("alpha")), 200, nil)
	w.into(w.send("POST", "/v1/documents?uri=b&wait=60s", "text/plain", strings.NewReader("beta")), 200, nil)
	if got := plan(); got != "a unchanged, b changed, c created" {
		t.Errorf("plan = %s", got)
	}
	w.refused(w.post("/v1/documents/plan", `{"documents":[{"uri":"a","sha256":"12"}]}`), 400, "invalid_request")
}

func TestCollections(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.into(w.post("/v1/collections", `{"name":"handbook","chunking":{"max_tokens":128,"overlap":16}}`), 201, nil)
	w.into(w.post("/v1/collections", `{"name":"handbook"}`), 200, nil)
	w.into(w.post("/v1/documents?collection=handbook&wait=60s", `{"uri":"a","text":"words"}`), 200, nil)
	var k struct {
		Name      string
		Documents int
		Status    map[string]int
		Chunking  struct {
			MaxTokens int `json:"max_tokens"`
		}
	}
	w.into(w.get("/v1/collections/handbook"), 200, &k)
	if k.Name != "handbook" || k.Documents != 1 || k.Status["completed"] != 1 || k.Chunking.MaxTokens != 128 {
		t.Errorf("collection = %+v", k)
	}
	w.into(w.send("DELETE", "/v1/collections/handbook", "", nil), 204, nil)
	w.refused(w.get("/v1/collections/handbook"), 404, "collection_not_found")
	w.refused(w.post("/v1/collections", `{"name":"../x"}`), 400, "invalid_collection")
	w.refused(w.post("/v1/collections", `{"name":"x","chunking":{"max_tokens":600}}`), 400, "invalid_request")
	w.refused(w.post("/v1/collections", `{"name":"x","chunking":{"context":"summary"}}`), 400, "invalid_document") // there is no chat model
}

// TestSummariesAreShown beside the text, of which they are no part.
func TestSummariesAreShown(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.into(w.post("/v1/documents?wait=60s", `{"uri":"a","text":"words"}`), 200, nil)
	k, err := w.store.Collection(t.Context(), "default")
	if err != nil {
		t.Fatal(err)
	}
	d, _, err := w.store.PutDocument(t.Context(), store.NewDocument{Collection: k, URI: "b", Source: []byte("clay"), SHA256: make([]byte, 32)},
		func(context.Context, pgx.Tx, store.Document) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	chunk := store.Chunk{End: 4, Text: "clay", Summary: "From the hydrology handbook.", SummaryInput: make([]byte, 32), Embedding: bagOfWords("clay", k.Space.Dimensions)}
	if err := w.store.Complete(t.Context(), store.Completion{DocumentID: d.ID, Revision: d.Revision, Text: "clay", Chunks: []store.Chunk{chunk}, Total: 1}); err != nil {
		t.Fatal(err)
	}
	type shown struct{ Text, Summary string }
	var chunks struct{ Chunks []shown }
	w.into(w.get("/v1/documents/"+d.ID+"/chunks"), 200, &chunks)
	var found struct{ Passages []shown }
	w.into(w.post("/v1/search", `{"query":"hydrology","mode":"lexical"}`), 200, &found)
	for name, got := range map[string][]shown{"chunks": chunks.Chunks, "passages": found.Passages} {
		if len(got) != 1 || got[0] != (shown{"clay", chunk.Summary}) {
			t.Errorf("%s = %+v, want the text and, apart, its summary", name, got)
		}
	}
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.headers.Set("Idempotency-Key", "once")
	first := w.post("/v1/documents", `{"uri":"a","text":"one"}`)
	w.into(first, 202, nil)
	replies := make(chan reply, 20)
	for range cap(replies) {
		go func() { replies <- w.post("/v1/documents", `{"uri":"a","text":"one"}`) }()
	}
	for range cap(replies) {
		if r := <-replies; r.StatusCode != 202 || !bytes.Equal(r.body, first.body) {
			t.Errorf("repeated = %d %s, want %s", r.StatusCode, r.body, first.body)
		}
	}
	w.refused(w.post("/v1/documents", `{"uri":"b","text":"two"}`), 422, "idempotency_key_reused")
	w.headers.Del("Idempotency-Key")
	if docs := w.list(""); len(docs) != 1 {
		t.Errorf("documents = %v", docs)
	}
}

type waitingReply struct {
	ID, Status string
	Waiting    *struct {
		For, Reason string
		Until       time.Time
	}
}

// wantWaiting looks at a collection's only document until it says what it waits for.
func (w *world) wantWaiting(collection, kind, reason string) {
	w.Helper()
	var list struct{ Documents []waitingReply }
	for start := time.Now(); len(list.Documents) == 0 || list.Documents[0].Waiting == nil; {
		if time.Since(start) > 20*time.Second {
			w.Fatalf("documents %+v do not say that they wait for %s", list.Documents, kind)
		}
		w.into(w.get("/v1/documents?collection="+collection), 200, &list)
	}
	got := *list.Documents[0].Waiting
	if got.For != kind || !strings.Contains(got.Reason, reason) || time.Until(got.Until) > time.Hour || time.Since(got.Until) > time.Minute {
		w.Errorf("document waits for %+v, want %s, %q and a time soon", got, kind, reason)
	}
}

// TestDocumentSaysWhatItWaitsFor: whoever looks at a document that does not get on sees why, and until when.
func TestDocumentSaysWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.into(w.post("/v1/collections", `{"name":"default"}`), 201, nil)
	w.models.Script(workersaitest.Capacity("7"))
	var put putReply
	w.into(w.post("/v1/documents", `{"uri":"a.md","text":"Tea is grown in Assam."}`), 202, &put)
	w.wantWaiting("default", "embed", "Capacity temporarily exceeded")
	var d waitingReply
	if w.into(w.get("/v1/documents/"+put.ID), 200, &d); d.Waiting == nil || d.Waiting.For != "embed" {
		t.Errorf("document %+v alone, want it to say what it waits for", d)
	}
	d = waitingReply{}
	w.into(w.get("/v1/documents/"+put.ID+"?wait=60s"), 200, &d)
	if d.Status != "completed" || d.Waiting != nil {
		t.Errorf("document %+v, want it done, waiting for nothing", d)
	}
}
