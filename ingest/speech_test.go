package ingest_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/ingest"
	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/store/storetest"
	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

const (
	whisper = "@cf/openai/whisper"
	wavRate = 8000
)

// tones is a WAV file with a tone in the first 0.7 of each second, whose level is the number of the second from 1.
func tones(seconds int) []byte {
	samples := make([]int16, seconds*wavRate)
	for s := range seconds {
		for i := range wavRate * 7 / 10 {
			samples[s*wavRate+i] = int16(s + 1)
		}
	}
	var b bytes.Buffer
	for _, v := range []any{[]byte("RIFF"), uint32(36 + 2*len(samples)), []byte("WAVEfmt "), uint32(16), uint16(1), uint16(1), uint32(wavRate),
		uint32(2 * wavRate), uint16(2), uint16(16), []byte("data"), uint32(2 * len(samples)), samples} {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

// hearTones is a speech model for tones: a whole tone is a sentence "word7.", a part of one is noise.
func hearTones(audio []byte) (out workersai.SpeechOutput) {
	samples := make([]int16, (len(audio)-44)/2)
	if err := binary.Read(bytes.NewReader(audio[44:]), binary.LittleEndian, samples); err != nil {
		return out
	}
	var all []string
	for i := 0; i < len(samples); {
		j := i
		for j < len(samples) && samples[j] == samples[i] {
			j++
		}
		if samples[i] != 0 {
			word := fmt.Sprintf("word%d.", samples[i])
			if j-i != wavRate*7/10 {
				word = "noise"
			}
			all = append(all, word)
			out.Words = append(out.Words, workersai.Word{Word: " " + word, Start: float64(i) / wavRate, End: float64(j) / wavRate})
		}
		i = j
	}
	out.Text = strings.Join(all, " ")
	return out
}

func recording(uri string, audio []byte) ingest.Document {
	return ingest.Document{URI: uri, Source: audio}
}

// TestRecordingsHaveTimes: a WAV file is cut at pauses, each word is heard once, and passages know when they were spoken.
func TestRecordingsHaveTimes(t *testing.T) {
	t.Parallel()
	const seconds = 150
	w := newWorld(t, workersaitest.Hear(hearTones))
	s := w.start(t)
	done := wait(t, s, put(t, s, recording("talk.wav", tones(seconds)), store.Created).ID, store.StatusCompleted)
	if done.MediaType != "audio/wav" {
		t.Errorf("media type %q, want audio/wav", done.MediaType)
	}
	text, err := w.store.DocumentText(t.Context(), done.ID)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range seconds {
		want = append(want, fmt.Sprintf("word%d.", i+1))
	}
	if got := strings.Join(strings.Fields(text), " "); got != strings.Join(want, " ") {
		t.Errorf("text %q, want each word once", got)
	}
	if n := strings.Count(text, "\n\n"); n < 1 || n > 4 {
		t.Errorf("%d paragraph breaks in %d characters, want a few", n, len(text))
	}
	if calls := w.models.Calls(whisper); calls != 3 {
		t.Errorf("%d calls for %d seconds, want 3", calls, seconds)
	}
	times, err := w.store.DocumentTimes(t.Context(), done.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []int{1, 59, 60, 61, 118, 150} { // around the cuts, too
		at := len([]rune(text[:strings.Index(text, fmt.Sprintf("word%d.", k))]))
		from, to, ok := times.Of(at, at+4)
		if !ok || from != float64(k-1) || to < from+0.69 || to > from+0.71 {
			t.Errorf("word%d was spoken at %v to %v (%v), want %d to %v", k, from, to, ok, k-1, float64(k)-0.3)
		}
	}
	c, err := w.store.Collection(t.Context(), "default")
	if err != nil {
		t.Fatal(err)
	}
	found, err := w.store.Search(t.Context(), store.SearchQuery{Collection: c, Text: "word77", Mode: store.Lexical})
	if err != nil || len(found) == 0 || !strings.Contains(found[0].Text, "word77.") {
		t.Fatalf("Search(word77) = %v, %v, want its passage", found, err)
	}
	if from, to, ok := found[0].Times.Of(found[0].Start, found[0].End); !ok || from > 76 || to < 76.7 {
		t.Errorf("the passage of word77 was spoken at %v to %v (%v)", from, to, ok)
	}
	storetest.Invariants(t, w.store)
}

// TestRecordingsThatCannotBeTranscribed: the document says why, keeps what was done, and is put again when that is mended.
func TestRecordingsThatCannotBeTranscribed(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		step workersaitest.Step
		code string
	}{
		"no engine":      {workersaitest.Step{Status: 404, Body: `{"result":{},"success":false,"errors":[{"code":7502,"message":"no engine: install one"}],"messages":[]}`}, ingest.CodeNoSpeechEngine},
		"no recording":   {workersaitest.Step{Status: 400, Body: `{"result":{},"success":false,"errors":[{"code":7504,"message":"not audio"}],"messages":[]}`}, ingest.CodeInvalidAudio},
		"too large":      {workersaitest.Step{Status: 413, Body: `{"result":{},"success":false,"errors":[{"code":7506,"message":"too large"}],"messages":[]}`}, ingest.CodeAudioTooLarge},
		"always failing": {workersaitest.Step{Status: 500, Body: `{}`, Times: -1}, ingest.CodeSpeechFailed},
		"silence":        {workersaitest.Step{Rewrite: func([]byte) []byte { return []byte(`{"result":{"text":" "},"success":true,"errors":[],"messages":[]}`) }, Times: 2}, ingest.CodeNoSpeech},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, workersaitest.Hear(hearTones))
			s := w.start(t)
			tt.step.Model = whisper
			if name != "silence" {
				w.models.Script(workersaitest.Step{Model: whisper})
			}
			w.models.Script(tt.step)
			audio := tones(100)
			got := wait(t, s, put(t, s, recording("a.wav", audio), store.Created).ID, store.StatusError)
			if got.ErrorCode != tt.code || got.ErrorText == "" {
				t.Errorf("error %s %q, want %s", got.ErrorCode, got.ErrorText, tt.code)
			}
			if name == "silence" || name == "always failing" {
				return
			}
			calls := w.models.Calls(whisper)
			wait(t, s, put(t, s, recording("a.wav", audio), store.Changed).ID, store.StatusCompleted)
			if again := w.models.Calls(whisper) - calls; again != 1 {
				t.Errorf("%d calls when put again, want 1: the first stretch was transcribed", again)
			}
			storetest.Invariants(t, w.store)
		})
	}
}

