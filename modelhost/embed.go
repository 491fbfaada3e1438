package modelhost

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"github.com/footnote-rag/footnote/workersai"
)

// specialTokens is how many tokens a model adds to a text, at most: [CLS] and [SEP].
const specialTokens = 2

// countersPerRequest bounds how many texts of one request an engine counts at a time.
const countersPerRequest = 4

// embed serves an embedding model on the run endpoint.
func (h *Host) embed(c *call, b *backend, body []byte) error {
	var in struct {
		workersai.EmbeddingInput
		Options workersai.RunOptions `json:"options"`
	}
	if err := decodeBody(body, h.schemas[b.Task].input, &in); err != nil {
		return err
	}
	out, err := h.embedding(c.r.Context(), b, in.EmbeddingInput, embedOptions{rejectIfBusy: in.Options.RejectIfBusy, encode: true})
	if err != nil {
		return err
	}
	writeEmbeddings(c, out)
	return nil
}

// embedding checks the input, embeds it, and says in the notices what was not as asked.
func (h *Host) embedding(ctx context.Context, b *backend, in workersai.EmbeddingInput, o embedOptions) (*embedded, error) {
	if err := checkTexts(in.Text); err != nil {
		return nil, err
	}
	pooling, notices, err := b.pooling(in.Pooling)
	if err != nil {
		return nil, err
	}
	texts, cuts, err := h.fit(ctx, b, in)
	if err != nil {
		return nil, err
	}
	job, err := b.embeds.embed(ctx, texts, o)
	if err != nil {
		return nil, h.blame(ctx, b, texts, err)
	}
	b.metrics.used(b.Name, workersai.Usage{PromptTokens: job.tokens})
	return &embedded{EmbeddingOutput: workersai.EmbeddingOutput{
		Shape: []int{len(job.rows), len(job.rows[0])}, Data: job.rows, Pooling: pooling,
		Usage: &workersai.Usage{PromptTokens: job.tokens, TotalTokens: job.tokens},
	}, json: job.json, notices: append(notices, cuts...)}, nil
}

// embedded is an embedding request's result.
type embedded struct {
	workersai.EmbeddingOutput
	json    [][]byte // the rows, where embedOptions.encode asked for it
	notices []workersai.Notice
}

func checkTexts(texts []string) error {
	if len(texts) == 0 {
		return invalid("Length of '/text' must be >= 1 not met", "text is empty: send at least one text")
	}
	if len(texts) > workersai.MaxEmbedTexts {
		return invalid(fmt.Sprintf("Length of '/text' must be <= %d", workersai.MaxEmbedTexts),
			fmt.Sprintf("%d texts in one request, the limit is %d: send several requests", len(texts), workersai.MaxEmbedTexts))
	}
	for i, t := range texts {
		if strings.TrimSpace(t) == "" {
			return invalid(fmt.Sprintf("Length of '/text/%d' must be >= 1 not met", i), fmt.Sprintf("text %d has only white space: leave it out", i))
		}
	}
	return nil
}

// pooling is what the engine does. Asked for another, a stand-in says so; the model itself refuses, because the vectors
// of the two do not mix.
func (b *backend) pooling(asked string) (string, []workersai.Notice, error) {
	switch {
	case asked == "" || b.Pooling == "" || asked == b.Pooling:
		return max(b.Pooling, asked), nil, nil
	case b.StandIn != "":
		return b.Pooling, []workersai.Notice{{Message: fmt.Sprintf("pooling %s was asked for; %s, which stands in for %s, has %s", asked, b.StandIn, b.Name, b.Pooling)}}, nil
	}
	return "", nil, invalid(fmt.Sprintf("enum %s not in %s at '/pooling'", asked, b.Pooling),
		fmt.Sprintf("this host serves %s with pooling %s only: vectors of the two poolings do not mix", b.Name, b.Pooling))
}

