package workersai

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// input is the request's JSON. max_tokens is always sent: the API's default cuts longer answers without notice.
func (r ChatRequest) input(stream bool) TextInput {
	in := TextInput{Prompt: r.Prompt, Messages: r.Messages, Stream: stream, MaxTokens: r.MaxTokens, Temperature: r.Temperature,
		TopP: r.TopP, TopK: r.TopK, Seed: r.Seed, Stop: r.Stop, Tools: r.Tools, ToolChoice: r.ToolChoice, ResponseFormat: r.Format,
		RepetitionPenalty: r.RepetitionPenalty, FrequencyPenalty: r.FrequencyPenalty, PresencePenalty: r.PresencePenalty}
	if in.MaxTokens == 0 {
		in.MaxTokens = DefaultMaxTokens
	}
	return in
}

// check refuses what the API would refuse, before it is sent.
func (r ChatRequest) check() error {
	fault := r.fault()
	if fault == "" {
		return nil
	}
	return invalid(r.Model, fault, "correct the request")
}

func (r ChatRequest) fault() string {
	switch {
	case r.Prompt == "" && len(r.Messages) == 0:
		return "neither a prompt nor messages"
	case r.Prompt != "" && len(r.Messages) > 0:
		return "a prompt and messages: give one of them"
	case !utf8.ValidString(r.Prompt):
		return "the prompt is not UTF-8"
	case r.MaxRounds < 0:
		return fmt.Sprintf("MaxRounds is %d", r.MaxRounds)
	case r.MaxTokens < 0:
		return fmt.Sprintf("max_tokens is %d", r.MaxTokens)
	case outside(r.Temperature, 0, 5):
		return fmt.Sprintf("temperature is %v, want 0 to 5", *r.Temperature)
	case outside(r.TopP, 0, 2):
		return fmt.Sprintf("top_p is %v, want 0 to 2", *r.TopP)
	case r.TopK != nil && (*r.TopK < 1 || *r.TopK > 50):
		return fmt.Sprintf("top_k is %d, want 1 to 50", *r.TopK)
	case r.Seed != nil && (*r.Seed < 1 || *r.Seed > 9_999_999_999):
		return fmt.Sprintf("seed is %d, want 1 to 9999999999", *r.Seed)
	case outside(r.RepetitionPenalty, 0, 2):
		return fmt.Sprintf("repetition_penalty is %v, want 0 to 2", *r.RepetitionPenalty)
	case outside(r.FrequencyPenalty, 0, 2):
		return fmt.Sprintf("frequency_penalty is %v, want 0 to 2", *r.FrequencyPenalty)
	case outside(r.PresencePenalty, 0, 2):
		return fmt.Sprintf("presence_penalty is %v, want 0 to 2", *r.PresencePenalty)
	}
	for i, m := range r.Messages {
		if f := m.fault(); f != "" {
			return fmt.Sprintf("message %d: %s", i, f)
		}
	}
	for i, t := range r.Tools {
		if strings.TrimSpace(t.Name) == "" {
			return fmt.Sprintf("tool %d has no name", i)
		}
	}
	return ""
}

func outside(p *float64, low, high float64) bool {
	return p != nil && (math.IsNaN(*p) || *p < low || *p > high)
}

func (m Message) fault() string {
	switch m.Role {
	case "system", "user", "assistant", "tool":
	default:
		return fmt.Sprintf("role %q, want system, user, assistant or tool", m.Role)
	}
	if !utf8.ValidString(m.Content) {
		return "content is not UTF-8"
	}
	for _, call := range m.ToolCalls {
		if _, err := objectText(call.Arguments); err != nil {
			return fmt.Sprintf("call of %q: %v", call.Name, err)
		}
	}
	return ""
}

func (r EmbedRequest) check() error {
	switch r.Pooling {
	case "", "cls", "mean":
	default:
		return invalid(r.Model, fmt.Sprintf("pooling %q", r.Pooling), "use cls or mean")
	}
	for i, t := range r.Texts {
		if t == "" {
			return invalid(r.Model, fmt.Sprintf("text %d is empty", i), "leave it out")
		}
		if !utf8.ValidString(t) {
			return invalid(r.Model, fmt.Sprintf("text %d is not UTF-8", i), "convert it")
		}
	}
	return nil
}
