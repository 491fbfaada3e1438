package modelhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/footnote-rag/footnote/workersai"
)

// Today's codes that workersai has no constant for.
const (
	codeEdgeMethod     = 7001 // 405: the method is not available for that URI
	codeNativeInternal = 3043 // 5xx: the model or its engine failed
)

// statusClientGone is what the log says when the client left before the answer; nobody receives it.
const statusClientGone = 499

// failure is everything that an error answer needs. The handler that detects a condition makes one with the
// constructors below; writeFailure and the stream turn it into bytes.
type failure struct {
	status     int
	code       int    // errors[0].code
	message    string // errors[0].message: what is wrong and what to do
	native     string // messages[0].message without prefix and id; "" leaves messages empty
	retryAfter time.Duration
	cause      error // for the log alone
}

func (f *failure) Error() string {
	if f.cause != nil {
		return fmt.Sprintf("%d: %s: %v", f.code, f.message, f.cause)
	}
	return fmt.Sprintf("%d: %s", f.code, f.message)
}

func (f *failure) Unwrap() error { return f.cause }

func unknownModel(model, why string) *failure {
	return &failure{
		status: http.StatusNotFound, code: workersai.CodeModelNotFound,
		message: why, native: "Ai: No such model " + model + " or task",
	}
}

// invalid refuses a body: native is the validator's text, message what to do (native itself if empty).
func invalid(native, message string) *failure {
	if message == "" {
		message = native
	}
	return &failure{
		status: http.StatusBadRequest, code: workersai.CodeInvalidInput,
		message: message, native: "Bad input: Error: " + native,
	}
}

func tooBusy(message string, retryAfter time.Duration) *failure {
	return &failure{
		status: http.StatusTooManyRequests, code: workersai.CodeRateLimited, message: message,
		native: "Ai: Capacity temporarily exceeded, please try again.", retryAfter: max(retryAfter, time.Second),
	}
}

// overContext refuses an input of tokens (with the answer's, for text generation) over limit.
func overContext(tokens, limit int, message string) *failure {
	return &failure{
		status: http.StatusRequestEntityTooLarge, code: workersai.CodeContextExceeded, message: message,
		native: fmt.Sprintf("Ai: The estimated number of input and maximum output tokens (%d) exceeded this model context window limit (%d).", tokens, limit),
	}
}

func unauthorized(message string) *failure {
	return &failure{status: http.StatusUnauthorized, code: workersai.CodeEdgeAuthentication, message: message}
}

func noRoute() *failure {
	return &failure{
		status: http.StatusNotFound, code: workersai.CodeEdgeNoRoute,
		message: "No route for that URI: the model host serves /client/v4/accounts/{account_id}/ai/…",
	}
}

func wrongMethod(method string) *failure {
	return &failure{status: http.StatusMethodNotAllowed, code: codeEdgeMethod, message: "Method " + method + " not available for that URI."}
}

func tooLarge(limit int64) *failure {
	return &failure{
		status: http.StatusRequestEntityTooLarge, code: workersai.CodeNativeTooLarge,
		message: fmt.Sprintf("request body over %d bytes: send less at a time", limit),
	}
}

// engineFailed says that an engine gave no usable answer. Clients repeat a 502.
func engineFailed(message string, cause error) *failure {
	return &failure{status: http.StatusBadGateway, code: codeNativeInternal, message: message, cause: cause}
}

// asFailure finds the failure in err, or makes one of a context's end or of a fault of ours.
func asFailure(err error) *failure {
	var f *failure
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, context.DeadlineExceeded):
		return &failure{status: http.StatusRequestTimeout, code: workersai.CodeNativeTimeout, message: "the model took too long: ask for fewer tokens, or stream", cause: err}
	case errors.Is(err, context.Canceled):
		return &failure{status: statusClientGone, code: workersai.CodeNativeAborted, message: "the request was aborted", cause: err}
	}
	return engineFailed("the model's engine failed: "+err.Error(), err)
}

// envelope is the body of the failure, for a request with this id.
func (f *failure) envelope(id string) workersai.Envelope[any] {
	env := workersai.Envelope[any]{
		Result: struct{}{}, Errors: []workersai.Notice{{Code: f.code, Message: f.message}}, Messages: []workersai.Notice{},
	}
	switch f.code {
	case workersai.CodeEdgeAuthentication, workersai.CodeEdgeNoRoute, workersai.CodeEdgeInvalidObject, codeEdgeMethod:
		env.Result = nil
	}
	if today := workersai.NativeCode(f.code); today != 0 && f.native != "" {
		env.Messages = append(env.Messages, workersai.Notice{Code: today, Message: "AiError: " + f.native + " (" + id + ")"})
	}
	return env
}

// setHeaders sets what goes with the failure whatever its body looks like.
func (f *failure) setHeaders(h http.Header) {
	if f.status == http.StatusTooManyRequests {
		h.Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(f.retryAfter.Seconds())))))
	}
	if f.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
}

// writeFailure answers with the envelope.
func writeFailure(w http.ResponseWriter, f *failure, id string) {
	f.setHeaders(w.Header())
	writeJSON(w, f.status, f.envelope(id))
}

// writeJSON answers with v. An error here means that the client left: nobody is there to be told.
func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // a value of ours that JSON cannot hold, such as NaN
		status, body = http.StatusInternalServerError, []byte(`{"result":{},"success":false,"errors":[{"code":3043,"message":"the answer cannot be written as JSON"}],"messages":[]}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
