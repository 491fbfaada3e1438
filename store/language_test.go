package store_test

import (
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/store"
)

func TestDetectLanguage(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"How do I take a base backup?":                                    "en",
		"A Note on Virtual Memory Indexes":                                "",
		"Comment on Average Binary Search Length":                         "",
		"FORTRAN IV as a Syntax Language":                                 "",
		"What is WAL?":                                                    "en",
		"How long are receipts kept?":                                     "en",
		"Why does the tower lean?":                                        "en",
		"¿Cómo hago una copia de seguridad?":                              "es",
		"¿Qué es un índice?":                                              "es",
		"Cuanto tiempo se guardan los recibos":                            "es",
		"¿Por qué se inclina la torre?":                                   "es",
		"Wie lange werden die Belege aufbewahrt?":                         "de",
		"Combien de temps garde-t-on les reçus ?":                         "fr",
		"Quanto tempo são guardados os recibos?":                          "pt",
		"Perché la torre è inclinata e come è stata raddrizzata?":         "it",
		"Hoe lang worden de bonnen bewaard?":                              "nl",
		"Почему башня наклонена?":                                         "ru",
		"なぜ塔は傾いているのですか":                                                   "ja",
		"塔为什么倾斜":                                                          "zh",
		"탑은 왜 기울어져 있습니까":                                                  "ko",
		"لماذا يميل البرج":                                                "ar",
		"VACUUM":                                                          "",
		"pg_stat_activity":                                                "",
		"":                                                                "",
		strings.Repeat(`prompt = "\n\nHuman: Hello\n\nAssistant:" `, 20):  "",
		strings.Repeat(`la.x = un.z; `, 20):                               "",
		"func main() { fmt.Println(x) }":                                  "",
		"Berlin 3,645,000; Hamburg 1,841,000":                             "",
		"The Cyrillic letter Д and the Greek letter Ω are in this text":   "en",
		strings.Repeat("The tower leans because its soil is soft. ", 1e5): "en",
	} {
		if got := store.DetectLanguage(text); got != want {
			t.Errorf("DetectLanguage(%.60q) = %q, want %q", text, got, want)
		}
	}
}

func FuzzDetectLanguage(f *testing.F) {
	f.Add("¿Qué es un índice?")
	f.Fuzz(func(t *testing.T, text string) {
		if got := store.DetectLanguage(text); len(got) != 0 && len(got) != 2 || got != store.DetectLanguage(text) {
			t.Errorf("DetectLanguage(%q) = %q, and another time %q", text, got, store.DetectLanguage(text))
		}
	})
}

func TestStopWordsOfAQuestionAreNotRareWordsOfAnotherLanguage(t *testing.T) {
	t.Parallel()
	s, c := setup(t)
	load(t, s, c, "en.md", "the libraries that are used for testing\nhow the weather is in the north\nwhat the tests are for")
	d := newDocument(c, "fr.md", "des mots: what the tests are")
	d.Language = "fr"
	doc, _, err := s.PutDocument(t.Context(), d, noQueue)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.BeginWork(t.Context(), doc.ID, doc.Revision); err != nil {
		t.Fatal(err)
	}
	foreign := chunksOf("pour les mots the and for are in what that is")
	if err := s.Complete(t.Context(), store.Completion{DocumentID: doc.ID, Revision: doc.Revision, Text: "x", Chunks: foreign, Total: len(foreign)}); err != nil {
		t.Fatal(err)
	}
	got, err := s.Search(t.Context(), store.SearchQuery{Collection: fresh(t, s), Text: "what are the libraries for testing that is in the north", Mode: store.Lexical})
	if err != nil {
		t.Fatal(err)
	}
	if got[0].URI != "en.md" {
		t.Errorf("the first passage is %q", got[0].Text)
	}
}
