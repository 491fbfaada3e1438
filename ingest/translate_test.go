package ingest_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/ingest"
	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/store/storetest"
	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

const m2m100 = "@cf/meta/m2m100-1.2b"

var spanishWords = strings.NewReplacer("La torre", "The tower", "se inclina", "leans", "porque", "because", "el suelo", "the soil", "es blando", "is soft")

// translates makes models that know the words of one sentence.
func translates(in workersai.TranslationInput) string {
	return "[" + in.SourceLang + ">" + in.TargetLang + "] " + spanishWords.Replace(in.Text)
}

// translating makes a collection whose documents are embedded in English.
func translating(t *testing.T, w world, s *ingest.Service) {
	t.Helper()
	if _, _, err := s.EnsureCollection(t.Context(), "default", store.Chunking{}); err != nil {
		t.Fatal(err)
	}
	if err := w.store.SetTranslation(t.Context(), "default", "en"); err != nil {
		t.Fatal(err)
	}
}

// TestTranslatedDocuments: the translation is embedded and its words are found, while the text and its offsets are the
// document's own. Documents in the collection's language are left alone.
func TestTranslatedDocuments(t *testing.T) {
	t.Parallel()
	w := newWorld(t, workersaitest.Translate(translates))
	s := w.start(t)
	translating(t, w, s)
	const spanish = "La torre se inclina porque el suelo es blando."
	done := wait(t, s, put(t, s, text("torre", spanish), store.Created).ID, store.StatusCompleted)
	if done.Language != "es" {
		t.Errorf("language %q, want es", done.Language)
	}
	const english = "[es>en] The tower leans because the soil is soft."
	if w.models.TextCount(english) != 1 || w.models.TextCount(spanish) != 0 {
		t.Errorf("embedded %q, want the translation alone", w.models.Texts())
	}
	c, err := w.store.Collection(t.Context(), "default")
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"leans", "inclina"} {
		found, err := w.store.Search(t.Context(), store.SearchQuery{Collection: c, Text: word, Mode: store.Lexical})
		if err != nil || len(found) != 1 || found[0].Text != spanish || found[0].Translation != english || found[0].End != len(spanish) {
			t.Errorf("Search(%q) = %+v, %v, want the Spanish text with its translation", word, found, err)
		}
	}
	for _, d := range []ingest.Document{text("tower", "The tower leans because its soil is soft."), text("numbers", "1173 1372 1990")} {
		wait(t, s, put(t, s, d, store.Created).ID, store.StatusCompleted)
		if w.models.TextCount(string(d.Source)) != 1 {
			t.Errorf("%s was not embedded as it is", d.URI)
		}
	}
	if calls := w.models.Calls(m2m100); calls != 1 {
		t.Errorf("%d translations, want 1", calls)
	}
	storetest.Invariants(t, w.store)
}

// TestTranslationIsASetting: changing it makes documents anew, and only then.
func TestTranslationIsASetting(t *testing.T) {
	t.Parallel()
	w := newWorld(t, workersaitest.Translate(translates))
	s := w.start(t)
	d := text("torre", "La torre se inclina porque el suelo es blando.")
	wait(t, s, put(t, s, d, store.Created).ID, store.StatusCompleted)
	put(t, s, d, store.Unchanged)
	translating(t, w, s)
	wait(t, s, put(t, s, d, store.Changed).ID, store.StatusCompleted)
	put(t, s, d, store.Unchanged)
	if err := w.store.SetTranslation(t.Context(), "default", ""); err != nil {
		t.Fatal(err)
	}
	id := wait(t, s, put(t, s, d, store.Changed).ID, store.StatusCompleted).ID
	chunks, err := w.store.Chunks(t.Context(), id)
	if err != nil || len(chunks) != 1 || chunks[0].Translation != "" {
		t.Errorf("chunks %+v, %v, want one without translation", chunks, err)
	}
	storetest.Invariants(t, w.store)
}

// TestLongTranslatedDocument: chunks that are staged keep their translations, and a failure costs no translation twice.
func TestLongTranslatedDocument(t *testing.T) {
	t.Parallel()
	w := newWorld(t, workersaitest.Translate(translates))
	s := w.start(t)
	translating(t, w, s)
	var b strings.Builder
	for i := range 120 * 12 {
		fmt.Fprintf(&b, "La torre número %d se inclina porque el suelo es blando.\n\n", i)
	}
	d := text("torres", b.String())
	w.models.Script(workersaitest.Step{Model: m2m100, Times: 50}, workersaitest.Step{Model: m2m100, Status: 404,
		Body: `{"result":{},"success":false,"errors":[{"code":7502,"message":"no engine"}],"messages":[]}`, Times: 4})
	failed := wait(t, s, put(t, s, d, store.Created).ID, store.StatusError)
	if failed.ErrorCode != ingest.CodeNoTranslator || !strings.Contains(failed.ErrorText, "FOOTNOTE_TRANSLATE_MODEL") {
		t.Errorf("error %s %q", failed.ErrorCode, failed.ErrorText)
	}
	w.models.Script(workersaitest.Step{Model: m2m100, Times: 4}) // behind what is left of the refusals
	for w.models.Scripted() > 1 {
		_, _ = w.models.Client(t).Translate(t.Context(), m2m100, "x", "es", "en")
	}
	done := wait(t, s, put(t, s, d, store.Changed).ID, store.StatusCompleted)
	chunks, err := w.store.Chunks(t.Context(), done.ID)
	if err != nil || len(chunks) < 101 {
		t.Fatalf("%d chunks, %v, want more than are staged at once", len(chunks), err)
	}
	for _, c := range chunks {
		if !strings.HasPrefix(c.Translation, "[es>en] The tower") || !strings.HasPrefix(c.Text, "La torre") {
			t.Fatalf("chunk %d: %.40q translated %.40q", c.Ordinal, c.Text, c.Translation)
		}
	}
	var asked []string
	for _, r := range w.models.Requests() {
		if r.Model == m2m100 {
			asked = append(asked, string(r.Body))
		}
	}
	slices.Sort(asked)
	if twice := len(asked) - len(slices.Compact(asked)); twice > 8 { // the refused ones, those beside them, and ours
		t.Errorf("%d of %d translations were asked for twice", twice, len(asked))
	}
	storetest.Invariants(t, w.store)
}

func TestTranslationThatIsTooLong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, workersaitest.Translate(func(workersai.TranslationInput) string { return strings.Repeat("word ", 2000) }),
		workersaitest.Limit(func(_, text string) (int, int) { return ingest.WordPiece().Count(text), 512 }))
	s := w.start(t)
	translating(t, w, s)
	wait(t, s, put(t, s, text("torre", "La torre se inclina porque el suelo es blando."), store.Created).ID, store.StatusCompleted)
}
