package workersai

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

// File is a document to convert.
type File struct {
	Name     string // its extension tells the service the format
	MimeType string // default application/octet-stream
	Data     []byte
}

// MarkdownDoc is a converted file. Err tells why one could not be converted; the others are not touched by that.
type MarkdownDoc struct {
	Name     string
	MimeType string
	Tokens   int
	Markdown string
	Err      error
}

// UnmarshalJSON takes tokens that are a number or a string.
func (d *MarkdownDoc) UnmarshalJSON(data []byte) error {
	var w struct {
		Name     string          `json:"name"`
		MimeType string          `json:"mimeType"`
		Format   string          `json:"format"`
		Tokens   json.RawMessage `json:"tokens"`
		Data     string          `json:"data"`
		Error    string          `json:"error"`
	}
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	tokens, _ := strconv.ParseFloat(rawText(w.Tokens), 64) // absent for an error
	*d = MarkdownDoc{Name: w.Name, MimeType: w.MimeType, Tokens: int(tokens), Markdown: w.Data}
	if w.Format != "markdown" {
		d.Markdown, d.Err = "", fmt.Errorf("convert %s: %s", w.Name, clean(w.Error, maxMessage))
	}
	return nil
}

// ToMarkdown converts files (PDF, HTML, office formats, images), in their order.
func (c *Client) ToMarkdown(ctx context.Context, files ...File) ([]MarkdownDoc, error) {
	if len(files) == 0 {
		return nil, nil
	}
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	for _, f := range files {
		kind := f.MimeType
		if kind == "" {
			kind = "application/octet-stream"
		}
		name := strings.NewReplacer("\\", "\\\\", `"`, "\\\"", "\r", "", "\n", "").Replace(f.Name)
		h := textproto.MIMEHeader{"Content-Disposition": {fmt.Sprintf(`form-data; name="files"; filename="%s"`, name)}, "Content-Type": {kind}}
		w, err := form.CreatePart(h)
		if err == nil {
			_, err = w.Write(f.Data)
		}
		if err != nil {
			return nil, fmt.Errorf("form of %s: %w", f.Name, err)
		}
	}
	if err := form.Close(); err != nil {
		return nil, fmt.Errorf("form: %w", err)
	}
	var out []MarkdownDoc
	q := call{path: "/tomarkdown", method: http.MethodPost, contentType: form.FormDataContentType(), body: b.Bytes()}
	if _, err := c.envelope(ctx, q, &out); err != nil {
		return nil, err
	}
	if len(out) != len(files) {
		return nil, &ReplyError{Row: -1, Reason: fmt.Sprintf("%d documents for %d files", len(out), len(files))}
	}
	return out, nil
}
