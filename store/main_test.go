package store_test

import (
	"testing"

	"github.com/footnote-rag/footnote/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }
