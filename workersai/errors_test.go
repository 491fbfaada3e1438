package workersai_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

var sentinels = []error{workersai.ErrModelNotFound, workersai.ErrModelDeprecated, workersai.ErrInvalidInput, workersai.ErrRateLimited,
	workersai.ErrQuotaExhausted, workersai.ErrContextExceeded, workersai.ErrUnauthorized, workersai.ErrUnreachable, workersai.ErrBadReply}

// errorRow is a condition and what the client makes of it.
type errorRow struct {
	status, code int
	want         []error
	retried      bool
}

// calls is how often a call that always meets it is made: a timeout is tried once more, other passing ones twice.
func (r errorRow) calls() int {
	switch {
	case r.code == workersai.CodeNativeTimeout:
		return 2
	case r.retried:
		return 3
	}
	return 1
}

// errorTable has a row for each cell of the reference's table of codes.
var errorTable = []errorRow{
	{404, 7502, []error{workersai.ErrModelNotFound}, false},
	{400, 5007, []error{workersai.ErrModelNotFound}, false},
	{404, 3042, []error{workersai.ErrModelNotFound}, false},
	{400, 7000, []error{workersai.ErrModelNotFound}, false},
	{404, 7000, []error{workersai.ErrModelNotFound}, false},
	{400, 7003, []error{workersai.ErrModelNotFound}, false},
	{404, 7003, []error{workersai.ErrModelNotFound}, false},
	{404, 0, []error{workersai.ErrModelNotFound}, false},
	{410, 5028, []error{workersai.ErrModelDeprecated, workersai.ErrModelNotFound}, false},
	{400, 5028, []error{workersai.ErrModelDeprecated, workersai.ErrModelNotFound}, false},
	{410, 0, []error{workersai.ErrModelDeprecated, workersai.ErrModelNotFound}, false},
	{400, 7504, []error{workersai.ErrInvalidInput}, false},
	{400, 5006, []error{workersai.ErrInvalidInput}, false},
	{400, 5004, []error{workersai.ErrInvalidInput}, false},
	{400, 3003, []error{workersai.ErrInvalidInput}, false},
	{400, 3039, []error{workersai.ErrInvalidInput}, false},
	{400, 8001, []error{workersai.ErrInvalidInput}, false},
	{400, 8007, []error{workersai.ErrInvalidInput}, false},
	{405, 5005, []error{workersai.ErrInvalidInput}, false},
	{405, 5019, []error{workersai.ErrInvalidInput}, false},
	{400, 0, []error{workersai.ErrInvalidInput}, false},
	{405, 0, []error{workersai.ErrInvalidInput}, false},
	{422, 0, []error{workersai.ErrInvalidInput}, false},
	{429, 7505, []error{workersai.ErrRateLimited}, true},
	{429, 3040, []error{workersai.ErrRateLimited}, true},
	{429, 0, []error{workersai.ErrRateLimited}, true},
	{429, 3036, []error{workersai.ErrRateLimited, workersai.ErrQuotaExhausted}, false},
	{429, 4006, []error{workersai.ErrRateLimited, workersai.ErrQuotaExhausted}, false},
	{413, 7506, []error{workersai.ErrContextExceeded}, false},
	{413, 5021, []error{workersai.ErrContextExceeded}, false},
	{400, 3030, []error{workersai.ErrContextExceeded}, false},
	{413, 3006, []error{workersai.ErrContextExceeded}, false},
	{413, 3010, []error{workersai.ErrContextExceeded}, false},
	{413, 0, []error{workersai.ErrContextExceeded}, false},
	{401, 10000, []error{workersai.ErrUnauthorized}, false},
	{400, 9106, []error{workersai.ErrUnauthorized}, false},
	{403, 9106, []error{workersai.ErrUnauthorized}, false},
	{403, 5018, []error{workersai.ErrUnauthorized}, false},
	{403, 3041, []error{workersai.ErrUnauthorized}, false},
	{403, 5016, []error{workersai.ErrUnauthorized}, false},
	{403, 3023, []error{workersai.ErrUnauthorized}, false},
	{403, 5035, []error{workersai.ErrUnauthorized}, false},
	{401, 0, []error{workersai.ErrUnauthorized}, false},
	{403, 0, []error{workersai.ErrUnauthorized}, false},
	{408, 3007, nil, true},
	{408, 3008, nil, true},
	{408, 0, nil, true},
	{409, 0, nil, true},
	{500, 0, nil, true},
	{502, 0, nil, true},
	{503, 0, nil, true},
	{504, 0, nil, true},
}