// TestRecordingWaitsForTheProvider: a rate limit is no error of the document, and texts do not wait for recordings.
func TestRecordingWaitsForTheProvider(t *testing.T) {
	t.Parallel()
	w := newWorld(t, workersaitest.Hear(hearTones))
	s := w.start(t, func(c *ingest.Config) { c.Workers = 1 })
	hold := make(chan struct{})
	w.models.Script(
		workersaitest.Step{Model: whisper, Status: http.StatusTooManyRequests, Body: `{"result":{},"success":false,"errors":[{"code":7505,"message":"slowly"}],"messages":[]}`},
		workersaitest.Step{Model: whisper, Hold: hold})
	talk := put(t, s, recording("a.wav", tones(5)), store.Created)
	w.models.WaitCalls(t, 3) // dimensions, refused, held
	wait(t, s, put(t, s, text("b", "A text."), store.Created).ID, store.StatusCompleted)
	close(hold)
	wait(t, s, talk.ID, store.StatusCompleted)
}

// TestKilledTranscription: what was transcribed before a crash is not transcribed again.
func TestKilledTranscription(t *testing.T) {
	t.Parallel()
	w, database := crashWorld(t, workersaitest.Hear(hearTones))
	s := w.service(t)
	talk := put(t, s, recording("a.wav", tones(170)), store.Created)
	asked := w.models.Calls("")
	w.models.Script(workersaitest.Step{Model: whisper, Times: 2}, workersaitest.Step{Model: whisper, Hold: make(chan struct{})})
	p := startProcess(t, workerSettings{Database: database, Models: w.models.BaseURL()})
	w.models.WaitCalls(t, asked+3)
	p.kill()
	begin(t, s)
	wait(t, s, talk.ID, store.StatusCompleted)
	if calls := w.models.Calls(whisper); calls != 4 {
		t.Errorf("%d calls, want 4: two before the kill, the one in flight, and that one again", calls)
	}
	storetest.Invariants(t, w.store)
}

