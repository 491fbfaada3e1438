package workersai

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
)

// embedBody is an answer of 100 vectors of 768 dimensions with a float32's digits.
func embedBody(tb testing.TB) []byte {
	tb.Helper()
	out := EmbeddingOutput{Shape: []int{100, 768}, Pooling: "cls"}
	r := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		row := make([]float32, 768)
		for i := range row {
			row[i] = float32(r.NormFloat64() / 28)
		}
		out.Data = append(out.Data, row)
	}
	body, err := json.Marshal(Success(out))
	if err != nil {
		tb.Fatal(err)
	}
	return body
}

// BenchmarkEmbedDecode reads one full answer. The second case is encoding/json into [][]float64, to compare.
func BenchmarkEmbedDecode(b *testing.B) {
	body := embedBody(b)
	c := &Client{}
	b.Run("footnote", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			if got, _, err := c.readVectors(body, "m"); err != nil || len(got.rows) != 100 {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding json", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			var env Envelope[struct{ Data [][]float64 }]
			if err := json.Unmarshal(body, &env); err != nil {
				b.Fatal(err)
			}
		}
	})
}
