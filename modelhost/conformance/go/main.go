// Command go tries two Go clients on a model host: the official cloudflare-go, unchanged, and the API reference's examples
// with workersai. It prints a line a check: client, capability, ok or FAIL or "not served", and a detail, with tabs between.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

const (
	chat      = "@cf/meta/llama-3.1-8b-instruct"
	embedder  = "@cf/baai/bge-base-en-v1.5"
	whisper   = "@cf/openai/whisper"
	translate = "@cf/meta/m2m100-1.2b"
	painter   = "@cf/stabilityai/stable-diffusion-xl-base-1.0"
)

// errNotServed: the host has no engine for the model; the text says what to do.
var errNotServed = errors.New("not served")

// check is one capability. seen is for the table.
type check struct {
	capability string
	run        func(context.Context) (seen string, err error)
}

func main() {
	base := os.Getenv("MODELS_URL") + "/client/v4"
	failed := tell("cloudflare-go", cloudflareChecks(base))
	if tell("workersai (Go)", referenceChecks(base)) || failed {
		os.Exit(1)
	}
}

func tell(client string, checks []check) (failed bool) {
	for _, c := range checks {
		seen, err := c.run(context.Background())
		state := "ok"
		switch {
		case errors.Is(err, errNotServed):
			state, seen = "not served", err.Error()
		case err != nil:
			state, seen, failed = "FAIL", err.Error(), true
		}
		seen = strings.Join(strings.Fields(seen), " ")
		fmt.Printf("%s\t%s\t%s\t%.200s\n", client, c.capability, state, seen)
	}
	return failed
}

// differs words a check that failed.
func differs(format string, args ...any) error { return fmt.Errorf("not as wanted: "+format, args...) }
