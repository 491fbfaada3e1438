package workersai_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

// bubble runs a test against a server in memory, where time costs nothing.
func bubble(t *testing.T, f func(t *testing.T, srv *workersaitest.Server)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { f(t, workersaitest.NewInMemory(t)) })
}

func times(n int, st workersaitest.Step) workersaitest.Step {
	st.Times = n
	return st
}

func TestWhichErrorsAreRetried(t *testing.T) {
	bubble(t, func(t *testing.T, srv *workersaitest.Server) {
		c := srv.Client(t)
		for _, row := range errorTable {
			want := row.calls()
			before := srv.Calls("")
			srv.Script(times(want, workersaitest.Native(row.status, row.code, "x")))
			if _, err := embed(t, c, "a"); err == nil {
				t.Errorf("status %d, code %d: no error", row.status, row.code)
			}
			if got := srv.Calls("") - before; got != want {
				t.Errorf("status %d, code %d: %d calls, want %d", row.status, row.code, got, want)
			}
		}
	})
}

func TestBackoffDoublesWithJitter(t *testing.T) {
	bubble(t, func(t *testing.T, srv *workersaitest.Server) {
		srv.Script(times(6, workersaitest.Capacity("")))
		c := srv.Client(t, func(cfg *workersai.Config) { cfg.MaxRetries = 6 })
		if _, err := embed(t, c, "a"); err != nil {
			t.Fatal(err)
		}
		at := srv.CallTimes("")
		for i, want := range []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 8 * time.Second} {
			if got := at[i+1].Sub(at[i]); got > want || got < want*3/4 {
				t.Errorf("wait %d = %v, want %v less up to a quarter", i+1, got, want)
			}
		}
	})
}

func TestRetryAfterIsObeyedUpToItsLimit(t *testing.T) {
	bubble(t, func(t *testing.T, srv *workersaitest.Server) {
		c := srv.Client(t)
		srv.Script(workersaitest.Capacity("7"), workersaitest.Capacity(time.Now().Add(20*time.Second).UTC().Format(http.TimeFormat)))
		if _, err := embed(t, c, "a"); err != nil {
			t.Fatal(err)
		}
		at := srv.CallTimes("")
		if first, second := at[1].Sub(at[0]), at[2].Sub(at[1]); first != 7*time.Second || second < 12*time.Second || second > 13*time.Second {
			t.Errorf("waits %v and %v, want 7 s and until 20 s", first, second)
		}
		srv.Script(workersaitest.Capacity("61"))
		start := time.Now()
		_, err := embed(t, c, "a")
		var e *workersai.Error
		if !errors.As(err, &e) || e.RetryAfter != 61*time.Second || time.Since(start) != 0 {
			t.Errorf("Retry-After 61: %v after %v, want the error at once", err, time.Since(start))
		}
	})
}

func TestAWaitEndsWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T, srv *workersaitest.Server) {
		srv.Script(workersaitest.Capacity("30"))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := srv.Client(t).Embed(ctx, workersai.EmbedRequest{Model: bge, Texts: []string{"a"}})
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, workersai.ErrRateLimited) || srv.Calls("") != 1 {
			t.Errorf("error %v after %d calls, want deadline and rate limit after 1", err, srv.Calls(""))
		}
	})
}

func TestLostConnectionsAreRetried(t *testing.T) {
	bubble(t, func(t *testing.T, srv *workersaitest.Server) {
		srv.Script(workersaitest.Reset(), workersaitest.CutAt(100))
		if got, err := embed(t, srv.Client(t), "a"); err != nil || len(got.Vectors) != 1 || srv.Calls("") != 3 {
			t.Errorf("embed = %v after %d calls, want success after 3", err, srv.Calls(""))
		}
		srv.Script(workersaitest.Reset(), workersaitest.CutAt(3))
		if text, _, err := answer(t, srv.Client(t), hello(llama)); err != nil || text != "Hello" || srv.Calls("") != 6 {
			t.Errorf("stream cut before its first event = %q, %v after %d calls, want Hello after 6", text, err, srv.Calls(""))
		}
		srv.Script(workersaitest.CutAt(45))
		if text, _, err := answer(t, srv.Client(t), hello(llama)); !errors.Is(err, io.ErrUnexpectedEOF) || text != "Hello" || srv.Calls("") != 7 {
			t.Errorf("stream cut after its first event = %q, %v after %d calls, want an unexpected EOF after 7", text, err, srv.Calls(""))
		}
	})
}

