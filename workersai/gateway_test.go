package workersai_test

import (
	"net/http"
	"testing"

	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

func TestGatewayHeadersGoAlong(t *testing.T) {
	t.Parallel()
	srv := workersaitest.NewInMemory(t)
	own := http.Header{"cf-aig-cache-ttl": {"60"}, "Cf-Aig-Metadata": {`{"team":"x"}`}}
	c := srv.Client(t, func(cfg *workersai.Config) { cfg.GatewayID, cfg.GatewayHeaders = "mine", own })
	own.Set("cf-aig-metadata", "changed later")
	if _, err := embed(t, c, "a"); err != nil {
		t.Fatal(err)
	}
	got := srv.Requests()[0].Header
	for name, want := range map[string]string{workersai.HeaderGateway: "mine", "Cf-Aig-Cache-Ttl": "60", "Cf-Aig-Metadata": `{"team":"x"}`} {
		if got.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, got.Get(name), want)
		}
	}
	if _, err := workersai.New(workersai.Config{BaseURL: "http://127.0.0.1:1", GatewayHeaders: http.Header{"Authorization": {"x"}}}); err == nil {
		t.Error("GatewayHeaders with Authorization: no error")
	}
}