func TestEveryRowOfTheErrorTable(t *testing.T) {
	t.Parallel()
	for _, row := range errorTable {
		shapes := map[string]workersaitest.Step{
			"native": workersaitest.Native(row.status, row.code, "some text"),
			"edge":   workersaitest.Edge(row.status, row.code, "some text"),
		}
		if row.code == 0 {
			shapes["OpenAI"] = workersaitest.OpenAI(row.status, "invalid_prompt", "AiError: AiError: some text (a613c7db-12ab-4f5c-9c31-1c0f2a7b9d11)")
			shapes["text"] = workersaitest.Step{Status: row.status, ContentType: "text/plain", Body: "some text"}
			shapes["page"] = workersaitest.HTML(row.status, "<!DOCTYPE html><html><head><style>p{}</style><script>x()</script></head><body><h1>some&#32;text</h1></body></html>")
		}
		for shape, step := range shapes {
			t.Run(fmt.Sprintf("%d/%d %s", row.status, row.code, shape), func(t *testing.T) {
				t.Parallel()
				srv := workersaitest.NewInMemory(t)
				srv.Script(step)
				_, err := embed(t, srv.Client(t, noRetry), "a")
				var e *workersai.Error
				if !errors.As(err, &e) || e.Status != row.status || e.Code != row.code || e.Message != "some text" || e.RequestID == "" || e.Model != bge {
					t.Fatalf("error %+v, want status, code, request id, model and bare text", e)
				}
				for _, s := range sentinels {
					want := false
					for _, w := range row.want {
						want = want || w == s
					}
					if errors.Is(err, s) != want {
						t.Errorf("%v: Is(%v) = %v, want %v", err, s, !want, want)
					}
				}
			})
		}
	}
}

func TestBorderCasesOfErrors(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		step workersaitest.Step
		want error
		text string
	}{
		"nested context":      {workersaitest.NestedContext(), workersai.ErrContextExceeded, "maximum context length is 24000 tokens"},
		"flagged output":      {workersaitest.Native(400, 3030, "Output was flagged"), workersai.ErrInvalidInput, "flagged"},
		"wrong route":         {workersaitest.NoRoute(), workersai.ErrModelNotFound, "base URL, the account id and the model's name"},
		"malformed token":     {workersaitest.BadToken(), workersai.ErrUnauthorized, "Workers AI Read and Edit"},
		"quota":               {workersaitest.Quota(), workersai.ErrQuotaExhausted, "00:00 UTC"},
		"success false":       {workersaitest.JSON(200, `{"success":false,"errors":[{"code":"5006","message":"x"}]}`), workersai.ErrInvalidInput, "x"},
		"code 7506 of ours":   {workersaitest.Fail(workersai.CodeContextExceeded, "text 3 is long"), workersai.ErrContextExceeded, "text 3 is long"},
		"openai context code": {workersaitest.OpenAI(400, "context_length_exceeded", "too long"), workersai.ErrContextExceeded, "too long"},
		"error is a text":     {workersaitest.JSON(500, `{"error":"engine is loading"}`), nil, bge + ": engine is loading (HTTP 500"},
		"redirect":            {workersaitest.Step{Status: 302, ContentType: "text/plain", Body: "moved"}, nil, "redirects are not followed"},
		"nothing":             {workersaitest.Step{Status: 500, ContentType: "text/plain"}, nil, "Internal Server Error"},
		"retired embedding":   {workersaitest.Deprecated(""), workersai.ErrModelDeprecated, "choose a current model"},
		"not JSON":            {workersaitest.JSON(200, "oops"), workersai.ErrBadReply, "oops"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := workersaitest.NewInMemory(t)
			srv.Script(test.step)
			_, err := embed(t, srv.Client(t, noRetry), "a")
			if err == nil || (test.want != nil && !errors.Is(err, test.want)) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("error %v, want %v with %q", err, test.want, test.text)
			}
			if strings.Contains(err.Error(), "llama") {
				t.Errorf("error %v names a llama model", err)
			}
		})
	}
}

func TestTheTokenNeverShows(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t-token-value"
	for name, step := range map[string]workersaitest.Step{
		"native":      workersaitest.Native(400, 5006, "bad header Bearer "+secret),
		"openai":      workersaitest.OpenAI(500, "x", secret),
		"nested":      workersaitest.Native(400, 8001, `{"error":{"message":"`+secret+`"}}`),
		"page":        workersaitest.HTML(502, "<html><p>"+secret+"</p>"),
		"cut text":    workersaitest.JSON(500, strings.Repeat("a", 190)+secret),
		"no JSON":     workersaitest.JSON(200, strings.Repeat("a", 190)+secret),
		"in messages": workersaitest.JSON(400, `{"errors":[{"code":1,"message":"x"}],"messages":[{"code":1,"message":"`+secret+`"}]}`),
	} {
		srv := workersaitest.NewInMemory(t)
		srv.Script(step)
		var logged error
		c := srv.Client(t, noRetry, func(cfg *workersai.Config) {
			cfg.Token = secret
			cfg.OnAttempt = func(a workersai.Attempt) { logged = a.Err }
			if s := fmt.Sprintf("%v %+v %#v %s", *cfg, cfg, *cfg, cfg.LogValue()); strings.Contains(s, secret) {
				t.Errorf("the configuration prints its token: %s", s)
			}
		})
		_, err := embed(t, c, "a")
		var e *workersai.Error
		errors.As(err, &e)
		for _, shown := range []string{fmt.Sprintf("%v", err), fmt.Sprintf("%v", logged), fmt.Sprintf("%+v", e)} {
			if strings.Contains(shown, "s3cr3t") {
				t.Errorf("%s: %s", name, shown)
			}
		}
	}
}
