package modelhost

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/footnote-rag/footnote/workersai"
)

const (
	// maxTranslated is how many characters of a text are translated in one request: more would block an engine for minutes.
	maxTranslated = 200_000
	// pieceLength is how many characters an engine gets at a time, below the usual limit of LibreTranslate servers (5000).
	pieceLength = 4000
	// maxPairsNamed is how many pairs of languages a message lists.
	maxPairsNamed = 12
)

// translate serves a translation model. A long text is translated in pieces of whole paragraphs, or of whole sentences
// where a paragraph is too long; the white space around them stays as it is.
func (h *Host) translate(c *call, b *backend, body []byte) error {
	var in struct {
		workersai.TranslationInput
		Options workersai.RunOptions `json:"options"`
	}
	if err := decodeBody(body, h.schemas[b.Task].input, &in); err != nil {
		return err
	}
	if n := utf8.RuneCountInString(in.Text); n > maxTranslated {
		return overContext(n/4, maxTranslated/4, fmt.Sprintf("a text of %d characters: at most %d are translated at a time: split it", n, maxTranslated))
	}
	from, to, err := languagePair(in.SourceLang, in.TargetLang)
	if err != nil {
		return err
	}
	leave, err := b.gate.enter(c.r.Context(), in.Options.RejectIfBusy)
	if err != nil {
		return err
	}
	defer leave()
	text, err := b.translateText(c.r.Context(), in.Text, from, to)
	if err != nil {
		return err
	}
	answer(c, workersai.TranslationOutput{TranslatedText: text})
	return nil
}

func languagePair(source, target string) (from, to language, err error) {
	if strings.TrimSpace(source) == "" {
		source = "en" // the API's default
	}
	for _, l := range []struct {
		field, value string
		to           *language
	}{{"source_lang", source, &from}, {"target_lang", target, &to}} {
		var ok bool
		if *l.to, ok = findLanguage(l.value); !ok {
			return from, to, invalid(fmt.Sprintf("enum %s not in %s at '/%s'", l.value, "the model's languages", l.field),
				fmt.Sprintf("%s %q is no language of this model: give a code such as es, or an English name such as spanish", l.field, l.value))
		}
	}
	return from, to, nil
}

func (b *backend) translateText(ctx context.Context, text string, from, to language) (string, error) {
	if from == to {
		return text, nil
	}
	var out strings.Builder
	for _, p := range pieces(text, pieceLength) {
		core := strings.TrimSpace(p)
		if core == "" {
			out.WriteString(p)
			continue
		}
		translated, err := b.translatePiece(ctx, core, from, to)
		if err != nil {
			return "", b.unknownPair(ctx, err, from, to)
		}
		before, after, _ := strings.Cut(p, core)
		out.WriteString(before + strings.TrimSpace(translated) + after)
	}
	return out.String(), nil
}

func (b *backend) translatePiece(ctx context.Context, text string, from, to language) (string, error) {
	if b.Kind == "apertium" {
		return b.askApertium(ctx, text, from, to)
	}
	return b.askLibreTranslate(ctx, text, from, to)
}

// askLibreTranslate speaks the protocol of LibreTranslate and of our m2m100 engine.
func (b *backend) askLibreTranslate(ctx context.Context, text string, from, to language) (string, error) {
	in := map[string]string{"q": text, "source": from.code, "target": to.code, "format": "text"}
	if k, ok := b.engine.(keyed); ok && k.key() != "" {
		in["api_key"] = k.key()
	}
	var out struct {
		Text *string `json:"translatedText"`
	}
	if err := b.call(ctx, "/translate", in, &out); err != nil {
		return "", err
	}
	if out.Text == nil {
		return "", engineFailed("the engine of "+b.Name+" answered without a translation", nil)
	}
	return *out.Text, nil
}

