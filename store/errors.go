package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Sentinel errors. Callers find them with errors.Is.
var (
	ErrNotFound      = errors.New("not found")
	ErrSpaceMismatch = errors.New("collection belongs to another embedding space")
	ErrInvalidVector = errors.New("vector is zero, not finite, or of the wrong length")
	ErrInvalidText   = errors.New("text cannot be stored")
	ErrInvalidFilter = errors.New("invalid filter")
	ErrInvalidFusion = errors.New("invalid fusion")
	ErrSuperseded    = errors.New("a newer version of the document has arrived")
	ErrUnavailable   = errors.New("database unavailable")
	ErrStorageFull   = errors.New("database storage is full")
	ErrIncompatible  = errors.New("database is not compatible")
)

// maxAttempts bounds how often a transaction that lost against another one is run.
const maxAttempts = 4

// mapped turns a driver's error into one of the sentinels, saying what was being done.
func mapped(doing string, err error) error {
	if err == nil {
		return nil
	}
	if kind := sentinel(err); kind != nil && !errors.Is(err, kind) {
		return fmt.Errorf("%s: %w: %w", doing, kind, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

func sentinel(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNotFound
	}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return sentinelOfCode(pgErr.Code)
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	var netErr net.Error
	var connectErr *pgconn.ConnectError
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &connectErr) || errors.As(err, &netErr) || pgconn.SafeToRetry(err) || isBroken(err) {
		return ErrUnavailable
	}
	return nil
}

// sentinelOfCode knows the SQLSTATEs of the PostgreSQL manual's appendix A.
func sentinelOfCode(code string) error {
	switch code {
	case "53100": // disk_full
		return ErrStorageFull
	case "22021", "22P05", "22P02", "54000", "54001", "22026": // character_not_in_repertoire, untranslatable_character, …, program_limit_exceeded
		return ErrInvalidText
	case "22000", "22003": // pgvector: not finite, out of range, other dimensions
		return ErrInvalidVector
	case "55P03", "57014", "25P03", "25P04": // lock_not_available, query_canceled by statement_timeout, idle or transaction timeouts
		return ErrUnavailable
	case "XX001", "XX002", "58030": // data_corrupted, index_corrupted, io_error: a person is needed, but others are served
		return ErrUnavailable
	}
	for _, class := range []string{"08", "53", "57P", "40"} { // connection, resources, operator intervention, transaction rollback
		if strings.HasPrefix(code, class) {
			return ErrUnavailable
		}
	}
	return nil
}

// isBroken recognises a connection that ended under a query; pgx reports these as plain text.
func isBroken(err error) bool {
	text := err.Error()
	for _, sign := range []string{"conn closed", "unexpected EOF", "connection reset", "broken pipe", "closed pool"} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}

// isConflict tells that the transaction lost against another one and may be run again.
func isConflict(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && (pgErr.Code == "40001" || pgErr.Code == "40P01")
}

// retrying runs f, which must be a whole transaction, again when it lost against another one.
func retrying(ctx context.Context, f func() error) error {
	for attempt := 1; ; attempt++ {
		err := f()
		if err == nil || !isConflict(err) || attempt == maxAttempts {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(attempt*attempt) * 5 * time.Millisecond):
		}
	}
}
