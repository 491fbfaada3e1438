package ingest_test

import (
	"fmt"

	"github.com/footnote-rag/footnote/ingest"
)

func ExampleExtract() {
	e, err := ingest.Extract("text/markdown", []byte("# Tea\n\nSteep *three* minutes:\n\n- green\n- white\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("title:", e.Title)
	for _, b := range e.Blocks {
		fmt.Printf("%d–%d %s\n", b.Start, b.End, string([]rune(e.Text)[b.Start:b.End]))
	}
	// Output:
	// title: Tea
	// 0–3 Tea
	// 5–25 Steep three minutes:
	// 27–34 - green
	// 35–42 - white
}
