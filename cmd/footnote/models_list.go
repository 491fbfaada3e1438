package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/footnote-rag/footnote/embedded"
	"github.com/footnote-rag/footnote/modelhost"
	"github.com/footnote-rag/footnote/workersai"
)

// listedModel is one line of `models list --json`.
type listedModel struct {
	Name     string `json:"name"`
	Task     string `json:"task"`
	Served   bool   `json:"served"`
	ServedBy string `json:"served_by,omitempty"` // the weights, where they stand in for the named model's
	Setup    string `json:"setup,omitempty"`     // what to do where it is not served
}

func (p *program) modelsListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the models: task, served by what, or why not",
		Args:  args(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return p.modelsList(cmd.Context()) },
	}
}

func (p *program) modelsList(ctx context.Context) error {
	c, done, err := p.connectModels(ctx, true)
	if err != nil {
		return err
	}
	defer done()
	found, err := c.SearchModels(ctx, workersai.ModelQuery{})
	if err != nil {
		return err
	}
	for _, m := range found {
		l := listedModel{Name: m.Name, Task: m.Task.Name, Served: m.Property("served") != "false", ServedBy: m.Property("served_by"), Setup: m.Property("setup")}
		if err := p.printModel(l); err != nil {
			return err
		}
	}
	return nil
}

func (p *program) printModel(l listedModel) error {
	if p.json {
		return json.NewEncoder(p.stdout).Encode(l)
	}
	state := "served"
	switch {
	case !l.Served:
		state = "not served: " + l.Setup
	case l.ServedBy != "":
		state = "served by " + l.ServedBy
	}
	_, err := fmt.Fprintf(p.stdout, "%-46s %-28s %s\n", l.Name, l.Task, state)
	return err
}

// connectModels returns a client of the models: at the account that is set, at the host that answers at its address, or
// of a host in this process. With offline that one has only what is installed. done must be called.
func (p *program) connectModels(ctx context.Context, offline bool) (c *workersai.Client, done func(), err error) {
	quiet := p.settings
	if quiet.LogLevel == "info" { // a client command shows its own progress, not a server's log
		quiet.LogLevel = "warn"
	}
	cfg := serviceConfig{settings: p.settings, log: quiet.logger(p.stderr), progress: p.assetProgress(), offline: offline}
	if p.settings.remoteModels() {
		m, err := remoteModels(ctx, cfg)
		return m.client, func() {}, err
	}
	at := p.settings
	at.Addr, at.URL = p.settings.ModelsAddr, ""
	base, _ := at.serverURL()
	if answers(ctx, base+"/livez") {
		c, err := p.modelClient(base)
		return c, func() {}, err
	}
	s := &service{}
	done = func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		if err := s.close(stop); err != nil {
			p.errorf("footnote: while stopping: %v", err)
		}
	}
	local, err := s.localHost(ctx, cfg, modelhost.Config{Tokens: hostTokens(p.settings.APIKey)})
	if err == nil {
		base, err = s.serveModels(local.host.Handler())
	}
	if err == nil {
		c, err = p.modelClient(base)
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	return c, done, nil
}

// modelClient speaks to a model host on this machine, with the one key that footnote knows.
func (p *program) modelClient(base string) (*workersai.Client, error) {
	return workersai.New(workersai.Config{BaseURL: base + "/client/v4", AccountID: anyTenant, Token: cmp.Or(p.settings.APIKey, newToken()),
		MaxRetries: -1, Timeout: localTimeout, HeaderTimeout: localTimeout, IdleTimeout: localTimeout})
}

// answers tells whether a server is there.
func answers(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func (p *program) modelsPullCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "pull MODEL|CAPABILITY…",
		Short: "Install what a model needs on this machine: engine and weights",
		Long: `Install what a model needs into the cache folder, pinned and checked by SHA-256. A capability is one of text, embeddings,
reranking, speech, translation, image. A host that runs already serves it after its next start.`,
		Example: `  footnote models pull speech
  footnote models pull @cf/meta/m2m100-1.2b`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			catalogue, err := readCatalogue(p.settings.Catalogue)
			if err != nil {
				return err
			}
			for _, name := range a {
				if err := p.modelsPull(cmd.Context(), catalogue, name); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// capabilityTasks are the tasks by the words that people use.
var capabilityTasks = map[string]string{
	"text": modelhost.TaskTextGeneration, "embeddings": modelhost.TaskEmbeddings, "reranking": modelhost.TaskReranking,
	"speech": modelhost.TaskSpeech, "translation": modelhost.TaskTranslation, "image": modelhost.TaskImage,
}

// modelsPull installs the first engine of a model, or of a capability's models, that this machine can have.
func (p *program) modelsPull(ctx context.Context, catalogue modelhost.Catalogue, name string) error {
	cfg := serviceConfig{settings: p.settings, log: p.settings.logger(p.stderr), progress: p.assetProgress()}
	var known bool
	var why []error
	for _, m := range catalogue.Models {
		if m.Name != name && m.Task != capabilityTasks[name] {
			continue
		}
		known = true
		what, err := install(ctx, cfg, m)
		if err == nil {
			fmt.Fprintf(p.stdout, "%s is here, for %s\n", what, m.Name)
			return nil
		}
		if !errors.Is(err, embedded.ErrUnavailable) {
			return err
		}
		why = append(why, err)
	}
	if !known {
		return usagef("%q is neither a model of the catalogue nor a capability: see `footnote models list`", name)
	}
	return errors.Join(why...)
}

// install makes the model's engines until one succeeds, and says what that one is.
func install(ctx context.Context, cfg serviceConfig, m modelhost.Model) (string, error) {
	why := fmt.Errorf("%w: nothing to install for %s: %s", embedded.ErrUnavailable, m.Name, m.Setup)
	for _, b := range m.Backends {
		for _, part := range engineParts() {
			if part.name != b.Engine {
				continue
			}
			e, err := part.make(ctx, cfg, cfg.cache())
			if err == nil {
				return part.what, e.Close()
			}
			if !errors.Is(err, embedded.ErrUnavailable) {
				return "", fmt.Errorf("%s: %w", part.what, err)
			}
			why = fmt.Errorf("%s: %w", part.what, err)
		}
	}
	return "", why
}
