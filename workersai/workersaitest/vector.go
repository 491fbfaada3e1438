package workersaitest

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
)

// Vector is the embedding of a text: a function of its SHA-256 alone, of length 1. Vectors of different texts are as good
// as orthogonal, so that a vector that lands beside the wrong text shows.
func Vector(text string, dims int) []float32 {
	seed := sha256.Sum256([]byte(text))
	raw, norm := make([]float64, dims), 0.0
	var block [sha256.Size]byte
	for i := range raw {
		at := i % (sha256.Size / 4) * 4
		if at == 0 {
			block = sha256.Sum256(binary.BigEndian.AppendUint32(seed[:], uint32(i)))
		}
		raw[i] = float64(int32(binary.BigEndian.Uint32(block[at:]))) / (1 << 31)
		norm += raw[i] * raw[i]
	}
	v := make([]float32, dims)
	for i, x := range raw {
		v[i] = float32(x / math.Sqrt(norm))
	}
	return v
}
