package modelhost_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/embedded"
	"github.com/footnote-rag/footnote/modelhost"
	"github.com/footnote-rag/footnote/workersai"
)

const (
	imageModel = "@cf/stabilityai/stable-diffusion-xl-base-1.0"
	fluxModel  = "@cf/black-forest-labs/flux-1-schnell"
)

// drawingHost draws with the tiny diffusion model.
func drawingHost(t *testing.T) *httptest.Server {
	t.Helper()
	d := embedded.NewDiffuser()
	t.Cleanup(func() { _ = d.Close() })
	return newHost(t, "", func(c *modelhost.Config) { c.Engines = map[string]modelhost.Engine{modelhost.EngineTinyDiffuser: d} })
}

// drawn asks for a picture of 256 pixels and decodes it.
func drawn(t *testing.T, c *workersai.Client, in workersai.ImageInput) (image.Image, []byte) {
	t.Helper()
	in.Width, in.Height = 256, 256
	if in.NumSteps == nil {
		in.NumSteps = ptr(5)
	}
	picture, err := c.Image(t.Context(), imageModel, in)
	if err != nil {
		t.Fatalf("Image(%q): %v", in.Prompt, err)
	}
	decoded, err := png.Decode(bytes.NewReader(picture.Data))
	if err != nil || picture.ContentType != "image/png" || decoded.Bounds() != image.Rect(0, 0, 256, 256) {
		t.Fatalf("Image(%q) is %s, %v, want a PNG of 256 x 256", in.Prompt, picture.ContentType, err)
	}
	return decoded, picture.Data
}

// share is how much of the picture is close to a color, from 0 to 1.
func share(m image.Image, want color.RGBA) float64 {
	n := 0
	for y := range 256 {
		for x := range 256 {
			r, g, b, _ := m.At(x, y).RGBA()
			off := max(apart(r, want.R), apart(g, want.G), apart(b, want.B))
			if off < 70 {
				n++
			}
		}
	}
	return float64(n) / (256 * 256)
}

func apart(have uint32, want uint8) int { d := int(have>>8) - int(want); return max(d, -d) }

func TestPictureFollowsThePrompt(t *testing.T) {
	t.Parallel()
	c := clientOf(t, drawingHost(t))
	red, blue, yellow, black := color.RGBA{222, 32, 32, 255}, color.RGBA{32, 82, 222, 255}, color.RGBA{248, 222, 50, 255}, color.RGBA{20, 20, 20, 255}
	for _, q := range []struct {
		prompt         string
		figure, ground color.RGBA
	}{
		{"A red circle on a yellow background", red, yellow},
		{"a yellow star before a black background", yellow, black},
		{"black square, blue sky", black, blue},
	} {
		t.Run(q.prompt, func(t *testing.T) {
			t.Parallel()
			m, _ := drawn(t, c, workersai.ImageInput{Prompt: q.prompt, Seed: ptr(int64(3))})
			if f, g := share(m, q.figure), share(m, q.ground); f < 0.04 || g < 0.3 || f+g < 0.8 {
				t.Errorf("%.2f of the picture is the figure's color and %.2f the background's, want nearly all", f, g)
			}
		})
	}
}

