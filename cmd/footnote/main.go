// Command footnote is a semantic search and question-answering service over one's own documents: serve it, load documents
// into it, ask it. `footnote --help` says how.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker for releases.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ctx.Done()
		stop() // a second signal ends the process at once
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program without the process around it; it returns the exit code.
func run(ctx context.Context, args []string, stdin *os.File, stdout, stderr *os.File) int {
	p := &program{stdin: stdin, stdout: stdout, stderr: stderr, env: os.Getenv}
	root := p.command()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	code := exitCode(ctx, err)
	var quiet *quietError
	if !errors.As(err, &quiet) {
		fmt.Fprintln(stderr, p.explain(err))
	}
	return code
}
