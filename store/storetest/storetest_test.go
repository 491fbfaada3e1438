package storetest_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

func TestDatabasesAreFreshAndSeparate(t *testing.T) {
	t.Parallel()
	a, b := storetest.Open(t), storetest.Open(t)
	space := store.Space{Model: "m", Pooling: "mean", Dimensions: 4}
	if _, created, err := a.EnsureCollection(t.Context(), "c", space, store.Chunking{}); err != nil || !created {
		t.Fatalf("EnsureCollection = %v, %v", created, err)
	}
	all, err := b.Collections(t.Context())
	if err != nil || len(all) != 0 {
		t.Errorf("the other database has %d collections (%v), want none", len(all), err)
	}
}

func TestDatabaseIsDroppedAtTheEnd(t *testing.T) {
	t.Parallel()
	var url string
	t.Run("inner", func(t *testing.T) {
		url = storetest.URL(t)
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close(t.Context())
	})
	if _, err := pgx.Connect(t.Context(), url); err == nil {
		t.Error("the database is still there")
	}
}
