package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// loadOptions are the flags of load.
type loadOptions struct {
	collection  string
	translateTo string
	chunking    string
	uri         string // of standard input
	prefix      string // replaces the folder's own name in URIs
	include     []string
	dryRun      bool
	prune       bool
	concurrency int
	mediaType   string
	metadata    string
	noWait      bool
}

const loadHelp = `Load files into a collection and wait until each can be searched.

PATH is a file, a folder (walked, hidden files skipped), a glob, an .ndjson or .jsonl file with a document a line
({"uri":…,"text":…,"title":…,"metadata":{…}}), or - for standard input (with --uri for one document, else NDJSON).

A file's URI is its path below the folder that was named, with that folder's name in front: footnote load ~/handbook
gives handbook/travel/visa.md. Loading again sends what is new or has changed and embeds only that; it resumes what an
interrupted load left. Documents whose files are gone are reported, and deleted with --prune.

The exit code is 0 when every document ended well, 1 when any failed: each is listed with its reason. The reports go to
stderr; with --json, stdout gets one line a document and a last line with the totals.`

func (p *program) loadCommand() *cobra.Command {
	var o loadOptions
	cmd := &cobra.Command{
		Use:   "load PATH…",
		Short: "Load files, folders, globs, NDJSON or standard input",
		Long:  loadHelp,
		Example: `  footnote load ~/docs
  footnote load --dry-run ~/docs            what would be sent, tokens and cost
  footnote load 'notes/*.md' -c notes
  footnote load --prune ~/docs              also delete what is no longer there
  curl -s https://example.org/page | footnote load - --uri example/page --type text/html`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return p.load(cmd.Context(), o, a)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.collection, "collection", "c", "default", "the collection to load into")
	f.StringVar(&o.translateTo, "translate-to", "", "make the collection find documents in other languages by their translation into this one, e.g. en")
	f.StringVar(&o.chunking, "chunking", "", `make the collection with these settings, e.g. '{"max_tokens":128,"context":"summary"}'`)
	f.StringVar(&o.uri, "uri", "", "the URI of the document on standard input")
	f.StringVar(&o.prefix, "prefix", "", "put this in front of URIs instead of the folder's name")
	f.StringSliceVar(&o.include, "include", nil, "only files whose name matches, e.g. '*.md' (repeatable)")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the plan with tokens and cost, send nothing")
	f.BoolVar(&o.prune, "prune", false, "delete documents whose files are gone")
	f.IntVar(&o.concurrency, "concurrency", 8, "requests in flight")
	f.StringVar(&o.mediaType, "type", "", "media type of every file (default: by name and content)")
	f.StringVar(&o.metadata, "metadata", "", "metadata of every document, a JSON object")
	f.BoolVar(&o.noWait, "no-wait", false, "do not wait until the documents can be searched")
	return cmd
}

// loadSource is one document to load; its bytes are read when they are needed.
type loadSource struct {
	uri       string
	title     string
	mediaType string
	metadata  json.RawMessage
	sha256    [32]byte
	size      int64
	read      func() ([]byte, error)
}

// loadPlan is what would be sent.
type loadPlan struct {
	created, changed, unchanged int
	send                        []loadSource
	waiting                     []document // sent by an earlier load, not searchable yet
	gone                        []goneDocument
}

type goneDocument struct {
	ID  string `json:"id"`
	URI string `json:"uri"`
}

func (l loadPlan) String() string {
	s := fmt.Sprintf("+%d new, ~%d changed, -%d gone, %d unchanged", l.created, l.changed, len(l.gone), l.unchanged)
	if n := len(l.waiting); n > 0 {
		s += fmt.Sprintf(" (%d of them still being worked on)", n)
	}
	return s
}

// makeCollection sends the settings of the collection, if there are any.
func (o loadOptions) makeCollection(ctx context.Context, c *client) error {
	in := map[string]any{"name": o.collection}
	if o.translateTo != "" {
		in["translate_to"] = o.translateTo
	}
	if o.chunking != "" {
		in["chunking"] = json.RawMessage(o.chunking)
	}
	if len(in) == 1 {
		return nil
	}
	if err := c.postJSON(ctx, "/v1/collections", in, nil); err != nil {
		return fmt.Errorf("make the collection %s: %w", o.collection, err)
	}
	return nil
}

