package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

// check is one line of doctor's report.
type check struct {
	Part   string `json:"part"`
	OK     bool   `json:"ok"`
	Off    bool   `json:"off,omitempty"` // not here, and not needed: OK is true
	Detail string `json:"detail"`
	Remedy string `json:"remedy,omitempty"`
}

func (p *program) doctorCommand() *cobra.Command {
	var live bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check each part and say what to do about what is wrong",
		Long: `Check the settings, the server, the database, the models (with a real embedding and a real generation) and each
capability. Exits 1 if a needed part does not work. With --live, only ask a running server whether it is alive.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if live {
				base, _ := p.settings.serverURL()
				return p.newClient(base).do(cmd.Context(), http.MethodGet, "/livez", nil, "", nil)
			}
			return p.doctor(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&live, "live", false, "only ask the server whether it is alive (for container health checks)")
	return cmd
}

func (p *program) doctor(ctx context.Context) error {
	bad := 0
	enc := json.NewEncoder(p.stdout)
	show := func(c check) {
		if !c.OK {
			bad++
		}
		if p.json {
			_ = enc.Encode(c)
			return
		}
		mark := map[bool]string{true: "ok  ", false: "BAD "}[c.OK]
		if c.Off {
			mark = "off "
		}
		fmt.Fprintf(p.stdout, "%s %-12s %s\n", mark, c.Part, c.Detail)
		if c.Remedy != "" {
			fmt.Fprintf(p.stdout, "     %-12s → %s\n", "", c.Remedy)
		}
	}
	show(check{Part: "settings", OK: true, Detail: p.settings.String()})
	show(p.checkServer(ctx))
	for c := range p.checkParts(ctx) {
		show(c)
	}
	if bad > 0 {
		return &quietError{exitFailed}
	}
	return nil
}

// checkServer: no server is not an error, commands then run one of their own.
func (p *program) checkServer(ctx context.Context) check {
	base, named := p.settings.serverURL()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := p.newClient(base).do(ctx, http.MethodGet, "/readyz", nil, "", nil)
	switch {
	case err == nil:
		return check{Part: "server", OK: true, Detail: "ready at " + base}
	case named:
		return check{Part: "server", Detail: err.Error(), Remedy: "start it with `footnote serve`, or correct FOOTNOTE_URL"}
	default:
		return check{Part: "server", OK: true, Detail: "none at " + base + "; commands run one of their own"}
	}
}
