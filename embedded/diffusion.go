package embedded

import (
	"context"
	"math"
	"math/rand/v2"
	"runtime"

	"golang.org/x/sync/errgroup"
)

// diffusion is a denoising diffusion model of a finite set of drawings. Nothing is learned: for such a set the best denoiser
// is known exactly. Given a noisy picture x = √ᾱ·d + √(1-ᾱ)·noise, the expected drawing is the mean of all drawings, each
// weighted by p(d | x, caption), a softmax of distances, which is attention over the set. It is sampled as larger models
// are: DDIM (Song et al. 2021) over the cosine schedule (Nichol and Dhariwal 2021) with classifier-free guidance (Ho and
// Salimans 2022).
type diffusion struct {
	width, height int
	set           []drawing
	norms         []float64 // of the drawings, squared
}

func newDiffusion(width, height int) *diffusion {
	m := &diffusion{width: width, height: height, set: drawings(width, height)}
	for _, d := range m.set {
		m.norms = append(m.norms, dot(d.pixels, d.pixels))
	}
	return m
}

// sampling says what to draw.
type sampling struct {
	prompt, negative caption
	steps            int
	guidance         float64
	seed             uint64
	start            []float32 // a picture to start from, or nil
	strength         float64   // how much of it is drawn anew, 0 to 1
	anew             []bool    // pixels that are drawn; nil: all
}

// alphaBar is the part of the picture that is left at a time from 0 to 1, by the cosine schedule.
func alphaBar(t float64) float64 {
	c := math.Cos((t + 0.008) / 1.008 * math.Pi / 2)
	return max(1e-4, c*c)
}

// sample draws: height × width × 3 numbers from -1 to 1.
func (m *diffusion) sample(ctx context.Context, q sampling) ([]float32, error) {
	r := rand.New(rand.NewPCG(q.seed, 0x5eed))
	noise := make([]float32, 3*m.width*m.height)
	for i := range noise {
		noise[i] = float32(r.NormFloat64())
	}
	begin, steps := 1.0, q.steps
	if q.start != nil {
		begin = q.strength
		if steps = int(math.Round(float64(steps) * q.strength)); steps == 0 {
			return q.start, nil
		}
	}
	x := mix(q.start, noise, alphaBar(begin))
	for i := range steps {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		now, next := alphaBar(begin*float64(steps-i)/float64(steps)), alphaBar(begin*float64(steps-i-1)/float64(steps))
		if i == steps-1 {
			next = 1 // the last step leaves no noise
		}
		clean := m.guided(x, now, q)
		m.step(x, clean, now, next)
		if q.start != nil && q.anew != nil { // what is kept follows its own noise
			kept := mix(q.start, noise, next)
			for p, draw := range q.anew {
				if !draw {
					copy(x[3*p:3*p+3], kept[3*p:3*p+3])
				}
			}
		}
	}
	return x, nil
}

// mix is √ᾱ·start + √(1-ᾱ)·noise; start nil is a picture of zeros.
func mix(start, noise []float32, ab float64) []float32 {
	keep, add := float32(math.Sqrt(ab)), float32(math.Sqrt(1-ab))
	x := make([]float32, len(noise))
	for i, n := range noise {
		x[i] = add * n
		if start != nil {
			x[i] += keep * start[i]
		}
	}
	return x
}

// guided is the expected drawing, moved away from what the negative prompt (or none) expects by the guidance.
func (m *diffusion) guided(x []float32, ab float64, q sampling) []float32 {
	scores := m.distances(x, ab)
	want, avoid := m.expected(scores, q.prompt), m.expected(scores, q.negative)
	g := float32(q.guidance)
	for i := range want {
		want[i] = max(-1, min(1, avoid[i]+g*(want[i]-avoid[i])))
	}
	return want
}

// step goes from ᾱ now to ᾱ next without new noise.
func (m *diffusion) step(x, clean []float32, now, next float64) {
	keepNow, noiseNow := float32(math.Sqrt(now)), float32(math.Sqrt(1-now))
	keepNext, noiseNext := float32(math.Sqrt(next)), float32(math.Sqrt(1-next))
	for i, c := range clean {
		noise := (x[i] - keepNow*c) / noiseNow
		x[i] = keepNext*c + noiseNext*noise
	}
}

// distances are the logarithms of p(x | drawing), up to a constant: -|x - √ᾱ·d|² / 2(1-ᾱ).
func (m *diffusion) distances(x []float32, ab float64) []float64 {
	out := make([]float64, len(m.set))
	keep, spread := math.Sqrt(ab), 2*(1-ab)
	var group errgroup.Group
	group.SetLimit(runtime.NumCPU())
	for i, d := range m.set {
		group.Go(func() error {
			out[i] = (2*keep*dot(x, d.pixels) - ab*m.norms[i]) / spread
			return nil
		})
	}
	_ = group.Wait() // none fails
	return out
}

// expected is the mean of the drawings, weighted by p(d | x, caption).
func (m *diffusion) expected(scores []float64, c caption) []float32 {
	weights := make([]float64, len(scores))
	top := math.Inf(-1)
	for i, s := range scores {
		weights[i] = s + c.logPrior(m.set[i])
		top = max(top, weights[i])
	}
	sum := 0.0
	for i, w := range weights {
		weights[i] = math.Exp(w - top)
		sum += weights[i]
	}
	out := make([]float32, 3*m.width*m.height)
	for i, w := range weights {
		if w /= sum; w > 1e-4 {
			for j, v := range m.set[i].pixels {
				out[j] += float32(w) * v
			}
		}
	}
	return out
}

func dot(a, b []float32) float64 {
	var s0, s1, s2, s3 float32
	sum := 0.0
	for len(a) >= 1024 { // in parts, so that 32 bits are enough
		s0, s1, s2, s3 = 0, 0, 0, 0
		for i := 0; i < 1024; i += 4 {
			s0 += a[i] * b[i]
			s1 += a[i+1] * b[i+1]
			s2 += a[i+2] * b[i+2]
			s3 += a[i+3] * b[i+3]
		}
		sum += float64(s0 + s1 + s2 + s3)
		a, b = a[1024:], b[1024:]
	}
	for i := range a {
		sum += float64(a[i] * b[i])
	}
	return sum
}
