package workersai

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// The types of this file are the JSON of the API, for clients and servers alike.

// Limits and defaults of the API.
const (
	MaxEmbedTexts    = 100 // texts an embedding request takes
	DefaultMaxTokens = 256 // of an answer, where a request names no max_tokens
)

// Headers of a response, and of a request that goes through an AI Gateway.
const (
	HeaderRequestID = "Cf-Ai-Req-Id"
	HeaderNeurons   = "Cf-Ai-Neurons"
	HeaderRay       = "Cf-Ray"
	HeaderGateway   = "Cf-Aig-Gateway-Id"
)

// Envelope wraps every JSON answer except those of /ai/v1. A server uses Envelope[any], the client
// Envelope[json.RawMessage].
type Envelope[T any] struct {
	Result     T           `json:"result"`
	Success    bool        `json:"success"`
	Errors     []Notice    `json:"errors"`
	Messages   []Notice    `json:"messages"`
	ResultInfo *ResultInfo `json:"result_info,omitempty"`
}

// Success wraps a result.
func Success[T any](result T) Envelope[T] {
	return Envelope[T]{Result: result, Success: true, Errors: []Notice{}, Messages: []Notice{}}
}

// ResultInfo is the paging of a list.
type ResultInfo struct {
	Page       int `json:"page"`
	PerPage    int `json:"per_page"`
	Count      int `json:"count"`
	TotalCount int `json:"total_count"`
}

// Notice is one entry of an envelope's errors or messages.
type Notice struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// UnmarshalJSON takes a code that is a number or a string, and a message that is a string or any JSON: errors must be
// readable when nothing else is.
func (n *Notice) UnmarshalJSON(data []byte) error {
	var w struct {
		Code    json.RawMessage `json:"code"`
		Message json.RawMessage `json:"message"`
	}
	if data = bytes.TrimSpace(data); len(data) > 0 && data[0] == '"' {
		return json.Unmarshal(data, &n.Message)
	}
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	n.Code, _ = strconv.Atoi(strings.Trim(string(w.Code), `"`)) // a code in words stays 0
	n.Message = rawText(w.Message)
	return nil
}