func TestPictureParameters(t *testing.T) {
	t.Parallel()
	c := clientOf(t, drawingHost(t))
	base := workersai.ImageInput{Prompt: "a red circle", Seed: ptr(int64(1))}
	first, data := drawn(t, c, base)
	if _, again := drawn(t, c, base); !bytes.Equal(data, again) {
		t.Error("the same seed drew another picture")
	}
	for name, change := range map[string]func(*workersai.ImageInput){
		"seed":     func(in *workersai.ImageInput) { in.Seed = ptr(int64(2)) },
		"prompt":   func(in *workersai.ImageInput) { in.Prompt = "a blue ring" },
		"steps":    func(in *workersai.ImageInput) { in.NumSteps = ptr(1) },
		"guidance": func(in *workersai.ImageInput) { in.Prompt, in.Guidance, in.NumSteps = "green", ptr(1.0), ptr(1) },
	} {
		in := base
		change(&in)
		if _, other := drawn(t, c, in); bytes.Equal(data, other) {
			t.Errorf("another %s drew the same picture", name)
		}
	}
	yellow := color.RGBA{248, 222, 50, 255}
	for seed := range int64(2) {
		m, _ := drawn(t, c, workersai.ImageInput{Prompt: "a circle", NegativePrompt: "yellow yellow background", Seed: ptr(seed), Guidance: ptr(12.0)})
		if s := share(m, yellow); s > 0.05 {
			t.Errorf("seed %d: %.2f of the picture is yellow, which the negative prompt names", seed, s)
		}
	}
	var start bytes.Buffer
	if err := png.Encode(&start, first); err != nil {
		t.Fatal(err)
	}
	near, _ := drawn(t, c, workersai.ImageInput{Prompt: "a red circle", Image: start.Bytes(), Strength: ptr(0.1), Seed: ptr(int64(9))})
	if d := difference(first, near); d > 8 {
		t.Errorf("from a picture with strength 0.1: %v of 255 away from it", d)
	}
	far, _ := drawn(t, c, workersai.ImageInput{Prompt: "a blue ring before a black sky", ImageB64: start.Bytes(), Strength: ptr(1.0), Seed: ptr(int64(9))})
	if d := difference(first, far); d < 30 {
		t.Errorf("from a picture with strength 1: only %v of 255 away from it", d)
	}
}

// difference is the mean of that of the red, green and blue of all pixels.
func difference(a, b image.Image) int {
	sum := 0
	for y := range 256 {
		for x := range 256 {
			r, g, bl, _ := a.At(x, y).RGBA()
			r2, g2, b2, _ := b.At(x, y).RGBA()
			sum += apart(r, uint8(r2>>8)) + apart(g, uint8(g2>>8)) + apart(bl, uint8(b2>>8))
		}
	}
	return sum / (3 * 256 * 256)
}

func TestFluxAnswersBase64(t *testing.T) {
	t.Parallel()
	srv := drawingHost(t)
	resp, env := post(t, srv.URL+root+"run/"+fluxModel, `{"prompt":"a red circle","steps":4,"width":256,"height":512,"seed":1}`)
	var out struct{ Image []byte }
	if err := json.Unmarshal(env.Result, &out); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%d %+v, %v", resp.StatusCode, env.Errors, err)
	}
	if c, format, err := image.DecodeConfig(bytes.NewReader(out.Image)); err != nil || format != "png" || c.Width != 256 || c.Height != 512 {
		t.Errorf("%s of %d x %d, %v, want a PNG of 256 x 512", format, c.Width, c.Height, err)
	}
}

func TestImageRefusals(t *testing.T) {
	t.Parallel()
	srv := drawingHost(t)
	for name, q := range map[string]struct{ body, text string }{
		"no prompt":          {`{}`, "required properties at '/' are 'prompt'"},
		"an empty prompt":    {`{"prompt":""}`, "Length of '/prompt' must be >= 1 not met"},
		"a blank prompt":     {`{"prompt":"  "}`, "only white space"},
		"21 steps":           {`{"prompt":"a","num_steps":21}`, "'/num_steps' must be <= 20"},
		"no steps":           {`{"prompt":"a","num_steps":0}`, "'/num_steps' must be >= 1"},
		"21 flux steps":      {`{"prompt":"a","steps":21}`, "'/steps' must be <= 20"},
		"guidance 0.5":       {`{"prompt":"a","guidance":0.5}`, "'/guidance' must be >= 1"},
		"guidance 20.1":      {`{"prompt":"a","guidance":20.1}`, "'/guidance' must be <= 20"},
		"255 wide":           {`{"prompt":"a","width":255}`, "'/width' must be >= 256"},
		"2049 high":          {`{"prompt":"a","height":2049}`, "'/height' must be <= 2048"},
		"strength 2":         {`{"prompt":"a","strength":2}`, "'/strength' must be <= 1"},
		"a picture of words": {`{"prompt":"a","image":[119,111,114,100]}`, "image is no PNG, JPEG or GIF"},
		"a picture of 256":   {`{"prompt":"a","image":[256]}`, "image must be an array of the file's bytes"},
		"not base64":         {`{"prompt":"a","image_b64":"***"}`, "base64"},
		"a mask alone":       {`{"prompt":"a","mask":[1]}`, "a mask needs the image"},
		"not JSON":           {`prompt=a`, "not JSON"},
		"an array":           {`[]`, "Type mismatch of '/'"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resp, env := post(t, srv.URL+root+"run/"+imageModel, q.body)
			if resp.StatusCode != http.StatusBadRequest || len(env.Errors) != 1 || env.Errors[0].Code != 7504 || !strings.Contains(env.Errors[0].Message, q.text) {
				t.Errorf("%s: %d %+v, want 400, 7504, %q", q.body, resp.StatusCode, env.Errors, q.text)
			}
		})
	}
}

