package store

import "slices"

// ranges is a set of chunk ids as sorted, disjoint runs; nil is the empty set.
type ranges struct{ first, end []int64 }

func (r *ranges) add(first int64, n int) {
	r.first = append(r.first, first)
	r.end = append(r.end, first+int64(n))
}

func (r *ranges) empty() bool { return r == nil || len(r.first) == 0 }

// walk answers questions about ids; fast where they mostly ascend.
func (r *ranges) walk() rangeWalk {
	if r == nil {
		r = &ranges{}
	}
	return rangeWalk{ranges: r}
}

type rangeWalk struct {
	*ranges
	i int // of the last run asked about
}

func (w *rangeWalk) has(id int64) bool {
	if w.i < len(w.first) && w.first[w.i] <= id && id < w.end[w.i] {
		return true
	}
	i, found := slices.BinarySearch(w.first, id)
	if !found {
		i--
	}
	if i < 0 {
		return false
	}
	w.i = i
	return id < w.end[i]
}

// without removes the set's chunks from a list, in place.
func (r *ranges) without(list []posting) []posting {
	if r.empty() {
		return list
	}
	w := r.walk()
	return slices.DeleteFunc(list, func(p posting) bool { return w.has(p.chunk) })
}

// overlap is how many of the ids first..last are in the set.
func (r *ranges) overlap(first, last int64) int64 {
	if r.empty() {
		return 0
	}
	var n int64
	i, found := slices.BinarySearch(r.first, first)
	if !found {
		i = max(i-1, 0)
	}
	for ; i < len(r.first) && r.first[i] <= last; i++ {
		n += max(0, min(r.end[i]-1, last)-max(r.first[i], first)+1)
	}
	return n
}
