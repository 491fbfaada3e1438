package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// searchRequest is the body of POST /v1/search.
type searchRequest struct {
	Collection string           `json:"collection,omitempty"`
	Query      string           `json:"query"`
	Limit      int              `json:"limit,omitempty"`
	Mode       string           `json:"mode,omitempty"`
	Filter     json.RawMessage  `json:"filter,omitempty"`
	Messages   []map[string]any `json:"messages,omitempty"`
	Thread     string           `json:"thread,omitempty"`
	PreviousID string           `json:"previous_id,omitempty"`
	Understand map[string]bool  `json:"understand,omitempty"`
}

// searchSteps are the switches of the steps before a search, and what they do.
var searchSteps = []struct{ name, usage string }{
	{"rewrite", "have the chat model complete a follow-up, which is else done by rule; =false leaves it as it is"},
	{"spelling", "correct words that occur in no document; on unless =false"},
	{"decompose", "search for the parts of a question of several parts, too"},
	{"translate", "translate a question in another language than the documents' to theirs"},
}

func (p *program) searchCommand() *cobra.Command {
	var in searchRequest
	var filter string
	var after []string
	cmd := &cobra.Command{
		Use:   "search QUERY",
		Short: "Find the best passages",
		Long: `Find the passages of a collection that are best for a query. What was done with the query before (words corrected,
a follow-up completed) is told on stderr. Steps that ask a model are taken only where their flag is given.`,
		Example: `  footnote search "partial index"
  footnote search --mode lexical ERR_4031
  footnote search --after "How long is green tea steeped?" "And black tea?"
  footnote search --translate "¿Cuánto tarda el té verde?"
  footnote search --json "vacuum" | jq '.passages[].document.uri'`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			in.Query = strings.Join(a, " ")
			for _, question := range after {
				in.Messages = append(in.Messages, map[string]any{"role": "user", "content": question})
			}
			in.Understand = givenSteps(cmd)
			var err error
			if in.Filter, err = jsonFlag("--filter", filter); err != nil {
				return err
			}
			c, done, err := p.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			return p.search(cmd.Context(), c, in)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&in.Collection, "collection", "c", "default", "the collection to search")
	f.IntVarP(&in.Limit, "limit", "n", 10, "how many passages")
	f.StringVar(&in.Mode, "mode", "hybrid", "hybrid, vector or lexical")
	f.StringVar(&filter, "filter", "", `only documents whose metadata match, e.g. '{"team":{"$eq":"x"}}'`)
	f.StringArrayVar(&after, "after", nil, "a question that was asked before, which a follow-up is completed from; repeatable, oldest first")
	f.StringVar(&in.Thread, "thread", "", "the stored conversation that the query belongs to")
	f.StringVar(&in.PreviousID, "previous-id", "", "the stored answer that the query follows")
	for _, step := range searchSteps {
		f.Bool(step.name, step.name == "spelling", step.usage)
	}
	return cmd
}

// givenSteps are the switches that the command line has.
func givenSteps(cmd *cobra.Command) map[string]bool {
	given, f := map[string]bool{}, cmd.Flags()
	for _, step := range searchSteps {
		if f.Changed(step.name) {
			given[step.name], _ = f.GetBool(step.name)
		}
	}
	return given
}

func (p *program) search(ctx context.Context, c *client, in searchRequest) error {
	var raw json.RawMessage
	if err := c.postJSON(ctx, "/v1/search", in, &raw); err != nil {
		return err
	}
	if p.json {
		fmt.Fprintln(p.stdout, string(raw))
		return nil
	}
	var out struct {
		Passages []passage `json:"passages"`
		Steps    []step    `json:"steps"`
		Timings  struct {
			UnderstandMS float64 `json:"understand_ms"`
			EmbedMS      float64 `json:"embed_ms"`
			SearchMS     float64 `json:"search_ms"`
		} `json:"timings"`
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return fmt.Errorf("read the server's reply: %w", err)
	}
	for _, s := range out.Steps {
		p.showStep(s)
	}
	for i, hit := range out.Passages {
		p.printPassage(i+1, hit)
	}
	p.errorf("%d passages; understanding %.1f ms, embedding %.1f ms, search %.1f ms", len(out.Passages), out.Timings.UnderstandMS, out.Timings.EmbedMS, out.Timings.SearchMS)
	return nil
}

func (p *program) printPassage(n int, hit passage) {
	where := hit.Document.URI
	if len(hit.Heading) > 0 {
		where += " § " + strings.Join(hit.Heading, " › ")
	}
	if hit.Time != nil {
		where += " at " + hit.Time.String()
	}
	fmt.Fprintf(p.stdout, "%2d. %.3f  %s  [%d–%d]\n    %s\n", n, hit.Score, where, hit.Start, hit.End, clip(oneLine(hit.Text), 240))
}
