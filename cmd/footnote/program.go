package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// program is the command line: its streams, its settings, and one method a command.
type program struct {
	stdin          *os.File
	stdout, stderr *os.File
	env            func(string) string
	settings       settings
	json           bool // --json: machine-readable results on stdout
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

func (p *program) errorf(format string, args ...any) { fmt.Fprintf(p.stderr, format+"\n", args...) }

const longHelp = `Footnote answers questions from your own documents, and every sentence of an answer carries a
footnote: the exact characters of the document that support it.

  footnote quickstart          a first answer, from the PostgreSQL manual, with nothing configured
  footnote serve               the service: HTTP API and web page at http://127.0.0.1:8080
  footnote load ~/docs         load a folder; load it again and only what changed is embedded
  footnote ask "How …?"        a streamed answer with footnotes
  footnote search "words"      the passages alone
  footnote models serve        the models alone: a local Workers AI for Workers, SDKs and scripts

Nothing set, everything runs on this machine: a private Postgres with pgvector and small local models. One setting
replaces one part: DATABASE_URL the database, CLOUDFLARE_ACCOUNT_ID with CLOUDFLARE_API_TOKEN the models.
A flag beats the environment, the environment beats the default.

Exit codes: 0 done, 1 something failed, 2 wrong usage, 4 not authorised, 5 no server, 6 rate limited, 7 timed out,
8 server error, 130 interrupted.`

// command builds the command tree.
func (p *program) command() *cobra.Command {
	root := &cobra.Command{
		Use:           "footnote",
		Short:         "Answers from your own documents, with footnotes that can be checked",
		Long:          longHelp,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return p.settings.check()
		},
	}
	var readErr error
	p.settings, readErr = readSettings(p.env)
	if readErr != nil {
		root.PersistentPreRunE = func(*cobra.Command, []string) error { return readErr }
	}
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usagef("%v", err) })

	f := root.PersistentFlags()
	s := &p.settings
	f.StringVar(&s.DataDir, "data-dir", s.DataDir, "where the private Postgres keeps its data (FOOTNOTE_DATA_DIR)")
	f.StringVar(&s.CacheDir, "cache-dir", s.CacheDir, "where engines and weights are kept (FOOTNOTE_CACHE_DIR)")
	f.StringVar(&s.URL, "url", s.URL, "the server that client commands talk to (FOOTNOTE_URL); default the one at --addr, else one of our own")
	f.StringVar(&s.Addr, "addr", s.Addr, "where the server listens (FOOTNOTE_ADDR)")
	f.StringVar(&s.Profile, "profile", s.Profile, "local models: small (works offline) or full (FOOTNOTE_PROFILE)")
	f.StringVar(&s.LogLevel, "log-level", s.LogLevel, "debug, info, warn or error (FOOTNOTE_LOG_LEVEL)")
	f.BoolVar(&p.json, "json", false, "machine-readable output on stdout")

	root.AddCommand(p.serveCommand(), p.quickstartCommand(), p.loadCommand(), p.askCommand(), p.searchCommand(),
		p.statusCommand(), p.deleteCommand(), p.evalCommand(), p.qualityCommand(), p.doctorCommand(), p.engineCommand(), p.modelsCommand(), p.migrateCommand(), p.extractCommand())
	return root
}

// args wraps cobra's argument checks so that a wrong count is a usage error.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		if err := check(cmd, a); err != nil {
			return usagef("%v", err)
		}
		return nil
	}
}

// connect returns a client of the running server. With none at the default address it starts one in this process for as
// long as the command runs; done must be called.
func (p *program) connect(ctx context.Context) (c *client, done func(), err error) {
	base, named := p.settings.serverURL()
	c = p.newClient(base)
	probe, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err = c.do(probe, http.MethodGet, "/livez", nil, "", nil)
	if err == nil {
		return c, func() {}, nil
	}
	if named || !errors.Is(err, errUnreachable) {
		return nil, nil, err
	}
	return p.startOwn(ctx)
}

func (p *program) newClient(base string) *client {
	tr := http.DefaultTransport.(*http.Transport).Clone()
	tr.MaxIdleConnsPerHost = 64
	return &client{base: base, key: p.settings.APIKey, http: &http.Client{Transport: tr}}
}

// startOwn runs a server in this process on a free loopback port.
func (p *program) startOwn(ctx context.Context) (*client, func(), error) {
	s := p.settings
	s.Addr = "127.0.0.1:0"
	log := s.logger(p.stderr)
	if s.LogLevel == "info" { // a client command shows its own progress, not a server's log
		quiet := s
		quiet.LogLevel = "warn"
		log = quiet.logger(p.stderr)
	}
	svc, err := startService(ctx, serviceConfig{settings: s, log: log, progress: p.assetProgress()})
	if err != nil {
		return nil, nil, err
	}
	done := func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		if err := svc.close(stop); err != nil {
			p.errorf("footnote: while stopping: %v", err)
		}
	}
	return p.newClient(svc.url()), done, nil
}
