package api_test

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/api"
	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

// speech is a WAV file, which the models of a test hear as its text: the words in its samples.
func speech(words string) []byte {
	if len(words)%2 == 1 {
		words += " "
	}
	le := binary.LittleEndian
	b := append(le.AppendUint32([]byte("RIFF"), uint32(36+len(words))), "WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00data"...)
	return append(le.AppendUint32(b, uint32(len(words))), words...)
}

// hears makes models that hear speech, a word every half second.
func hears(c *api.Config, m *[]workersaitest.Option) {
	*m = append(*m, workersaitest.Hear(func(audio []byte) workersai.SpeechOutput {
		out := workersai.SpeechOutput{Text: strings.TrimSpace(string(audio[44:]))}
		for i, word := range strings.Fields(out.Text) {
			out.Words = append(out.Words, workersai.Word{Word: word, Start: float64(i) / 2, End: float64(i)/2 + 0.4})
		}
		return out
	}))
}

type timedReply struct {
	Time  *struct{ Start, End float64 }
	Text  string
	Quote string
}

// TestFootnotesOfRecordingsHaveTimes: passages and citations tell when they were spoken, those of other documents do not.
func TestFootnotesOfRecordingsHaveTimes(t *testing.T) {
	t.Parallel()
	w := setup(t, hears)
	var p putReply
	talk := "Welcome to the lecture. The tower of Pisa leans because its soil is soft. Thank you."
	w.into(w.send("POST", "/v1/documents?wait=60s&uri=talk.wav", "audio/wav", strings.NewReader(string(speech(talk)))), 200, &p)
	if p.Status != "completed" {
		t.Fatalf("the recording ended %+v %+v", p, p.Error)
	}
	w.add("handbook.md", handbook)

	var answer struct {
		Sources, Citations []timedReply
	}
	w.into(w.post("/v1/answer", `{"question":"Why does the tower of Pisa lean?","extractive":true}`), 200, &answer)
	if len(answer.Citations) == 0 {
		t.Fatal("no citation")
	}
	c := answer.Citations[0]
	first := len(strings.Fields(talk[:strings.Index(talk, "The tower")]))
	last := first + len(strings.Fields(c.Quote)) - 1
	if c.Time == nil || c.Time.Start != float64(first)/2 || math.Abs(c.Time.End-(float64(last)/2+0.4)) > 0.001 {
		t.Errorf("%q was spoken at %+v, want %v to %v", c.Quote, c.Time, float64(first)/2, float64(last)/2+0.4)
	}
	var found struct{ Passages []timedReply }
	w.into(w.post("/v1/search", `{"query":"tower receipts"}`), 200, &found)
	for _, p := range found.Passages {
		if (p.Time != nil) != strings.Contains(p.Text, "tower") {
			t.Errorf("passage %.40q has time %v", p.Text, p.Time)
		}
	}
}
