package retrieval

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/workersai"
)

const (
	// contextRetries: after "context exceeded" the prompt is halved this many times, before the first token only.
	contextRetries = 3
	// extractedSentences make an answer without a model.
	extractedSentences = 3
)

const (
	noEvidenceText      = "The documents do not tell."
	emptyCollectionText = "There are no documents to answer from yet."
)

// Answer streams a grounded answer. Breaking out of the loop cancels the work behind it. Besides the errors of Search it
// ends with those of workersai, io.ErrUnexpectedEOF for a stream that was cut among them; Done never follows an error.
func (s *Service) Answer(ctx context.Context, q Question) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		a := answering{s: s, q: q, start: time.Now(), yield: yield}
		defer a.verdicts.running.Wait()
		defer cancel()
		if err := a.run(ctx); err != nil && !errors.Is(err, errLeft) {
			yield(nil, err)
		}
	}
}

// errLeft: the consumer broke out of the loop; nothing may be yielded any more.
var errLeft = errors.New("consumer left")

// answering is one answer in the making.
type answering struct {
	s     *Service
	q     Question
	start time.Time
	yield func(Event, error) bool

	byRule bool // follow-ups are completed without the chat model

	parts      []string        // of the question, where it asks for several things
	query      string          // what was searched for
	hits       []store.Passage // as the search found them
	researched Usage           // tokens that the model's own search took

	interpreter *interpreter // nil: the asker speaks the documents' language

	passages  []store.Passage
	checker   *Checker
	verdicts  verdicts
	marks     markFilter
	splitter  Splitter
	text      []rune // of the model, without marks
	lead      int    // blanks before the text, dropped
	seen      int    // runes of text already judged
	shown     strings.Builder
	length    int // runes shown
	claims    int
	refuted   int // unsupported sentences shown
	supported int
	said      map[string]bool // sentences of a small model
	declined  bool
	done      Done
}

func (a *answering) emit(e Event) error {
	if !a.yield(e, nil) {
		return errLeft
	}
	return nil
}

func (a *answering) run(ctx context.Context) error {
	if err := checkQuestion(a.q.Question); err != nil {
		return err
	}
	collection, err := a.s.collection(ctx, a.q.Collection)
	if err != nil {
		return err
	}
	for _, step := range a.q.Steps {
		if err := a.emit(step); err != nil {
			return err
		}
	}
	if err := a.find(ctx, collection); err != nil {
		return err
	}
	if a.q.Agentic {
		if err := a.research(ctx, collection); err != nil {
			return err
		}
	}
	if err := a.emit(Sources{Passages: a.passages, Degraded: a.done.Degraded}); err != nil {
		return err
	}
	if a.done.Reason != "" {
		return a.refuse()
	}
	a.prepareChecks()
	if a.q.Extractive || a.s.cfg.Extractive {
		return a.extract()
	}
	if err := a.generate(ctx); err != nil {
		return err
	}
	if err := a.backUp(); err != nil {
		return err
	}
	return a.finish()
}

// find fills the passages and decides whether the model is worth calling.
func (a *answering) find(ctx context.Context, c store.Collection) error {
	if a.q.Limit <= 0 {
		a.q.Limit = defaultPassages
	}
	queries, err := a.understand(ctx, c)
	if err != nil {
		return err
	}
	found, err := a.searchAll(ctx, c, queries)
	if err != nil {
		return err
	}
	a.done.Timings.SearchMS = milliseconds(a.start)
	a.done.Degraded, a.done.Threshold = found.Degraded, cmp.Or(a.q.Threshold, a.s.cfg.Threshold)
	inOwnWords(a.q.Question, found.Passages)
	a.query, a.hits = a.q.Question, found.Passages
	a.weigh(ctx, found.Passages, c)
	a.passages, err = a.s.merge(ctx, found.Passages)
	return err
}

// weigh decides by the evidence whether the passages are worth a model's call.
func (a *answering) weigh(ctx context.Context, passages []store.Passage, c store.Collection) {
	a.done.Evidence, a.done.Best = evidenceOf(a.query, passages, a.s.scaleOf(ctx, passages), a.s.background(ctx, c))
	a.done.Reason = ""
	switch {
	case len(passages) == 0 && c.Chunks == 0:
		a.done.Reason = ReasonEmptyCollection
	case a.done.Evidence < a.done.Threshold || len(passages) == 0:
		a.done.Reason = ReasonNoEvidence
	}
}

func (a *answering) refuse() error {
	text := noEvidenceText
	if a.done.Reason == ReasonEmptyCollection {
		text = emptyCollectionText
	}
	if err := a.show(a.speak(text)); err != nil {
		return err
	}
	return a.finish()
}

