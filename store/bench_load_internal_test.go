package store

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/footnote-rag/footnote/store/storetest/testdb"
)

const benchPerDocument = 50

// loadBench is an empty collection, and tables of the same shape that a bare loop fills.
type loadBench struct {
	store *Store
	in    Collection
	text  *corpus
	n     int // documents made
}

func newLoadBench(b *testing.B) *loadBench {
	b.Helper()
	s, err := Open(b.Context(), Config{URL: testdb.Empty(b), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Close)
	k, _, err := s.EnsureCollection(b.Context(), "bench", Space{Model: "m", Pooling: "mean", Dimensions: benchDims}, Chunking{MaxTokens: 256})
	if err != nil {
		b.Fatal(err)
	}
	l := &loadBench{store: s, in: k, text: newCorpus(b)}
	l.exec(b, "CREATE TABLE bare_chunks (LIKE chunks INCLUDING ALL); CREATE TABLE bare_vectors (LIKE "+k.Space.table()+" INCLUDING ALL);"+
		"CREATE TABLE bare_postings (LIKE fresh_postings INCLUDING ALL); CREATE TABLE bare_texts (LIKE document_texts INCLUDING ALL)")
	return l
}

func (l *loadBench) exec(b *testing.B, sql string) {
	b.Helper()
	if _, err := l.store.pool.Exec(b.Context(), sql); err != nil {
		b.Fatal(err)
	}
}

// put stores the source of a new document and returns what completes it.
func (l *loadBench) put(b *testing.B) Completion {
	b.Helper()
	l.n++
	sum := sha256.Sum256([]byte(fmt.Sprint(l.n)))
	doc, _, err := l.store.PutDocument(b.Context(), NewDocument{Collection: l.in, URI: fmt.Sprint(l.n), MediaType: "text/plain", Source: []byte("x"), SHA256: sum[:], Settings: "1"},
		func(context.Context, pgx.Tx, Document) error { return nil })
	if err != nil {
		b.Fatal(err)
	}
	done := Completion{DocumentID: doc.ID, Revision: 1, Text: "x", Language: "en", Total: benchPerDocument}
	for i := range benchPerDocument {
		text := l.text.text(90)
		done.Chunks = append(done.Chunks, Chunk{Ordinal: i, Start: i, End: i + len(text), Text: text, Tokens: 120, Embedding: l.text.vector()})
	}
	return done
}

// bareCopy copies chunks and vectors as a programmer would: CopyFrom in a transaction a document, with nothing else; or all rows
// that the service writes of a document, its words and its text too.
func (l *loadBench) bareCopy(ctx context.Context, p *prepared, all bool) error {
	var chunks, vectors [][]any
	for i, c := range p.Chunks {
		id := p.first + int64(c.Ordinal)
		chunks = append(chunks, []any{id, l.in.ID, p.DocumentID, int64(1), c.Ordinal, headingOf(c), c.Start, c.End, c.Tokens, c.Text})
		vectors = append(vectors, []any{id, l.in.ID, p.DocumentID, p.vectors[i]})
	}
	return pgx.BeginFunc(ctx, l.store.pool, func(tx pgx.Tx) error {
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"bare_chunks"},
			[]string{"id", "collection_id", "document_id", "generation", "ordinal", "heading", "start_char", "end_char", "token_count", "text"}, pgx.CopyFromRows(chunks))
		if err != nil {
			return err
		}
		_, err = tx.CopyFrom(ctx, pgx.Identifier{"bare_vectors"}, []string{"chunk_id", "collection_id", "document_id", "embedding"}, pgx.CopyFromRows(vectors))
		if err != nil || !all {
			return err
		}
		_, err = tx.CopyFrom(ctx, pgx.Identifier{"bare_postings"}, []string{"first_chunk", "collection_id", "chunks", "packed"}, pgx.CopyFromRows([][]any{{p.first, l.in.ID, p.Total, p.postings}}))
		if err != nil {
			return err
		}
		_, err = tx.CopyFrom(ctx, pgx.Identifier{"bare_texts"}, []string{"document_id", "collection_id", "text"}, pgx.CopyFromRows([][]any{{p.DocumentID, l.in.ID, p.Text}}))
		return err
	})
}

