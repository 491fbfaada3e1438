package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
)

func (p *program) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the service: HTTP API, web page, ingest queue, models",
		Long: `Run the service until it is told to stop (SIGTERM or Ctrl-C; a second one ends it at once). Prints one line with its
address when it is ready. Nothing configured: Postgres and models run on this machine, below --data-dir and --cache-dir.`,
		Example: `  footnote serve
  footnote serve --addr 0.0.0.0:8080            with FOOTNOTE_API_KEY set
  DATABASE_URL=postgres://… footnote serve      your own Postgres with pgvector
  CLOUDFLARE_ACCOUNT_ID=… CLOUDFLARE_API_TOKEN=… footnote serve`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return p.serve(cmd.Context()) },
	}
}

func (p *program) serve(ctx context.Context) error {
	log := p.settings.logger(p.stderr)
	svc, err := startService(ctx, serviceConfig{settings: p.settings, log: log, progress: p.assetProgress()})
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "footnote is ready at %s\n", svc.url())
	var failure error
	select {
	case <-ctx.Done():
		log.Info("stopping", "reason", "signal")
	case failure = <-svc.failed:
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := svc.close(stop); err != nil && failure == nil {
		failure = fmt.Errorf("stop: %w", err)
	}
	return failure
}

// shutdownTimeout is how long requests and jobs in flight get to end.
const shutdownTimeout = 25 * time.Second

// assetProgress shows downloads on a terminal as a line that moves, elsewhere as one line a file.
func (p *program) assetProgress() func(name string, done, total int64) {
	tty := isTerminal(p.stderr)
	var last time.Time
	var shown string
	return func(name string, done, total int64) {
		end := total > 0 && done >= total
		switch {
		case !tty && shown != name:
			p.errorf("fetching %s (%s)", name, byteSize(total))
			shown = name
		case tty && (end || time.Since(last) > barEvery):
			last = time.Now()
			fmt.Fprintf(p.stderr, "\rfetching %s  %s of %s\x1b[K", name, byteSize(done), byteSize(total))
			if end {
				fmt.Fprintln(p.stderr)
			}
		}
	}
}

func (p *program) migrateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database's schema up to date and exit",
		Long:  "Bring the schema of DATABASE_URL (or of the private Postgres) up to date and exit. serve does this by itself.",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := migrateOnly(cmd.Context(), p.settings, p.settings.logger(p.stderr), p.assetProgress()); err != nil {
				return err
			}
			p.errorf("the schema is up to date")
			return nil
		},
	}
}

// extractCommand is the child that parses documents, with limits that the parent sets; nobody types it.
func (p *program) extractCommand() *cobra.Command {
	return &cobra.Command{
		Use:                extractCommandName,
		Hidden:             true,
		DisableFlagParsing: true,
		PersistentPreRunE:  func(*cobra.Command, []string) error { return nil },
		RunE: func(*cobra.Command, []string) error {
			return runExtractor(os.Stdin, os.Stdout)
		},
	}
}

const extractCommandName = "extract-documents"
