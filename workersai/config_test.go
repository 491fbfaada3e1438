package workersai_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

func TestNewChecksItsConfiguration(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cfg  workersai.Config
		want string // "" for a good one
	}{
		"Cloudflare":         {workersai.Config{AccountID: "a", Token: "t"}, ""},
		"pasted with blanks": {workersai.Config{AccountID: " a\n", Token: " t\n"}, ""},
		"no account":         {workersai.Config{Token: "t"}, "CLOUDFLARE_ACCOUNT_ID"},
		"no token":           {workersai.Config{AccountID: "a"}, "CLOUDFLARE_API_TOKEN"},
		"local":              {workersai.Config{BaseURL: "http://127.0.0.1:1/client/v4/"}, ""},
		"token in two parts": {workersai.Config{AccountID: "a", Token: "t t"}, "copy it again"},
		"no scheme":          {workersai.Config{BaseURL: "localhost:1"}, "not an http or https URL"},
		"file":               {workersai.Config{BaseURL: "file:///x"}, "not an http or https URL"},
		"user in URL":        {workersai.Config{BaseURL: "http://user:pass@h/x"}, "no user, query or fragment"},
		"query in URL":       {workersai.Config{BaseURL: "http://h/x?y=1"}, "no user, query or fragment"},
		"negative limit":     {workersai.Config{BaseURL: "http://h", MaxReplyBytes: -1}, "MaxReplyBytes"},
	} {
		_, err := workersai.New(test.cfg)
		if test.want == "" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

func TestRequestsAreAsTheReferenceHasThem(t *testing.T) {
	t.Parallel()
	srv := workersaitest.New(t)
	if _, _, err := answer(t, srv.Client(t), hello(llama)); err != nil {
		t.Fatal(err)
	}
	got := srv.Requests()[0]
	if got.Method != http.MethodPost || got.Path != "/client/v4/accounts/test-account/ai/run/@cf/meta/llama-3.1-8b-instruct" {
		t.Errorf("%s %s, want POST with the model as it is", got.Method, got.Path)
	}
	if got.Header.Get("Authorization") != "Bearer test-token" || got.Header.Get("Content-Type") != "application/json" || got.Header.Get(workersai.HeaderGateway) != "" {
		t.Errorf("headers %v", got.Header)
	}
	if want := `{"messages":[{"role":"user","content":"Hello"}],"stream":true,"max_tokens":256}`; string(got.Body) != want {
		t.Errorf("body %s, want %s", got.Body, want)
	}
}

func TestRedirectsDoNotCarryTheToken(t *testing.T) {
	t.Parallel()
	elsewhere := workersaitest.New(t)
	srv := workersaitest.New(t)
	srv.Script(workersaitest.Step{Status: 307, ContentType: "text/plain", Header: http.Header{"Location": {elsewhere.URL + "/x"}}})
	if _, err := embed(t, srv.Client(t, noRetry), "a"); err == nil || !strings.Contains(err.Error(), "redirects are not followed") {
		t.Errorf("redirect: %v, want it refused", err)
	}
	if n := elsewhere.Calls(""); n != 0 {
		t.Errorf("the redirect's target got %d calls", n)
	}
}