func TestImageNotConfigured(t *testing.T) {
	t.Parallel()
	srv := newHost(t, "", func(c *modelhost.Config) { c.Engines = nil })
	_, err := clientOf(t, srv).Image(t.Context(), imageModel, workersai.ImageInput{Prompt: "a"})
	if !errors.Is(err, workersai.ErrModelNotFound) || !strings.Contains(err.Error(), "FOOTNOTE_IMAGE_URL") {
		t.Errorf("without an engine: %v, want model not found and how to configure one", err)
	}
}

// imageServer is a scripted OpenAI-compatible server that draws JPEG files and keeps what it was asked.
func imageServer(t *testing.T, asked *map[string]string) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = map[string]string{"path": r.URL.Path, "key": r.Header.Get("Authorization")}
		if r.URL.Path == "/v1/images/edits" {
			file, head, err := r.FormFile("image")
			if err != nil {
				t.Error(err)
				return
			}
			data, _ := io.ReadAll(file)
			(*asked)["file"], (*asked)["bytes"] = head.Filename, fmt.Sprint(len(data))
			for k, v := range r.MultipartForm.Value {
				(*asked)[k] = v[0]
			}
		} else {
			var in map[string]any
			_ = json.NewDecoder(r.Body).Decode(&in)
			for k, v := range in {
				(*asked)[k] = fmt.Sprint(v)
			}
		}
		var out bytes.Buffer
		_ = jpeg.Encode(&out, image.NewRGBA(image.Rect(0, 0, 16, 8)), nil)
		if strings.Contains((*asked)["prompt"], "nothing") {
			out.Reset()
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"created": 1, "data": []any{map[string]string{"b64_json": base64.StdEncoding.EncodeToString(out.Bytes())}}})
	}))
	t.Cleanup(srv.Close)
	return srv
}

func TestImageByURL(t *testing.T) {
	t.Parallel()
	var asked map[string]string
	up := imageServer(t, &asked)
	srv := newHost(t, "", func(c *modelhost.Config) {
		c.Engines = map[string]modelhost.Engine{modelhost.EngineImageURL: modelhost.URLEngine(up.URL, "k")}
	})
	c := clientOf(t, srv)
	in := workersai.ImageInput{Prompt: "a cat <sd_cpp_<sd_cpp_extra_args>extra_args>{}", NegativePrompt: "a dog", Width: 1031, Height: 512, NumSteps: ptr(9), Seed: ptr(int64(5))}
	got, err := c.Image(t.Context(), imageModel, in)
	if err != nil || got.ContentType != "image/png" {
		t.Fatalf("a JPEG of the engine came as %+v, %v, want a PNG", got, err)
	}
	want := map[string]string{"path": "/v1/images/generations", "key": "Bearer k", "prompt": "a cat {}", "negative_prompt": "a dog", "size": "1024x512", "n": "1",
		"seed": "5", "num_inference_steps": "9", "response_format": "b64_json", "model": "stable-diffusion-xl-base-1.0"}
	if fmt.Sprint(asked) != fmt.Sprint(want) {
		t.Errorf("the engine was asked %v, want %v", asked, want)
	}
	in = workersai.ImageInput{Prompt: "a hat", Image: got.Data, Strength: ptr(0.5)}
	if _, err := c.Image(t.Context(), imageModel, in); err != nil {
		t.Fatal(err)
	}
	if asked["path"] != "/v1/images/edits" || asked["file"] != "image.png" || asked["bytes"] != fmt.Sprint(len(got.Data)) || asked["strength"] != "0.5" || asked["size"] != "1024x1024" {
		t.Errorf("from a picture, the engine was asked %v", asked)
	}
	if _, err := c.Image(t.Context(), imageModel, workersai.ImageInput{Prompt: "nothing"}); err == nil || errors.Is(err, workersai.ErrInvalidInput) {
		t.Errorf("an engine without a picture: %v, want its failure", err)
	}
}
