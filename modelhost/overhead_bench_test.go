package modelhost_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/footnote-rag/footnote/modelhost"
)

// pairsOf asks the bare engine and the host in turn, and reports what the host adds: as a ratio of medians and in
// milliseconds. The target is 1.05, or 3 ms.
func pairsOf(b *testing.B, pairs int, bare, host func() time.Duration) {
	b.Helper()
	bare()
	host() // both are warm
	var bares, hosts []time.Duration
	for b.Loop() {
		for i := range pairs {
			if i%2 == 0 { // neither always comes first
				bares, hosts = append(bares, bare()), append(hosts, host())
			} else {
				hosts, bares = append(hosts, host()), append(bares, bare())
			}
		}
	}
	x, y := median(bares), median(hosts)
	b.ReportMetric(float64(y)/float64(x), "host/bare")
	b.ReportMetric(float64(y-x)/1e6, "added_ms")
	b.ReportMetric(float64(x)/1e6, "bare_ms")
	b.ReportMetric(0, "ns/op")
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// timed sends a request and measures until its last byte, or until until says that enough came.
func timed(b *testing.B, url string, body []byte, until func(line string) bool) time.Duration {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer secret")
	req.Header.Set("Content-Type", "application/json")
	began := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	if until == nil {
		n, err := io.Copy(io.Discard, resp.Body)
		if err != nil || resp.StatusCode != 200 || n < 1000 {
			b.Fatalf("%s: %d, %d bytes, %v", url, resp.StatusCode, n, err)
		}
		return time.Since(began)
	}
	for lines := bufio.NewReader(resp.Body); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			b.Fatalf("%s: %d, no text came: %v", url, resp.StatusCode, err)
		}
		if until(line) {
			took := time.Since(began)
			_, _ = io.Copy(io.Discard, lines) // the slot is free again before the next
			return took
		}
	}
}

func jsonOf(b *testing.B, v any) []byte {
	b.Helper()
	body, err := json.Marshal(v)
	if err != nil {
		b.Fatal(err)
	}
	return body
}

// BenchmarkOverheadEmbed: 100 texts of some 40 tokens, whole answers.
func BenchmarkOverheadEmbed(b *testing.B) {
	srv := realHost(b)
	engine, release, err := engineOf(b, miniLM).Acquire(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer release()
	texts := make([]string, 100)
	for i := range texts {
		texts[i] = fmt.Sprintf("Record %d: %s", i, strings.Repeat("the harbour closes early in winter. ", 5))
	}
	bare := jsonOf(b, map[string]any{"input": texts, "encoding_format": "base64"})
	host := jsonOf(b, map[string]any{"text": texts})
	pairsOf(b, 7, func() time.Duration { return timed(b, engine+"/v1/embeddings", bare, nil) },
		func() time.Duration { return timed(b, srv.URL+root+"run/"+embedModel, host, nil) })
}

// BenchmarkOverheadFirstToken: time to the first text of a stream; the prompt's evaluation is cached for both.
func BenchmarkOverheadFirstToken(b *testing.B) {
	srv := realHost(b)
	engine, release, err := engineOf(b, smolLM).Acquire(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer release()
	body := jsonOf(b, map[string]any{"stream": true, "max_tokens": 4, "temperature": 0, "messages": []any{map[string]any{"role": "user", "content": "What is the capital of France?"}}})
	first := func(key string) func(string) bool {
		return func(line string) bool {
			return strings.Contains(line, key) && !strings.Contains(line, key+`null`) && !strings.Contains(line, key+`""`)
		}
	}
	pairsOf(b, 15, func() time.Duration { return timed(b, engine+"/v1/chat/completions", body, first(`"content":`)) },
		func() time.Duration { return timed(b, srv.URL+root+"run/"+chatModel, body, first(`"response":`)) })
}

// BenchmarkHostEmbed is the host's own work for 100 texts of 768 numbers: the engine answers at once.
func BenchmarkHostEmbed(b *testing.B) {
	row := make([]byte, 0, 768*4)
	for i := range 768 {
		row = binary.LittleEndian.AppendUint32(row, math.Float32bits(float32(math.Sin(float64(i+1)))/20))
	}
	encoded := base64.StdEncoding.EncodeToString(row)
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct{ Input []string }
		if json.NewDecoder(r.Body).Decode(&in) != nil {
			return
		}
		var out bytes.Buffer
		out.WriteString(`{"data":[`)
		for i := range in.Input {
			if i > 0 {
				out.WriteByte(',')
			}
			fmt.Fprintf(&out, `{"index":%d,"embedding":"%s"}`, i, encoded)
		}
		out.WriteString(`],"usage":{"prompt_tokens":1}}`)
		_, _ = w.Write(out.Bytes())
	}))
	defer engine.Close()
	h, err := modelhost.New(modelhost.Config{Catalogue: modelhost.Catalogue{Models: []modelhost.Model{{Name: "@x/t/a", Task: modelhost.TaskEmbeddings,
		Backends: []modelhost.Backend{{URL: engine.URL, Dimensions: 768}}}}}})
	if err != nil {
		b.Fatal(err)
	}
	defer h.Close()
	srv := httptest.NewServer(h.Handler())
	defer srv.Close()
	texts := make([]string, 100)
	for i := range texts {
		texts[i] = strings.Repeat("a word ", 30)
	}
	body := jsonOf(b, map[string]any{"text": texts})
	b.ReportAllocs()
	for b.Loop() {
		timed(b, srv.URL+root+"run/@x/t/a", body, nil)
	}
}
