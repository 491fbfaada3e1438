package workersaitest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/footnote-rag/footnote/workersai"
)

func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	const ai = "/client/v4/accounts/{account}/ai"
	mux.HandleFunc("POST "+ai+"/run/{model...}", s.run)
	mux.HandleFunc("GET "+ai+"/models/search", s.list)
	mux.HandleFunc("GET "+ai+"/models/schema", s.schema)
	mux.HandleFunc("POST "+ai+"/tomarkdown", s.markdown)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.refuse(w, r, workersai.CodeEdgeNoRoute, "No route for that URI")
	})
	return mux
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.token != "" && r.Header.Get("Authorization") != "Bearer "+s.token {
		s.refuse(w, r, workersai.CodeEdgeAuthentication, "Authentication error")
		return
	}
	s.mux.ServeHTTP(w, r)
}

// refuse notes a request that reaches nothing, and takes no step.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, code int, message string) {
	s.arrived(&Request{Time: time.Now(), Method: r.Method, Path: r.URL.RequestURI(), Header: r.Header.Clone()})
	s.play(w, r, Step{}, func() reply { return refuse(code, message) })
}

// take notes a request and finds its step.
func (s *Server) take(w http.ResponseWriter, r *http.Request, model string) (*Request, Step, bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	req := &Request{Time: time.Now(), Method: r.Method, Path: r.URL.RequestURI(), Model: model, Header: r.Header.Clone(), Body: body}
	if strings.HasSuffix(r.URL.Path, "/"+model) && err == nil {
		var e workersai.EmbeddingInput
		if kindOf(model) == embedding && json.Unmarshal(body, &e) == nil {
			req.Texts = e.Text
		}
		if c := new(workersai.TextInput); kindOf(model) == text && json.Unmarshal(body, c) == nil {
			req.Chat = c
		}
	}
	s.arrived(req)
	if err != nil {
		s.aborted()
		return nil, Step{}, false
	}
	return req, s.takeStep(model), true
}

type kind int

const (
	text kind = iota
	embedding
	rerank
	picture
	speech
	translation
)

func kindOf(model string) kind {
	for _, k := range []struct {
		part string
		kind kind
	}{{"rerank", rerank}, {"bge-", embedding}, {"embed", embedding}, {"MiniLM", embedding}, {"diffusion", picture},
		{"flux", picture}, {"whisper", speech}, {"m2m100", translation}} {
		if strings.Contains(model, k.part) {
			return k.kind
		}
	}
	return text
}

func (s *Server) run(w http.ResponseWriter, r *http.Request) {
	model := r.PathValue("model")
	req, st, ok := s.take(w, r, model)
	if !ok {
		return
	}
	w.Header().Set(workersai.HeaderRequestID, fmt.Sprintf("00000000-0000-4000-8000-%012d", len(s.Requests())))
	w.Header().Set(workersai.HeaderNeurons, "1.5")
	s.play(w, r, st, func() reply {
		if r.URL.Query().Get("queueRequest") == "true" {
			return s.batch(model, req.Body)
		}
		return s.answerOne(model, req.Body)
	})
}

func (s *Server) answerOne(model string, body []byte) reply {
	switch kindOf(model) {
	case embedding:
		return s.embedding(model, body)
	case rerank:
		return s.rerank(body)
	case picture:
		return drawPicture(model, body)
	case speech:
		return s.transcribe(body)
	case translation:
		return s.translate(body)
	}
	return s.text(model, body)
}

func (s *Server) embedding(model string, body []byte) reply {
	var in workersai.EmbeddingInput
	if err := json.Unmarshal(body, &in); err != nil {
		return refuse(workersai.CodeInvalidInput, "body: "+err.Error())
	}
	if len(in.Text) == 0 || len(in.Text) > workersai.MaxEmbedTexts {
		return refuse(workersai.CodeInvalidInput, fmt.Sprintf("%d texts, want 1 to %d", len(in.Text), workersai.MaxEmbedTexts))
	}
	out := workersai.EmbeddingOutput{Pooling: in.Pooling, Usage: &workersai.Usage{}}
	for i, t := range in.Text {
		if code := s.poisoned(t); code != 0 {
			return refuse(code, fmt.Sprintf("text %d is poison", i))
		}
		tokens, limit := s.count(model, t)
		if limit > 0 && tokens > limit && !in.TruncateInputs {
			return refuse(workersai.CodeContextExceeded, fmt.Sprintf("text %d has %d tokens, the model takes %d", i, tokens, limit))
		}
		if t == "" {
			return refuse(workersai.CodeInvalidInput, fmt.Sprintf("text %d is empty", i))
		}
		dims := s.dims
		if dims == 0 {
			dims = dimsOf(model)
		}
		out.Shape, out.Data = []int{len(in.Text), dims}, append(out.Data, s.embed(t, dims))
		out.Usage.PromptTokens += tokens
	}
	out.Usage.TotalTokens = out.Usage.PromptTokens
	return succeed(out)
}

