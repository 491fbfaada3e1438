package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func (p *program) searchCommand() *cobra.Command {
	var in struct {
		Collection string          `json:"collection,omitempty"`
		Query      string          `json:"query"`
		Limit      int             `json:"limit,omitempty"`
		Mode       string          `json:"mode,omitempty"`
		Filter     json.RawMessage `json:"filter,omitempty"`
	}
	var filter string
	cmd := &cobra.Command{
		Use:   "search QUERY",
		Short: "Find the best passages",
		Example: `  footnote search "partial index"
  footnote search --mode lexical ERR_4031
  footnote search --json "vacuum" | jq '.passages[].document.uri'`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			in.Query = strings.Join(a, " ")
			var err error
			if in.Filter, err = jsonFlag("--filter", filter); err != nil {
				return err
			}
			c, done, err := p.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			var out struct {
				Passages []passage `json:"passages"`
				Timings  struct {
					EmbedMS  float64 `json:"embed_ms"`
					SearchMS float64 `json:"search_ms"`
				} `json:"timings"`
			}
			var raw json.RawMessage
			if err := c.postJSON(cmd.Context(), "/v1/search", in, &raw); err != nil {
				return err
			}
			if p.json {
				fmt.Fprintln(p.stdout, string(raw))
				return nil
			}
			if err := json.Unmarshal(raw, &out); err != nil {
				return fmt.Errorf("read the server's reply: %w", err)
			}
			for i, hit := range out.Passages {
				p.printPassage(i+1, hit)
			}
			p.errorf("%d passages; embedding %.1f ms, search %.1f ms", len(out.Passages), out.Timings.EmbedMS, out.Timings.SearchMS)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&in.Collection, "collection", "c", "default", "the collection to search")
	f.IntVarP(&in.Limit, "limit", "n", 10, "how many passages")
	f.StringVar(&in.Mode, "mode", "hybrid", "hybrid, vector or lexical")
	f.StringVar(&filter, "filter", "", `only documents whose metadata match, e.g. '{"team":{"$eq":"x"}}'`)
	return cmd
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
