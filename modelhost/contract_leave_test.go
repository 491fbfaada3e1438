package modelhost_test

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/footnote-rag/footnote/embedded"
	"github.com/footnote-rag/footnote/modelhost"
)

// TestLeavingFreesTheSlot: the engine's only slot stops long before the answer's end when the client leaves.
func TestLeavingFreesTheSlot(t *testing.T) {
	t.Parallel()
	engine, err := newLlama(func(c *embedded.Cache, cfg *embedded.LlamaConfig) error {
		w, err := c.SmolLM2(context.Background())
		cfg.Model, cfg.Kind, cfg.Context, cfg.Parallel = w.Path, embedded.Chat, 8192, 1
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	c := clientOf(t, realHost(t, func(c *modelhost.Config) { c.Engines[modelhost.EngineSmolLM2] = engine }))
	const allowed = 7000
	for _, err := range c.ChatStream(t.Context(), ask("Count from 1 to 5000, each number on its own line.", allowed)) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	url, release, err := engine.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	var decoded int
	waitFor(t, func() bool {
		s := slotOf(t, url)
		if len(s.Next) > 0 {
			decoded = max(decoded, s.Next[0].Decoded)
		}
		return !s.Processing
	})
	if decoded >= allowed/2 {
		t.Errorf("the engine made %d tokens for a client that had left", decoded)
	}
}

type slot struct {
	Processing bool `json:"is_processing"`
	Next       []struct {
		Decoded int `json:"n_decoded"`
	} `json:"next_token"`
}

func slotOf(t *testing.T, url string) slot {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/slots", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var slots []slot
	if err := json.NewDecoder(resp.Body).Decode(&slots); err != nil || len(slots) != 1 {
		t.Fatalf("GET /slots: HTTP %d, %d slots, %v", resp.StatusCode, len(slots), err)
	}
	return slots[0]
}
