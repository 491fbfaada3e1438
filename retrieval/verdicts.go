package retrieval

import (
	"context"
	"sync"
	"time"

	"github.com/footnote-rag/footnote/store"
)

// defaultCheckTimeout of the vectors of one sentence; then words decide alone.
const defaultCheckTimeout = 2 * time.Second

// verdict is a sentence whose finding may be on its way.
type verdict struct {
	from     int // in the model's text: where what was not shown yet begins
	sentence Sentence
	finding  <-chan checked
}

// checked is a finding and what the second judge took.
type checked struct {
	Finding
	usage Usage
}

// verdicts are those of one answer. Its sentences are checked one after the other, in their order, beside the stream.
type verdicts struct {
	scale    scale
	compares bool            // vectors of this model tell sentences apart
	failed   bool            // the model did not give them in time; of the checks alone, as is judged
	judge    bool            // there is a second judge
	judged   int             // sentences shown to the second judge
	last     <-chan struct{} // closed when the newest check is done
	running  sync.WaitGroup
	queue    []verdict // not told yet
}

// prepareChecks decides what the checks of this answer take into account.
func (a *answering) prepareChecks() {
	a.checker = NewChecker(a.q.Question, a.passages)
	v := &a.verdicts
	v.judge = (a.q.Judge || a.s.cfg.Judge) && a.s.thinker != nil && a.s.cfg.ChatStrength == Capable
	if a.s.cfg.CheckTimeout > 0 && !a.done.Degraded && a.q.Mode != store.Lexical {
		v.scale, v.compares = a.s.sentenceScale()
	}
	v.last = closed
}

var closed = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// check starts the check of a sentence after those before it. Without models it is done at once.
func (a *answering) check(ctx context.Context, sentence string, cited []int) <-chan checked {
	v, out := &a.verdicts, make(chan checked, 1)
	cl := a.checker.newClaim(sentence)
	if cl.empty() || !v.compares && !v.judge {
		out <- checked{Finding: a.checker.check(cl, nil, cited)}
		return out
	}
	before, done := v.last, make(chan struct{})
	v.last = done
	v.running.Go(func() {
		defer close(done)
		<-before
		near := a.nearness(ctx, cl, sentence)
		out <- a.secondOpinion(ctx, cl, near, sentence, checked{Finding: a.checker.check(cl, near, cited)})
	})
	return out
}

// nearness by vectors; nil where they are not to be had in time. After a failure the rest of the answer does without.
func (a *answering) nearness(ctx context.Context, cl claim, sentence string) closeness {
	v := &a.verdicts
	if !v.compares || v.failed {
		return nil
	}
	timed, cancel := context.WithTimeout(ctx, a.s.cfg.CheckTimeout)
	defer cancel()
	near, err := a.s.closeness(timed, a.checker, cl, sentence, v.scale)
	if err != nil {
		v.failed = true
		if ctx.Err() == nil {
			a.s.cfg.Logger.WarnContext(ctx, "sentences not compared by vectors, verdicts by words alone", "error", err)
		}
	}
	return near
}

// settle tells the verdicts that are ready, in order; all, with wait.
func (a *answering) settle(ctx context.Context, wait bool) error {
	for v := &a.verdicts; len(v.queue) > 0; v.queue = v.queue[1:] {
		next := v.queue[0]
		if !wait && len(next.finding) == 0 {
			return nil
		}
		if err := a.await(ctx, next); err != nil {
			return err
		}
	}
	return nil
}

// await tells one verdict.
func (a *answering) await(ctx context.Context, v verdict) error {
	select {
	case found := <-v.finding:
		a.researched.PromptTokens += found.usage.PromptTokens
		a.researched.CompletionTokens += found.usage.CompletionTokens
		return a.tell(v.from, v.sentence, found.Finding)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sentenceScale is the embedding model's, if it is known and the model tells texts apart.
func (s *Service) sentenceScale() (sc scale, ok bool) {
	s.calibration.mu.Lock()
	defer s.calibration.mu.Unlock()
	sc = s.calibration.scale
	return sc, s.calibration.known && sc.together-sc.mean-sc.deviation >= minSpread
}