func TestRecordingsWithoutWordTimes(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		out      workersai.SpeechOutput
		from, to float64
	}{
		"text alone": {workersai.SpeechOutput{Text: "The tower leans."}, 0, 5},
		"phrases": {workersai.SpeechOutput{Text: "It leans. The tower  stands.", Segments: []workersai.SpeechSegment{
			{Start: 0, End: 1, Text: " It leans."}, {Start: 2, End: 3.5, Text: " The tower  stands."}}}, 2, 3.5},
		"words of other text": {workersai.SpeechOutput{Text: "The tower", Words: []workersai.Word{{Word: "Le", Start: 0, End: 1}, {Word: "tower", Start: 2, End: 3}}}, 2, 3},
		"times of nonsense":   {workersai.SpeechOutput{Text: "The tower", Words: []workersai.Word{{Word: "The", Start: -1, End: 0}, {Word: "tower", Start: 4, End: 3}}}, 0, 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, workersaitest.Hear(func([]byte) workersai.SpeechOutput { return tt.out }))
			s := w.start(t)
			d := wait(t, s, put(t, s, recording("a.wav", tones(5)), store.Created).ID, store.StatusCompleted)
			text, err := w.store.DocumentText(t.Context(), d.ID)
			if err != nil {
				t.Fatal(err)
			}
			times, err := w.store.DocumentTimes(t.Context(), d.ID)
			if err != nil {
				t.Fatal(err)
			}
			at := strings.Index(text, "tower")
			if from, to, ok := times.Of(at, at+5); !ok || from != tt.from || to != tt.to {
				t.Errorf("%q: tower was spoken at %v to %v (%v), want %v to %v", text, from, to, ok, tt.from, tt.to)
			}
		})
	}
}

func TestDetectRecordings(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ source, want string }{
		{"RIFF\x00\x00\x00\x00WAVEfmt ", "audio/wav"},
		{"ID3\x04\x00\x00", "audio/mpeg"},
		{"\xff\xfb\x90\x00", "audio/mpeg"},
		{"\xff\xf3\x84\xc4", "audio/mpeg"},
		{"fLaC\x00\x00\x00\x22", "audio/flac"},
		{"OggS\x00\x02", "audio/ogg"},
		{"\x00\x00\x00\x20ftypM4A ", "audio/mp4"},
		{"\x1a\x45\xdf\xa3\x9fB\x86\x81", "audio/webm"},
		{"ID3 tags are metadata.", "text/plain"},
		{"\xff\xfea\x00b\x00", "text/plain"},
	} {
		if got, err := ingest.DetectMediaType("", "file", []byte(tt.source)); got != tt.want || err != nil {
			t.Errorf("DetectMediaType(%q) = %q, %v, want %q", tt.source, got, err, tt.want)
		}
	}
	if got, err := ingest.DetectMediaType("audio/webm; codecs=opus", "question", []byte("?")); got != "audio/webm" || err != nil {
		t.Errorf("declared WebM: %q, %v", got, err)
	}
}

// FuzzRecordings: whatever a WAV file says, its stretches together are its samples, none too large, none empty.
func FuzzRecordings(f *testing.F) {
	f.Add(tones(2))
	f.Add(tones(70))
	f.Add([]byte("RIFF\x00\x00\x00\x00WAVEdata\x00\x00\x00\x00"))
	f.Add(append([]byte("RIFF\xff\xff\xff\xffWAVEfmt \x10\x00\x00\x00\x01\x00\x02\x00\x10\x00\x00\x00\x40\x00\x00\x00\x04\x00\x10\x00data\xff\xff\xff\xff"), make([]byte, 5000)...))
	f.Fuzz(func(t *testing.T, source []byte) {
		total := 0
		for i, r := range ingest.Recordings(source) {
			if len(r.Audio) == 0 && len(source) > 0 {
				t.Fatalf("stretch %d is empty", i)
			}
			total += len(r.Audio)
		}
		if n := len(ingest.Recordings(source)); total > len(source)+n*(64+len(source)) {
			t.Fatalf("%d bytes became %d in %d stretches", len(source), total, n)
		}
	})
}
