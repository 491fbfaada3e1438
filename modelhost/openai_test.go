package modelhost_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestOpenAIEmbeddingsPacked(t *testing.T) {
	t.Parallel()
	srv := newHost(t, newUpstream(t).URL, nil)
	ask := func(format string, embedding any) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+root+"v1/embeddings",
			strings.NewReader(`{"model":"`+embedModel+`","input":"tea","encoding_format":"`+format+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer any")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		out := struct{ Data []struct{ Embedding any } }{Data: []struct{ Embedding any }{{embedding}}}
		if err := json.Unmarshal(body, &out); err != nil {
			t.Errorf("%s: %v in %.200s", format, err, body)
		}
		return resp.StatusCode, string(body)
	}
	var plain []float32
	var packed []byte
	ask("float", &plain)
	ask("base64", &packed)
	got := make([]float32, len(packed)/4)
	if err := binary.Read(bytes.NewReader(packed), binary.LittleEndian, got); err != nil {
		t.Fatal(err)
	}
	if want := vectorOf("tea"); !slices.Equal(plain, want) || !slices.Equal(got, want) {
		t.Errorf("float gave %d numbers, base64 %d, want the engine's %d", len(plain), len(got), len(want))
	}
	if status, body := ask("int8", nil); status != http.StatusBadRequest || !strings.Contains(body, "encoding_format") {
		t.Errorf("encoding_format int8: HTTP %d, %s, want 400", status, body)
	}
}