// askApertium speaks the protocol of Apertium's HTTP service.
func (b *backend) askApertium(ctx context.Context, text string, from, to language) (string, error) {
	form := url.Values{"langpair": {from.alpha3 + "|" + to.alpha3}, "q": {text}, "markUnknown": {"no"}, "format": {"txt"}}
	var out struct {
		Data struct {
			Text *string `json:"translatedText"`
		} `json:"responseData"`
	}
	q := request{path: "/translate", contentType: "application/x-www-form-urlencoded", body: []byte(form.Encode())}
	if err := b.exchange(ctx, q, &out); err != nil {
		return "", err
	}
	if out.Data.Text == nil {
		return "", engineFailed("the engine of "+b.Name+" answered without a translation", nil)
	}
	return *out.Data.Text, nil
}

// unknownPair makes a refusal say which pairs the engine has.
func (b *backend) unknownPair(ctx context.Context, err error, from, to language) error {
	var f *failure
	if !errors.As(err, &f) || f.code != workersai.CodeInvalidInput {
		return err
	}
	have, listErr := b.pairs(ctx)
	pair := from.code + " to " + to.code
	if listErr != nil || slices.Contains(have, pair) {
		return err
	}
	if more := len(have) - maxPairsNamed; more > 0 {
		have = append(have[:maxPairsNamed:maxPairsNamed], fmt.Sprintf("%d more", more))
	}
	g := invalid(fmt.Sprintf("the pair %s is not served", pair),
		fmt.Sprintf("%s is not translated here: this host's engine has %s; `footnote doctor` says how to get others", pair, strings.Join(have, ", ")))
	g.cause = f
	return g
}

// pairs asks the engine which pairs of languages it translates: "en to es".
func (b *backend) pairs(ctx context.Context) ([]string, error) {
	if b.Kind == "apertium" {
		return b.apertiumPairs(ctx)
	}
	var list []struct {
		Code    string   `json:"code"`
		Targets []string `json:"targets"`
	}
	if err := b.exchange(ctx, request{method: http.MethodGet, path: "/languages"}, &list); err != nil {
		return nil, err
	}
	var pairs []string
	for _, l := range list {
		for _, t := range l.Targets {
			if t != l.Code {
				pairs = append(pairs, l.Code+" to "+t)
			}
		}
	}
	return pairs, nil
}

func (b *backend) apertiumPairs(ctx context.Context) ([]string, error) {
	var list struct {
		Data []struct {
			Source string `json:"sourceLanguage"`
			Target string `json:"targetLanguage"`
		} `json:"responseData"`
	}
	if err := b.exchange(ctx, request{method: http.MethodGet, path: "/listPairs"}, &list); err != nil {
		return nil, err
	}
	var pairs []string
	for _, p := range list.Data {
		from, known := findLanguage(p.Source)
		to, both := findLanguage(p.Target)
		if pair := from.code + " to " + to.code; known && both && !slices.Contains(pairs, pair) {
			pairs = append(pairs, pair)
		}
	}
	return pairs, nil
}

// pieces cuts text into parts of at most limit characters that make text again when joined: after an empty line if there
// is one, else after a line, a sentence, a space, or anywhere.
func pieces(text string, limit int) []string {
	var out []string
	for utf8.RuneCountInString(text) > limit {
		end := cutPoint(text, limit)
		out = append(out, text[:end])
		text = text[end:]
	}
	return append(out, text)
}

// cutPoint is the byte offset of the last good place to cut within the first limit characters, in its latter half.
func cutPoint(text string, limit int) int {
	end := 0
	for range limit {
		_, n := utf8.DecodeRuneInString(text[end:])
		end += n
	}
	window := text[:end]
	for _, after := range []string{"\n\n", "\n", ". ", "! ", "? ", "。", " "} {
		if i := strings.LastIndex(window, after); i >= end/2 {
			return i + len(after)
		}
	}
	if i := strings.LastIndexFunc(window, unicode.IsSpace); i > 0 {
		return i
	}
	return end
}
