package modelhost

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image"
	_ "image/gif" // engines answer these too
	_ "image/jpeg"
	"image/png"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"

	"github.com/footnote-rag/footnote/workersai"
)

// What is drawn where a request does not say.
const (
	defaultSide     = 1024 // pixels, SDXL's own
	defaultSteps    = 20
	defaultGuidance = 7.5
	defaultStrength = 1.0
	fluxSteps       = 4

	sideUnit  = 8       // sides are multiples of it: diffusion works on blocks of 8 pixels
	maxPixels = 4 << 20 // of a picture sent in, and of one that comes back: 2048 × 2048
)

// isFlux says whether a model answers JSON with base64 instead of bytes.
func isFlux(model string) bool { return strings.Contains(model, "flux") }

// draw serves an image model: the bytes of a PNG, whatever format the engine draws in.
func (h *Host) draw(c *call, b *backend, body []byte) error {
	in, err := readImageInput(body, h.schemas[b.Task].input)
	if err != nil {
		return err
	}
	in = withImageDefaults(in, isFlux(b.Name))
	leave, err := b.gate.enter(c.r.Context(), false)
	if err != nil {
		return err
	}
	defer leave()
	data, err := b.askImage(c.r.Context(), in)
	if err != nil {
		return err
	}
	picture, err := asPNG(data)
	if err != nil {
		return engineFailed("the engine of "+b.Name+" answered without a picture: "+err.Error(), err)
	}
	if isFlux(b.Name) {
		answer(c, workersai.ImageOutput{Image: base64.StdEncoding.EncodeToString(picture)})
		return nil
	}
	c.w.Header().Set("Content-Type", "image/png")
	c.w.Header().Set("Content-Length", strconv.Itoa(len(picture)))
	_, _ = c.w.Write(picture) // an error means that the client left
	return nil
}

// readImageInput checks a request. The picture in it, an array of many numbers, is taken out before the schema is applied.
func readImageInput(body []byte, s *schema) (workersai.ImageInput, error) {
	var in workersai.ImageInput
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil {
		return in, decodeBody(body, s, &in) // says what is wrong
	}
	image, mask := fields["image"], fields["mask"]
	delete(fields, "image")
	delete(fields, "mask")
	rest, err := json.Marshal(fields)
	if err != nil {
		return in, err
	}
	if err := decodeBody(rest, s, &in); err != nil {
		return in, err
	}
	for _, f := range []struct {
		name string
		raw  json.RawMessage
		to   *workersai.Bytes
	}{{"image", image, &in.Image}, {"mask", mask, &in.Mask}} {
		if len(f.raw) == 0 || string(f.raw) == "null" {
			continue
		}
		if err := json.Unmarshal(f.raw, f.to); err != nil {
			return in, invalid(fmt.Sprintf("Type mismatch of '/%s'", f.name), f.name+" must be an array of the file's bytes: "+err.Error())
		}
	}
	return in, checkPictures(&in)
}

// checkPictures leaves the picture to start from in Image, as bytes of a format that can be read.
func checkPictures(in *workersai.ImageInput) error {
	if strings.TrimSpace(in.Prompt) == "" {
		return invalid("Length of '/prompt' must be >= 1 not met", "the prompt has only white space")
	}
	if len(in.Image) == 0 {
		in.Image = in.ImageB64
	}
	if len(in.Mask) > 0 && len(in.Image) == 0 {
		return invalid("required properties at '/' are 'prompt,image'", "a mask needs the image it belongs to")
	}
	for name, data := range map[string][]byte{"image": in.Image, "mask": in.Mask} {
		if len(data) == 0 {
			continue
		}
		c, _, err := image.DecodeConfig(bytes.NewReader(data))
		if err != nil || c.Width*c.Height > maxPixels {
			return invalid(fmt.Sprintf("Type mismatch of '/%s'", name), fmt.Sprintf("%s is no PNG, JPEG or GIF of at most %d pixels (%d x %d, %v)", name, maxPixels, c.Width, c.Height, err))
		}
	}
	return nil
}

func withImageDefaults(in workersai.ImageInput, flux bool) workersai.ImageInput {
	steps, guidance, strength := defaultSteps, defaultGuidance, defaultStrength
	if flux {
		steps = fluxSteps
	}
	if in.NumSteps == nil {
		in.NumSteps = cmp.Or(in.Steps, &steps)
	}
	in.Guidance, in.Strength = cmp.Or(in.Guidance, &guidance), cmp.Or(in.Strength, &strength)
	in.Width = cmp.Or(in.Width, defaultSide) / sideUnit * sideUnit
	in.Height = cmp.Or(in.Height, defaultSide) / sideUnit * sideUnit
	return in
}

func (b *backend) askImage(ctx context.Context, in workersai.ImageInput) ([]byte, error) {
	switch {
	case b.Kind == "sdapi":
		return b.askSDAPI(ctx, in)
	case len(in.Image) > 0:
		return b.askOpenAIEdit(ctx, in)
	}
	return b.askOpenAIImage(ctx, in)
}

