package workersaitest

import (
	"encoding/json"
	"regexp"
	"strings"

	"github.com/footnote-rag/footnote/workersai"
)

func jsonString(s string) json.RawMessage {
	b, _ := json.Marshal(s) // a string always encodes
	return b
}

var (
	sentence = regexp.MustCompile(`[^.!?\n]+[.!?]*`)
	word     = regexp.MustCompile(`[\pL\pN]+`)
)

// extract answers with a sentence of the last user message, or of the prompt: the one that shares most words with the
// question, which is its last sentence with a question mark, else its last sentence. The question alone is echoed.
func extract(in workersai.TextInput) workersai.TextOutput {
	text := in.Prompt
	for _, m := range in.Messages {
		if m.Role == "user" {
			text = m.Content
		}
	}
	var all []string
	for _, s := range sentence.FindAllString(text, -1) {
		if s = strings.TrimSpace(s); s != "" {
			all = append(all, s)
		}
	}
	if len(all) == 0 {
		return Text(text)
	}
	at := len(all) - 1
	for i, s := range all {
		if strings.HasSuffix(s, "?") {
			at = i
		}
	}
	question, best, bestScore := all[at], all[at], 0.0
	for i, s := range all {
		if score := shared(question, s); i != at && score > bestScore {
			best, bestScore = s, score
		}
	}
	return Text(best)
}

// shared is the share of a's different words that are in b.
func shared(a, b string) float64 {
	in := map[string]bool{}
	for _, w := range word.FindAllString(strings.ToLower(b), -1) {
		in[w] = true
	}
	words, hits := map[string]bool{}, 0
	for _, w := range word.FindAllString(strings.ToLower(a), -1) {
		if !words[w] && in[w] {
			hits++
		}
		words[w] = true
	}
	if len(words) == 0 {
		return 0
	}
	return float64(hits) / float64(len(words))
}

// countWords stands in for a token count.
func countWords(text string) int { return len(strings.Fields(text)) }

// pieces splits an answer into stream tokens: words with the blanks before them.
func pieces(text string) []string {
	var out []string
	start := 0
	for i := 1; i < len(text); i++ {
		if text[i] == ' ' && text[i-1] != ' ' {
			out = append(out, text[start:i])
			start = i
		}
	}
	if text != "" {
		out = append(out, text[start:])
	}
	return out
}

// dimsOf is the length of a model's vectors.
func dimsOf(model string) int {
	switch {
	case strings.Contains(model, "small"), strings.Contains(model, "MiniLM"):
		return 384
	case strings.Contains(model, "large"), strings.Contains(model, "bge-m3"):
		return 1024
	}
	return 768
}

func defaultModels() []workersai.ModelInfo {
	model := func(name, task string, props ...workersai.ModelProperty) workersai.ModelInfo {
		return workersai.ModelInfo{ID: name, Name: name, Description: task + " model of the test server", Task: workersai.ModelTask{Name: task}, Properties: props}
	}
	prop := func(id, value string) workersai.ModelProperty {
		return workersai.ModelProperty{ID: id, Value: jsonString(value)}
	}
	return []workersai.ModelInfo{
		model("@cf/meta/llama-3.1-8b-instruct", "Text Generation", prop("context_window", "7968"), prop("strength", "capable")),
		model("@cf/meta/llama-3.1-8b-instruct-fp8", "Text Generation", prop("context_window", "32000")),
		model("@cf/baai/bge-base-en-v1.5", "Text Embeddings", prop("output_dimensions", "768"), prop("max_input_tokens", "512")),
		model("@cf/baai/bge-m3", "Text Embeddings", prop("output_dimensions", "1024"), prop("max_input_tokens", "8192")),
		model("@cf/baai/bge-reranker-base", "Text Classification"),
		model("@cf/stabilityai/stable-diffusion-xl-base-1.0", "Text-to-Image"),
		model("@cf/openai/whisper", "Automatic Speech Recognition"),
		model("@cf/meta/m2m100-1.2b", "Translation"),
	}
}