// show streams a piece of the answer.
func (a *answering) show(text string) error {
	if text == "" {
		return nil
	}
	a.shown.WriteString(text)
	a.length += utf8.RuneCountInString(text)
	return a.emit(Delta{Text: text})
}

// generate asks the model, with a smaller prompt if it says that the context is exceeded.
func (a *answering) generate(ctx context.Context) error {
	budget := a.s.cfg.ContextWindow - a.s.cfg.MaxTokens
	for try := 0; ; try++ {
		passages := a.passages
		if a.s.cfg.ChatStrength == Small {
			passages = a.checker.digest(a.q.Question, min(digestTokens, budget))
		}
		messages, _ := buildPrompt(a.s.cfg.ChatStrength, passages, a.q.Messages, a.q.Question, budget)
		err := a.stream(ctx, messages)
		if err == nil || !errors.Is(err, workersai.ErrContextExceeded) || len(a.text) > 0 || try == contextRetries {
			return err
		}
		a.s.cfg.Logger.InfoContext(ctx, "prompt shortened", "budget_tokens", budget/2)
		budget /= 2
	}
}

func (a *answering) stream(ctx context.Context, messages []workersai.Message) error {
	if err := a.s.chatBudget.Wait(ctx, true); err != nil {
		return fmt.Errorf("wait for the model's rate limit: %w", err)
	}
	zero := 0.0
	for event, err := range a.s.models.ChatStream(ctx, workersai.ChatRequest{Model: a.s.cfg.ChatModel, Messages: messages,
		MaxTokens: a.s.cfg.MaxTokens, Temperature: &zero}) {
		if err != nil {
			a.s.obey(ctx, a.s.chatBudget, err)
			return cmp.Or(a.settle(ctx, true), fmt.Errorf("answer with %s: %w", a.s.cfg.ChatModel, err))
		}
		if event.Usage != nil {
			a.done.Usage = Usage{event.Usage.PromptTokens, event.Usage.CompletionTokens}
		}
		if event.Text == "" {
			continue
		}
		if a.done.Timings.FirstTokenMS == 0 {
			a.done.Timings.FirstTokenMS = milliseconds(a.start)
		}
		if err := a.take(ctx, a.marks.feed(event.Text)); err != nil {
			return ended(err)
		}
	}
	if err := a.take(ctx, a.marks.flush()); err != nil {
		return ended(err)
	}
	if err := a.judge(ctx, a.splitter.Flush()); err != nil {
		return ended(err)
	}
	return a.settle(ctx, true)
}

