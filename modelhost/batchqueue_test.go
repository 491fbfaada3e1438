package modelhost_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/footnote-rag/footnote/workersai"
)

func TestBatchContract(t *testing.T) {
	t.Parallel()
	c := clientOf(t, realHost(t))
	id, err := c.Queue(t.Context(), embedModel, []workersai.BatchItem{
		{Input: workersai.EmbeddingInput{Text: workersai.Strings{"one", "two"}}, Reference: "a"},
		{Input: workersai.EmbeddingInput{Text: workersai.Strings{strings.Repeat("word ", 700)}}, Reference: "too long"},
		{Input: workersai.EmbeddingInput{Text: workersai.Strings{"three"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.WaitBatch(t.Context(), embedModel, id, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || got[0].Reference != "a" || !got[0].Success || got[1].Success || got[1].Reference != "too long" || !got[2].Success || got[2].ID != 2 {
		t.Fatalf("results = %+v, want the second refused and the others there", got)
	}
	var out workersai.EmbeddingOutput
	if err := json.Unmarshal(got[0].Result, &out); err != nil || len(out.Data) != 2 || len(out.Data[0]) != 384 {
		t.Errorf("the first result has shape %v, %v, want two vectors of 384", out.Shape, err)
	}
	if _, _, err := c.BatchResults(t.Context(), embedModel, "no-such"); !errors.Is(err, workersai.ErrInvalidInput) {
		t.Errorf("an unknown batch: %v, want invalid input", err)
	}
}

func TestBatchStates(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	hold, asked := make(chan struct{}), make(chan struct{}, 2)
	u.embed = func(_ http.ResponseWriter, r *http.Request, _ []string) bool {
		asked <- struct{}{}
		select {
		case <-hold:
		case <-r.Context().Done():
		}
		return false
	}
	url := newHost(t, u.URL, nil).URL
	queue := func() string {
		var q struct {
			Status    string `json:"status"`
			RequestID string `json:"request_id"`
		}
		resp, env := post(t, url+root+"run/"+embedModel+"?queueRequest=true", `{"requests":[{"text":"a"}]}`)
		if json.Unmarshal(env.Result, &q) != nil || q.Status != "queued" || resp.StatusCode != 200 {
			t.Fatalf("queueing got %d %s", resp.StatusCode, env.Result)
		}
		return q.RequestID
	}
	poll := func(account, id string) (int, string) {
		resp, env := post(t, url+"/client/v4/accounts/"+account+"/ai/run/"+embedModel+"?queueRequest=true", `{"request_id":"`+id+`"}`)
		return resp.StatusCode, string(env.Result)
	}
	running := queue()
	<-asked
	waiting := queue()
	for id, want := range map[string]string{running: `"running"`, waiting: `"queued"`} {
		if _, got := poll("acc", id); !strings.Contains(got, want) {
			t.Errorf("batch %s: %s, want %s", id, got, want)
		}
	}
	if status, _ := poll("other", running); status != 400 {
		t.Errorf("another account got %d, want 400", status)
	}
	close(hold)
	waitFor(t, func() bool { _, got := poll("acc", waiting); return strings.Contains(got, `"responses":[{"id":0`) })
}
