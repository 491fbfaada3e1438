package embedded

import (
	"math"
	"math/rand/v2"
	"strings"
)

// drawing is one picture of the set that the tiny diffusion model knows: a shape of a color before a background, with its
// caption as features.
type drawing struct {
	shape, color, ground int
	pixels               []float32 // height × width × 3, from -1 to 1
}

// palette are the colors, as red, green and blue from -1 to 1, each with the words that mean it.
var palette = []struct {
	words string
	rgb   [3]float32
}{
	{"red crimson scarlet", [3]float32{0.75, -0.75, -0.75}}, {"orange", [3]float32{0.95, 0.15, -0.8}}, {"yellow gold golden", [3]float32{0.95, 0.75, -0.6}},
	{"green lime", [3]float32{-0.7, 0.3, -0.6}}, {"blue navy azure", [3]float32{-0.75, -0.35, 0.75}}, {"purple violet", [3]float32{0.05, -0.7, 0.45}},
	{"pink rose", [3]float32{0.95, 0.1, 0.45}}, {"brown wooden", [3]float32{0.05, -0.35, -0.7}}, {"black dark night", [3]float32{-0.85, -0.85, -0.85}},
	{"white light", [3]float32{0.92, 0.92, 0.92}}, {"gray grey silver", [3]float32{0, 0, 0.05}},
}

// grounds are the colors of backgrounds, by their place in palette.
var grounds = []int{9, 4, 2, 8}

// shapes: inside tells whether a point is in the shape, whose size is about 1 around the origin, y downwards.
var shapes = []struct {
	words  string
	inside func(x, y float64) bool
}{
	{"circle ball disc sun moon planet round", func(x, y float64) bool { return x*x+y*y < 1 }},
	{"square box cube house", func(x, y float64) bool { return math.Abs(x) < 0.85 && math.Abs(y) < 0.85 }},
	{"triangle mountain pyramid tree", func(x, y float64) bool { return y < 0.8 && y > -1+2*math.Abs(x)*0.95 }},
	{"ring donut wheel", func(x, y float64) bool { d := math.Hypot(x, y); return d < 1 && d > 0.55 }},
	{"cross plus", func(x, y float64) bool {
		return math.Min(math.Abs(x), math.Abs(y)) < 0.3 && math.Max(math.Abs(x), math.Abs(y)) < 1
	}},
	{"diamond rhombus kite", func(x, y float64) bool { return math.Abs(x)+math.Abs(y) < 1.05 }},
	{"star", func(x, y float64) bool {
		turn := math.Mod(math.Atan2(x, y)+2*math.Pi, 2*math.Pi/5) - math.Pi/5
		return math.Hypot(x, y) < 0.42/math.Max(0.2, math.Cos(math.Pi/5*2-math.Abs(turn)))
	}},
	{"heart love", func(x, y float64) bool {
		x, y = x*1.2, -y*1.2+0.2
		q := x*x + y*y - 1
		return q*q*q-x*x*y*y*y < 0
	}},
}

// drawings makes the set at a size in pixels: every shape in every color before every other background, here and there.
func drawings(width, height int) []drawing {
	r := rand.New(rand.NewPCG(20, 26)) // the model's weights are these numbers: they do not change
	var set []drawing
	for shape := range shapes {
		for color := range palette {
			for _, ground := range grounds {
				x, y, size := 0.5+0.1*r.NormFloat64(), 0.5+0.1*r.NormFloat64(), 0.24+0.06*r.Float64()
				if ground != color {
					set = append(set, paint(drawing{shape: shape, color: color, ground: ground}, width, height, [3]float64{x, y, size}))
				}
			}
		}
	}
	return set
}

// paint draws with soft edges: four samples a pixel. at is the middle and the size, as parts of the shorter side.
func paint(d drawing, width, height int, at [3]float64) drawing {
	short := float64(min(width, height))
	d.pixels = make([]float32, 0, 3*width*height)
	for y := range height {
		for x := range width {
			covered := float32(0)
			for _, s := range [4][2]float64{{0.25, 0.25}, {0.75, 0.25}, {0.25, 0.75}, {0.75, 0.75}} {
				px := (float64(x) + s[0] - float64(width)*at[0]) / (short * at[2])
				py := (float64(y) + s[1] - float64(height)*at[1]) / (short * at[2])
				if shapes[d.shape].inside(px, py) {
					covered += 0.25
				}
			}
			shade := 0.1 * (0.5 - float32(y)/float32(height)) // lighter at the top
			for c := range 3 {
				v := covered*palette[d.color].rgb[c] + (1-covered)*palette[d.ground].rgb[c] + shade
				d.pixels = append(d.pixels, max(-1, min(1, v)))
			}
		}
	}
	return d
}

// caption is what the model understands of a prompt: for each feature the values that its words name, if any.
type caption struct{ shape, color, ground []bool }

// groundWords: a color before one of these is the background's.
const groundWords = " background backdrop sky wall field sea ground "

// readPrompt knows a few dozen words; the others change nothing.
func readPrompt(prompt string) caption {
	words := strings.FieldsFunc(strings.ToLower(prompt), func(r rune) bool { return (r < 'a' || r > 'z') && r < 0x80 })
	c := caption{}
	for i, w := range words {
		w = strings.TrimSuffix(w, "s")
		for n, s := range shapes {
			if hasWord(s.words, w) {
				c.shape = mark(c.shape, n, len(shapes))
			}
		}
		for n, p := range palette {
			switch {
			case !hasWord(p.words, w):
			case i+1 < len(words) && hasWord(groundWords, words[i+1]):
				c.ground = mark(c.ground, n, len(palette))
			default:
				c.color = mark(c.color, n, len(palette))
			}
		}
	}
	return c
}

func hasWord(list, word string) bool { return strings.Contains(" "+list+" ", " "+word+" ") }

func mark(set []bool, n, size int) []bool {
	if set == nil {
		set = make([]bool, size)
	}
	set[n] = true
	return set
}

// featureWeight is the loss of log-probability of a drawing for each feature that the prompt names and it has not.
const featureWeight = 12

// logPrior is the logarithm of p(drawing | caption), up to a constant.
func (c caption) logPrior(d drawing) float64 {
	p := 0.0
	for _, f := range []struct {
		named []bool
		has   int
	}{{c.shape, d.shape}, {c.color, d.color}, {c.ground, d.ground}} {
		if f.named != nil && !f.named[f.has] {
			p -= featureWeight
		}
	}
	return p
}