// ended: a small model that has said enough has ended its answer.
func ended(err error) error {
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// holds: text is shown by whole sentences, after they were judged. A small model's are, because it says much that is
// wrong or said already, and those that are translated.
func (a *answering) holds() bool { return a.drops() || a.interpreter != nil }

// drops: what is not supported is not shown.
func (a *answering) drops() bool { return a.q.Strict || a.s.cfg.ChatStrength == Small }

// take shows a piece at once, or holds it, and judges the sentences that it completes.
func (a *answering) take(ctx context.Context, text string) error {
	if len(a.text) == 0 { // models often begin with a blank
		bare := strings.TrimLeft(text, " \n\t")
		a.lead += len(text) - len(bare)
		text = bare
	}
	if text == "" {
		return nil
	}
	a.text = append(a.text, []rune(text)...)
	if !a.holds() {
		if err := a.show(text); err != nil {
			return err
		}
	}
	return a.judge(ctx, a.splitter.Feed(text))
}

func (a *answering) judge(ctx context.Context, sentences []Sentence) error {
	for _, sentence := range sentences {
		if err := a.judgeOne(ctx, sentence); err != nil {
			return err
		}
	}
	return a.settle(ctx, false)
}

// judgeOne starts the check of a sentence; where the text is held back, it waits for the verdict.
func (a *answering) judgeOne(ctx context.Context, sentence Sentence) error {
	from := a.seen
	a.seen = sentence.Span.End
	if a.enough(sentence.Text) {
		return errEnough
	}
	if a.s.cfg.ChatStrength == Small && !complete(sentence.Text) {
		return nil
	}
	if declines(sentence.Text) {
		a.declined = true
		return a.showHeld(from, sentence)
	}
	if a.s.cfg.ChatStrength == Small && circular(a.q.Question, sentence.Text) {
		return nil
	}
	cited := a.marks.citedIn(from+a.lead, sentence.Span.End+a.lead)
	a.verdicts.queue = append(a.verdicts.queue, verdict{from, sentence, a.check(ctx, sentence.Text, cited)})
	return a.settle(ctx, a.holds())
}

// tell counts a sentence by its finding, shows it if it was held back, and cites.
func (a *answering) tell(from int, sentence Sentence, f Finding) error {
	if !f.Claim {
		return a.showHeld(from, sentence)
	}
	if a.s.cfg.ChatStrength == Small && f.Verdict != Supported {
		return nil
	}
	a.claims++
	if f.Verdict == Unsupported {
		if a.drops() {
			return nil
		}
		a.refuted++
	}
	if f.Verdict == Supported {
		a.supported++
	}
	at := sentence.Span
	if a.holds() {
		if a.length == 0 {
			from = sentence.Span.Start
		}
		at.Start = a.length + sentence.Span.Start - from
		if err := a.show(string(a.text[from:sentence.Span.Start]) + a.speak(sentence.Text)); err != nil {
			return err
		}
		at.End = a.length
	}
	return a.emit(a.citation(at, f))
}

// showHeld shows a sentence that makes no claim, which was held back.
func (a *answering) showHeld(from int, sentence Sentence) error {
	if !a.holds() {
		return nil
	}
	return a.show(string(a.text[from:sentence.Span.Start]) + a.speak(sentence.Text))
}

// declines: the model says, in the words it was given, that the passages do not answer.
func declines(sentence string) bool {
	bare := strings.ToLower(strings.Trim(sentence, " .*\"'"))
	return bare == strings.ToLower(strings.TrimSuffix(notInPassages, "."))
}

func (a *answering) citation(at Span, f Finding) Citation {
	c := Citation{Sentence: at, Verdict: f.Verdict, Score: f.Score, Source: f.Source, Span: f.Span, Quote: f.Quote, Judged: f.Judged}
	if f.Source > 0 {
		c.Passage = &a.passages[f.Source-1]
	}
	return c
}

// extract answers with the sentences that hold most of the question, or of its parts, quoted.
func (a *answering) extract() error {
	a.done.Reason = ReasonModelless
	if err := a.showQuotes(a.checker.extract(a.asked(), extractedSentences)); err != nil {
		return err
	}
	return a.finish()
}

// showQuotes adds quoted sentences, each a paragraph.
func (a *answering) showQuotes(found []Finding) error {
	for _, f := range found {
		text := a.speak(strings.Join(strings.Fields(cmp.Or(f.Read, f.Quote)), " "))
		if a.length > 0 {
			text = "\n\n" + text
		}
		if err := a.show(text); err != nil {
			return err
		}
		start := a.length - utf8.RuneCountInString(strings.TrimLeft(text, "\n"))
		a.claims++
		if err := a.emit(a.citation(Span{start, a.length}, f)); err != nil {
			return err
		}
	}
	return nil
}

// extract picks the sentences that answer the questions best, one for each in turn: first what is at least half as good as the
// best for any, then what is hardly worse than the best for the same question.
func (c *Checker) extract(questions []string, n int) (out []Finding) {
	ranked, least := make([][]pick, len(questions)), make([]float64, len(questions))
	best := 0.0
	for i, q := range questions {
		if ranked[i] = c.picks(q, len(c.passages), false); len(ranked[i]) > 0 {
			best, least[i] = max(best, ranked[i][0].value), ranked[i][0].value-hardlyWorse
		}
	}
	taken := map[int]bool{}
	for more := true; more; {
		more = false
		for i := range ranked {
			for len(ranked[i]) > 0 && taken[ranked[i][0].at] {
				ranked[i] = ranked[i][1:]
			}
			if len(out) == n || len(ranked[i]) == 0 || ranked[i][0].value < max(best/2, least[i]) {
				continue
			}
			at := ranked[i][0].at
			w := window{c.evidence[at].passage, at, at}
			out = append(out, Finding{Claim: true, Verdict: Supported, Score: 1, Source: w.passage + 1,
				Span: c.evidence[at].span, Quote: c.quote(w), Read: c.read(w)})
			taken[at], more = true, true
		}
	}
	return out
}

// hardlyWorse is how much less a further sentence may be worth.
const hardlyWorse = 1.0 / 3

func (a *answering) finish() error {
	d := &a.done
	if d.Reason == "" {
		switch {
		case len(a.text) == 0:
			d.Reason = ReasonEmptyAnswer
		case a.declined && a.claims == 0:
			d.Reason = ReasonNotInPassages
		case a.length == 0:
			d.Reason = ReasonUnsupported
			if err := a.show(a.speak(noEvidenceText)); err != nil {
				return err
			}
		}
	}
	if err := a.told(); err != nil {
		return err
	}
	d.Answer = a.shown.String()
	d.Grounded = a.claims > 0 && a.refuted == 0 && (d.Reason == "" || d.Reason == ReasonModelless)
	d.Cut = d.Usage.CompletionTokens >= a.s.cfg.MaxTokens
	d.Usage.PromptTokens += a.researched.PromptTokens
	d.Usage.CompletionTokens += a.researched.CompletionTokens
	d.Timings.TotalMS = milliseconds(a.start)
	return a.emit(*d)
}
