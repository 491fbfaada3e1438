package embedded

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	_ "image/gif" // pictures to start from
	_ "image/jpeg"
	"image/png"
	"math"
	"math/rand/v2"
	"net/http"
	"sync"
)

// Diffuser is an image engine in this process: a tiny diffusion model that draws one simple shape of a color before a
// background. It needs no weights from elsewhere and stands in where nothing larger is configured. It speaks the
// /sdapi/v1/txt2img and img2img of stable-diffusion.cpp's server and of Stable Diffusion web UIs.
type Diffuser struct {
	loopback
	turn chan struct{} // one picture at a time: it uses all cores

	mu     sync.Mutex
	models map[image.Point]*diffusion // by size, the last few
}

const (
	diffuserSide   = 96 // pixels of the longer side that is sampled; the picture is enlarged from it
	diffuserModels = 2  // sizes kept, some 35 MB each
	maxDrawnSide   = 2048
	maxDrawBody    = 64 << 20 // bytes
)

// NewDiffuser starts nothing before Acquire.
func NewDiffuser() *Diffuser {
	d := &Diffuser{turn: make(chan struct{}, 1), models: map[image.Point]*diffusion{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /sdapi/v1/txt2img", d.serve)
	mux.HandleFunc("POST /sdapi/v1/img2img", d.serve)
	d.handler = mux
	return d
}

// drawRequest is the part of the API's request that this model understands.
type drawRequest struct {
	Prompt   string   `json:"prompt"`
	Negative string   `json:"negative_prompt"`
	Width    int      `json:"width"`
	Height   int      `json:"height"`
	Steps    int      `json:"steps"`
	Guidance float64  `json:"cfg_scale"`
	Seed     int64    `json:"seed"` // -1: another each time
	Start    []string `json:"init_images"`
	Strength float64  `json:"denoising_strength"`
	Mask     string   `json:"mask"`
}

func (d *Diffuser) serve(w http.ResponseWriter, r *http.Request) {
	q := drawRequest{Width: 512, Height: 512, Steps: 20, Guidance: 7.5, Seed: -1, Strength: 0.75}
	picture, err := []byte(nil), json.NewDecoder(http.MaxBytesReader(w, r.Body, maxDrawBody)).Decode(&q)
	if err == nil {
		picture, err = d.draw(r.Context(), q)
	}
	if err != nil {
		replyJSON(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
		return
	}
	replyJSON(w, http.StatusOK, map[string]any{"images": []string{base64.StdEncoding.EncodeToString(picture)}, "parameters": map[string]any{}, "info": ""})
}

func (d *Diffuser) draw(ctx context.Context, q drawRequest) ([]byte, error) {
	if q.Width < 8 || q.Height < 8 || q.Width > maxDrawnSide || q.Height > maxDrawnSide || q.Steps < 1 || q.Steps > 150 {
		return nil, fmt.Errorf("%d x %d pixels in %d steps: sides go from 8 to %d, steps from 1 to 150", q.Width, q.Height, q.Steps, maxDrawnSide)
	}
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	m := d.model(q.Width, q.Height)
	s := sampling{prompt: readPrompt(q.Prompt), negative: readPrompt(q.Negative), steps: q.Steps, guidance: q.Guidance, seed: uint64(q.Seed), strength: q.Strength}
	if q.Seed < 0 {
		s.seed = rand.Uint64()
	}
	if err := s.startFrom(q, m.width, m.height); err != nil {
		return nil, err
	}
	pixels, err := m.sample(ctx, s)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = png.Encode(&out, enlarge(pixels, m.width, m.height, q.Width, q.Height))
	return out.Bytes(), err
}

// model returns the model for pictures of this form.
func (d *Diffuser) model(width, height int) *diffusion {
	scale := float64(diffuserSide) / float64(max(width, height))
	size := image.Pt(max(8, int(math.Round(float64(width)*scale))), max(8, int(math.Round(float64(height)*scale))))
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.models[size] == nil {
		if len(d.models) >= diffuserModels {
			clear(d.models)
		}
		d.models[size] = newDiffusion(size.X, size.Y)
	}
	return d.models[size]
}

// startFrom reads the picture to start from, and the mask, at the model's size.
func (s *sampling) startFrom(q drawRequest, width, height int) error {
	if len(q.Start) == 0 {
		return nil
	}
	var err error
	if s.start, err = shrink(q.Start[0], width, height); err != nil {
		return fmt.Errorf("init_images: %w", err)
	}
	s.strength = max(0, min(1, s.strength))
	if q.Mask == "" {
		return nil
	}
	mask, err := shrink(q.Mask, width, height)
	if err != nil {
		return fmt.Errorf("mask: %w", err)
	}
	s.anew = make([]bool, width*height)
	for i := range s.anew {
		s.anew[i] = mask[3*i]+mask[3*i+1]+mask[3*i+2] > 0 // lighter than the middle
	}
	return nil
}

// shrink decodes a picture in base64 and takes the mean of the pixels that fall on each of ours.
func shrink(text string, width, height int) ([]float32, error) {
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	c, _, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil || c.Width < 1 || c.Height < 1 || c.Width*c.Height > maxDrawnSide*maxDrawnSide {
		return nil, errors.Join(fmt.Errorf("a picture of %d x %d", c.Width, c.Height), err)
	}
	picture, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	b := picture.Bounds()
	out := make([]float32, 0, 3*width*height)
	for y := range height {
		for x := range width {
			box := image.Rect(b.Min.X+x*b.Dx()/width, b.Min.Y+y*b.Dy()/height, b.Min.X+(x+1)*b.Dx()/width, b.Min.Y+(y+1)*b.Dy()/height)
			out = append(out, mean(picture, box)...)
		}
	}
	return out, nil
}

func mean(picture image.Image, box image.Rectangle) []float32 {
	box.Max.X, box.Max.Y = max(box.Max.X, box.Min.X+1), max(box.Max.Y, box.Min.Y+1)
	var sum [3]float64
	for y := box.Min.Y; y < box.Max.Y; y++ {
		for x := box.Min.X; x < box.Max.X; x++ {
			r, g, b, _ := picture.At(x, y).RGBA()
			sum[0], sum[1], sum[2] = sum[0]+float64(r), sum[1]+float64(g), sum[2]+float64(b)
		}
	}
	out := make([]float32, 3)
	for c := range out {
		out[c] = float32(sum[c]/float64(box.Dx()*box.Dy())/0xffff*2 - 1)
	}
	return out
}

// enlarge brings pixels to a size, between four neighbours each.
func enlarge(pixels []float32, w, h, width, height int) image.Image {
	out := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		fy := max(0, min(float64(h-1), (float64(y)+0.5)*float64(h)/float64(height)-0.5))
		for x := range width {
			fx := max(0, min(float64(w-1), (float64(x)+0.5)*float64(w)/float64(width)-0.5))
			x0, y0 := int(fx), int(fy)
			x1, y1 := min(x0+1, w-1), min(y0+1, h-1)
			dx, dy := float32(fx)-float32(x0), float32(fy)-float32(y0)
			var rgb [3]uint8
			for c := range 3 {
				at := func(x, y int) float32 { return pixels[3*(y*w+x)+c] }
				v := (at(x0, y0)*(1-dx)+at(x1, y0)*dx)*(1-dy) + (at(x0, y1)*(1-dx)+at(x1, y1)*dx)*dy
				rgb[c] = uint8(math.Round(float64(max(0, min(1, (v+1)/2)) * 255)))
			}
			out.SetRGBA(x, y, color.RGBA{rgb[0], rgb[1], rgb[2], 255})
		}
	}
	return out
}
