package retrieval

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/workersai"
)

// shelf is what the tools read beside searches.
type shelf interface {
	Neighbours(ctx context.Context, documentID string, from, to int) ([]store.Chunk, error)
	Documents(ctx context.Context, q store.ListQuery) ([]store.Document, string, error)
}

// errArguments: the model's arguments are wrong; its text is for the model.
var errArguments = errors.New("wrong arguments")

// agentTool is a tool that only reads.
type agentTool struct {
	spec workersai.ToolSpec
	run  func(ctx context.Context, arguments string) (toolResult, error)
}

// toolResult is what a tool found: passages, or a text where it finds none.
type toolResult struct {
	text     string
	note     string // for the step
	passages []store.Passage
}

type searchArguments struct {
	Query string `json:"query" description:"a few words, or a short question, about one fact"`
}

type readArguments struct {
	Passage int    `json:"passage" description:"number of a passage above"`
	What    string `json:"what" description:"the chunk before it, the chunk after it, or the rest of its section" enum:"before,after,section"`
}

func (g *agent) makeTools() []agentTool {
	return []agentTool{
		newAgentTool("search", "Search the documents again, in other words or for another fact.", g.search),
		newAgentTool("read", "Read on next to a passage.", g.read),
		newAgentTool("list_collections", "List what there is to search: the collection and its documents.", g.list),
	}
}

func newAgentTool[In any](name, description string, f func(context.Context, In) (toolResult, error)) agentTool {
	parameters, err := workersai.SchemaOf[In]()
	if err != nil {
		panic("retrieval: tool " + name + ": " + err.Error()) // the types above: every test of an agent makes them
	}
	run := func(ctx context.Context, arguments string) (toolResult, error) {
		var in In
		if err := json.Unmarshal([]byte(arguments), &in); err != nil {
			return toolResult{}, fmt.Errorf("%w: %s", errArguments, strings.ReplaceAll(err.Error(), "json: ", ""))
		}
		return f(ctx, in)
	}
	return agentTool{workersai.ToolSpec{Name: name, Description: description, Parameters: parameters}, run}
}

// search looks in the question's collection, under its filter and in its mode.
func (g *agent) search(ctx context.Context, in searchArguments) (toolResult, error) {
	if err := checkQuestion(in.Query); err != nil {
		return toolResult{}, fmt.Errorf("%w: %w", errArguments, err)
	}
	q := g.a.q
	got, err := g.a.s.search(ctx, g.collection, SearchRequest{Query: in.Query, Limit: g.limits.hits, Filter: q.Filter, Mode: q.Mode})
	if err != nil {
		return toolResult{}, err
	}
	if len(got.Passages) == 0 {
		return toolResult{text: "Nothing was found."}, nil
	}
	return toolResult{passages: got.Passages}, nil
}

// read follows the text of a passage that was found, and nothing else: what a filter hides has no number.
func (g *agent) read(ctx context.Context, in readArguments) (toolResult, error) {
	if in.Passage < 1 || in.Passage > len(g.found) {
		return toolResult{}, fmt.Errorf("%w: passage must be a number from 1 to %d", errArguments, len(g.found))
	}
	base := g.found[in.Passage-1]
	from, to := base.Ordinal-sectionReach, base.Ordinal+sectionReach
	switch in.What {
	case "before":
		to = base.Ordinal - 1
	case "after":
		from = base.Ordinal + 1
	case "section":
	default:
		return toolResult{}, fmt.Errorf("%w: what must be before, after or section", errArguments)
	}
	chunks, err := g.a.s.shelf.Neighbours(ctx, base.DocumentID, from, to)
	if err != nil {
		return toolResult{}, err
	}
	chunks = slices.DeleteFunc(chunks, func(c store.Chunk) bool {
		return g.known(base.DocumentID, c.Ordinal) || in.What == "section" && !slices.Equal(c.Heading, base.Heading)
	})
	if in.What == "before" {
		slices.Reverse(chunks) // the nearest first
	}
	if len(chunks) == 0 {
		return toolResult{text: "There is nothing more to read there."}, nil
	}
	if in.What != "section" {
		chunks = chunks[:1]
	}
	return toolResult{passages: passagesAt(base, chunks[:min(len(chunks), g.limits.hits)])}, nil
}

func (g *agent) known(document string, ordinal int) bool {
	return slices.ContainsFunc(g.found, func(p store.Passage) bool { return p.DocumentID == document && p.Ordinal == ordinal })
}

// passagesAt are chunks of base's document.
func passagesAt(base store.Passage, chunks []store.Chunk) []store.Passage {
	out := make([]store.Passage, len(chunks))
	for i, c := range chunks {
		out[i] = store.Passage{DocumentID: base.DocumentID, URI: base.URI, Title: base.Title, Metadata: base.Metadata,
			Ordinal: c.Ordinal, Heading: c.Heading, Start: c.Start, End: c.End, Text: c.Text, Tokens: c.Tokens}
	}
	return out
}

// list tells of the one collection that the question may see. Under a filter it names only documents that were found:
// a title may be what the filter hides.
func (g *agent) list(ctx context.Context, _ struct{}) (toolResult, error) {
	type listing struct {
		Collection string   `json:"collection"`
		Languages  []string `json:"languages,omitempty"`
		Documents  int64    `json:"documents,omitempty"`
		Titles     []string `json:"titles"`
	}
	out := listing{Collection: g.collection.Name, Languages: g.collection.Languages}
	if g.a.q.Filter.IsZero() {
		docs, _, err := g.a.s.shelf.Documents(ctx, store.ListQuery{CollectionID: g.collection.ID, Status: store.StatusCompleted, Limit: listedDocuments})
		if err != nil {
			return toolResult{}, err
		}
		out.Documents = g.collection.Documents
		for _, d := range docs {
			out.Titles = append(out.Titles, label(store.Passage{Title: d.Title, URI: d.URI}))
		}
	} else {
		for _, p := range g.found {
			if t := label(store.Passage{Title: p.Title, URI: p.URI}); !slices.Contains(out.Titles, t) {
				out.Titles = append(out.Titles, t)
			}
		}
	}
	text, err := json.Marshal([]listing{out})
	return toolResult{text: string(text), note: fmt.Sprintf("%d documents named", len(out.Titles))}, err
}
