package workersai

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Sentinels for what a caller can act on. Test with errors.Is; errors.As finds the *Error with code, text and remedy.
var (
	ErrModelNotFound   = errors.New("model not found")
	ErrModelDeprecated = errors.New("model deprecated") // also matches ErrModelNotFound
	ErrInvalidInput    = errors.New("invalid input")
	ErrRateLimited     = errors.New("rate limited")
	ErrQuotaExhausted  = errors.New("daily quota exhausted") // also matches ErrRateLimited; resets at 00:00 UTC
	ErrContextExceeded = errors.New("context exceeded")
	ErrUnauthorized    = errors.New("unauthorized")

	// ErrUnreachable: no answer came, or it broke off: connection refused, reset, timed out.
	ErrUnreachable = errors.New("model service unreachable")
	// ErrBadReply: an answer came and is not usable; errors.As finds the *ReplyError.
	ErrBadReply = errors.New("bad reply of the model service")
)

// Error is a failure that the API reported, in whichever of its shapes and before or inside a stream.
type Error struct {
	Status     int           // HTTP status; 200 for success:false and for an error inside a stream; 0 if found before sending
	Code       int           // of errors[0]; 0 if there was none
	CodeText   string        // of OpenAI's shape, such as invalid_prompt
	Message    string        // without prefixes and request id; bounded
	RequestID  string        // from the message or the header cf-ai-req-id
	Ray        string        // header cf-ray
	RetryAfter time.Duration // as the server asked; 0 if it did not
	Model      string
	Remedy     string // what to do about it; may be empty
	Notices    []Notice

	kind error // the sentinel, nil for none
}

// Error gives condition, text, numbers and remedy, on one line.
func (e *Error) Error() string {
	var b strings.Builder
	if e.kind != nil {
		b.WriteString(e.kind.Error())
		b.WriteString(": ")
	}
	if e.Model != "" {
		b.WriteString(e.Model)
		b.WriteString(": ")
	}
	b.WriteString(e.Message)
	b.WriteString(e.numbers())
	if e.Remedy != "" {
		b.WriteString(": ")
		b.WriteString(e.Remedy)
	}
	return b.String()
}

func (e *Error) numbers() string {
	var parts []string
	if e.Code != 0 {
		parts = append(parts, fmt.Sprintf("code %d", e.Code))
	}
	if e.CodeText != "" {
		parts = append(parts, e.CodeText)
	}
	if e.Status != 0 {
		parts = append(parts, fmt.Sprintf("HTTP %d", e.Status))
	}
	if e.RequestID != "" {
		parts = append(parts, "request "+e.RequestID)
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// Is matches the sentinel of the condition. A deprecated model is also not found; an exhausted quota is also a rate
// limit.
func (e *Error) Is(target error) bool {
	switch target {
	case nil:
		return false
	case e.kind:
		return true
	case ErrModelNotFound:
		return e.kind == ErrModelDeprecated
	case ErrRateLimited:
		return e.kind == ErrQuotaExhausted
	}
	return false
}

// ReplyError is an answer that arrived whole and cannot be used: rows missing, vectors of another length, not finite
// or zero, JSON of another shape. It matches ErrBadReply.
type ReplyError struct {
	Model  string
	Reason string
	Row    int // of an embedding; -1 if the fault is not in one row
	Err    error
}

// Error names the fault.
func (e *ReplyError) Error() string {
	s := ErrBadReply.Error() + ": "
	if e.Model != "" {
		s += e.Model + ": "
	}
	s += e.Reason
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Is matches ErrBadReply.
func (e *ReplyError) Is(target error) bool { return target == ErrBadReply }

// Unwrap gives the cause, if there is one.
func (e *ReplyError) Unwrap() error { return e.Err }
