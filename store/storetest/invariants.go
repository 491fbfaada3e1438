package storetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/footnote-rag/footnote/store"
)

// invariant is a query that returns no row while all is well.
type invariant struct{ name, sql string }

// invariants hold in every committed state.
var invariants = []invariant{
	{"completed documents are whole, in order, once", `
		SELECT d.id, d.status, d.chunk_count, count(c.id), count(DISTINCT c.ordinal), min(c.id) - d.first_chunk AS id_offset
		FROM documents d LEFT JOIN chunks c ON c.document_id = d.id AND c.generation = d.generation
		GROUP BY d.id
		HAVING count(c.id) <> d.chunk_count OR count(DISTINCT c.ordinal) <> d.chunk_count
			OR coalesce(max(c.ordinal) + 1, 0) <> d.chunk_count
			OR min(c.id) <> d.first_chunk OR max(c.id) <> d.first_chunk + d.chunk_count - 1
			OR coalesce(sum(c.token_count), 0) <> d.token_count`},
	{"a completed document shows its newest revision", `
		SELECT id, generation, revision FROM documents WHERE generation > revision OR (status = 'completed' AND generation <> revision)`},
	{"a visible document has its text", `
		SELECT d.id FROM documents d LEFT JOIN document_texts t ON t.document_id = d.id WHERE d.generation > 0 AND t.document_id IS NULL`},
	{"a chunk is its piece of the text", `
		SELECT c.id, c.start_char, c.end_char FROM chunks c JOIN document_texts t ON t.document_id = c.document_id
		WHERE c.text <> substr(t.text, c.start_char + 1, c.end_char - c.start_char)`},
	{"a document has its source", `
		SELECT d.id FROM documents d LEFT JOIN document_sources s ON s.document_id = d.id
		WHERE s.document_id IS NULL OR sha256(s.source) <> d.content_sha256`},
	{"an error is explained", `
		SELECT id FROM documents WHERE status = 'error' AND (error_code IS NULL OR error_text IS NULL)`},
	{"collections agree", `
		SELECT c.id, c.collection_id, d.collection_id AS of_document FROM chunks c JOIN documents d ON d.id = c.document_id WHERE c.collection_id <> d.collection_id
		UNION ALL SELECT NULL, s.collection_id, d.collection_id FROM document_sources s JOIN documents d ON d.id = s.document_id WHERE s.collection_id <> d.collection_id
		UNION ALL SELECT NULL, t.collection_id, d.collection_id FROM document_texts t JOIN documents d ON d.id = t.document_id WHERE t.collection_id <> d.collection_id`},
	{"no chunk outlives its document or generation", `
		SELECT c.id, c.generation, d.generation AS visible FROM chunks c LEFT JOIN documents d ON d.id = c.document_id
		WHERE d.id IS NULL OR c.generation <> d.generation`},
	{"nothing is staged for a revision that has ended", `
		SELECT s.document_id, s.revision, s.ordinal, d.revision AS newest, d.status FROM staged_chunks s JOIN documents d ON d.id = s.document_id
		WHERE s.revision > d.revision OR d.status IN ('completed', 'error')`},
	{"fresh words belong to visible documents", `
		SELECT f.collection_id, f.first_chunk FROM fresh_postings f
		LEFT JOIN chunks c ON c.id = f.first_chunk LEFT JOIN documents d ON d.id = c.document_id AND d.first_chunk = f.first_chunk AND d.chunk_count = f.chunks
		WHERE d.id IS NULL OR d.collection_id <> f.collection_id`},
	{"words belong to a segment of their collection", `
		SELECT p.collection_id, p.term, p.first_chunk, p.segment FROM postings p LEFT JOIN posting_segments g ON g.id = p.segment
		WHERE g.id IS NULL OR g.collection_id <> p.collection_id OR p.first_chunk NOT BETWEEN g.first_chunk AND g.last_chunk`},
	{"a document's words are fresh or in a segment", `
		SELECT d.id, d.word_count FROM documents d WHERE d.word_count > 0
			AND NOT EXISTS (SELECT FROM fresh_postings f WHERE f.first_chunk = d.first_chunk)
			AND NOT EXISTS (SELECT FROM posting_segments g WHERE g.collection_id = d.collection_id AND d.first_chunk BETWEEN g.first_chunk AND g.last_chunk)`},
	{"a segment has postings", `
		SELECT g.id FROM posting_segments g WHERE NOT EXISTS (SELECT FROM postings p WHERE p.segment = g.id)
			AND EXISTS (SELECT FROM documents d WHERE d.collection_id = g.collection_id AND d.word_count > 0 AND d.first_chunk BETWEEN g.first_chunk AND g.last_chunk)`},
	{"removed chunks are not visible", `
		SELECT r.collection_id, r.first_chunk, r.chunks, c.id FROM removed_chunks r JOIN chunks c ON c.id BETWEEN r.first_chunk AND r.first_chunk + r.chunks - 1`},
	{"counters are true", `
		SELECT k.id, n.*, t.* FROM collections k
		CROSS JOIN LATERAL (SELECT coalesce(sum(documents), 0) AS documents, coalesce(sum(chunks), 0) AS chunks, coalesce(sum(words), 0) AS words
			FROM collection_counters WHERE collection_id = k.id) n
		CROSS JOIN LATERAL (SELECT count(*) AS true_documents, coalesce(sum(chunk_count), 0) AS true_chunks, coalesce(sum(word_count), 0) AS true_words
			FROM documents WHERE collection_id = k.id) t
		WHERE (n.documents, n.chunks, n.words) IS DISTINCT FROM (t.true_documents, t.true_chunks, t.true_words)`},
}

