package retrieval

// TextsToCompare are a sentence and what a checker compares with it by vectors.
func TextsToCompare(c *Checker, sentence string) []string {
	out := []string{sentence}
	for _, i := range c.plausible(c.newClaim(sentence)) {
		out = append(out, c.sentence(i))
	}
	return out
}

// CheckByVectors checks as the service does with vectors of all-MiniLM-L6-v2, which count for share; negative: as much as
// in use.
func CheckByVectors(c *Checker, sentence string, vectors map[string][]float32, share float64) Finding {
	if share >= 0 {
		other := *c
		other.nearShare, c = share, &other
	}
	cl := c.newClaim(sentence)
	if cl.empty() {
		return c.check(cl, nil, nil)
	}
	near := closeness{}
	for _, i := range c.plausible(cl) {
		near[i] = plainScale.closenessOf(cosineOf(vectors[sentence], vectors[c.sentence(i)]))
	}
	return c.check(cl, near, nil)
}

// BestCosine of a sentence with any sentence of the passages.
func BestCosine(c *Checker, sentence string, vectors map[string][]float32) (best float64) {
	for i := range c.evidence {
		if v := vectors[c.sentence(i)]; v != nil {
			best = max(best, cosineOf(vectors[sentence], v))
		}
	}
	return best
}

// AllSentences of the passages.
func AllSentences(c *Checker) (out []string) {
	for i := range c.evidence {
		out = append(out, c.sentence(i))
	}
	return out
}

// NearShare in use.
const NearShare = nearShare
