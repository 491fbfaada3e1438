package workersai_test

import (
	"testing"

	"github.com/footnote-rag/footnote/workersai"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	bge   = "@cf/baai/bge-base-en-v1.5"
	llama = "@cf/meta/llama-3.1-8b-instruct"
)

func noRetry(cfg *workersai.Config) { cfg.MaxRetries = -1 }

func hello(model string) workersai.ChatRequest {
	return workersai.ChatRequest{Model: model, Messages: []workersai.Message{{Role: "user", Content: "Hello"}}}
}

// answer reads a stream to its end.
func answer(t *testing.T, c *workersai.Client, r workersai.ChatRequest) (text string, last workersai.ChatEvent, err error) {
	t.Helper()
	for e, err := range c.ChatStream(t.Context(), r) {
		if err != nil {
			return text, last, err
		}
		text, last = text+e.Text, e
	}
	return text, last, nil
}

func embed(t *testing.T, c *workersai.Client, texts ...string) (*workersai.EmbedResponse, error) {
	t.Helper()
	return c.Embed(t.Context(), workersai.EmbedRequest{Model: bge, Texts: texts})
}