func (p *program) load(ctx context.Context, o loadOptions, paths []string) error {
	if o.concurrency < 1 || o.concurrency > 256 {
		return usagef("--concurrency is %d: give 1 to 256", o.concurrency)
	}
	if _, err := jsonFlag("--metadata", o.metadata); err != nil {
		return err
	}
	if _, err := jsonFlag("--chunking", o.chunking); err != nil {
		return err
	}
	found, err := findSources(p.stdin, o, paths)
	if err != nil {
		return err
	}
	c, done, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer done()
	if !o.dryRun {
		if err := o.makeCollection(ctx, c); err != nil {
			return err
		}
	}
	plan, err := makePlan(ctx, c, o, found)
	if err != nil {
		return err
	}
	p.errorf("%s", plan)
	for _, g := range plan.gone {
		if !o.prune {
			p.errorf("  gone: %s (--prune deletes it)", g.URI)
		}
	}
	if o.dryRun {
		return p.dryRun(plan)
	}
	return p.carryOut(ctx, c, o, plan)
}

// planBatch bounds one request to the plan route.
const planBatch = 1000

// makePlan asks the server which sources are new or changed.
func makePlan(ctx context.Context, c *client, o loadOptions, found foundSources) (loadPlan, error) {
	var plan loadPlan
	byURI := make(map[string]loadSource, len(found.sources))
	for _, s := range found.sources {
		byURI[s.uri] = s
	}
	for start := 0; start < len(found.sources); start += planBatch {
		batch := found.sources[start:min(start+planBatch, len(found.sources))]
		if err := plan.addBatch(ctx, c, o.collection, batch, byURI); err != nil {
			return plan, err
		}
	}
	for _, prefix := range found.prefixes {
		gone, err := listGone(ctx, c, o.collection, prefix, byURI)
		if err != nil {
			return plan, err
		}
		plan.gone = append(plan.gone, gone...)
	}
	sort.Slice(plan.send, func(i, j int) bool { return plan.send[i].uri < plan.send[j].uri })
	return plan, nil
}

func (l *loadPlan) addBatch(ctx context.Context, c *client, collection string, batch []loadSource, byURI map[string]loadSource) error {
	type item struct {
		URI    string `json:"uri"`
		SHA256 string `json:"sha256"`
	}
	in := struct {
		Collection string `json:"collection"`
		Documents  []item `json:"documents"`
	}{Collection: collection}
	for _, s := range batch {
		in.Documents = append(in.Documents, item{s.uri, hex.EncodeToString(s.sha256[:])})
	}
	var out struct {
		Documents []struct {
			URI     string `json:"uri"`
			Outcome string `json:"outcome"`
			ID      string `json:"id"`
			Status  string `json:"status"`
		} `json:"documents"`
	}
	if err := c.postJSON(ctx, "/v1/documents/plan", in, &out); err != nil {
		return fmt.Errorf("plan the load: %w", err)
	}
	for _, d := range out.Documents {
		s, ok := byURI[d.URI]
		switch {
		case !ok:
			return fmt.Errorf("plan the load: the server answered about %q, which was not asked", d.URI)
		case d.Outcome == "created":
			l.created++
			l.send = append(l.send, s)
		case d.Outcome == "changed":
			l.changed++
			l.send = append(l.send, s)
		default:
			l.unchanged++
			if now := (document{ID: d.ID, URI: d.URI, Status: d.Status}); !now.ended() {
				l.waiting = append(l.waiting, now)
			}
		}
	}
	return nil
}

// listGone pages through the documents under a prefix and returns those without a file.
func listGone(ctx context.Context, c *client, collection, prefix string, here map[string]loadSource) ([]goneDocument, error) {
	var gone []goneDocument
	err := eachDocument(ctx, c, collection, map[string]string{"uri_prefix": prefix}, func(d document) {
		if _, ok := here[d.URI]; !ok {
			gone = append(gone, goneDocument{d.ID, d.URI})
		}
	})
	return gone, err
}

