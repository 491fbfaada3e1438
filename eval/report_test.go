package eval_test

import (
	"crypto/sha256"
	"encoding/base64"
	"html"
	"regexp"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/eval"
)

func TestReport(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := eval.Report(&b, measured(t)); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	if strings.Contains(page, "<script") || strings.Contains(page, "<b>it</b>") {
		t.Error("text of a question or document became markup")
	}
	style := regexp.MustCompile(`(?s)<style>(.*?)</style>`).FindStringSubmatch(page)
	policy := regexp.MustCompile(`Content-Security-Policy" content="([^"]*)"`).FindStringSubmatch(page)
	if style == nil || policy == nil {
		t.Fatal("the page has no style or no policy")
	}
	hash := sha256.Sum256([]byte(style[1]))
	if allowed := html.UnescapeString(policy[1]); !strings.Contains(allowed, "default-src 'none'") || !strings.Contains(allowed, "'sha256-"+base64.StdEncoding.EncodeToString(hash[:])+"'") {
		t.Errorf("the policy %q does not allow exactly the page's own style", allowed)
	}
	for name, want := range map[string]string{
		"a link to the document":    `<a href="http://127.0.0.1:8080/v1/documents/id-m/text" rel="noreferrer">&lt;script&gt;`,
		"what was not found":        `n: <span class="wrong">not found</span>`,
		"at which rank it was":      `m: document found at rank 2`,
		"why there is no reply":     `the server is on fire`,
		"the verdict of a citation": `<span class="wrong">unsupported</span> More.`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not show %s: %q", name, want)
		}
	}
	if first := regexp.MustCompile(`<summary>([^<]*)`).FindStringSubmatch(page); first == nil || !strings.HasPrefix(first[1], "Where is") {
		t.Errorf("the first question is %q, want the one that failed", first)
	}
}

func TestReportHasNoForeignLinks(t *testing.T) {
	t.Parallel()
	for _, server := range []string{"javascript:alert(1)", "::", "", "file:///etc"} {
		run := measured(t)
		run.Server = server
		var b strings.Builder
		if err := eval.Report(&b, run); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), "<a ") {
			t.Errorf("a run of the server %q has links", server)
		}
	}
}
