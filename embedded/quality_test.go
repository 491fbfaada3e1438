package embedded_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/footnote-rag/footnote/embedded"
)

// BenchmarkEngine reports chunks a second of some 200 tokens: the engine's own best rate, which ingest is measured by.
func BenchmarkEngine(b *testing.B) {
	for _, q := range []struct {
		name string
		q    embedded.Quantization
	}{{"F16", embedded.F16}, {"Q8_0", embedded.Q80}} {
		for _, texts := range []int{1, 8, 32} {
			b.Run(fmt.Sprintf("%s/texts=%d", q.name, texts), func(b *testing.B) {
				l := startMiniLM(b, q.q)
				url, release, err := l.Acquire(testContext(b))
				if err != nil {
					b.Fatal(err)
				}
				defer release()
				batch := make([]string, texts)
				for i := range batch {
					batch[i] = strings.Repeat(fmt.Sprintf("the vacuum command reclaims storage occupied by dead tuples number %d; ", i), 13)
				}
				embed(b, url, batch...)
				b.ResetTimer()
				start := time.Now()
				var wg sync.WaitGroup
				next := make(chan struct{}, b.N)
				for range b.N {
					next <- struct{}{}
				}
				close(next)
				for range 3 {
					wg.Go(func() {
						for range next {
							embed(b, url, batch...)
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N*texts)/time.Since(start).Seconds(), "chunks/s")
				http.DefaultClient.CloseIdleConnections()
			})
		}
	}
}
