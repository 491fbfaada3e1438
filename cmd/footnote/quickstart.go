package main

import (
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/spf13/cobra"
)

// manual holds pages of the PostgreSQL 15 manual, unchanged; manual/legalnotice.html is their licence.
//
//go:embed manual/*.html
var manual embed.FS

const (
	quickstartCollection = "postgres-manual"
	quickstartQuestion   = "What does VACUUM do with dead row versions?"
)

func (p *program) quickstartCommand() *cobra.Command {
	var ask string
	cmd := &cobra.Command{
		Use:   "quickstart",
		Short: "A first answer from real documents, with nothing configured",
		Long: `Install what is missing (a private Postgres with pgvector, a text engine, small weights: pinned, checked by SHA-256,
kept in the cache folder), load pages of the PostgreSQL manual into the collection "postgres-manual", ask a question
about them and stream the answer with its footnotes. The second time it takes seconds and needs no network.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return p.quickstart(cmd.Context(), ask) },
	}
	cmd.Flags().StringVar(&ask, "ask", quickstartQuestion, "the question")
	return cmd
}

func (p *program) quickstart(ctx context.Context, ask string) error {
	start := time.Now()
	p.errorf("Footnote: starting Postgres and the models (data %s, cache %s)", p.settings.DataDir, p.settings.CacheDir)
	c, done, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer done()
	p.errorf("ready after %s at %s", time.Since(start).Round(100*time.Millisecond), c.base)
	if err := p.loadManual(ctx, c); err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "\nQ: %s\n\nA: ", ask)
	if err := p.ask(ctx, c, question{Collection: quickstartCollection, Question: ask}); err != nil {
		return err
	}
	p.errorf("\nall in %s. Go on with:\n"+
		"  bin/footnote serve                               then open http://%s\n"+
		"  bin/footnote load ~/docs                         your own documents\n"+
		"  bin/footnote ask -c %s \"…\"          another question\n"+
		"  bin/footnote --help", time.Since(start).Round(100*time.Millisecond), p.settings.Addr, quickstartCollection)
	return nil
}

// loadManual loads the bundled pages as footnote load would.
func (p *program) loadManual(ctx context.Context, c *client) error {
	found, err := manualSources()
	if err != nil {
		return err
	}
	o := loadOptions{collection: quickstartCollection, concurrency: 8}
	plan, err := makePlan(ctx, c, o, found)
	if err != nil {
		return err
	}
	p.errorf("loading the PostgreSQL manual's chapters on SQL, concurrency, backup and maintenance: %s", plan)
	var t totals
	t.Unchanged = plan.unchanged
	begin := time.Now()
	failed, err := p.sendAll(ctx, c, o, plan, &t)
	if err != nil {
		return err
	}
	t.Seconds = time.Since(begin).Seconds()
	p.report(t, failed, false)
	if len(failed) > 0 {
		return errors.New("some of the bundled pages could not be loaded: run footnote doctor")
	}
	return nil
}

func manualSources() (foundSources, error) {
	var f foundSources
	names, err := fs.Glob(manual, "manual/*.html")
	if err != nil {
		return f, err
	}
	for _, name := range names {
		b, err := manual.ReadFile(name)
		if err != nil {
			return f, err
		}
		f.sources = append(f.sources, loadSource{uri: "postgresql-15/" + path.Base(name), mediaType: "text/html", size: int64(len(b)),
			sha256: sha256.Sum256(b), read: func() ([]byte, error) { return b, nil }})
	}
	if len(f.sources) == 0 {
		return f, errors.New("the program was built without its manual pages")
	}
	return f, nil
}
