package retrieval

import (
	"encoding/json"
	"time"

	"github.com/footnote-rag/footnote/workersai"
)

// Names of steps before the search. Other parts of the answer add their own.
const (
	StepRewrite   = "rewrite"   // a follow-up was completed from the conversation
	StepSpelling  = "spelling"  // words that occur nowhere were corrected
	StepDecompose = "decompose" // a question of several parts was split
	StepTranslate = "translate" // the question, or the answer, was translated
)

// Step tells what was done with the question, before Sources or between the pieces of an answer. It is shown, never
// needed: a step that failed has a Note, and the answer goes on without it.
type Step struct {
	Step  string   `json:"step"`
	From  string   `json:"from,omitempty"`
	To    string   `json:"to,omitempty"`
	Parts []string `json:"parts,omitempty"` // where To is several
	Note  string   `json:"note,omitempty"`  // what else is to be known, such as why it failed
	MS    float64  `json:"ms"`

	// Of StepTool: what the model called, and what was found.
	Tool      string          `json:"tool,omitempty"`
	Arguments json.RawMessage `json:"arguments,omitempty"`
	Found     []FoundPassage  `json:"found,omitempty"`
}

func (Step) event() {}

// Understanding switches steps off. None is taken that is not needed.
type Understanding struct {
	NoRewrite, NoSpelling, NoDecompose, NoTranslate bool
}

// rewrite completes a follow-up.
func (a *answering) rewrite() (query string, err error) {
	if a.q.Understand.NoRewrite {
		return a.q.Question, nil
	}
	start := time.Now()
	query = retrievalQuery(a.q.Question, a.q.Messages)
	if query == a.q.Question {
		return query, nil
	}
	return query, a.emit(Step{Step: StepRewrite, From: a.q.Question, To: query, MS: milliseconds(start)})
}

// retrievalQuery completes a follow-up ("and when was it closed?") with the question before it, because alone it names
// nothing to search for.
func retrievalQuery(question string, history []workersai.Message) string {
	words := tokenize(question)
	short, pointing := len(contentOf(words)) <= 2, false
	for _, w := range words {
		pointing = pointing || pronouns[w.lower]
	}
	if !short && !pointing {
		return question
	}
	for i := len(history) - 1; i >= 0; i-- {
		if history[i].Role == "user" && len(history[i].Content) <= maxQuestionBytes {
			return history[i].Content + "\n" + question
		}
	}
	return question
}

var pronouns = set("it its he she him her his hers they them their theirs this that these those there")