// dryRun counts chunks and tokens of what would be sent, on this machine.
func (p *program) dryRun(plan loadPlan) error {
	var chunks, tokens int
	var bytes int64
	for _, s := range plan.send {
		n, t, err := estimate(s)
		if err != nil {
			p.errorf("  %s: %v", s.uri, err)
			continue
		}
		chunks, tokens, bytes = chunks+n, tokens+t, bytes+s.size
	}
	cost := float64(tokens) / 1e6 * bgeBaseDollarsPerMTokens
	if p.json {
		return json.NewEncoder(p.stdout).Encode(map[string]any{"created": plan.created, "changed": plan.changed, "gone": len(plan.gone),
			"unchanged": plan.unchanged, "bytes": bytes, "chunks": chunks, "tokens": tokens, "cost_usd": cost})
	}
	fmt.Fprintf(p.stdout, "%d documents, %s, %d chunks, %d tokens to embed; $%.4f with %s at Cloudflare, nothing on this machine\n",
		len(plan.send), byteSize(bytes), chunks, tokens, cost, bgeBase)
	return nil
}

// bgeBaseDollarsPerMTokens is Cloudflare's published price of October 2026; the header cf-ai-neurons is the truth.
const bgeBaseDollarsPerMTokens = 0.067

// totals is the last line of a load.
type totals struct {
	Created   int     `json:"created"`
	Changed   int     `json:"changed"`
	Unchanged int     `json:"unchanged"`
	Deleted   int     `json:"deleted"`
	Completed int     `json:"completed"`
	Failed    int     `json:"failed"`
	Chunks    int     `json:"chunks"`
	Tokens    int     `json:"tokens"`
	Seconds   float64 `json:"seconds"`
}

// carryOut deletes, sends and waits, and says how it ended.
func (p *program) carryOut(ctx context.Context, c *client, o loadOptions, plan loadPlan) error {
	start := time.Now()
	t := totals{Created: plan.created, Changed: plan.changed, Unchanged: plan.unchanged}
	if o.prune {
		for _, g := range plan.gone {
			if err := c.do(ctx, "DELETE", "/v1/documents/"+g.ID, nil, "", nil); err != nil {
				return fmt.Errorf("delete %s: %w", g.URI, err)
			}
			t.Deleted++
		}
	}
	failed, err := p.sendAll(ctx, c, o, plan, &t)
	if err != nil {
		return err
	}
	t.Seconds = time.Since(start).Seconds()
	p.report(t, failed, o.noWait)
	if len(failed) > 0 {
		return &quietError{exitFailed}
	}
	return nil
}

func (p *program) report(t totals, failed []loadFailure, noWait bool) {
	if p.json {
		_ = json.NewEncoder(p.stdout).Encode(map[string]any{"totals": t})
	}
	for _, f := range failed {
		p.errorf("failed: %s: %s (%s)", f.URI, f.Message, f.Code)
	}
	rate := ""
	if t.Tokens > 0 && t.Seconds > 0 {
		rate = fmt.Sprintf(", %.0f tokens/s", float64(t.Tokens)/t.Seconds)
	}
	verb := "searchable"
	if noWait {
		verb = "accepted"
	}
	parts := []string{fmt.Sprintf("%d %s", t.Completed, verb)}
	if t.Deleted > 0 {
		parts = append(parts, fmt.Sprintf("%d deleted", t.Deleted))
	}
	parts = append(parts, fmt.Sprintf("%d unchanged", t.Unchanged), fmt.Sprintf("%d failed", t.Failed))
	p.errorf("%s: %d chunks, %d tokens in %s%s", strings.Join(parts, ", "), t.Chunks, t.Tokens, time.Duration(t.Seconds*float64(time.Second)).Round(100*time.Millisecond), rate)
}

// byteSize words a size for a person.
func byteSize(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f kB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}
