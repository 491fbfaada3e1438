package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/labstack/echo/v4"
)

const (
	jsonType      = "application/json"
	ndjsonType    = "application/x-ndjson"
	multipartType = "multipart/form-data"
	formType      = "application/x-www-form-urlencoded"
	octetType     = "application/octet-stream"

	// maxWait bounds ?wait=: proxies close silent requests after a minute or two.
	maxWait = 2 * time.Minute
)

// mediaType of the request's body without parameters, lower case; "" if absent or malformed.
func mediaType(r *http.Request) string {
	t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return t
}

// decode reads a JSON body of an object strictly into v: UTF-8, no unknown field, nothing behind it.
func decode(c echo.Context, v any) error {
	// curl -d says form-urlencoded; refusing it would help nobody, as no route takes forms.
	switch t := mediaType(c.Request()); {
	case t == "", t == jsonType, t == formType, strings.HasSuffix(t, "+json"):
	default:
		return &problem{status: 415, Code: "unsupported_media_type", Message: fmt.Sprintf("this route reads application/json, not %q", t)}
	}
	body, err := readAll(c.Request().Body, c.Request().ContentLength)
	if err != nil {
		return err
	}
	return decodeStrict(body, v)
}

func decodeStrict(body []byte, v any) error {
	if !utf8.Valid(body) {
		return errTextUTF8
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return describeJSON(err, body, v)
	}
	if _, err := d.Token(); err != io.EOF {
		return &problem{status: 400, Code: "invalid_json", Message: "the body holds more than one JSON value: send one object (or application/x-ndjson for many)"}
	}
	return nil
}

// describeJSON says where the body is wrong and, for an unknown field, which fields there are.
func describeJSON(err error, body []byte, v any) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.EOF):
		return &problem{status: 400, Code: "invalid_json", Message: "the body is empty: send a JSON object"}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &problem{status: 400, Code: "invalid_json", Message: "malformed JSON: it ends too early, after " + position(body, int64(len(body)))}
	case errors.As(err, &syntax):
		return &problem{status: 400, Code: "invalid_json", Message: fmt.Sprintf("malformed JSON at %s: %v", position(body, syntax.Offset), syntax)}
	case errors.As(err, &kind) && kind.Field == "":
		return invalid("the body is %s: send a JSON object", kind.Value)
	case errors.As(err, &kind):
		return invalid("field %q cannot be %s: it takes %s", fieldName(kind.Field, v), kind.Value, friendlyKind(kind.Type.Kind().String()))
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return &problem{status: 400, Code: "unknown_field", Message: fmt.Sprintf("unknown field %s: this route takes %s", name, strings.Join(fieldsOf(v), ", "))}
	}
	return &problem{status: 400, Code: "invalid_json", Message: "malformed JSON: " + err.Error()}
}

// position gives line and column, both from 1, columns in bytes.
func position(body []byte, offset int64) string {
	before := body[:min(int(offset), len(body))]
	line := bytes.Count(before, []byte("\n")) + 1
	return fmt.Sprintf("line %d, column %d", line, len(before)-bytes.LastIndexByte(before, '\n')-1)
}

func friendlyKind(kind string) string {
	switch {
	case strings.HasPrefix(kind, "int"), strings.HasPrefix(kind, "uint"):
		return "a whole number"
	case strings.HasPrefix(kind, "float"):
		return "a number"
	case kind == "struct", kind == "map":
		return "an object"
	case kind == "slice":
		return "a list"
	case kind == "bool":
		return "true or false"
	}
	return "a " + kind
}

// duration reads ?wait=: 30s, 1m or plain seconds; 0 if absent.
func waitOf(c echo.Context) (time.Duration, error) {
	raw := c.QueryParam("wait")
	if raw == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(raw)
	if seconds, e := strconv.Atoi(raw); e == nil {
		d, err = time.Duration(seconds)*time.Second, nil
	}
	if err != nil || d < 0 || d > maxWait {
		return 0, invalid("wait is %q: give a duration from 0s to %s, such as 30s", raw, maxWait)
	}
	return d, nil
}

// number reads a query parameter in [low, high]; absent means otherwise.
func number(c echo.Context, name string, low, high, otherwise int) (int, error) {
	raw := c.QueryParam(name)
	if raw == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(raw)
	if err != nil || n < low || n > high {
		return 0, invalid("%s is %q: give a number from %d to %d", name, raw, low, high)
	}
	return n, nil
}

// fieldsOf lists the JSON fields that v takes.
func fieldsOf(v any) []string {
	var names []string
	for _, field := range reflect.VisibleFields(structOf(v)) { // those of embedded structs, too
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// fieldName is a field as JSON has it: encoding/json tells those of embedded structs with the struct's name before them.
func fieldName(field string, v any) string {
	if t := structOf(v); t.Kind() == reflect.Struct {
		for _, f := range reflect.VisibleFields(t) {
			if f.Anonymous {
				field = strings.TrimPrefix(field, f.Name+".")
			}
		}
	}
	return field
}

func structOf(v any) reflect.Type {
	t := reflect.TypeOf(v)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}