func TestLimitsOfTime(t *testing.T) {
	bubble(t, func(t *testing.T, srv *workersaitest.Server) {
		never := make(chan struct{})
		pace := make(chan struct{}, 1)
		for name, test := range map[string]struct {
			step   workersaitest.Step
			mend   func(*workersai.Config)
			stream bool
			text   string
			want   time.Duration
		}{
			"plain call":          {step: workersaitest.Hold(never), want: 60 * time.Second},
			"headers of a stream": {step: workersaitest.Hold(never), stream: true, want: 60 * time.Second, mend: func(cfg *workersai.Config) { cfg.IdleTimeout = -1 }},
			"first event":         {step: workersaitest.Step{Pace: never}, stream: true, want: 60 * time.Second, mend: func(cfg *workersai.Config) { cfg.HeaderTimeout = -1 }},
			"second event":        {step: workersaitest.Step{Pace: pace}, stream: true, text: "Hello", want: 5 * time.Second, mend: func(cfg *workersai.Config) { cfg.HeaderTimeout, cfg.IdleTimeout = -1, 5*time.Second }},
		} {
			if test.text != "" {
				pace <- struct{}{}
			}
			c := srv.Client(t, noRetry, func(cfg *workersai.Config) {
				if test.mend != nil {
					test.mend(cfg)
				}
			})
			srv.Script(test.step)
			start, text, err := time.Now(), "", error(nil)
			if test.stream {
				text, _, err = answer(t, c, hello(llama))
			} else {
				_, err = embed(t, c, "a")
			}
			if !errors.Is(err, workersai.ErrUnreachable) || errors.Is(err, context.Canceled) || text != test.text || time.Since(start) != test.want {
				t.Errorf("%s: %q, %v after %v, want unreachable after %v", name, text, err, time.Since(start), test.want)
			}
		}
	})
}

func TestASlowReaderIsNoIdleServer(t *testing.T) {
	bubble(t, func(t *testing.T, srv *workersaitest.Server) {
		r := hello(llama)
		r.Messages[0].Content = strings.Repeat("a word ", 2000)
		n := 0
		for _, err := range srv.Client(t).ChatStream(t.Context(), r) {
			if err != nil {
				t.Fatalf("after %d events: %v", n, err)
			}
			if n++; n%1000 == 1 {
				time.Sleep(10 * time.Minute) // in the bubble this takes no time
			}
		}
	})
}

func TestAnErrorThatStallsIsGivenUp(t *testing.T) {
	bubble(t, func(t *testing.T, srv *workersaitest.Server) {
		never := make(chan struct{})
		srv.Script(workersaitest.Step{Status: 500, ContentType: "text/plain", Body: "x", Pace: never})
		c := srv.Client(t, noRetry, func(cfg *workersai.Config) { cfg.HeaderTimeout = -1 })
		start := time.Now()
		var e *workersai.Error
		if _, _, err := answer(t, c, hello(llama)); !errors.As(err, &e) || e.Status != 500 || time.Since(start) != time.Minute {
			t.Errorf("error %v after %v, want 500 after a minute", err, time.Since(start))
		}
	})
}

func TestCancellingStaysACancellation(t *testing.T) {
	bubble(t, func(t *testing.T, srv *workersaitest.Server) {
		srv.Script(workersaitest.Hold(make(chan struct{})))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err := srv.Client(t).Embed(ctx, workersai.EmbedRequest{Model: bge, Texts: []string{"a"}})
		if !errors.Is(err, context.Canceled) || errors.Is(err, workersai.ErrUnreachable) || srv.Calls("") != 1 {
			t.Errorf("error %v after %d calls, want canceled alone after 1", err, srv.Calls(""))
		}
	})
}

func TestRetiredModelFallsBackOnce(t *testing.T) {
	bubble(t, func(t *testing.T, srv *workersaitest.Server) {
		srv.Script(workersaitest.Deprecated(llama))
		_, _, err := answer(t, srv.Client(t), hello(llama))
		if !errors.Is(err, workersai.ErrModelDeprecated) || !strings.Contains(err.Error(), llama+"-fp8") {
			t.Errorf("without fallback: %v, want the successor's name", err)
		}
		told := 0
		c := srv.Client(t, func(cfg *workersai.Config) {
			cfg.FallbackDeprecated, cfg.OnFallback = true, func(_, _ string) { told++ }
		})
		srv.Script(workersaitest.Deprecated(llama))
		for range 3 {
			if text, _, err := answer(t, c, hello(llama)); err != nil || text != "Hello" {
				t.Fatalf("with fallback: %q, %v", text, err)
			}
		}
		if told != 1 || srv.Calls(llama) != 2 || srv.Calls(llama+"-fp8") != 3 {
			t.Errorf("told %d times, %d and %d calls, want 1, 2, 3", told, srv.Calls(llama), srv.Calls(llama+"-fp8"))
		}
		d := srv.Client(t, func(cfg *workersai.Config) { cfg.FallbackDeprecated = true })
		srv.Script(workersaitest.Deprecated(llama), workersaitest.Deprecated(llama+"-fp8"))
		if _, _, err := answer(t, d, hello(llama)); !errors.Is(err, workersai.ErrModelDeprecated) || !strings.Contains(err.Error(), llama+" and its successor "+llama+"-fp8") {
			t.Errorf("both retired: %v, want both names", err)
		}
	})
}

