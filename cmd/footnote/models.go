package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"github.com/footnote-rag/footnote/modelhost"
)

const longModels = `The model host alone, without Postgres: Cloudflare's Workers AI REST API, its OpenAI-compatible routes and the env.AI
binding of Workers, served from engines on this machine. docs/workers.md shows how a Worker, an SDK or a script is pointed
at it by one setting.

list and run use the host at FOOTNOTE_MODELS_ADDR if one answers there, else the engines of this machine directly. Where
CLOUDFLARE_ACCOUNT_ID and CLOUDFLARE_API_TOKEN (and WORKERSAI_BASE_URL) are set, they use that account instead.`

func (p *program) modelsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "models", Short: "The models alone: a local Workers AI for Workers, SDKs and scripts", Long: longModels, Args: args(cobra.NoArgs)}
	f, s := cmd.PersistentFlags(), &p.settings
	f.StringVar(&s.ModelsAddr, "addr", s.ModelsAddr, "where the model host listens (FOOTNOTE_MODELS_ADDR)")
	f.StringVar(&s.Catalogue, "catalogue", s.Catalogue, "a file that says which model names are served, and from what (FOOTNOTE_CATALOGUE)")
	cmd.AddCommand(p.modelsServeCommand(), p.modelsListCommand(), p.modelsPullCommand(), p.modelsRunCommand())
	return cmd
}

// modelsServeFlags are the settings of `models serve` alone.
type modelsServeFlags struct {
	tokensFile string
	accounts   []string
	rateLimits string
	faults     string
}

func (p *program) modelsServeCommand() *cobra.Command {
	var o modelsServeFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the Workers AI API from this machine",
		Long: `Serve the Workers AI API until told to stop (SIGTERM or Ctrl-C). Prints one line with its address, the base URL and the
binding's URL when it is ready. Engines start when a model is first used.

Without a token, any token is accepted, and only from this machine. With FOOTNOTE_API_KEY, or --tokens-file, every request
needs one of them, from wherever it comes.`,
		Example: `  footnote models serve
  footnote models serve --addr 0.0.0.0:8789     with FOOTNOTE_API_KEY set
  footnote models serve --rate-limits cloudflare`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return p.modelsServe(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.tokensFile, "tokens-file", "", "a file of bearer tokens, one a line, beside FOOTNOTE_API_KEY")
	f.StringSliceVar(&o.accounts, "account", nil, "account ids that are served; default any")
	f.StringVar(&p.settings.MemoryBudget, "memory-budget", p.settings.MemoryBudget, "what the engines may take together, such as 4GiB; idle ones make room (FOOTNOTE_MEMORY_BUDGET)")
	f.StringVar(&o.faults, "fault", "", "failures injected on purpose, to test clients, such as stream_cut=0.1,429=0.05,seed=7 (docs/faults.md)")
	f.StringVar(&o.rateLimits, "rate-limits", "none", "requests a minute by task and account: none, or cloudflare for its documented ones")
	return cmd
}

// hostConfig reads the flags.
func (o modelsServeFlags) hostConfig(apiKey string) (modelhost.Config, error) {
	c := modelhost.Config{Tokens: hostTokens(apiKey), Accounts: o.accounts}
	switch o.rateLimits {
	case "none":
	case "cloudflare":
		c.Limits = modelhost.CloudflareLimits()
	default:
		return c, usagef("--rate-limits is %q: choose none or cloudflare", o.rateLimits)
	}
	var err error
	if c.Faults, err = modelhost.ParseFaults(o.faults); err != nil {
		return c, usagef("--fault: %v", err)
	}
	if o.tokensFile == "" {
		return c, nil
	}
	tokens, err := readTokens(o.tokensFile)
	c.Tokens = append(c.Tokens, tokens...)
	return c, err
}

// readTokens takes a token a line; empty lines and comments are passed over. A file without tokens would open the host to
// everybody and is refused.
func readTokens(file string) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, usagef("--tokens-file: %v", err)
	}
	defer f.Close()
	var tokens []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if t := strings.TrimSpace(lines.Text()); t != "" && !strings.HasPrefix(t, "#") {
			tokens = append(tokens, t)
		}
	}
	if len(tokens) == 0 {
		return nil, usagef("--tokens-file %s holds no token", file)
	}
	return tokens, nil
}

func (p *program) modelsServe(ctx context.Context, o modelsServeFlags) error {
	log := p.settings.logger(p.stderr)
	hc, err := o.hostConfig(p.settings.APIKey)
	if err != nil {
		return err
	}
	m, err := startModelServer(ctx, serviceConfig{settings: p.settings, log: log, progress: p.assetProgress()}, hc)
	if err != nil {
		return err
	}
	url := listenURL(m.listener)
	fmt.Fprintf(p.stdout, "models are ready at %s  base URL %s/client/v4  binding %s/binding\n", url, url, url)
	var failure error
	select {
	case <-ctx.Done():
		log.Info("stopping", "reason", "signal")
	case failure = <-m.failed:
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := m.close(stop); err != nil && failure == nil {
		failure = fmt.Errorf("stop: %w", err)
	}
	return failure
}

// startModelServer starts a model host at its own address. The result's close stops it.
func startModelServer(ctx context.Context, cfg serviceConfig, hc modelhost.Config) (_ *service, err error) {
	s := &service{failed: make(chan error, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close(context.WithoutCancel(ctx)))
		}
	}()
	// The address first: a port that is taken is told before anything is downloaded.
	if s.listener, err = net.Listen("tcp", cfg.settings.ModelsAddr); err != nil {
		return nil, fmt.Errorf("listen: %w (choose another with --addr)", err)
	}
	s.onStop(func(context.Context) error { return ignoreClosed(s.listener.Close()) })
	local, err := s.localHost(ctx, cfg, hc)
	if err != nil {
		return nil, err
	}
	srv := &http.Server{Handler: modelRoutes(local.host), ReadHeaderTimeout: 10 * time.Second}
	s.onStop(srv.Shutdown)
	go func() {
		if err := srv.Serve(s.listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("serve HTTP: %w", err)
		}
	}()
	return s, nil
}

// modelRoutes adds what an operator needs to the host's own routes.
func modelRoutes(h *modelhost.Host) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(h.Collectors()...)
	mux := http.NewServeMux()
	mux.Handle("/", h.Handler())
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}
