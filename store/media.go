package store

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Times tells when the words of a recording's transcript were spoken, in the order of the text. Entry i covers the code
// points from Char[i] up to Char[i+1], or to the end. The three lists have one length.
type Times struct {
	Char    []int32
	StartMS []int32 // milliseconds from the recording's start
	EndMS   []int32
}

// Of gives the seconds in which the code points [start, end) were spoken; false where nothing is known of them.
func (t *Times) Of(start, end int) (from, to float64, ok bool) {
	if t == nil || len(t.Char) == 0 || end <= start || end <= int(t.Char[0]) {
		return 0, 0, false
	}
	after := func(char int) int {
		return sort.Search(len(t.Char), func(i int) bool { return int(t.Char[i]) >= char })
	}
	first := max(after(start+1)-1, 0)
	last := max(after(end)-1, first)
	return float64(t.StartMS[first]) / 1000, float64(slices.Max(t.EndMS[first:last+1])) / 1000, true
}

// audio tells a recording from other documents by its media type.
func audio(mediaType string) bool { return strings.HasPrefix(mediaType, "audio/") }

// DocumentTimes are the times of a recording's visible transcript; nil for a document that is none.
func (s *Store) DocumentTimes(ctx context.Context, documentID string) (*Times, error) {
	if uuid.Validate(documentID) != nil {
		return nil, nil
	}
	all, err := s.times(ctx, []string{documentID})
	return all[documentID], mapped("times of document "+documentID, err)
}

func (s *Store) times(ctx context.Context, documentIDs []string) (map[string]*Times, error) {
	all := map[string]*Times{}
	_, err := many(ctx, s.read, func(row pgx.CollectableRow) (id string, err error) {
		t := &Times{}
		err = row.Scan(&id, &t.Char, &t.StartMS, &t.EndMS)
		all[id] = t
		return id, err
	}, "SELECT document_id, start_char, start_ms, end_ms FROM document_times WHERE document_id = ANY($1)", documentIDs)
	return all, err
}

// addTimes gives passages of recordings their times.
func (s *Store) addTimes(ctx context.Context, passages []Passage) error {
	var ids []string
	for _, p := range passages {
		if audio(p.MediaType) && !slices.Contains(ids, p.DocumentID) {
			ids = append(ids, p.DocumentID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	all, err := s.times(ctx, ids)
	for i := range passages {
		passages[i].Times = all[passages[i].DocumentID]
	}
	return err
}

// putTimes replaces what is known of a document's times.
func putTimes(b *pgx.Batch, documentID string, collection int64, t *Times) error {
	if t == nil {
		b.Queue("DELETE FROM document_times WHERE document_id = $1", documentID)
		return nil
	}
	if len(t.Char) != len(t.StartMS) || len(t.Char) != len(t.EndMS) {
		return fmt.Errorf("times of %d, %d and %d words", len(t.Char), len(t.StartMS), len(t.EndMS))
	}
	b.Queue(`
		INSERT INTO document_times (document_id, collection_id, start_char, start_ms, end_ms) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (document_id) DO UPDATE SET start_char = excluded.start_char, start_ms = excluded.start_ms, end_ms = excluded.end_ms`,
		documentID, collection, t.Char, t.StartMS, t.EndMS)
	return nil
}

// StageResult keeps what a model answered to an input (named by a hash) of a document that is not complete. A document that is
// gone keeps nothing.
func (s *Store) StageResult(ctx context.Context, documentID string, input [32]byte, result json.RawMessage) error {
	err := s.write(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO staged_results (document_id, input, result) SELECT id, $2, $3 FROM documents WHERE id = $1
			ON CONFLICT DO NOTHING`, documentID, input[:], result)
		return err
	})
	return mapped(fmt.Sprintf("stage result %s of %s", hex.EncodeToString(input[:4]), documentID), err)
}

// StagedResults are the kept answers for a document.
func (s *Store) StagedResults(ctx context.Context, documentID string) (map[[32]byte]json.RawMessage, error) {
	type row struct {
		Input  []byte
		Result json.RawMessage
	}
	all, err := many(ctx, s.pool, pgx.RowToStructByPos[row], "SELECT input, result FROM staged_results WHERE document_id = $1", documentID)
	if err != nil {
		return nil, mapped("staged results of "+documentID, err)
	}
	staged := make(map[[32]byte]json.RawMessage, len(all))
	for _, r := range all {
		if len(r.Input) == 32 {
			staged[[32]byte(r.Input)] = r.Result
		}
	}
	return staged, nil
}
