package modelhost

import (
	"bytes"
	"image"
	"image/jpeg"
	"image/png"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestJPEGForPNG: the picture stays, its encoding and nothing else changes.
func TestJPEGForPNG(t *testing.T) {
	t.Parallel()
	var picture bytes.Buffer
	if err := png.Encode(&picture, image.NewGray(image.Rect(0, 0, 8, 6))); err != nil {
		t.Fatal(err)
	}
	faults, err := ParseFaults("jpeg_for_png")
	if err != nil {
		t.Fatal(err)
	}
	h, err := New(Config{Faults: faults})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	handler := h.injectFaults(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "image/png")
		_, _ = w.Write(picture.Bytes())
	}))
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/client/v4/accounts/a/ai/run/m", nil))
	img, err := jpeg.Decode(w.Body)
	if err != nil || img.Bounds().Dx() != 8 || img.Bounds().Dy() != 6 || w.Header().Get("Content-Type") != "image/png" {
		t.Errorf("%v, %v, Content-Type %s; want a JPEG of 8 by 6 called a PNG", img, err, w.Header().Get("Content-Type"))
	}
}
