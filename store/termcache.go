package store

import (
	"container/list"
	"sync"
)

// cachedPostingBytes bounds what a process keeps of the inverted index: common words are in most questions, and reading their
// postings again is most of a lexical search's time.
const cachedPostingBytes = 64 << 20

// termCache keeps postings of terms by recency of use. An entry is true for a set of segments, which a search reads in the same
// statement as what it lacks; so what is kept is never older than the rest of the search.
type termCache struct {
	mu       sync.Mutex
	bytes    int
	order    *list.List // of *termEntry, newest first
	entries  map[termKey]*list.Element
	segments map[int64]string // collection → the set last seen
}

type termKey struct {
	collection int64
	term       string
}

// termEntry does not change.
type termEntry struct {
	key      termKey
	segments string // the set of segments it was read of
	removals int64  // removed chunks up to this number are not in it
	*termPostings
}

func newTermCache() *termCache {
	return &termCache{order: list.New(), entries: map[termKey]*list.Element{}, segments: map[int64]string{}}
}

// seen is the collection's set of segments as of the last search.
func (c *termCache) seen(collection int64) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.segments[collection]
}

// lookup returns what is known of the terms for a set of segments; nil where nothing is.
func (c *termCache) lookup(collection int64, segments string, terms []string) []*termEntry {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := make([]*termEntry, len(terms))
	for i, term := range terms {
		element, ok := c.entries[termKey{collection, term}]
		if !ok {
			continue
		}
		if entry := element.Value.(*termEntry); entry.segments == segments {
			known[i] = entry
			c.order.MoveToFront(element)
		}
	}
	return known
}

const (
	postingBytes = 10
	entryBytes   = 300 // of the entry, its key and its places
)

func (e *termEntry) bytes() int { return e.size()*postingBytes + entryBytes }

// put keeps entries, and lets the least recently used go.
func (c *termCache) put(collection int64, segments string, entries ...*termEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.segments[collection] = segments
	for _, e := range entries {
		if old, ok := c.entries[e.key]; ok {
			c.drop(old)
		}
		c.entries[e.key] = c.order.PushFront(e)
		c.bytes += e.bytes()
	}
	for c.bytes > cachedPostingBytes {
		c.drop(c.order.Back())
	}
}

func (c *termCache) drop(element *list.Element) {
	e := element.Value.(*termEntry)
	c.order.Remove(element)
	delete(c.entries, e.key)
	c.bytes -= e.bytes()
}
