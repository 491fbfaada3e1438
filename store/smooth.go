package store

import (
	"math/bits"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

const (
	defaultSmoothing = 0.3
	// smoothed candidates, the best by their fused scores, are compared with each other. Among fewer than minSmoothed a neighbour
	// tells too little.
	smoothed, minSmoothed = 64, 12
	// neighborsOf: each has one of so many of them as its neighbours.
	neighborsOf = 4
)

// likeness is what candidates are compared by: the signs of a vector's components, a bit each. The share of equal ones measures
// the angle between two vectors (Charikar, STOC 2002); they are a sixteenth of the halfvec to read, and what takes 384 multiplications
// takes six instructions.
type likeness struct {
	document [16]byte
	signs    []uint64
	bits     int
}

// likened is a chunk of a leg with its likeness.
type likened struct {
	scored
	likeness
}

// likenessColumns are what scanLikened reads of the alias e of embeddings besides a chunk and its score, where scores are smoothed.
const likenessColumns = ", e.document_id, binary_quantize(e.embedding)"

func (r *search) scanLikened(row pgx.CollectableRow) (l likened, err error) {
	if r.Fusion.smoothing() == 0 {
		return l, row.Scan(&l.chunk, &l.score)
	}
	var b pgtype.Bits
	err = row.Scan(&l.chunk, &l.score, &l.document, &b)
	l.bits, l.signs = int(b.Len), make([]uint64, (len(b.Bytes)+7)/8)
	for i, eight := range b.Bytes { // they are pgx's, and are read over with the next row
		l.signs[i/8] |= uint64(eight) << (8 * (i % 8))
	}
	return l, err
}

// differing counts the components of different sign.
func differing(a, b []uint64) int {
	n := 0
	for i := range min(len(a), len(b)) {
		n += bits.OnesCount64(a[i] ^ b[i])
	}
	return n
}

// smooth moves the scores of the best candidates towards those of the candidates of other documents that are most like them:
// passages that are alike tend to answer the same questions (the cluster hypothesis: van Rijsbergen 1979), so that one whose
// neighbours have low scores is more often found by chance. It is one step of Diaz's regularization of scores (CIKM 2005): of the
// best 64, each gets (1 - smoothing)·score + smoothing·mean of its neighbours' scores. Neighbours are the quarter of the 64
// that have the most signs in common with it, and count by how many more that are than the half that chance gives. Chunks of one document are alike
// in any case and vouch for nothing.
func (r *search) smooth(all []candidate) {
	share := r.Fusion.smoothing()
	n := min(smoothed, len(all))
	if share == 0 || n < minSmoothed {
		return
	}
	agreement := make([]int32, n*n) // signs in common more than by chance, twice; 0: no neighbours
	for i := range n {
		for j := range i {
			if a, b := all[i].likeness, all[j].likeness; a.bits == b.bits && a.document != b.document {
				more := int32(max(a.bits-2*differing(a.signs, b.signs), 0))
				agreement[i*n+j], agreement[j*n+i] = more, more
			}
		}
	}
	means := make([]float64, n)
	counts := make([]int32, slices.Max(agreement)+1)
	for i := range n {
		row := agreement[i*n : (i+1)*n]
		means[i] = meanOfNeighbors(all, row, atLeast(row, n/neighborsOf, counts), all[i].score)
	}
	for i, mean := range means {
		all[i].neighbors = &mean
		all[i].score += share * (mean - all[i].score)
	}
	sortCandidates(all[:n])
	if rest := all[n:]; len(rest) > 0 && rest[0].score > all[n-1].score { // they stay behind, in their order
		scale := all[n-1].score / rest[0].score
		for i := range rest {
			rest[i].score *= scale
		}
	}
}

// atLeast is the kth greatest number, or 1 if that is less; counts has a place for each. Small numbers are faster counted than sorted.
func atLeast(numbers []int32, k int, counts []int32) int32 {
	clear(counts)
	for _, x := range numbers {
		counts[x]++
	}
	for x := len(counts) - 1; x > 1; x-- {
		if k -= int(counts[x]); k <= 0 {
			return int32(x)
		}
	}
	return 1
}

// meanOfNeighbors weights the scores of those that agree by at least so much; own if there is none.
func meanOfNeighbors(all []candidate, agreement []int32, least int32, own float64) float64 {
	sum, weight := 0.0, 0.0
	for j, w := range agreement {
		if w >= least {
			sum += float64(w) * all[j].score
			weight += float64(w)
		}
	}
	if weight == 0 {
		return own
	}
	return sum / weight
}