// askSDAPI speaks /sdapi/v1 of stable-diffusion.cpp's server and of Stable Diffusion web UIs.
func (b *backend) askSDAPI(ctx context.Context, in workersai.ImageInput) ([]byte, error) {
	q := map[string]any{"prompt": plainPrompt(in.Prompt), "negative_prompt": plainPrompt(in.NegativePrompt), "width": in.Width, "height": in.Height,
		"steps": *in.NumSteps, "cfg_scale": *in.Guidance, "seed": -1, "batch_size": 1}
	if in.Seed != nil {
		q["seed"] = *in.Seed
	}
	path := "/sdapi/v1/txt2img"
	if len(in.Image) > 0 {
		path = "/sdapi/v1/img2img"
		q["init_images"], q["denoising_strength"] = []string{base64.StdEncoding.EncodeToString(in.Image)}, *in.Strength
		if len(in.Mask) > 0 {
			q["mask"] = base64.StdEncoding.EncodeToString(in.Mask)
		}
	}
	var out struct {
		Images []string `json:"images"`
	}
	if err := b.call(ctx, path, q, &out); err != nil {
		return nil, err
	}
	if len(out.Images) == 0 {
		return nil, nil
	}
	return decodePicture(out.Images[0])
}

// plainPrompt takes out the marks by which stable-diffusion.cpp's server reads orders of any kind from a prompt.
func plainPrompt(prompt string) string {
	for _, mark := range []string{"<sd_cpp_extra_args>", "</sd_cpp_extra_args>"} {
		for strings.Contains(prompt, mark) { // what is left may be a mark again
			prompt = strings.ReplaceAll(prompt, mark, "")
		}
	}
	return prompt
}

// decodePicture reads base64, with or without the head of a data URL.
func decodePicture(text string) ([]byte, error) {
	if _, data, isURL := strings.Cut(text, ";base64,"); isURL {
		text = data
	}
	return base64.StdEncoding.DecodeString(text)
}

// openAIImages is an answer of OpenAI's image routes.
type openAIImages struct {
	Data []struct {
		B64 string `json:"b64_json"`
	} `json:"data"`
}

func (o openAIImages) picture() ([]byte, error) {
	if len(o.Data) == 0 || o.Data[0].B64 == "" {
		return nil, nil
	}
	return decodePicture(o.Data[0].B64)
}

// extras are what OpenAI's routes have no field for, in the names that self-hosted servers use. They are sent where the
// caller asked for them: a server that does not know them says so.
func extras(in workersai.ImageInput) map[string]any {
	q := map[string]any{}
	if in.NegativePrompt != "" {
		q["negative_prompt"] = plainPrompt(in.NegativePrompt)
	}
	if in.Seed != nil {
		q["seed"] = *in.Seed
	}
	if *in.NumSteps != defaultSteps {
		q["num_inference_steps"] = *in.NumSteps
	}
	if *in.Guidance != defaultGuidance {
		q["guidance_scale"] = *in.Guidance
	}
	return q
}

func (b *backend) askOpenAIImage(ctx context.Context, in workersai.ImageInput) ([]byte, error) {
	q := extras(in)
	q["model"], q["prompt"], q["n"], q["size"] = b.Backend.Model, plainPrompt(in.Prompt), 1, fmt.Sprintf("%dx%d", in.Width, in.Height)
	if !strings.HasPrefix(b.Backend.Model, "gpt-image") { // they answer base64 always and refuse the field
		q["response_format"] = "b64_json"
	}
	var out openAIImages
	if err := b.call(ctx, "/v1/images/generations", q, &out); err != nil {
		return nil, err
	}
	return out.picture()
}

// askOpenAIEdit starts from a picture.
func (b *backend) askOpenAIEdit(ctx context.Context, in workersai.ImageInput) ([]byte, error) {
	q := extras(in)
	q["model"], q["prompt"], q["n"], q["size"] = b.Backend.Model, plainPrompt(in.Prompt), 1, fmt.Sprintf("%dx%d", in.Width, in.Height)
	if *in.Strength != defaultStrength {
		q["strength"] = *in.Strength
	}
	var body bytes.Buffer
	form := multipart.NewWriter(&body) // writing to a buffer does not fail
	for name, value := range q {
		_ = form.WriteField(name, fmt.Sprint(value))
	}
	for name, data := range map[string][]byte{"image": in.Image, "mask": in.Mask} {
		if len(data) > 0 {
			file, _ := form.CreateFormFile(name, name+"."+strings.TrimPrefix(http.DetectContentType(data), "image/"))
			_, _ = file.Write(data)
		}
	}
	_ = form.Close()
	var out openAIImages
	if err := b.exchange(ctx, request{path: "/v1/images/edits", contentType: form.FormDataContentType(), body: body.Bytes()}, &out); err != nil {
		return nil, err
	}
	return out.picture()
}

// asPNG returns the picture as PNG, as it is if it is one.
func asPNG(data []byte) ([]byte, error) {
	c, format, err := image.DecodeConfig(bytes.NewReader(data))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%d bytes of %s: %w", len(data), http.DetectContentType(data), err)
	case format == "png":
		return data, nil
	case c.Width*c.Height > maxPixels:
		return nil, fmt.Errorf("a picture of %d x %d pixels", c.Width, c.Height)
	}
	picture, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = png.Encode(&out, picture)
	return out.Bytes(), err
}
