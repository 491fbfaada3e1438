package ingest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/ingest"
	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/store/storetest"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

// A bulk load fills all its workers and all requests that it may have under way; another collection's documents pass it.
func TestBulkLoadLeavesRoom(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	w := newWorld(t, workersaitest.Embed(func(text string, dims int) []float32 {
		if strings.Contains(text, "BULK") {
			<-release
		}
		v := make([]float32, dims)
		v[len(text)%dims] = 1
		return v
	}))
	s := w.service(t)
	in := func(collection string, d ingest.Document) ingest.Document {
		d.Collection = collection
		return d
	}
	var bulk []string
	for i := range 60 {
		body := "A short one that comes first."
		if i >= 20 {
			body = strings.Repeat(fmt.Sprintf("# BULK %d\n\n%s\n\n", i, strings.Repeat("Many words fill this section. ", 40)), 30)
		}
		d := text(fmt.Sprintf("%d.md", i), body)
		d.MediaType = "text/markdown"
		bulk = append(bulk, put(t, s, in("bulk", d), store.Created).ID)
	}
	begin(t, s)
	for _, id := range bulk[:20] {
		wait(t, s, id, store.StatusCompleted)
	}
	eventually(t, "the bulk load fills its workers", func() bool { return stats(t, s).Running >= 16 })
	for i := range 10 {
		d := in("other", text(fmt.Sprint(i), fmt.Sprintf("Fact number %d.", i)))
		wait(t, s, put(t, s, d, store.Created).ID, store.StatusCompleted)
	}
	if st := stats(t, s); st.Queued == 0 {
		t.Errorf("%d documents wait and %d run, want the bulk load still waiting", st.Queued, st.Running)
	}
	close(release)
	for _, id := range bulk {
		wait(t, s, id, store.StatusCompleted)
	}
	storetest.Invariants(t, w.store)
}