// fit makes sure that no text is over the model's limit: refused with 7506, or cut when asked. Where the engine refuses
// exactly and by itself, nothing is counted here.
func (h *Host) fit(ctx context.Context, b *backend, in workersai.EmbeddingInput) ([]string, []workersai.Notice, error) {
	count := h.counter(b)
	_, counted := h.cfg.Tokenizers[b.Engine]
	if b.MaxTokens == 0 || (b.RefusesLong && !counted && !in.TruncateInputs) {
		return in.Text, nil, nil
	}
	tokens := make([]int, len(in.Text))
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(countersPerRequest)
	for i, text := range in.Text {
		if len(text)+specialTokens <= b.MaxTokens { // a token has at least one byte
			continue
		}
		group.Go(func() (err error) {
			tokens[i], err = count(gctx, text)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	return h.cutOrRefuse(ctx, b, in, tokens)
}

func (h *Host) cutOrRefuse(ctx context.Context, b *backend, in workersai.EmbeddingInput, tokens []int) ([]string, []workersai.Notice, error) {
	texts, notices := in.Text, []workersai.Notice(nil)
	for i, n := range tokens {
		if n <= b.MaxTokens {
			continue
		}
		if !in.TruncateInputs {
			return nil, nil, longText(i, n, b.MaxTokens)
		}
		cut, err := truncate(ctx, h.counter(b), in.Text[i], b.MaxTokens)
		if err != nil {
			return nil, nil, err
		}
		if notices == nil {
			texts = append([]string(nil), in.Text...)
		}
		texts[i] = cut
		notices = append(notices, workersai.Notice{Message: fmt.Sprintf("text %d had %d tokens and was cut to the model's %d", i, n, b.MaxTokens)})
	}
	return texts, notices, nil
}

func longText(i, tokens, limit int) *failure {
	return overContext(tokens, limit, fmt.Sprintf("text %d has %d tokens, the model takes %d: split it, or ask for truncation", i, tokens, limit))
}

// counter counts a text's tokens, special tokens included: by the configured tokenizer, else by the engine.
func (h *Host) counter(b *backend) func(context.Context, string) (int, error) {
	if t := h.cfg.Tokenizers[b.Engine]; t != nil {
		return func(_ context.Context, text string) (int, error) { return t.Count(text), nil }
	}
	return b.countTokens
}

// countTokens asks the engine: llama.cpp's and TEI's /tokenize. Other servers have none, and about four characters a
// token is the estimate that Cloudflare uses too.
func (b *backend) countTokens(ctx context.Context, text string) (int, error) {
	if b.Kind != "llama" {
		return utf8.RuneCountInString(text)/4 + specialTokens, nil
	}
	var out struct {
		Tokens []json.RawMessage `json:"tokens"`
	}
	err := b.call(ctx, "/tokenize", map[string]any{"content": text, "add_special": true}, &out)
	return len(out.Tokens), err
}

// truncate is the longest beginning of text, in whole characters, with at most limit tokens.
func truncate(ctx context.Context, count func(context.Context, string) (int, error), text string, limit int) (string, error) {
	ends := make([]int, 0, len(text)) // byte offset after each character
	for i, r := range text {
		ends = append(ends, i+max(1, len(string(r))))
	}
	low, high := 0, len(ends)-1 // characters: low fits, beyond high does not
	for low < high {
		mid := (low + high + 1) / 2
		n, err := count(ctx, text[:min(len(text), ends[mid-1])])
		if err != nil {
			return "", err
		}
		if n <= limit {
			low = mid
		} else {
			high = mid - 1
		}
	}
	if low == 0 {
		return "", invalid("text too long", "a single character is over the model's limit")
	}
	return text[:ends[low-1]], nil
}

// blame finds out which text an engine refused as too long: it names the whole micro-request only.
func (h *Host) blame(ctx context.Context, b *backend, texts []string, err error) error {
	var batch *batchError
	var f *failure
	if !errors.As(err, &batch) || !errors.As(err, &f) || f.code != workersai.CodeContextExceeded {
		return err
	}
	count := h.counter(b)
	for i := batch.from; i < min(batch.from+b.BatchTexts, len(texts)); i++ {
		n, countErr := count(ctx, texts[i])
		if countErr != nil {
			return err
		}
		if n > b.MaxTokens {
			return longText(i, n, b.MaxTokens)
		}
	}
	return err
}

// embedTexts is one micro-request. Every row is checked: its length, finite, not zero.
func (b *backend) embedTexts(ctx context.Context, texts []string) ([][]float32, int, error) {
	var out struct {
		Data []struct {
			Index     int             `json:"index"`
			Embedding json.RawMessage `json:"embedding"`
		} `json:"data"`
		Usage workersai.Usage `json:"usage"`
	}
	in := map[string]any{"model": b.Backend.Model, "input": texts, "encoding_format": "base64"}
	if err := b.call(ctx, "/v1/embeddings", in, &out); err != nil {
		return nil, 0, err
	}
	rows := make([][]float32, len(texts))
	for _, d := range out.Data {
		if d.Index < 0 || d.Index >= len(rows) || rows[d.Index] != nil {
			return nil, 0, engineFailed(fmt.Sprintf("the engine of %s gave a row %d twice or out of range", b.Name, d.Index), nil)
		}
		row, err := decodeRow(d.Embedding)
		if err == nil {
			err = checkRow(row, b.Dimensions)
		}
		if err != nil {
			return nil, 0, engineFailed(fmt.Sprintf("the engine of %s gave an unusable vector: %v", b.Name, err), err)
		}
		rows[d.Index] = row
	}
	if len(out.Data) != len(texts) {
		return nil, 0, engineFailed(fmt.Sprintf("the engine of %s gave %d vectors for %d texts", b.Name, len(out.Data), len(texts)), nil)
	}
	return rows, max(out.Usage.PromptTokens, out.Usage.TotalTokens), nil
}

// decodeRow reads base64 of little-endian float32, as we ask, or an array of numbers, as some servers answer all the same.
func decodeRow(raw json.RawMessage) ([]float32, error) {
	if len(raw) == 0 || raw[0] != '"' {
		var row []float32
		return row, json.Unmarshal(raw, &row)
	}
	data, err := base64.StdEncoding.AppendDecode(make([]byte, 0, 3*len(raw)/4), raw[1:len(raw)-1])
	if err != nil || len(data)%4 != 0 {
		return nil, errors.New("not base64 of 32-bit numbers")
	}
	row := make([]float32, len(data)/4)
	for i := range row {
		row[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return row, nil
}

func checkRow(row []float32, dimensions int) error {
	if len(row) == 0 || dimensions > 0 && len(row) != dimensions {
		return fmt.Errorf("%d dimensions, want %d", len(row), dimensions)
	}
	zero := true
	for _, v := range row {
		if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
			return errors.New("a number is not finite")
		}
		zero = zero && v == 0
	}
	if zero {
		return errors.New("all numbers are zero")
	}
	return nil
}

// writeEmbeddings writes the envelope by hand: a hundred rows through encoding/json cost several milliseconds more.
func writeEmbeddings(c *call, out *embedded) {
	buf := make([]byte, 0, 256+len(out.Data)*len(out.Data[0])*12)
	if !c.bare {
		buf = append(buf, `{"result":`...)
	}
	buf = fmt.Appendf(buf, `{"shape":[%d,%d],"data":`, out.Shape[0], out.Shape[1])
	buf = append(append(append(buf, '['), bytes.Join(out.json, []byte{','})...), ']')
	if out.Pooling != "" {
		buf = fmt.Appendf(buf, `,"pooling":%q`, out.Pooling)
	}
	buf = append(buf, `,"usage":`...)
	buf = appendJSON(buf, out.Usage)
	buf = append(buf, '}')
	if !c.bare {
		buf = append(buf, `,"success":true,"errors":[],"messages":`...)
		buf = appendJSON(buf, append([]workersai.Notice{}, out.notices...))
		buf = append(buf, '}')
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.w.Header().Set("Content-Length", strconv.Itoa(len(buf)))
	c.w.WriteHeader(http.StatusOK)
	_, _ = c.w.Write(buf) // an error means that the client left
}

func appendRow(buf []byte, row []float32) []byte {
	buf = append(buf, '[')
	for k, v := range row {
		if k > 0 {
			buf = append(buf, ',')
		}
		buf = appendFloat(buf, v)
	}
	return append(buf, ']')
}

// appendFloat writes the shortest JSON number that reads back as v.
func appendFloat(buf []byte, v float32) []byte {
	return strconv.AppendFloat(buf, float64(v), 'g', -1, 32)
}

// appendJSON appends v, a value of ours that JSON can hold.
func appendJSON(buf []byte, v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		return append(buf, "null"...)
	}
	return append(buf, raw...)
}
