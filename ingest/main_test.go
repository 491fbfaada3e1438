package ingest_test

import (
	"os"
	"testing"

	"github.com/footnote-rag/footnote/store/storetest"
)

// TestMain also plays the processes that tests start.
func TestMain(m *testing.M) {
	if os.Getenv(workerEnv) != "" {
		os.Exit(work())
	}
	storetest.Main(m)
}
