package modelhost

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzPieces(f *testing.F) {
	f.Add("One sentence. Another!\n\nA paragraph without end", 8)
	f.Add("日本語。日本語。", 3)
	f.Add("\xff\xfe broken", 2)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		limit = max(1, limit%500)
		parts := pieces(text, limit)
		if strings.Join(parts, "") != text {
			t.Errorf("pieces(%q, %d) = %q, which is another text", text, limit, parts)
		}
		for _, p := range parts {
			if n := utf8.RuneCountInString(p); n > limit {
				t.Errorf("pieces(%q, %d) has one of %d characters: %q", text, limit, n, p)
			}
		}
	})
}

// FuzzMediaInput wants a request or a failure of the API from any body, never a panic and never another error.
func FuzzMediaInput(f *testing.F) {
	for _, body := range []string{`{"audio":[82,73,70,70]}`, `{"audio":"UklGRg==","language":"en","task":"transcribe"}`, `{"prompt":"a","image":[1,2],"num_steps":3}`,
		`{"prompt":"a","image_b64":"UklGRg==","mask":[]}`, "RIFF\x00\x00", "{", "null", ` [1]`} {
		f.Add([]byte(body), true)
	}
	schemas, err := loadSchemas()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte, turbo bool) {
		speech, err := readSpeech(body, turbo, schemas[TaskSpeech].input)
		if err == nil && len(speech.audio) == 0 {
			t.Errorf("readSpeech(%q) gave no audio and no error", body)
		}
		checkFailure(t, body, err)
		in, err := readImageInput(body, schemas[TaskImage].input)
		if err == nil && strings.TrimSpace(in.Prompt) == "" {
			t.Errorf("readImageInput(%q) gave no prompt and no error", body)
		}
		checkFailure(t, body, err)
	})
}

func checkFailure(t *testing.T, body []byte, err error) {
	t.Helper()
	if f, ok := err.(*failure); err != nil && (!ok || f.status != 400 || f.message == "") {
		t.Errorf("%q: %v, want a failure with 400", body, err)
	}
}
