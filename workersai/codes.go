package workersai

import "net/http"

// Error codes of the project's API reference. Our own server puts them in errors[0].code.
const (
	CodeModelNotFound   = 7502 // HTTP 404
	CodeInvalidInput    = 7504 // HTTP 400
	CodeRateLimited     = 7505 // HTTP 429 with Retry-After
	CodeContextExceeded = 7506 // HTTP 413
)

// Error codes that Cloudflare answers with today (October 2026). "Edge" codes come from before Workers AI.
const (
	CodeNativeInvalidJSON       = 3003  // 400: bad or incomplete request
	CodeNativeTooLarge          = 3006  // 413: request too large
	CodeNativeTimeout           = 3007  // 408: request timeout
	CodeNativeAborted           = 3008  // 408: request was aborted
	CodeNativeTooLargeSeen      = 3010  // 413: seen once in the field
	CodeNativeLoRA              = 3023  // 403: no permission for the model
	CodeNativeMaxContext        = 3030  // 400: context of bge-m3; flagged output on image models
	CodeNativeQuota             = 3036  // 429: daily allocation used up, as documented
	CodeNativeIncomplete        = 3039  // 400: incomplete request
	CodeNativeCapacity          = 3040  // 429: no capacity
	CodeNativeForbiddenModel    = 3041  // 403: model not allowed for this account
	CodeNativeNoSuchModelID     = 3042  // 404: invalid model id
	CodeNativeQuotaSeen         = 4006  // 429: daily allocation used up, as accounts really get it
	CodeNativeInvalidData       = 5004  // 400: invalid data
	CodeNativeMethod            = 5005  // 405: method not allowed for this model
	CodeNativeInvalidInput      = 5006  // 400: bad input, the validator's text
	CodeNativeModelNotFound     = 5007  // 400: no such model
	CodeNativeAgreement         = 5016  // 403: the model's terms are not accepted
	CodeNativeAccountBlocked    = 5018  // 403: account not allowed
	CodeNativeSDKVersion        = 5019  // 405: wrong SDK version
	CodeNativeContextExceeded   = 5021  // 413: input plus max_tokens over the window
	CodeNativeDeprecated        = 5028  // 410: the model was retired
	CodeNativePlan              = 5035  // 403: not in the account's plan
	CodeNativeBackend           = 8001  // 400: error of the backend, nested in the message
	CodeNativeBackendValidation = 8007  // 400: validation error of the backend
	CodeEdgeNoRoute             = 7000  // 400 or 404: no route for that URI
	CodeEdgeInvalidObject       = 7003  // 400 or 404: could not route, object identifier invalid
	CodeEdgeBadToken            = 9106  // 400 or 403: malformed or missing token
	CodeEdgeAuthentication      = 10000 // 401: authentication error
)

// ErrorEnvelope is what our servers answer for a failure: its HTTP status and its body. code is one of the reference's
// codes or, for a condition without one, today's. message tells the user what to do; native is the text Cloudflare
// would have written, "" for none. A 429 also needs a Retry-After header.
func ErrorEnvelope(code int, message, native string) (int, Envelope[any]) {
	env := Envelope[any]{
		Result:   struct{}{},
		Errors:   []Notice{{Code: code, Message: message}},
		Messages: []Notice{},
	}
	if code == CodeEdgeAuthentication || code == CodeEdgeNoRoute {
		env.Result = nil
	}
	if today := NativeCode(code); today != 0 && native != "" {
		env.Messages = append(env.Messages, Notice{Code: today, Message: native})
	}
	return StatusOf(code), env
}

// NativeCode is Cloudflare's code of today for the condition that a code of the reference names, 0 if it names none.
func NativeCode(code int) int {
	switch code {
	case CodeModelNotFound:
		return CodeNativeModelNotFound
	case CodeInvalidInput:
		return CodeNativeInvalidInput
	case CodeRateLimited:
		return CodeNativeCapacity
	case CodeContextExceeded:
		return CodeNativeContextExceeded
	}
	return 0
}

// StatusOf is the HTTP status that goes with a code, 500 for one it does not know.
func StatusOf(code int) int {
	switch code {
	case CodeModelNotFound, CodeNativeNoSuchModelID, CodeEdgeNoRoute, CodeEdgeInvalidObject:
		return http.StatusNotFound
	case CodeRateLimited, CodeNativeCapacity, CodeNativeQuota, CodeNativeQuotaSeen:
		return http.StatusTooManyRequests
	case CodeContextExceeded, CodeNativeContextExceeded, CodeNativeTooLarge, CodeNativeTooLargeSeen:
		return http.StatusRequestEntityTooLarge
	case CodeNativeTimeout, CodeNativeAborted:
		return http.StatusRequestTimeout
	case CodeNativeDeprecated:
		return http.StatusGone
	case CodeEdgeAuthentication:
		return http.StatusUnauthorized
	}
	return statusOfRefusal(code)
}

// statusOfRefusal covers the codes for input and permissions.
func statusOfRefusal(code int) int {
	switch code {
	case CodeInvalidInput, CodeNativeInvalidJSON, CodeNativeMaxContext, CodeNativeIncomplete, CodeNativeInvalidData,
		CodeNativeInvalidInput, CodeNativeModelNotFound, CodeNativeBackend, CodeNativeBackendValidation, CodeEdgeBadToken:
		return http.StatusBadRequest
	case CodeNativeMethod, CodeNativeSDKVersion:
		return http.StatusMethodNotAllowed
	case CodeNativeLoRA, CodeNativeForbiddenModel, CodeNativeAgreement, CodeNativeAccountBlocked, CodeNativePlan:
		return http.StatusForbidden
	}
	return http.StatusInternalServerError
}
