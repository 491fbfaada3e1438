package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
)

// prettyJSON is a reply printed for a person: indented, its order kept.
type prettyJSON []byte

func (j *prettyJSON) UnmarshalJSON(b []byte) error {
	var buf bytes.Buffer
	if err := json.Indent(&buf, b, "", "  "); err != nil {
		return err
	}
	*j = buf.Bytes()
	return nil
}

func (j prettyJSON) String() string { return string(j) }

func isNotFound(err error) bool {
	var api *apiError
	return errors.As(err, &api) && api.Status == http.StatusNotFound
}