// rawText is the string that raw holds, or its JSON if it holds something else; "" for null.
func rawText(raw json.RawMessage) string {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || string(raw) == "null" {
		return ""
	}
	var s string
	if raw[0] == '"' && json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

// Usage counts tokens, and what they cost where the provider says so.
type Usage struct {
	PromptTokens     int     `json:"prompt_tokens"`
	CompletionTokens int     `json:"completion_tokens"`
	TotalTokens      int     `json:"total_tokens"`
	CachedTokens     int     `json:"-"` // of the prompt; prompt_tokens_details.cached_tokens
	Neurons          float64 `json:"neurons,omitempty"`
}

// UnmarshalJSON reads counts that are integers or floats, and ignores what it does not know.
func (u *Usage) UnmarshalJSON(data []byte) error {
	var w struct {
		Prompt     float64 `json:"prompt_tokens"`
		Completion float64 `json:"completion_tokens"`
		Total      float64 `json:"total_tokens"`
		Neurons    float64 `json:"neurons"`
		Details    *struct {
			Cached float64 `json:"cached_tokens"`
		} `json:"prompt_tokens_details"`
	}
	if err := json.Unmarshal(data, &w); err != nil {
		return fmt.Errorf("usage: %w", err)
	}
	*u = Usage{PromptTokens: int(w.Prompt), CompletionTokens: int(w.Completion), TotalTokens: int(w.Total), Neurons: w.Neurons}
	if w.Details != nil {
		u.CachedTokens = int(w.Details.Cached)
	}
	return nil
}

// merge takes v's non-zero fields: usage arrives in several frames, sometimes in parts, and the last non-zero wins.
func (u *Usage) merge(v Usage) {
	for _, f := range []struct {
		to   *int
		from int
	}{
		{&u.PromptTokens, v.PromptTokens}, {&u.CompletionTokens, v.CompletionTokens},
		{&u.TotalTokens, v.TotalTokens}, {&u.CachedTokens, v.CachedTokens},
	} {
		if f.from != 0 {
			*f.to = f.from
		}
	}
	if v.Neurons != 0 {
		u.Neurons = v.Neurons
	}
}

// add sums the usage of several requests.
func (u *Usage) add(v Usage) {
	u.PromptTokens += v.PromptTokens
	u.CompletionTokens += v.CompletionTokens
	u.TotalTokens += v.TotalTokens
	u.CachedTokens += v.CachedTokens
	u.Neurons += v.Neurons
}

// Strings is a list of strings that also reads a single string.
type Strings []string

// UnmarshalJSON takes "a" and ["a","b"]; anything else, null elements included, is an error.
func (s *Strings) UnmarshalJSON(data []byte) error {
	if data = bytes.TrimSpace(data); len(data) > 0 && data[0] == '"' {
		*s = make(Strings, 1)
		return json.Unmarshal(data, &(*s)[0])
	}
	var list []*string
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	*s = make(Strings, len(list))
	for i, p := range list {
		if p == nil {
			return fmt.Errorf("element %d is null, want a string", i)
		}
		(*s)[i] = *p
	}
	return nil
}

// Bytes is binary data as the API's JSON has it: an array of numbers from 0 to 255.
type Bytes []byte

// MarshalJSON writes [82,73,70,70].
func (b Bytes) MarshalJSON() ([]byte, error) {
	out := make([]byte, 0, 2+4*len(b))
	out = append(out, '[')
	for i, v := range b {
		if i > 0 {
			out = append(out, ',')
		}
		out = strconv.AppendUint(out, uint64(v), 10)
	}
	return append(out, ']'), nil
}

// UnmarshalJSON reads an array of numbers from 0 to 255.
func (b *Bytes) UnmarshalJSON(data []byte) error {
	var list []uint16
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	*b = make(Bytes, len(list))
	for i, v := range list {
		if v > 255 {
			return fmt.Errorf("element %d is %d, want 0 to 255", i, v)
		}
		(*b)[i] = byte(v)
	}
	return nil
}

// TextInput is the body of a text generation request: Prompt or Messages, not both.
type TextInput struct {
	Prompt            string          `json:"prompt,omitempty"`
	Messages          []Message       `json:"messages,omitempty"`
	Stream            bool            `json:"stream,omitempty"`
	MaxTokens         int             `json:"max_tokens,omitempty"`
	Temperature       *float64        `json:"temperature,omitempty"`
	TopP              *float64        `json:"top_p,omitempty"`
	TopK              *int            `json:"top_k,omitempty"`
	Seed              *int64          `json:"seed,omitempty"`
	RepetitionPenalty *float64        `json:"repetition_penalty,omitempty"`
	FrequencyPenalty  *float64        `json:"frequency_penalty,omitempty"`
	PresencePenalty   *float64        `json:"presence_penalty,omitempty"`
	Stop              Strings         `json:"stop,omitempty"`
	Raw               bool            `json:"raw,omitempty"`
	ResponseFormat    *ResponseFormat `json:"response_format,omitempty"`
	Tools             []ToolSpec      `json:"tools,omitempty"`
	ToolChoice        json.RawMessage `json:"tool_choice,omitempty"` // "auto", "none", "required" or a function
	LoRA              json.RawMessage `json:"lora,omitempty"`
	Functions         json.RawMessage `json:"functions,omitempty"`
	Options           *RunOptions     `json:"options,omitempty"`
}

// RunOptions are the options that travel in the body.
type RunOptions struct {
	RejectIfBusy bool `json:"rejectIfBusy,omitempty"` // fail at once with 429 instead of waiting for capacity
}

// TextOutput is the result of text generation. Response is a string as a rule, and also a number, an object (JSON
// mode), null or absent (tool calls only).
type TextOutput struct {
	Response  json.RawMessage `json:"response,omitempty"`
	ToolCalls []ToolCall      `json:"tool_calls,omitempty"`
	Usage     *Usage          `json:"usage,omitempty"`
}

// ResponseFormat asks for JSON. Schema is the bare JSON Schema.
type ResponseFormat struct {
	Type   string // json_object or json_schema
	Schema json.RawMessage
}

// MarshalJSON writes the native form: json_schema holds the bare schema.
func (f ResponseFormat) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Type   string          `json:"type"`
		Schema json.RawMessage `json:"json_schema,omitempty"`
	}{f.Type, f.Schema})
}

// UnmarshalJSON also takes OpenAI's form, {"json_schema":{"name":…,"schema":{…},"strict":true}}.
func (f *ResponseFormat) UnmarshalJSON(data []byte) error {
	var w struct {
		Type   string          `json:"type"`
		Schema json.RawMessage `json:"json_schema"`
	}
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	*f = ResponseFormat{Type: w.Type, Schema: w.Schema}
	var wrapped struct {
		Name   *string         `json:"name"`
		Schema json.RawMessage `json:"schema"`
	}
	if json.Unmarshal(w.Schema, &wrapped) == nil && wrapped.Schema != nil && wrapped.Name != nil {
		f.Schema = wrapped.Schema
	}
	return nil
}