func TestRefusedCertificatesAreNotRetried(t *testing.T) {
	t.Parallel()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	sealed := httptest.NewUnstartedServer(http.NotFoundHandler())
	sealed.StartTLS()
	defer sealed.Close()
	for name, url := range map[string]string{"unknown authority": sealed.URL, "no TLS at all": strings.Replace(plain.URL, "http:", "https:", 1)} {
		tries := 0
		c, err := workersai.New(workersai.Config{BaseURL: url, OnAttempt: func(workersai.Attempt) { tries++ }})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := embed(t, c, "a"); !errors.Is(err, workersai.ErrUnreachable) || tries != 1 {
			t.Errorf("%s: %v after %d tries, want unreachable after 1", name, err, tries)
		}
		c.CloseIdleConnections()
	}
}

func TestAttemptsAreTold(t *testing.T) {
	bubble(t, func(t *testing.T, srv *workersaitest.Server) {
		srv.Script(workersaitest.Capacity(""))
		var got []workersai.Attempt
		c := srv.Client(t, func(cfg *workersai.Config) { cfg.OnAttempt = func(a workersai.Attempt) { got = append(got, a) } })
		if _, err := embed(t, c, "a"); err != nil {
			t.Fatal(err)
		}
		if len(got) != 2 || got[0].Status != 429 || !errors.Is(got[0].Err, workersai.ErrRateLimited) || got[1].Try != 2 || got[1].Status != 200 ||
			got[1].Err != nil || got[1].Neurons != 1.5 || got[1].RequestID == "" || got[1].Model != bge {
			t.Errorf("attempts %+v, want a 429 and then a 200 that cost 1.5", got)
		}
	})
}

// TestEveryRowInAStream: before the first event a stream is asked again as a plain call is; an error among its events
// has the same meaning, and ends it.
func TestEveryRowInAStream(t *testing.T) {
	bubble(t, func(t *testing.T, srv *workersaitest.Server) {
		c := srv.Client(t)
		for _, row := range errorTable {
			want := row.calls()
			before := srv.Calls("")
			srv.Script(times(want, workersaitest.Native(row.status, row.code, "x")))
			text, last, err := answer(t, c, hello(llama))
			if got := srv.Calls("") - before; got != want || text != "" || last.Usage != nil {
				t.Errorf("status %d, code %d: %q after %d calls, want an error after %d", row.status, row.code, text, got, want)
			}
			checkSentinels(t, err, row.want)
			if row.code == 0 {
				continue
			}
			before = srv.Calls("")
			srv.Script(workersaitest.ErrorsFrame(row.code, "x"))
			text, last, err = answer(t, c, hello(llama))
			if got := srv.Calls("") - before; got != 1 || text != "Hel" || last.Usage != nil {
				t.Errorf("code %d among the events: %q after %d calls, want Hel after 1", row.code, text, got)
			}
			checkSentinels(t, err, row.want)
		}
	})
}

func checkSentinels(t *testing.T, err error, want []error) {
	t.Helper()
	if err == nil {
		t.Error("no error")
	}
	for _, s := range sentinels {
		if errors.Is(err, s) != slices.Contains(want, s) {
			t.Errorf("%v: Is(%v) = %v, want %v", err, s, errors.Is(err, s), slices.Contains(want, s))
		}
	}
}

// TestRemedies: what a user can act on names what to do.
func TestRemedies(t *testing.T) {
	bubble(t, func(t *testing.T, srv *workersaitest.Server) {
		c := srv.Client(t, noRetry)
		for code, want := range map[int]string{
			7502: "check the model's name", 5007: "check the model's name", 7000: "base URL, the account id and the model's name", 7003: "base URL",
			5028: "use its successor " + llama + "-fp8", 3036: "resets at 00:00 UTC", 4006: "resets at 00:00 UTC", 10000: "Workers AI Read and Edit",
			9106: "Workers AI Read and Edit", 3041: "check the token", 3007: "lower max_tokens",
		} {
			srv.Script(workersaitest.Native(workersai.StatusOf(code), code, "x"))
			_, err := c.Chat(t.Context(), hello(llama))
			var e *workersai.Error
			if !errors.As(err, &e) || !strings.Contains(e.Remedy, want) || !strings.Contains(err.Error(), want) {
				t.Errorf("code %d: remedy of %v, want %q", code, err, want)
			}
		}
	})
}
