package store

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strings"
)

// chunkWords is what the index needs of a chunk.
type chunkWords struct {
	ordinal int
	counts  map[string]int
	length  int // terms, repeated ones counted, lone letters and digits not
}

// wordsOf analyses a chunk. The words of the document's title, once, and of the heading path count for it too: a passage often
// does not repeat what its section is about; so do those of its summary. A translation's words are analysed by its own language, and the summary's by that of what
// it is embedded with.
func (a *analyzer) wordsOf(title string, c Chunk, translated *analyzer) chunkWords {
	w := chunkWords{ordinal: c.Ordinal, counts: map[string]int{}}
	count := func(term string) {
		w.counts[term]++
		if !lone(term) {
			w.length++
		}
	}
	if c.Ordinal > 0 || !BeginsWith(c.Text, title) {
		a.each(title, count)
	}
	for _, h := range c.Heading {
		if h != title {
			a.each(h, count)
		}
	}
	a.each(c.Text, count)
	translated.each(c.Translation, count)
	if c.Translation != "" {
		a = translated
	}
	a.each(c.Summary, count)
	return w
}

// BeginsWith tells whether a text's first words are the title.
func BeginsWith(text, title string) bool {
	head := text[:min(len(text), 2*len(title)+64)]
	return strings.HasPrefix(strings.Join(strings.Fields(head), " "), strings.Join(strings.Fields(title), " "))
}

// posting is one chunk that holds a term: how often, and how long the chunk is.
type posting struct {
	chunk     int64
	tf, words uint32
}

// appendPosting packs a posting as unsigned varints: the distance of its id from the one before, the number of occurrences, the
// chunk's length.
func appendPosting(b []byte, before int64, p posting) []byte {
	b = binary.AppendUvarint(b, uint64(p.chunk-before))
	b = binary.AppendUvarint(b, uint64(p.tf))
	return binary.AppendUvarint(b, uint64(p.words))
}

var errPostings = errors.New("postings are damaged: run REINDEX, or load the collection again")

// appendUnpacked adds a row's postings, whose distances begin at first, to list.
func appendUnpacked(list []posting, first int64, packed []byte) ([]posting, error) {
	id := first
	for i := 0; i < len(packed); {
		var v [3]uint64
		for j := range v {
			if i < len(packed) && packed[i] < 0x80 { // nearly always
				v[j] = uint64(packed[i])
				i++
				continue
			}
			x, n := binary.Uvarint(packed[i:])
			if n <= 0 {
				return list, errPostings
			}
			v[j] = x
			i += n
		}
		id += int64(v[0])
		list = append(list, posting{id, uint32(v[1]), uint32(v[2])})
	}
	return list, nil
}

// invert turns the words of a document's chunks, whose ids begin at first, into one row of fresh_postings: for each term in
// order its length and bytes, the length of its postings and these, packed from first.
func invert(chunks []chunkWords, first int64) (packed []byte, total int64) {
	slices.SortFunc(chunks, func(a, b chunkWords) int { return a.ordinal - b.ordinal })
	type list struct {
		packed []byte
		last   int64
	}
	lists := map[string]*list{}
	for _, c := range chunks {
		total += int64(c.length)
		id := first + int64(c.ordinal)
		for term, n := range c.counts {
			l := lists[term]
			if l == nil {
				l = &list{last: first}
				lists[term] = l
			}
			l.packed = appendPosting(l.packed, l.last, posting{id, uint32(n), uint32(c.length)})
			l.last = id
		}
	}
	for _, term := range slices.Sorted(maps.Keys(lists)) {
		list := lists[term].packed
		packed = binary.AppendUvarint(packed, uint64(len(term)))
		packed = append(packed, term...)
		packed = binary.AppendUvarint(packed, uint64(len(list)))
		packed = append(packed, list...)
	}
	return packed, total
}

// eachTerm walks a row of fresh_postings.
func eachTerm(packed []byte, f func(term, postings []byte) error) error {
	field := func() ([]byte, bool) {
		n, size := binary.Uvarint(packed)
		if size <= 0 || n > uint64(len(packed)-size) {
			return nil, false
		}
		v := packed[size : size+int(n)]
		packed = packed[size+int(n):]
		return v, true
	}
	for len(packed) > 0 {
		term, ok := field()
		postings, ok2 := field()
		if !ok || !ok2 {
			return errPostings
		}
		if err := f(term, postings); err != nil {
			return err
		}
	}
	return nil
}
