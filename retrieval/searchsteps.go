package retrieval

import (
	"context"
	"time"

	"github.com/footnote-rag/footnote/store"
)

// SearchSteps switches the steps before a search, which are those before an answer. The zero value asks no model: words that
// occur nowhere are corrected, and a follow-up is completed by rule. None is taken that is not needed.
type SearchSteps struct {
	NoRewrite, NoSpelling bool
	Think                 bool // a capable chat model completes follow-ups; where it does not help, rules do
	Decompose             bool // the parts of a question are searched for, too; a capable chat model takes comparisons apart
	Translate             bool // a question in another language than the documents is translated to theirs
}

func (s SearchSteps) understanding() Understanding {
	return Understanding{NoRewrite: s.NoRewrite, NoSpelling: s.NoSpelling, NoDecompose: !s.Decompose, NoTranslate: !s.Translate}
}

// searchInSteps understands the query as far as it is asked to, and searches for what came of it.
func (s *Service) searchInSteps(ctx context.Context, c store.Collection, r SearchRequest) (SearchResult, error) {
	start := time.Now()
	var steps []Step
	a := answering{s: s, byRule: !r.Steps.Think, q: Question{Question: r.Query, Messages: r.Messages, Filter: r.Filter, Limit: r.Limit,
		Mode: r.Mode, Ranking: r.Ranking, Understand: r.Steps.understanding()}}
	a.yield = func(e Event, _ error) bool {
		steps = append(steps, e.(Step)) // understand tells nothing else
		return true
	}
	queries, err := a.understand(ctx, c)
	if err != nil {
		return SearchResult{}, err
	}
	understood := milliseconds(start)
	found, err := a.searchAll(ctx, c, queries)
	found.Query, found.Queries, found.Steps = a.q.Question, queries, steps
	found.Timings.UnderstandMS = understood
	return found, err
}
