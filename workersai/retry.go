package workersai

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	firstBackoff   = 500 * time.Millisecond
	longestBackoff = 8 * time.Second
	jitterShare    = 0.25 // keeps the clients of one failure from coming back together
)

// successors are the models that continue retired ones.
var successors = map[string]string{"@cf/meta/llama-3.1-8b-instruct": "@cf/meta/llama-3.1-8b-instruct-fp8"}

// final marks a failure that no retry may follow: events were delivered, or the next try would fail the same way.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// withFallback runs a model, and its successor if it is retired and the configuration allows that.
func (c *Client) withFallback(ctx context.Context, q call) error {
	asked := q.model
	if next, ok := c.retired.Load(asked); ok {
		q.model, _ = next.(string)
		return c.withRetries(ctx, q)
	}
	err := c.withRetries(ctx, q)
	next, known := successors[asked]
	if !c.cfg.FallbackDeprecated || !known || !errors.Is(err, ErrModelDeprecated) {
		return err
	}
	q.model = next
	if err = c.withRetries(ctx, q); errors.Is(err, ErrModelDeprecated) {
		return fmt.Errorf("%s and its successor %s are both retired: %w", asked, next, err)
	}
	if _, again := c.retired.LoadOrStore(asked, next); !again && c.cfg.OnFallback != nil {
		c.cfg.OnFallback(asked, next)
	}
	return err
}

func (c *Client) withRetries(ctx context.Context, q call) error {
	for try := 0; ; try++ {
		err := c.attempt(ctx, q, try+1)
		var f final
		if errors.As(err, &f) {
			return f.error
		}
		if err == nil || try >= c.cfg.MaxRetries || ctx.Err() != nil || !retryable(err, try) {
			return err
		}
		wait := backoff(try)
		var e *Error
		if errors.As(err, &e) && e.RetryAfter > 0 {
			if wait = e.RetryAfter; wait > c.cfg.MaxRetryAfter {
				return err
			}
		}
		if werr := sleep(ctx, wait); werr != nil {
			return fmt.Errorf("%w while waiting to retry: %w", werr, err)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// backoff is 0.5 s, doubled each try up to 8 s, less up to 25 %.
func backoff(try int) time.Duration {
	d := min(firstBackoff<<min(try, 10), longestBackoff)
	return time.Duration(float64(d) * (1 - jitterShare*rand.Float64()))
}

// retryable: 408, 409, 429 and 5xx, and answers that never came or broke off; never a used-up quota; a model timeout once.
func retryable(err error, try int) bool {
	var e *Error
	if !errors.As(err, &e) {
		return errors.Is(err, ErrUnreachable) && !errors.Is(err, ErrBadReply)
	}
	switch {
	case e.kind == ErrQuotaExhausted:
		return false
	case e.Code == CodeNativeTimeout:
		return try == 0
	case e.kind == ErrRateLimited:
		return true
	case e.kind != nil:
		return false
	}
	return e.Status == 408 || e.Status == 409 || e.Status == 429 || e.Status >= 500
}
