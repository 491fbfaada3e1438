package store

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

const (
	// maxCorrected words of a question, of at most maxCorrectedRunes: each has some 54 neighbours a character.
	maxCorrected, maxCorrectedRunes = 4, 24
	// minCorrectedRunes: a shorter word has a neighbour in any collection.
	minCorrectedRunes = 4
	// maxTriedTerms are looked for as they are written, each in maxReadChunks at most.
	maxTriedTerms, maxReadChunks = 3, 20
)

// Corrections maps those of the words, in lower case, that occur in no document of the collection to the commonest word one
// edit away that stands in one: a letter too many, too few, another, or two that changed places. Words without one are left out.
func (s *Store) Corrections(ctx context.Context, c Collection, words []string) (map[string]string, error) {
	languages := c.Languages
	if len(languages) == 0 {
		languages = []string{"en"}
	}
	forms := map[string][]string{} // terms of a word
	var all []string
	for _, w := range words {
		forms[w] = termsOf(w, languages)
		all = append(all, forms[w]...)
	}
	have, err := s.knownTerms(ctx, c.ID, all)
	if err != nil {
		return nil, mapped("look up words of "+c.Name, err)
	}
	out := map[string]string{}
	var unknown []string
	for _, w := range words {
		n := utf8.RuneCountInString(w)
		known := len(forms[w]) == 0 || slices.ContainsFunc(forms[w], func(t string) bool { return have[t] > 0 })
		if !known && n >= minCorrectedRunes && n <= maxCorrectedRunes && len(unknown) < maxCorrected && !slices.Contains(unknown, w) {
			unknown = append(unknown, w)
		}
	}
	for _, w := range unknown {
		best, err := s.nearest(ctx, c, w, languages)
		if err != nil {
			return nil, mapped("look up words of "+c.Name, err)
		}
		if best != "" {
			out[w] = best
		}
	}
	return out, nil
}

func termsOf(word string, languages []string) (terms []string) {
	for _, l := range languages {
		newAnalyzer(l).each(word, func(t string) {
			if !slices.Contains(terms, t) {
				terms = append(terms, t)
			}
		})
	}
	return terms
}

// nearest is the neighbour of a word whose term has the most postings, as documents write it.
func (s *Store) nearest(ctx context.Context, c Collection, word string, languages []string) (string, error) {
	byTerm, near := map[string]string{}, map[string]bool{}
	for _, n := range neighbours(word) {
		near[fold(n)] = true
		for _, t := range termsOf(n, languages) {
			byTerm[t] = n
		}
	}
	sizes, err := s.termSizes(ctx, c.ID, slices.Collect(maps.Keys(byTerm)))
	if err != nil {
		return "", err
	}
	terms := slices.SortedFunc(maps.Keys(sizes), func(a, b string) int { return cmp.Or(sizes[b]-sizes[a], strings.Compare(a, b)) })
	for _, t := range terms[:min(len(terms), maxTriedTerms)] {
		written, err := s.written(ctx, c, byTerm[t], near)
		if written != "" || err != nil {
			return written, err
		}
	}
	return "", nil
}

// written is the commonest of the words that documents with a word have; "" if they have none of them. The index knows stems
// alone, and "tabl" stands in no document that has "tables".
func (s *Store) written(ctx context.Context, c Collection, word string, of map[string]bool) (best string, err error) {
	found, err := s.Search(ctx, SearchQuery{Collection: c, Text: word, Mode: Lexical, Limit: maxReadChunks})
	if err != nil {
		return "", err
	}
	times := map[string]int{}
	for _, p := range found {
		text := strings.ToLower(strings.Join(append(p.Heading, p.Title, p.Text, p.Translation), " "))
		for w := range strings.FieldsFuncSeq(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsMark(r) }) {
			if !of[fold(w)] {
				continue
			}
			if times[w]++; times[w] > times[best] || times[w] == times[best] && w < best {
				best = w
			}
		}
	}
	return best, nil
}

// neighbours are all words one edit away.
func neighbours(word string) (out []string) {
	r := []rune(word)
	letters := []rune("abcdefghijklmnopqrstuvwxyz")
	for _, c := range r {
		if !slices.Contains(letters, c) {
			letters = append(letters, c)
		}
	}
	with := func(parts ...[]rune) { out = append(out, string(slices.Concat(parts...))) }
	for i := range len(r) + 1 {
		for _, c := range letters {
			with(r[:i], []rune{c}, r[i:])
			if i < len(r) && c != r[i] {
				with(r[:i], []rune{c}, r[i+1:])
			}
		}
		if i < len(r) {
			with(r[:i], r[i+1:])
		}
		if i+1 < len(r) && r[i] != r[i+1] {
			with(r[:i], []rune{r[i+1], r[i]}, r[i+2:])
		}
	}
	return out
}

// knownTerms is termSizes for words that most questions have: the documents that no segment holds yet are read only where a term
// is in no segment.
func (s *Store) knownTerms(ctx context.Context, collection int64, terms []string) (map[string]int, error) {
	type row struct {
		Term string
		Size int
	}
	rows, err := many(ctx, s.read, pgx.RowToStructByPos[row],
		"SELECT term, sum(octet_length(packed))::bigint FROM postings WHERE collection_id = $1 AND term = ANY($2) GROUP BY term", collection, terms)
	if err != nil {
		return nil, err
	}
	sizes := make(map[string]int, len(rows))
	for _, r := range rows {
		sizes[r.Term] = r.Size
	}
	missing := slices.DeleteFunc(slices.Clone(terms), func(t string) bool { return sizes[t] > 0 })
	fresh, err := s.termSizes(ctx, collection, missing)
	for term, size := range fresh {
		sizes[term] = size
	}
	return sizes, err
}

// termSizes tells how many bytes of postings each term has; a term without any is left out.
func (s *Store) termSizes(ctx context.Context, collection int64, terms []string) (map[string]int, error) {
	sizes := map[string]int{}
	if len(terms) == 0 {
		return sizes, nil
	}
	conn, err := acquire(ctx, s.read)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	wanted := make(map[string]bool, len(terms))
	for _, t := range terms {
		wanted[t] = true
	}
	// One statement, because a document may move from one table to the other at any time.
	rows, err := conn.Query(ctx, `
		SELECT term, sum(octet_length(packed))::bigint, NULL::bytea FROM postings WHERE collection_id = $1 AND term = ANY($2) GROUP BY term
		UNION ALL SELECT NULL, 0, packed FROM fresh_postings WHERE collection_id = $1`, collection, terms)
	if err != nil {
		return nil, err
	}
	var term *string
	var size int
	var packed []byte
	_, err = pgx.ForEachRow(rows, []any{&term, &size, (*pgxBytes)(&packed)}, func() error {
		if term != nil {
			sizes[strings.Clone(*term)] += size
			return nil
		}
		return eachTerm(packed, func(t, postings []byte) error {
			if wanted[string(t)] {
				sizes[string(t)] += len(postings)
			}
			return nil
		})
	})
	return sizes, err
}