// vectorsOf checks one space's vectors: a chunk has one, usable, of unit length, in its collection's space, and none is left over.
// Half precision rounds each number by up to 1/2048, so a unit vector's norm is that close to 1.
func vectorsOf(space int64) invariant {
	return invariant{fmt.Sprintf("vectors of space %d are usable and belong to its chunks", space), fmt.Sprintf(`
		SELECT c.id, e.chunk_id, c.collection_id, e.collection_id AS of_vector, l2_norm(e.embedding) AS norm, vector_dims(e.embedding) AS dims
		FROM (SELECT c.* FROM chunks c JOIN collections k ON k.id = c.collection_id WHERE k.space_id = %[1]d) c
		FULL JOIN embeddings_%[1]d e ON e.chunk_id = c.id
		WHERE c.id IS NULL OR e.chunk_id IS NULL OR c.document_id <> e.document_id OR c.collection_id <> e.collection_id
			OR NOT abs(l2_norm(e.embedding) - 1) < 0.01 OR vector_dims(e.embedding) <> (SELECT dimensions FROM spaces WHERE id = %[1]d)`, space)}
}

// nobodyIsStuck holds when the queue has had time to recover from the last fault.
var nobodyIsStuck = invariant{"an unfinished document has a live job", `
	SELECT d.id, d.status, d.revision FROM documents d WHERE d.status IN ('queued', 'running') AND NOT EXISTS (
		SELECT FROM river_job j WHERE j.args->>'document_id' = d.id::text AND (j.state IN ('available', 'scheduled', 'retryable')
			OR (j.state = 'running' AND j.attempted_at > now() - interval '90 s')))`}

// maxViolations is how many rows of one broken invariant a failure shows.
const maxViolations = 10

// Invariants fails the test, showing the rows, if something in the store's database contradicts itself. Call it at any time:
// each query sees one committed state. Where River's tables are, it also wants a job for each unfinished document.
func Invariants(t testing.TB, s *store.Store) {
	t.Helper()
	for _, problem := range Violations(t, s) {
		t.Error(problem)
	}
}

// Violations describes what Invariants would fail for.
func Violations(t testing.TB, s *store.Store) []string {
	t.Helper()
	ctx := context.Background()
	var problems []string
	for _, inv := range invariantsOf(ctx, t, s) {
		rows, err := violatingRows(ctx, s, inv)
		if err != nil {
			t.Fatalf("invariant %q: %v", inv.name, err)
		}
		if len(rows) > 0 {
			problems = append(problems, fmt.Sprintf("broken: %s:\n\t%s", inv.name, strings.Join(rows, "\n\t")))
		}
	}
	return problems
}

func invariantsOf(ctx context.Context, t testing.TB, s *store.Store) []invariant {
	t.Helper()
	rows, err := s.Pool().Query(ctx, "SELECT id FROM spaces ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	spaces, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		t.Fatal(err)
	}
	all := slices.Clone(invariants)
	for _, space := range spaces {
		all = append(all, vectorsOf(space))
	}
	var queue bool
	if err := s.Pool().QueryRow(ctx, "SELECT to_regclass('river_job') IS NOT NULL").Scan(&queue); err != nil {
		t.Fatal(err)
	}
	if queue {
		all = append(all, nobodyIsStuck)
	}
	return all
}

func violatingRows(ctx context.Context, s *store.Store, inv invariant) ([]string, error) {
	rows, err := s.Pool().Query(ctx, fmt.Sprintf("SELECT to_jsonb(v)::text FROM (%s) v LIMIT %d", inv.sql, maxViolations))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