func (s *Server) poisoned(text string) int {
	if s.poison == nil {
		return 0
	}
	return s.poison(text)
}

func (s *Server) count(model, text string) (tokens, limit int) {
	if s.tokens == nil {
		return countWords(text), 0
	}
	return s.tokens(model, text)
}

func (s *Server) rerank(body []byte) reply {
	var in workersai.RerankInput
	if err := json.Unmarshal(body, &in); err != nil || in.Query == "" || len(in.Contexts) == 0 {
		return refuse(workersai.CodeInvalidInput, "want query and contexts")
	}
	rank := s.rankers
	if rank == nil {
		rank = shared
	}
	var out workersai.RerankOutput
	for i, c := range in.Contexts {
		out.Response = append(out.Response, workersai.RerankScore{ID: i, Score: rank(in.Query, c.Text)})
	}
	slices.SortStableFunc(out.Response, func(a, b workersai.RerankScore) int {
		switch {
		case a.Score > b.Score:
			return -1
		case a.Score < b.Score:
			return 1
		}
		return 0
	})
	if in.TopK > 0 {
		out.Response = out.Response[:min(in.TopK, len(out.Response))]
	}
	return succeed(out)
}

// drawPicture answers a PNG of the size asked for, whose colour is the prompt's hash.
func drawPicture(model string, body []byte) reply {
	var in workersai.ImageInput
	if err := json.Unmarshal(body, &in); err != nil || in.Prompt == "" {
		return refuse(workersai.CodeInvalidInput, "required properties at '/' are 'prompt'")
	}
	v := Vector(in.Prompt, 3)
	img := image.NewGray(image.Rect(0, 0, max(in.Width, 1), max(in.Height, 1)))
	for i := range img.Pix {
		img.Pix[i] = color.Gray{Y: uint8(128 + 100*v[0])}.Y
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		return refuse(workersai.CodeInvalidInput, err.Error())
	}
	if strings.Contains(model, "flux") {
		return succeed(workersai.ImageOutput{Image: base64.StdEncoding.EncodeToString(b.Bytes())})
	}
	return reply{contentType: "image/png", body: b.Bytes()}
}

// transcribe takes the file, a list of its bytes, or base64.
func (s *Server) transcribe(body []byte) reply {
	audio := body
	var list workersai.SpeechInput
	var encoded workersai.TurboSpeechInput
	switch {
	case json.Unmarshal(body, &list) == nil:
		audio = list.Audio
	case json.Unmarshal(body, &encoded) == nil:
		audio = encoded.Audio
	}
	if len(audio) == 0 {
		return refuse(workersai.CodeInvalidInput, "required properties at '/' are 'audio'")
	}
	return succeed(s.hear(audio))
}

func hear(audio []byte) workersai.SpeechOutput {
	spoken := strings.ToValidUTF8(string(audio), "?")
	return workersai.SpeechOutput{Text: spoken, WordCount: countWords(spoken)}
}

func speak(in workersai.TranslationInput) string { return in.TargetLang + ": " + in.Text }

func (s *Server) translate(body []byte) reply {
	var in workersai.TranslationInput
	if err := json.Unmarshal(body, &in); err != nil || in.Text == "" || in.TargetLang == "" {
		return refuse(workersai.CodeInvalidInput, "required properties at '/' are 'text,target_lang'")
	}
	return succeed(workersai.TranslationOutput{TranslatedText: s.speak(in)})
}

func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	_, st, ok := s.take(w, r, "")
	if !ok {
		return
	}
	s.play(w, r, st, func() reply {
		found := []workersai.ModelInfo{}
		for _, m := range s.models {
			if matches(m, r.URL.Query()) {
				found = append(found, m)
			}
		}
		return succeed(found)
	})
}

func matches(m workersai.ModelInfo, q url.Values) bool {
	text := strings.ToLower(m.Name + " " + m.Description)
	return strings.Contains(text, strings.ToLower(q.Get("search"))) && (q.Get("task") == "" || q.Get("task") == m.Task.Name)
}
