package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/footnote-rag/footnote/workersai"
)

// Exit codes, as other tools of this field use them.
const (
	exitOK          = 0
	exitFailed      = 1 // the command ran and something failed: a document, a check
	exitUsage       = 2
	exitAuth        = 4
	exitUnreachable = 5
	exitRateLimited = 6
	exitTimeout     = 7
	exitServer      = 8
	exitInterrupted = 130
)

// usageError is a mistake in the command line.
type usageError struct{ msg string }

func (e *usageError) Error() string { return e.msg }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// quietError ends the program with a code after the command has already said why.
type quietError struct{ code int }

func (e *quietError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// exitCode maps an error to the process's exit code.
func exitCode(ctx context.Context, err error) int {
	var quiet *quietError
	var usage *usageError
	var api *apiError
	var model *workersai.Error
	var netErr net.Error
	switch {
	case errors.As(err, &quiet):
		return quiet.code
	case ctx.Err() != nil:
		return exitInterrupted
	case errors.As(err, &usage), strings.HasPrefix(err.Error(), "unknown command"), strings.HasPrefix(err.Error(), "unknown flag"):
		return exitUsage
	case errors.As(err, &api):
		return api.exitCode()
	case errors.Is(err, errUnreachable), errors.Is(err, workersai.ErrUnreachable):
		return exitUnreachable
	case errors.Is(err, workersai.ErrUnauthorized):
		return exitAuth
	case errors.Is(err, workersai.ErrRateLimited):
		return exitRateLimited
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return exitTimeout
	case errors.As(err, &model) && model.Status >= 500:
		return exitServer
	default:
		return exitFailed
	}
}

// explain words an error for a person.
func (p *program) explain(err error) string {
	var usage *usageError
	if errors.As(err, &usage) {
		return "footnote: " + usage.msg + "\nRun the command with --help to see how it is used."
	}
	return "footnote: " + err.Error()
}
