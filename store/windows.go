package store

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
)

// Widen returns the passages with the chunks around them, in their order: each takes neighbours of its own section, until it
// holds window tokens. A chunk is shown once, and one that is itself among the passages stays one. Text stays exactly the
// document's from Start to End. A passage whose document changed since the search stays as it is.
func (s *Store) Widen(ctx context.Context, passages []Passage, window int) ([]Passage, error) {
	if window <= 0 || len(passages) == 0 {
		return passages, nil
	}
	around, err := s.around(ctx, passages, window)
	if err != nil {
		return nil, mapped("widen passages", err)
	}
	shown := map[string]map[int]bool{} // by document and ordinal
	for _, p := range passages {
		if shown[p.DocumentID] == nil {
			shown[p.DocumentID] = map[int]bool{}
		}
		shown[p.DocumentID][p.Ordinal] = true
	}
	wide := make([]widened, len(passages))
	for i, p := range passages {
		wide[i] = widened{Passage: p, found: p}
		for _, c := range wide[i].widen(around[i], shown[p.DocumentID], window) {
			shown[p.DocumentID][c.Ordinal] = true
			wide[i].Start, wide[i].End = min(wide[i].Start, c.Start), max(wide[i].End, c.End)
		}
	}
	if err := s.fillTexts(ctx, wide); err != nil {
		return nil, mapped("widen passages", err)
	}
	out := make([]Passage, len(wide))
	for i, w := range wide {
		out[i] = w.Passage
	}
	return out, nil
}

// widened is a passage that has grown, and what it has grown from.
type widened struct {
	Passage
	found Passage
}

// maxReach bounds how many chunks on either side are looked at.
const maxReach = 16

// around reads each passage's neighbours, by ordinal.
func (s *Store) around(ctx context.Context, passages []Passage, window int) ([][]Chunk, error) {
	ids, ordinals, reach := make([]string, len(passages)), make([]int, len(passages)), make([]int, len(passages))
	for i, p := range passages {
		ids[i], ordinals[i], reach[i] = p.DocumentID, p.Ordinal, min(window/max(p.Tokens, 1)+1, maxReach)
	}
	rows, err := s.read.Query(ctx, `
		SELECT h.place, k.ordinal, k.heading, k.start_char, k.end_char, k.token_count
		FROM unnest($1::uuid[], $2::int[], $3::int[]) WITH ORDINALITY AS h(document, ordinal, reach, place)
		JOIN chunks k ON k.document_id = h.document AND k.ordinal BETWEEN h.ordinal - h.reach AND h.ordinal + h.reach
		ORDER BY h.place, k.ordinal`, ids, ordinals, reach)
	if err != nil {
		return nil, err
	}
	out := make([][]Chunk, len(passages))
	var place int
	var c Chunk
	_, err = pgx.ForEachRow(rows, []any{&place, &c.Ordinal, &c.Heading, &c.Start, &c.End, &c.Tokens}, func() error {
		out[place-1] = append(out[place-1], c)
		return nil
	})
	return out, err
}

// widen chooses neighbours, alternating sides and stopping a side at a chunk that is shown, of another section, or too large.
// It adds their tokens to p.
func (p *widened) widen(around []Chunk, shown map[int]bool, window int) []Chunk {
	at := slices.IndexFunc(around, func(c Chunk) bool { return c.Ordinal == p.Ordinal })
	if at < 0 || around[at].Start != p.Start || around[at].End != p.End {
		return nil
	}
	var chosen []Chunk
	sides := [2]struct{ next, step int }{{at + 1, 1}, {at - 1, -1}} // what follows explains more often than what went before
	open := [2]bool{true, true}
	for side := 0; open[0] || open[1]; side = 1 - side {
		n := &sides[side]
		if open[side] = open[side] && n.next >= 0 && n.next < len(around); !open[side] {
			continue
		}
		c := around[n.next]
		if shown[c.Ordinal] || p.Tokens+c.Tokens > window || !slices.Equal(c.Heading, p.Heading) {
			open[side] = false
			continue
		}
		p.Tokens += c.Tokens
		chosen = append(chosen, c)
		n.next += n.step
	}
	return chosen
}

// fillTexts reads the text of the passages that have grown. Where the document has changed meanwhile, the text no longer
// holds what was found, and the passage goes back to it.
func (s *Store) fillTexts(ctx context.Context, passages []widened) error {
	var ids []string
	var starts, lengths, places []int
	for i, p := range passages {
		if p.Start != p.found.Start || p.End != p.found.End {
			ids, starts, lengths, places = append(ids, p.DocumentID), append(starts, p.Start), append(lengths, p.End-p.Start), append(places, i)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	rows, err := s.read.Query(ctx, `
		SELECT h.place, substring(t.text FROM h.start + 1 FOR h.length)
		FROM unnest($1::uuid[], $2::int[], $3::int[], $4::int[]) AS h(document, start, length, place)
		JOIN document_texts t ON t.document_id = h.document`, ids, starts, lengths, places)
	if err != nil {
		return err
	}
	texts := map[int]string{}
	var place int
	var text string
	if _, err := pgx.ForEachRow(rows, []any{&place, &text}, func() error { texts[place] = text; return nil }); err != nil {
		return err
	}
	for _, i := range places {
		w, text := &passages[i], []rune(texts[i])
		from, to := w.found.Start-w.Start, w.found.End-w.Start
		if len(text) != w.End-w.Start || string(text[from:to]) != w.found.Text {
			w.Passage = w.found
			continue
		}
		w.Text = texts[i]
	}
	return nil
}
