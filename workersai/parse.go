package workersai

import (
	"encoding/json"
	"html"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	maxErrorBody = 64 << 10 // bytes of an error's body that are read: a proxy's page, at most
	maxRawText   = 200      // bytes of a body that is no JSON, as a user may see it
	maxMessage   = 1000     // bytes of an error's message: a validator's text, at most
)

// retryAfter reads seconds or an HTTP date; 0 for anything else.
func retryAfter(v string) time.Duration {
	if s, err := strconv.ParseFloat(strings.TrimSpace(v), 64); err == nil && s > 0 && s < 1e9 {
		return time.Duration(s * float64(time.Second))
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

var (
	requestID = regexp.MustCompile(`\s*\(([0-9a-fA-F]{8}-[0-9a-fA-F-]{4,27})\)\s*$`)
	prefixes  = regexp.MustCompile(`^(AiError:\s*|Ai:\s*)+`)
)

// parseError reads the four shapes of an error: errors[0], else error, else the text.
func (c *Client) parseError(status int, body []byte) *Error {
	var w struct {
		Errors   []Notice    `json:"errors"`
		Messages []Notice    `json:"messages"`
		Error    *plainError `json:"error"`
	}
	e := &Error{Status: status}
	body = []byte(c.redact(string(body)))
	isJSON := json.Unmarshal(body, &w) == nil
	switch e.Notices = w.Messages; {
	case isJSON && len(w.Errors) > 0:
		e.Code, e.Message = w.Errors[0].Code, w.Errors[0].Message
	case isJSON && w.Error != nil:
		e.CodeText, e.Message = w.Error.code, w.Error.message
	default:
		e.Message = clean(plain(string(body)), maxRawText)
	}
	if m := requestID.FindStringSubmatchIndex(e.Message); m != nil {
		e.RequestID, e.Message = e.Message[m[2]:m[3]], e.Message[:m[0]]
	}
	e.Message = prefixes.ReplaceAllString(e.Message, "")
	param := e.readNested()
	if e.Message = clean(e.Message, maxMessage); e.Message == "" {
		e.Message = http.StatusText(status)
	}
	e.classify(param)
	return e
}

// plainError is an error of OpenAI's shape, or of engines that answer {"error":"text"}.
type plainError struct{ code, message string }

func (p *plainError) UnmarshalJSON(data []byte) error {
	var w struct {
		Code    json.RawMessage `json:"code"`
		Message json.RawMessage `json:"message"`
	}
	if len(data) > 0 && data[0] == '"' {
		return json.Unmarshal(data, &p.message)
	}
	err := json.Unmarshal(data, &w)
	p.code, p.message = rawText(w.Code), rawText(w.Message)
	return err
}

// readNested takes the backend's own error out of the message, and returns the parameter it complains about.
func (e *Error) readNested() string {
	var w struct {
		Error struct {
			Message string `json:"message"`
			Param   string `json:"param"`
		} `json:"error"`
	}
	if strings.HasPrefix(e.Message, "{") && json.Unmarshal([]byte(e.Message), &w) == nil && w.Error.Message != "" {
		e.Message = w.Error.Message
	}
	return w.Error.Param
}

var (
	unseen = regexp.MustCompile(`(?is)<(script|style)\b.*?</(script|style)\s*>|<!--.*?-->`)
	tag    = regexp.MustCompile(`(?s)</?[A-Za-z!][^>]*(>|$)`)
)

// plain is the text of a proxy's HTML page; a text that is no HTML stays as it is.
func plain(s string) string {
	if !strings.HasPrefix(strings.TrimSpace(s), "<") {
		return s
	}
	return html.UnescapeString(tag.ReplaceAllString(unseen.ReplaceAllString(s, " "), " "))
}

// clean makes one line of valid text without control characters, of at most n bytes.
func clean(s string, n int) string {
	s = strings.ToValidUTF8(s[:min(len(s), 4*n)], "")
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) }), " ")
	return strings.ToValidUTF8(s[:min(len(s), n)], "")
}

// classify finds the sentinel: by code first, since a malformed token arrives as 400; then by status.
func (e *Error) classify(param string) {
	switch e.kind = kindOfCode(e.Code); {
	case param == "input_tokens" || e.CodeText == "context_length_exceeded":
		e.kind = ErrContextExceeded
	case e.Code == CodeNativeMaxContext && strings.Contains(strings.ToLower(e.Message), "flagged"):
		e.kind = ErrInvalidInput
	case e.kind == nil && e.Code != CodeNativeTimeout && e.Code != CodeNativeAborted:
		e.kind = kindOfStatus(e.Status)
	}
	switch {
	case e.Code == CodeEdgeNoRoute || e.Code == CodeEdgeInvalidObject:
		e.Remedy = "check the base URL, the account id and the model's name"
	case e.kind == ErrModelNotFound:
		e.Remedy = "check the model's name"
	case e.kind == ErrQuotaExhausted:
		e.Remedy = "the quota resets at 00:00 UTC; or upgrade the plan"
	case e.kind == ErrUnauthorized:
		e.Remedy = "check the token: it needs Workers AI Read and Edit"
	case e.Code == CodeNativeTimeout:
		e.Remedy = "lower max_tokens"
	}
}

// of names the model, and what continues it if it is retired.
func (e *Error) of(model string) {
	e.Model = model
	if e.kind != ErrModelDeprecated {
		return
	}
	e.Remedy = "choose a current model of the catalogue"
	for old, next := range successors {
		if model == old {
			e.Remedy = "use its successor " + next
		}
		if model == next {
			e.Remedy = "it continued " + old + ", and both are retired: choose another model of the catalogue"
		}
	}
}

func kindOfCode(code int) error {
	switch code {
	case CodeModelNotFound, CodeNativeModelNotFound, CodeNativeNoSuchModelID, CodeEdgeNoRoute, CodeEdgeInvalidObject:
		return ErrModelNotFound
	case CodeNativeDeprecated:
		return ErrModelDeprecated
	case CodeInvalidInput, CodeNativeInvalidInput, CodeNativeInvalidData, CodeNativeInvalidJSON, CodeNativeIncomplete,
		CodeNativeBackend, CodeNativeBackendValidation, CodeNativeMethod, CodeNativeSDKVersion:
		return ErrInvalidInput
	case CodeRateLimited, CodeNativeCapacity:
		return ErrRateLimited
	case CodeNativeQuota, CodeNativeQuotaSeen:
		return ErrQuotaExhausted
	case CodeContextExceeded, CodeNativeContextExceeded, CodeNativeMaxContext, CodeNativeTooLarge, CodeNativeTooLargeSeen:
		return ErrContextExceeded
	case CodeEdgeAuthentication, CodeEdgeBadToken, CodeNativeAccountBlocked, CodeNativeForbiddenModel,
		CodeNativeAgreement, CodeNativeLoRA, CodeNativePlan:
		return ErrUnauthorized
	}
	return nil
}

func kindOfStatus(status int) error {
	switch status {
	case 404:
		return ErrModelNotFound
	case 410:
		return ErrModelDeprecated
	case 400, 405, 422:
		return ErrInvalidInput
	case 429:
		return ErrRateLimited
	case 413:
		return ErrContextExceeded
	case 401, 403:
		return ErrUnauthorized
	}
	return nil
}
