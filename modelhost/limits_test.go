package modelhost_test

import (
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/footnote-rag/footnote/modelhost"
	"github.com/footnote-rag/footnote/workersai"
)

func TestRateLimit(t *testing.T) {
	t.Parallel()
	var now atomic.Pointer[time.Time]
	start := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	now.Store(&start)
	srv := newHost(t, newUpstream(t).URL, func(c *modelhost.Config) {
		c.Limits, c.Now = modelhost.Limits{modelhost.TaskEmbeddings: 4}, func() time.Time { return *now.Load() }
	})
	ask := func(account string) (*http.Response, workersai.Envelope[[]byte]) {
		resp, env := post(t, srv.URL+"/client/v4/accounts/"+account+"/ai/run/"+embedModel, `{"text":"a"}`)
		return resp, workersai.Envelope[[]byte]{Errors: env.Errors, Messages: env.Messages}
	}
	for i := range 4 {
		if resp, _ := ask("one"); resp.StatusCode != 200 {
			t.Fatalf("request %d of 4 a minute got %d", i+1, resp.StatusCode)
		}
	}
	resp, env := ask("one")
	if resp.StatusCode != 429 || env.Errors[0].Code != 7505 || env.Messages[0].Code != 3040 || resp.Header.Get("Retry-After") != "15" {
		t.Errorf("the fifth got %d %+v, Retry-After %q, want 429, 7505, 15 s", resp.StatusCode, env, resp.Header.Get("Retry-After"))
	}
	if resp, _ := ask("two"); resp.StatusCode != 200 {
		t.Errorf("another account got %d", resp.StatusCode)
	}
	later := start.Add(15 * time.Second)
	now.Store(&later)
	if resp, _ := ask("one"); resp.StatusCode != 200 {
		t.Errorf("after the time told it got %d", resp.StatusCode)
	}
	c := clientOf(t, srv, func(c *workersai.Config) { c.AccountID = "one" })
	_, err := c.Embed(t.Context(), workersai.EmbedRequest{Model: embedModel, Texts: []string{"a"}})
	var e *workersai.Error
	if !errors.Is(err, workersai.ErrRateLimited) || !errors.As(err, &e) || e.RetryAfter != 15*time.Second {
		t.Errorf("the client got %v, want rate limited with 15 s", err)
	}
}

func TestUnknownLimitIsRefused(t *testing.T) {
	t.Parallel()
	for _, l := range []modelhost.Limits{{"chatting": 1}, {modelhost.TaskImage: -1}} {
		if _, err := modelhost.New(modelhost.Config{Limits: l}); err == nil {
			t.Errorf("New with limits %v: no error", l)
		}
	}
}
