package api_test

import (
	"strings"
	"testing"
)

func TestMetricsHaveFixedLabels(t *testing.T) {
	t.Parallel()
	w := setup(t)
	put := w.add("a.md", handbook)
	w.get("/v1/documents/" + put.ID)
	w.get("/v1/documents/019a0000-0000-7000-8000-000000000000")
	w.get("/some/path/nobody/knows-secret")
	w.send("BREW", "/v1/search", "", nil)
	page := string(w.get("/metrics").body)
	for _, want := range []string{
		`route="/v1/documents/:id",status="200"`, `route="/v1/documents/:id",status="404"`, `method="other"`,
		"footnote_ingest_documents_ended_total{status=\"completed\"} 1", "footnote_answers_in_flight 0",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
	for _, private := range []string{put.ID, "nobody", "BREW"} {
		if strings.Contains(page, private) {
			t.Errorf("/metrics has %s", private)
		}
	}
}

func TestLogIsOneLineAnEvent(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.headers.Set("X-Request-Id", "a b [31m")
	w.get("/x%0aforged%1b[31m?uri=private-query")
	w.post("/v1/search", `{"query":"private words","collection":"nowhere"}`)
	log := w.log.String()
	for _, bad := range []string{"private", "\x1b", "\nforged", "a b"} {
		if strings.Contains(log, bad) {
			t.Errorf("the log has %q:\n%s", bad, log)
		}
	}
	if n := strings.Count(log, "msg=request"); n != 2 {
		t.Errorf("%d request lines, want 2:\n%s", n, log)
	}
}