// EmbeddingInput is the body of an embedding request.
type EmbeddingInput struct {
	Text           Strings `json:"text"`
	Pooling        string  `json:"pooling,omitempty"`         // cls or mean
	TruncateInputs bool    `json:"truncate_inputs,omitempty"` // cut long texts, and say so in messages
}

// EmbeddingOutput is the result of an embedding request: a row a text, in the order of the texts.
type EmbeddingOutput struct {
	Shape   []int       `json:"shape"` // rows, dimensions
	Data    [][]float32 `json:"data"`
	Pooling string      `json:"pooling,omitempty"`
	Usage   *Usage      `json:"usage,omitempty"`
}

// RerankInput is the body of a reranking request, and of bge-m3 with a query.
type RerankInput struct {
	Query          string          `json:"query"`
	Contexts       []RerankContext `json:"contexts"`
	TopK           int             `json:"top_k,omitempty"`
	TruncateInputs bool            `json:"truncate_inputs,omitempty"`
}

// RerankContext is one text to rank.
type RerankContext struct {
	Text string `json:"text"`
}

// RerankOutput is its result; ID is the index in contexts.
type RerankOutput struct {
	Response []RerankScore `json:"response"`
	Usage    *Usage        `json:"usage,omitempty"`
}

// RerankScore is the score of one context: a logit or a sigmoid, so sort by it and do not threshold blindly.
type RerankScore struct {
	ID    int     `json:"id"`
	Score float64 `json:"score"`
}

// ImageInput is the body of an image request.
type ImageInput struct {
	Prompt         string   `json:"prompt"`
	NegativePrompt string   `json:"negative_prompt,omitempty"`
	Height         int      `json:"height,omitempty"` // 256 to 2048
	Width          int      `json:"width,omitempty"`  // 256 to 2048
	Image          Bytes    `json:"image,omitempty"`
	ImageB64       []byte   `json:"image_b64,omitempty"`
	Mask           Bytes    `json:"mask,omitempty"`
	NumSteps       *int     `json:"num_steps,omitempty"` // 1 to 20; default 20
	Steps          *int     `json:"steps,omitempty"`     // the same for flux models
	Guidance       *float64 `json:"guidance,omitempty"`  // 1 to 20; default 7.5
	Strength       *float64 `json:"strength,omitempty"`  // 0 to 1
	Seed           *int64   `json:"seed,omitempty"`
}

// ImageOutput is the result of the models that answer JSON; the others answer the bytes alone.
type ImageOutput struct {
	Image string `json:"image"` // base64
}

// SpeechInput is the JSON body of @cf/openai/whisper, which also takes the audio file alone as the body.
type SpeechInput struct {
	Audio Bytes `json:"audio"`
}

// TurboSpeechInput is the body of whisper-large-v3-turbo.
type TurboSpeechInput struct {
	Audio         []byte `json:"audio"`              // base64 in JSON
	Language      string `json:"language,omitempty"` // of the audio, such as "en"
	Task          string `json:"task,omitempty"`     // transcribe or translate
	VADFilter     bool   `json:"vad_filter,omitempty"`
	InitialPrompt string `json:"initial_prompt,omitempty"`
}

// SpeechOutput is the result of speech recognition. Only Text is certain.
type SpeechOutput struct {
	Text      string          `json:"text"`
	WordCount int             `json:"word_count,omitempty"`
	Words     []Word          `json:"words,omitempty"`
	VTT       string          `json:"vtt,omitempty"`
	Segments  []SpeechSegment `json:"segments,omitempty"`           // turbo
	Info      *SpeechInfo     `json:"transcription_info,omitempty"` // turbo
}

// Word is one spoken word; Start and End are seconds.
type Word struct {
	Word  string  `json:"word"`
	Start float64 `json:"start"`
	End   float64 `json:"end"`
}

// SpeechSegment is a phrase; Start and End are seconds.
type SpeechSegment struct {
	Start float64 `json:"start"`
	End   float64 `json:"end"`
	Text  string  `json:"text"`
	Words []Word  `json:"words,omitempty"`
}

// SpeechInfo tells about the audio; Duration is seconds.
type SpeechInfo struct {
	Language            string  `json:"language"`
	LanguageProbability float64 `json:"language_probability"`
	Duration            float64 `json:"duration"`
}

// TranslationInput is the body of a translation request. Languages are codes (en) or English names (english).
type TranslationInput struct {
	Text       string `json:"text"`
	SourceLang string `json:"source_lang,omitempty"` // default en
	TargetLang string `json:"target_lang"`
}

// TranslationOutput is its result.
type TranslationOutput struct {
	TranslatedText string `json:"translated_text"`
}
