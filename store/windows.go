package store

import (
	"context"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"
)

// Widen extends passages, best first, over neighbouring chunks of their section up to so many tokens, and returns the first limit of
// them. Each is a place of its own: a passage that one before it already shows is left out, and none shows what one before it does.
// Of two neighbours the one that was found itself is taken first. A window that is not above 0 leaves passages as they are.
// ErrUnavailable.
func (s *Store) Widen(ctx context.Context, passages []Passage, window, limit int) ([]Passage, error) {
	if window <= 0 || len(passages) == 0 {
		return passages[:min(limit, len(passages))], nil
	}
	around, err := s.around(ctx, passages[:min(aheadFactor*limit, len(passages))], window)
	if err != nil {
		return nil, mapped("widen passages", err)
	}
	found, shown := ordinals{}, ordinals{}
	for i, p := range passages {
		found.put(p.DocumentID, p.Ordinal, i)
	}
	var wide []widened
	for i, p := range passages {
		if len(wide) == limit {
			break
		}
		if shown.has(p.DocumentID, p.Ordinal) {
			continue
		}
		if i >= len(around) {
			more, err := s.around(ctx, passages[len(around):], window)
			if err != nil {
				return nil, mapped("widen passages", err)
			}
			around = append(around, more...)
		}
		shown.put(p.DocumentID, p.Ordinal, i)
		w := widened{Passage: p, found: p}
		for _, c := range w.widen(around[i], found[p.DocumentID], shown[p.DocumentID], window) {
			shown.put(p.DocumentID, c.Ordinal, i)
			w.Start, w.End = min(w.Start, c.Start), max(w.End, c.End)
		}
		wide = append(wide, w)
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

// ordinals are chunks by document and ordinal, each with the place of the passage that it belongs to.
type ordinals map[string]map[int]int

func (o ordinals) put(document string, ordinal, place int) {
	if o[document] == nil {
		o[document] = map[int]int{}
	}
	o[document][ordinal] = place
}

func (o ordinals) has(document string, ordinal int) bool {
	_, ok := o[document][ordinal]
	return ok
}

// widened is a passage that has grown, and what it has grown from.
type widened struct {
	Passage
	found Passage
}

// aheadFactor times as many passages as are returned are looked around at first; seldom are more needed.
const aheadFactor = 2

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

// widen chooses neighbours, of both sides the one that was found at the better place, else by turns. A side ends at a chunk that
// is shown, of another section, or too large. It adds their tokens to p.
func (p *widened) widen(around []Chunk, found, shown map[int]int, window int) (chosen []Chunk) {
	at := slices.IndexFunc(around, func(c Chunk) bool { return c.Ordinal == p.Ordinal })
	if at < 0 || around[at].Start != p.Start || around[at].End != p.End {
		return nil
	}
	after, before := at+1, at-1
	fits := func(i int) bool {
		if i < 0 || i >= len(around) {
			return false
		}
		_, seen := shown[around[i].Ordinal]
		return !seen && p.Tokens+around[i].Tokens <= window && slices.Equal(around[i].Heading, p.Heading)
	}
	place := func(i int) int {
		if place, ok := found[around[i].Ordinal]; ok {
			return place
		}
		return math.MaxInt
	}
	for forward := true; ; forward = !forward { // what follows explains more often than what went before
		next, last := fits(after), fits(before)
		switch {
		case !next && !last:
			return chosen
		case next && last && place(after) != place(before):
			forward = place(after) < place(before)
		case !next || !last:
			forward = next
		}
		i := before
		if forward {
			i = after
			after++
		} else {
			before--
		}
		p.Tokens += around[i].Tokens
		chosen = append(chosen, around[i])
	}
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
