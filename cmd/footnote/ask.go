package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// question is the body of POST /v1/answer.
type question struct {
	Collection string          `json:"collection,omitempty"`
	Question   string          `json:"question"`
	Filter     json.RawMessage `json:"filter,omitempty"`
	Limit      int             `json:"limit,omitempty"`
	Strict     bool            `json:"strict,omitempty"`
	Agentic    bool            `json:"agentic,omitempty"`
	Extractive bool            `json:"extractive,omitempty"`
	Judge      bool            `json:"judge,omitempty"`

	audio   []byte                     // the question as a recording
	ranking map[string]json.RawMessage // more fields of the request
}

// MarshalJSON adds the ranking's fields to the others.
func (q question) MarshalJSON() ([]byte, error) {
	type plain question
	b, err := json.Marshal(plain(q))
	if err != nil || len(q.ranking) == 0 {
		return b, err
	}
	all := maps.Clone(q.ranking)
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, err
	}
	return json.Marshal(all)
}

func (p *program) askCommand() *cobra.Command {
	var q question
	var filter, audio string
	cmd := &cobra.Command{
		Use:   "ask QUESTION",
		Short: "Ask a question; the answer streams, its footnotes follow",
		Long: `Ask a question of a collection. The answer streams to stdout, then its footnotes: for each sentence the verdict
of the checker, the document, the place and the quoted text. If the documents do not tell, the answer says so and no
model is called; the exit code is 0 all the same. With --json the server's events are printed, one a line.`,
		Example: `  footnote ask "How do I take a base backup?"
  footnote ask --strict --collection handbook "What is the notice period?"
  footnote ask --audio question.wav
  footnote ask --json "…" | jq -r 'select(.event=="delta").data.text'`,
		RunE: func(cmd *cobra.Command, a []string) error {
			q.Question = strings.Join(a, " ")
			if (q.Question == "") == (audio == "") {
				return usagef("give the question as words or, with --audio, as a recording")
			}
			var err error
			if audio != "" {
				if q.audio, err = os.ReadFile(audio); err != nil {
					return usagef("--audio: %v", err)
				}
			}
			if q.Filter, err = jsonFlag("--filter", filter); err != nil {
				return err
			}
			c, done, err := p.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			return p.ask(cmd.Context(), c, q)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&q.Collection, "collection", "c", "default", "the collection to ask")
	f.StringVar(&filter, "filter", "", `only documents whose metadata match, e.g. '{"team":{"$eq":"x"}}'`)
	f.StringVar(&audio, "audio", "", "a recording of the question: WAV, MP3, FLAC, OGG, M4A or WebM")
	f.IntVar(&q.Limit, "limit", 0, "passages given to the model (default: the server's)")
	f.BoolVar(&q.Strict, "strict", false, "drop sentences that the documents do not support")
	f.BoolVar(&q.Judge, "judge", false, "let the chat model judge sentences that the checker does not find supported")
	f.BoolVar(&q.Agentic, "agentic", false, "let the model search again and read on before it answers; its calls are shown")
	return cmd
}

// body is the question as JSON, or as a form with its recording.
func (q question) body() (io.Reader, string, error) {
	b, err := json.Marshal(q)
	if err != nil || q.audio == nil {
		return bytes.NewReader(b), "application/json", err
	}
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	file, err := w.CreateFormFile("audio", "question")
	if err == nil {
		_, err = file.Write(q.audio)
	}
	return &form, w.FormDataContentType(), errors.Join(err, w.WriteField("request", string(b)), w.Close())
}

func jsonFlag(name, v string) (json.RawMessage, error) {
	if v == "" {
		return nil, nil
	}
	if !json.Valid([]byte(v)) {
		return nil, usagef("%s is not JSON: %s", name, v)
	}
	return json.RawMessage(v), nil
}

// citation is the API's citation.
type citation struct {
	Sentence struct{ Start, End int } `json:"sentence"`
	Verdict  string                   `json:"verdict"`
	Score    float64                  `json:"score"`
	Source   int                      `json:"source"`
	Document *struct {
		ID    string `json:"id"`
		URI   string `json:"uri"`
		Title string `json:"title"`
	} `json:"document"`
	Start int     `json:"start"`
	End   int     `json:"end"`
	Quote string  `json:"quote"`
	Time  *spoken `json:"time"`
}

// answerDone is the data of the event "done".
type answerDone struct {
	Grounded bool            `json:"grounded"`
	Reason   *string         `json:"reason"`
	Best     json.RawMessage `json:"best,omitempty"`
	Evidence float64         `json:"evidence"`
	Usage    struct {
		PromptTokens     int `json:"prompt_tokens"`
		CompletionTokens int `json:"completion_tokens"`
	} `json:"usage"`
	Timings struct {
		SearchMS     float64 `json:"search_ms"`
		FirstTokenMS float64 `json:"first_token_ms"`
		TotalMS      float64 `json:"total_ms"`
	} `json:"timings"`
}

// answer is a streamed answer put together.
type answer struct {
	Text      string
	Sources   []passage
	Citations []citation
	Done      answerDone
}

// reason why the answer is not the model's, "" if it is.
func (a answer) reason() string {
	if a.Done.Reason == nil {
		return ""
	}
	return *a.Done.Reason
}

// ask prints the answer as it streams, then its footnotes.
func (p *program) ask(ctx context.Context, c *client, q question) error {
	if p.json {
		return p.askJSON(ctx, c, q)
	}
	a, err := streamAnswer(ctx, c, q, func(text string) { fmt.Fprint(p.stdout, text) }, p.showStep)
	if a.Text != "" && !strings.HasSuffix(a.Text, "\n") {
		fmt.Fprintln(p.stdout)
	}
	if err != nil {
		return err
	}
	printFootnotes(p.stdout, a)
	p.errorf("\nsearch %.0f ms, first token %.0f ms, all %.1f s, %d + %d tokens", a.Done.Timings.SearchMS,
		a.Done.Timings.FirstTokenMS, a.Done.Timings.TotalMS/1000, a.Done.Usage.PromptTokens, a.Done.Usage.CompletionTokens)
	return nil
}

func (p *program) askJSON(ctx context.Context, c *client, q question) error {
	enc := json.NewEncoder(p.stdout)
	for ev, err := range c.stream(ctx, "/v1/answer", q) {
		if err != nil {
			return err
		}
		if err := enc.Encode(map[string]any{"event": ev.Name, "data": json.RawMessage(ev.Data)}); err != nil {
			return err
		}
		if ev.Name == "error" {
			return &quietError{exitServer}
		}
	}
	return nil
}

// step is the data of the event "step".
type step struct {
	Step      string          `json:"step"`
	From      string          `json:"from"`
	To        string          `json:"to"`
	Parts     []string        `json:"parts"`
	Tool      string          `json:"tool"`
	Arguments json.RawMessage `json:"arguments"`
	Note      string          `json:"note"`
	Found     []struct {
		URI string `json:"uri"`
	} `json:"found"`
}

// showStep tells on stderr what was done with a question, and what the model looked up.
func (p *program) showStep(s step) {
	note := ""
	if s.Note != "" {
		note = " (" + s.Note + ")"
	}
	switch {
	case s.Tool != "":
		p.errorf("%s %s: %d passages %s", s.Tool, clip(oneLine(string(s.Arguments)), 120), len(s.Found), s.Note)
	case s.Step == "transcribe":
		p.errorf("heard: %s", oneLine(s.To))
	case s.Step == "rewrite" && s.To != "":
		p.errorf("understood as: %s%s", oneLine(s.To), note)
	case s.Step == "spelling" && s.To != "":
		p.errorf("corrected: %s to %s%s", s.From, s.To, note)
	case s.Step == "translate" && s.To != "":
		p.errorf("translated: %s%s", oneLine(s.To), note)
	case len(s.Parts) > 0:
		p.errorf("searched for: %s%s", oneLine(strings.Join(s.Parts, " | ")), note)
	default:
		p.errorf("%s%s", s.Step, note)
	}
}

// streamAnswer collects an answer, handing on its text and steps as they arrive.
func streamAnswer(ctx context.Context, c *client, q question, onText func(string), onStep func(step)) (answer, error) {
	var a answer
	for ev, err := range c.stream(ctx, "/v1/answer", q) {
		if err != nil {
			return a, err
		}
		if ev.Name == "step" {
			var s step
			if json.Unmarshal(ev.Data, &s) == nil { // a step is shown, never needed
				onStep(s)
			}
			continue
		}
		if err := a.add(ev, onText); err != nil {
			return a, err
		}
	}
	return a, nil
}

func (a *answer) add(ev sseEvent, onText func(string)) error {
	var err error
	switch ev.Name {
	case "sources":
		if bytes.HasPrefix(bytes.TrimSpace(ev.Data), []byte("[")) {
			err = json.Unmarshal(ev.Data, &a.Sources)
		} else {
			err = json.Unmarshal(ev.Data, &struct {
				Sources *[]passage `json:"sources"`
			}{&a.Sources})
		}
	case "delta":
		var d struct {
			Text string `json:"text"`
		}
		err = json.Unmarshal(ev.Data, &d)
		a.Text += d.Text
		onText(d.Text)
	case "citation":
		var c citation
		err = json.Unmarshal(ev.Data, &c)
		a.Citations = append(a.Citations, c)
	case "done":
		err = json.Unmarshal(ev.Data, &a.Done)
	case "error":
		e := &apiError{Status: 502}
		if json.Unmarshal(ev.Data, &struct{ Error any }{&e.Body}) != nil || e.Body.Message == "" {
			return errors.New("the answer failed: " + string(ev.Data))
		}
		return e
	}
	return err
}

// printFootnotes lists each sentence's verdict with the quote that bears it.
func printFootnotes(w io.Writer, a answer) {
	switch reason := a.reason(); reason {
	case "":
	case "extractive": // the documents' own sentences: the model's were not supported, or there is no model
		fmt.Fprint(w, "\n(quoted from the documents)\n")
	default:
		fmt.Fprintf(w, "\n(no answer: %s)\n", reason)
		return
	}
	fmt.Fprintln(w)
	for i, c := range a.Citations {
		if c.Verdict == "unsupported" || c.Source == 0 || c.Document == nil {
			fmt.Fprintf(w, "[%d] %s: no passage supports “%s”\n", i+1, c.Verdict, clip(oneLine(runeSlice(a.Text, c.Sentence.Start, c.Sentence.End)), 120))
			continue
		}
		fmt.Fprintf(w, "[%d] %s (%.2f): %s\n", i+1, c.Verdict, c.Score, place(a, c))
		fmt.Fprintf(w, "    “%s”\n", clip(oneLine(c.Quote), 300))
	}
}

// place names document, section, time of a recording and characters of a citation.
func place(a answer, c citation) string {
	s := c.Document.URI
	if c.Document.Title != "" {
		s = c.Document.Title + ", " + s
	}
	if c.Source <= len(a.Sources) {
		if h := a.Sources[c.Source-1].Heading; len(h) > 0 {
			s += " § " + strings.Join(h, " › ")
		}
	}
	if c.Time != nil {
		s += " at " + c.Time.String()
	}
	return fmt.Sprintf("%s, characters %d–%d", s, c.Start, c.End)
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// clip shortens s to n code points.
func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return strings.TrimSpace(string(r[:n])) + "…"
	}
	return s
}

func runeSlice(s string, start, end int) string {
	r := []rune(s)
	start, end = min(max(start, 0), len(r)), min(max(end, 0), len(r))
	return string(r[start:max(start, end)])
}
