package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"
)

func (p *program) statusCommand() *cobra.Command {
	var collection, status string
	cmd := &cobra.Command{
		Use:   "status [ID]",
		Short: "Show collections, or the documents in a state, or one document",
		Example: `  footnote status
  footnote status --collection handbook --status error
  footnote status 0198f6c2-…`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			c, done, err := p.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			switch {
			case len(a) == 1:
				return p.printJSONReply(cmd.Context(), c, "/v1/documents/"+url.PathEscape(a[0]))
			case status != "":
				return p.listDocuments(cmd.Context(), c, collection, status)
			default:
				return p.listCollections(cmd.Context(), c)
			}
		},
	}
	cmd.Flags().StringVarP(&collection, "collection", "c", "default", "with --status: the collection")
	cmd.Flags().StringVar(&status, "status", "", "list documents that are queued, running, completed or error")
	return cmd
}

func (p *program) printJSONReply(ctx context.Context, c *client, path string) error {
	var raw prettyJSON
	if err := c.getJSON(ctx, path, nil, &raw); err != nil {
		return err
	}
	fmt.Fprintln(p.stdout, raw)
	return nil
}

func (p *program) listCollections(ctx context.Context, c *client) error {
	if p.json {
		return p.printJSONReply(ctx, c, "/v1/collections")
	}
	var out struct {
		Collections []struct {
			Name      string           `json:"name"`
			Model     string           `json:"model"`
			Documents int64            `json:"documents"`
			Chunks    int64            `json:"chunks"`
			Status    map[string]int64 `json:"status"`
		} `json:"collections"`
	}
	if err := c.getJSON(ctx, "/v1/collections", nil, &out); err != nil {
		return err
	}
	if len(out.Collections) == 0 {
		p.errorf("no collections yet: footnote load PATH")
	}
	for _, col := range out.Collections {
		fmt.Fprintf(p.stdout, "%-20s %8d documents %9d chunks  %s", col.Name, col.Documents, col.Chunks, col.Model)
		for _, s := range []string{"queued", "running", "error"} {
			if n := col.Status[s]; n > 0 {
				fmt.Fprintf(p.stdout, "  %d %s", n, s)
			}
		}
		fmt.Fprintln(p.stdout)
	}
	return nil
}

func (p *program) listDocuments(ctx context.Context, c *client, collection, status string) error {
	return eachDocument(ctx, c, collection, map[string]string{"status": status}, func(d document) {
		fmt.Fprintf(p.stdout, "%s  %-9s  %5d chunks  %s", d.ID, d.Status, d.Chunks, d.URI)
		if d.Error != nil {
			fmt.Fprintf(p.stdout, "  %s: %s", d.Error.Code, d.Error.Message)
		}
		if d.Waiting != nil {
			fmt.Fprintf(p.stdout, "  %v", d.Waiting)
		}
		fmt.Fprintln(p.stdout)
	})
}

// pageSize is the most documents that the API lists at once.
const pageSize = 1000

// eachDocument pages through a collection's documents.
func eachDocument(ctx context.Context, c *client, collection string, where map[string]string, f func(document)) error {
	q := url.Values{"collection": {collection}, "limit": {fmt.Sprint(pageSize)}}
	for k, v := range where {
		q.Set(k, v)
	}
	for {
		var page struct {
			Documents  []document `json:"documents"`
			NextCursor *string    `json:"next_cursor"`
		}
		err := c.getJSON(ctx, "/v1/documents", q, &page)
		if isNotFound(err) {
			return nil // no such collection yet
		}
		if err != nil {
			return err
		}
		for _, d := range page.Documents {
			f(d)
		}
		if page.NextCursor == nil || *page.NextCursor == "" {
			return nil
		}
		q.Set("cursor", *page.NextCursor)
	}
}

func (p *program) deleteCommand() *cobra.Command {
	var collection string
	var whole bool
	cmd := &cobra.Command{
		Use:   "delete ID|URI…",
		Short: "Delete documents, or a whole collection",
		Example: `  footnote delete notes/old.md -c notes
  footnote delete --whole-collection notes`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			c, done, err := p.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			for _, name := range a {
				if err := p.deleteOne(cmd.Context(), c, collection, name, whole); err != nil {
					return err
				}
				p.errorf("deleted %s", name)
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&collection, "collection", "c", "default", "the collection of URIs")
	cmd.Flags().BoolVar(&whole, "whole-collection", false, "the arguments name collections, deleted with everything in them")
	return cmd
}

func (p *program) deleteOne(ctx context.Context, c *client, collection, name string, whole bool) error {
	if whole {
		return c.do(ctx, http.MethodDelete, "/v1/collections/"+url.PathEscape(name), nil, "", nil)
	}
	id := name
	err := eachDocument(ctx, c, collection, map[string]string{"uri_prefix": name}, func(d document) {
		if d.URI == name {
			id = d.ID
		}
	})
	if err != nil {
		return err
	}
	return c.do(ctx, http.MethodDelete, "/v1/documents/"+url.PathEscape(id), nil, "", nil)
}
