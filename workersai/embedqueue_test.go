package workersai_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

// TestEmbedQueued: a batch gives what Embed gives, in the order of the texts.
func TestEmbedQueued(t *testing.T) {
	bubble(t, func(t *testing.T, srv *workersaitest.Server) {
		texts := make([]string, 230)
		for i := range texts {
			texts[i] = fmt.Sprintf("text %d", i)
		}
		c := srv.Client(t, noRetry)
		got, err := c.EmbedQueued(t.Context(), workersai.EmbedRequest{Model: bge, Texts: texts}, 0)
		if err != nil {
			t.Fatal(err)
		}
		want, err := c.Embed(t.Context(), workersai.EmbedRequest{Model: bge, Texts: texts})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(got.Vectors, want.Vectors, slices.Equal) || got.Usage != want.Usage || got.Pooling != want.Pooling {
			t.Errorf("%d vectors, usage %+v, pooling %s; want those of Embed: %d, %+v, %s", len(got.Vectors), got.Usage, got.Pooling, len(want.Vectors), want.Usage, want.Pooling)
		}
		if none, err := c.EmbedQueued(t.Context(), workersai.EmbedRequest{Model: bge}, 0); err != nil || len(none.Vectors) != 0 {
			t.Errorf("no texts: %v, %v", none, err)
		}
	})
}

func TestEmbedQueuedFails(t *testing.T) {
	bubble(t, func(t *testing.T, srv *workersaitest.Server) {
		c := srv.Client(t, noRetry)
		queued := workersaitest.JSON(200, `{"result":{"status":"queued","request_id":"1"},"success":true}`)
		answer := func(responses string) workersaitest.Step {
			return workersaitest.JSON(200, `{"result":{"responses":`+responses+`},"success":true}`)
		}
		for name, tt := range map[string]struct {
			steps []workersaitest.Step
			want  error
		}{
			"no capacity":    {[]workersaitest.Step{workersaitest.Capacity("")}, workersai.ErrRateLimited},
			"not offered":    {[]workersaitest.Step{workersaitest.Fail(7504, "no queue")}, workersai.ErrInvalidInput},
			"lost":           {[]workersaitest.Step{queued, workersaitest.Fail(7504, "no such request_id")}, workersai.ErrUnreachable},
			"part failed":    {[]workersaitest.Step{queued, answer(`[{"id":0,"success":false,"result":null,"external_reference":"0","errors":[{"code":7506,"message":"text 0 is long"}]}]`)}, workersai.ErrContextExceeded},
			"part missing":   {[]workersaitest.Step{queued, answer(`[]`)}, workersai.ErrBadReply},
			"vector missing": {[]workersaitest.Step{queued, answer(`[{"success":true,"result":{"data":[[1,2]]},"external_reference":"0"}]`)}, workersai.ErrBadReply},
			"null element":   {[]workersaitest.Step{queued, answer(`[{"success":true,"result":{"data":[[1,null],[1,2]]},"external_reference":"0"}]`)}, workersai.ErrBadReply},
		} {
			srv.Script(tt.steps...)
			_, err := c.EmbedQueued(t.Context(), workersai.EmbedRequest{Model: bge, Texts: []string{"a", "b"}}, 0)
			if !errors.Is(err, tt.want) || srv.Scripted() != 0 || (name == "lost" && errors.Is(err, workersai.ErrInvalidInput)) {
				t.Errorf("%s: %v, %d steps left, want %v", name, err, srv.Scripted(), tt.want)
			}
		}
		srv.Script(queued, workersaitest.JSON(200, `{"result":{"status":"running"},"success":true}`), workersaitest.Step{Rewrite: bytes.Clone})
		if _, err := c.EmbedQueued(t.Context(), workersai.EmbedRequest{Model: bge, Texts: []string{"a"}}, 0); !errors.Is(err, workersai.ErrUnreachable) {
			t.Errorf("a batch that nobody knows: %v, want it lost", err)
		}
	})
}