// BenchmarkComplete compares the transaction that makes a document's new version visible (chunks, vectors, words, counters, the
// old version's removal) with a bare CopyFrom, a transaction a document, interleaved. ratio is its chunks a second over those of
// a loop that copies the same rows; chunks-and-vectors over one that leaves out words and text; with-analysis counts the analysis
// of words before it too, against the latter.
func BenchmarkComplete(b *testing.B) {
	l := newLoadBench(b)
	const documents = 60
	var ratios, same, whole, rates []float64
	for range b.N {
		for range benchPairs {
			var bare, all, swap, prepare time.Duration
			for range documents {
				done := l.put(b)
				start := time.Now()
				p, err := l.store.prepare(b.Context(), done)
				if err != nil {
					b.Fatal(err)
				}
				prepare += time.Since(start)
				start = time.Now()
				if err := l.bareCopy(b.Context(), p, false); err != nil {
					b.Fatal(err)
				}
				bare += time.Since(start)
				again := *p
				if again.first, err = l.store.ids.take(b.Context(), l.store.pool, p.Total); err != nil {
					b.Fatal(err)
				}
				again.DocumentID = uuid.NewString()
				start = time.Now()
				if err := l.bareCopy(b.Context(), &again, true); err != nil {
					b.Fatal(err)
				}
				all += time.Since(start)
				start = time.Now()
				if err := l.store.write(b.Context(), func(tx pgx.Tx) error { _, err := p.swap(b.Context(), tx); return err }); err != nil {
					b.Fatal(err)
				}
				swap += time.Since(start)
			}
			same = append(same, all.Seconds()/swap.Seconds())
			ratios = append(ratios, bare.Seconds()/swap.Seconds())
			whole = append(whole, bare.Seconds()/(swap+prepare).Seconds())
			rates = append(rates, documents*benchPerDocument/(swap+prepare).Seconds())
		}
	}
	b.ReportMetric(median(same), "ratio")
	b.ReportMetric(median(ratios), "chunks-and-vectors")
	b.ReportMetric(median(whole), "with-analysis")
	b.ReportMetric(median(rates), "chunks/s")
	b.ReportMetric(0, "ns/op")
}

// completers is how many documents the service has in flight.
const completers = 16

// BenchmarkFirstLoad compares a first load (every chunk completed, as many documents at once as in the service, then the index
// built by maintenance) with one COPY after the other of the vectors alone into a table whose HNSW index is there from the
// start. ratio is the live COPY's time over the load's.
func BenchmarkFirstLoad(b *testing.B) {
	n := 100_000
	if testing.Short() {
		n = 10_000
	}
	l := newLoadBench(b)
	l.exec(b, "CREATE INDEX ON bare_vectors USING hnsw (embedding halfvec_ip_ops)")
	var load, live, build time.Duration
	const together = 10 * completers
	for range n / (benchPerDocument * together) {
		var all []Completion
		var rows [][]any
		for range together {
			done := l.put(b)
			all = append(all, done)
			for i, c := range done.Chunks {
				v, err := unitVector(c.Embedding, benchDims)
				if err != nil {
					b.Fatal(err)
				}
				rows = append(rows, []any{int64(l.n*benchPerDocument + i), l.in.ID, done.DocumentID, v})
			}
		}
		load += l.complete(b, all)
		for batch := range slices.Chunk(rows, benchPerDocument) {
			live += l.liveCopy(b, batch)
		}
	}
	n = l.n * benchPerDocument
	start := time.Now()
	for range 3 { // the first pass sees the table grow, the second one builds
		if err := l.store.Maintain(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	build = time.Since(start)
	if ok, err := hasIndex(b.Context(), l.store.pool, l.in.Space); err != nil || !ok {
		b.Fatalf("index built: %v, %v", ok, err)
	}
	b.ReportMetric(live.Seconds()/(load+build).Seconds(), "ratio")
	b.ReportMetric(float64(n)/(load+build).Seconds(), "chunks/s")
	b.ReportMetric(float64(n)/live.Seconds(), "live-chunks/s")
	b.ReportMetric(load.Seconds(), "load-s")
	b.ReportMetric(build.Seconds(), "index-s")
	b.ReportMetric(0, "ns/op")
}

func (l *loadBench) complete(b *testing.B, all []Completion) time.Duration {
	start := time.Now()
	var g errgroup.Group
	g.SetLimit(completers)
	for _, done := range all {
		g.Go(func() error { return l.store.Complete(b.Context(), done) })
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}

func (l *loadBench) liveCopy(b *testing.B, rows [][]any) time.Duration {
	start := time.Now()
	_, err := l.store.pool.CopyFrom(b.Context(), pgx.Identifier{"bare_vectors"}, []string{"chunk_id", "collection_id", "document_id", "embedding"}, pgx.CopyFromRows(rows))
	if err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}
