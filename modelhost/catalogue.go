package modelhost

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

//go:embed catalogue.yaml
var defaultCatalogue []byte

// Tasks, named as the schema files are; taskNames has Cloudflare's names for people.
const (
	TaskTextGeneration = "text-generation"
	TaskEmbeddings     = "text-embeddings"
	TaskReranking      = "text-reranking"
	TaskTranslation    = "translation"
	TaskSpeech         = "automatic-speech-recognition"
	TaskImage          = "text-to-image"
)

var taskNames = map[string]string{
	TaskTextGeneration: "Text Generation",
	TaskEmbeddings:     "Text Embeddings",
	TaskReranking:      "Text Classification",
	TaskTranslation:    "Translation",
	TaskSpeech:         "Automatic Speech Recognition",
	TaskImage:          "Text-to-Image",
}

// taskKinds are the protocols that engines of a task speak, the default first.
var taskKinds = map[string][]string{
	TaskTextGeneration: {"llama", "openai"},
	TaskEmbeddings:     {"llama", "openai"},
	TaskReranking:      {"llama", "openai"},
	TaskTranslation:    {"libretranslate", "apertium"},
	TaskSpeech:         {"openai"},
	TaskImage:          {"openai", "sdapi"},
}

// Names of the engines that the default catalogue refers to: the keys of Config.Engines.
const (
	EngineMiniLM      = "all-minilm-l6-v2"
	EngineSmolLM2     = "smollm2-135m-instruct"
	EngineBGESmall    = "bge-small-en-v1.5"
	EngineBGEBase     = "bge-base-en-v1.5"
	EngineBGELarge    = "bge-large-en-v1.5"
	EngineBGEM3       = "bge-m3"
	EngineBGEReranker = "bge-reranker-base"
	EngineLlama8B     = "llama-3.1-8b-instruct"

	EngineTranslateURL = "translate-url" // a LibreTranslate-compatible server
	EngineApertiumURL  = "apertium-url"  // Apertium's HTTP service
	EngineM2M100       = "m2m100"        // CTranslate2 with m2m100 weights
	EngineApertium     = "apertium"      // the installed Apertium
	EngineSpeechURL    = "speech-url"    // an OpenAI-compatible transcription server
	EngineWhisper      = "whisper"       // CTranslate2 with the whisper weights that the user gave
	EngineWhisperTiny  = "whisper-tiny-en"
	EngineRerankURL    = "rerank-url"    // a server with llama.cpp's rerank route
	EngineImageURL     = "image-url"     // an OpenAI-compatible images server
	EngineSDURL        = "sd-url"        // stable-diffusion.cpp's server, or another with /sdapi/v1
	EngineTinyDiffuser = "tiny-diffuser" // ours, drawing simple shapes
)

// Catalogue maps model names to engines. The file catalogue.yaml is the default and documents every field.
type Catalogue struct {
	Models []Model `yaml:"models"`
}

// Model is one model that clients can name.
type Model struct {
	Name        string    `yaml:"name"`        // @cf/baai/bge-base-en-v1.5
	Aliases     []string  `yaml:"aliases"`     // further names
	Task        string    `yaml:"task"`        // one of the Task constants
	Description string    `yaml:"description"` // for the models list
	Backends    []Backend `yaml:"backends"`    // the first whose engine is there serves
	Setup       string    `yaml:"setup"`       // what to do where none is: the text of the 7502
}

// Backend is one way to serve a model: an engine of Config.Engines, a URL, or weights.
type Backend struct {
	Engine  string `yaml:"engine"`  // key of Config.Engines
	URL     string `yaml:"url"`     // or the root of a server that speaks Kind's protocol, without /v1
	Weights string `yaml:"weights"` // or a GGUF file or its URL, a key of Config.Engines too: whoever runs the host starts an engine for it
	Key     string `yaml:"key"`     // bearer token for URL; ${NAME} is looked up with Config.Getenv
	Model   string `yaml:"model"`   // what the engine calls the model; default: the name of Engine or of the model
	Kind    string `yaml:"kind"`    // the protocol: see taskKinds

	StandIn       string        `yaml:"stand_in"`       // the weights' name where they are not the named model's
	Dimensions    int           `yaml:"dimensions"`     // of the vectors; 0 is not checked
	MaxTokens     int           `yaml:"max_tokens"`     // a text may have, special tokens included
	Pooling       string        `yaml:"pooling"`        // mean or cls: how the engine pools
	RefusesLong   bool          `yaml:"refuses_long"`   // the engine refuses texts over MaxTokens itself and exactly
	ContextWindow int           `yaml:"context_window"` // tokens of input and answer together
	Strength      string        `yaml:"strength"`       // small (below about 2B parameters) or capable
	Tools         string        `yaml:"tools"`          // native: the engine's template knows tools; grammar: we ask and constrain
	InFlight      int           `yaml:"in_flight"`      // micro-requests, or generations, the engine gets at a time; default 2 and 4
	BatchTexts    int           `yaml:"batch_texts"`    // texts a micro-request; default 8
	Queue         int           `yaml:"queue"`          // requests that may wait for the engine; default 64
	Timeout       time.Duration `yaml:"timeout"`        // of one request; default 10 minutes
}

// DefaultCatalogue is the catalogue built in: Cloudflare's names, served from the weights that are there.
func DefaultCatalogue() Catalogue {
	c, err := ParseCatalogue(bytes.NewReader(defaultCatalogue))
	if err != nil {
		panic("modelhost: the built-in catalogue: " + err.Error()) // a test reads it: cannot happen in a built program
	}
	return c
}

// ReadCatalogue is the default catalogue with the models of file, YAML or JSON, added; one of the same name replaces.
func ReadCatalogue(file string) (Catalogue, error) {
	f, err := os.Open(file)
	if err != nil {
		return Catalogue{}, fmt.Errorf("read catalogue: %w", err)
	}
	defer f.Close()
	own, err := ParseCatalogue(f)
	if err != nil {
		return Catalogue{}, fmt.Errorf("%s: %w", file, err)
	}
	all := DefaultCatalogue().With(own)
	if err := all.validate(); err != nil { // an alias of ours that file gives to another model
		return Catalogue{}, fmt.Errorf("%s: %w", file, err)
	}
	return all, nil
}

// ParseCatalogue reads a catalogue from YAML or JSON, refusing unknown fields, and checks it.
func ParseCatalogue(r io.Reader) (Catalogue, error) {
	dec := yaml.NewDecoder(r)
	dec.KnownFields(true)
	var c Catalogue
	if err := dec.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return Catalogue{}, fmt.Errorf("read catalogue: %w", err)
	}
	if err := c.validate(); err != nil {
		return Catalogue{}, err
	}
	return c, nil
}

// With returns the catalogue with other's models added; one of the same name replaces.
func (c Catalogue) With(other Catalogue) Catalogue {
	out := Catalogue{Models: slices.Clone(other.Models)}
	for _, m := range c.Models {
		if !slices.ContainsFunc(other.Models, func(o Model) bool { return o.Name == m.Name }) {
			out.Models = append(out.Models, m)
		}
	}
	return out
}

func (c Catalogue) validate() error {
	seen := map[string]bool{}
	for _, m := range c.Models {
		if m.Name == "" {
			return errors.New("catalogue: a model without a name")
		}
		if _, ok := taskNames[m.Task]; !ok {
			return fmt.Errorf("catalogue: model %s: task %q is not one of %v", m.Name, m.Task, sortedTasks())
		}
		for _, name := range append([]string{m.Name}, m.Aliases...) {
			if seen[name] {
				return fmt.Errorf("catalogue: the name %s is given twice", name)
			}
			seen[name] = true
		}
		for i, b := range m.Backends {
			if err := b.validate(m.Task); err != nil {
				return fmt.Errorf("catalogue: model %s, backend %d: %w", m.Name, i, err)
			}
		}
	}
	return nil
}

func (b Backend) validate(task string) error {
	switch {
	case given(b.Engine)+given(b.URL)+given(b.Weights) != 1:
		return errors.New("give one of engine, url and weights")
	case b.Weights != "" && taskKinds[task][0] != "llama":
		return fmt.Errorf("weights are for models that llama.cpp serves, not for %s", task)
	case b.Pooling != "" && b.Pooling != "mean" && b.Pooling != "cls":
		return fmt.Errorf("pooling %q is neither mean nor cls", b.Pooling)
	case b.Kind != "" && !slices.Contains(taskKinds[task], b.Kind):
		return fmt.Errorf("kind %q: %s is served by %s", b.Kind, task, strings.Join(taskKinds[task], " or "))
	case !slices.Contains([]string{"", "small", "capable"}, b.Strength):
		return fmt.Errorf("strength %q is neither small nor capable", b.Strength)
	case !slices.Contains([]string{"", "native", "grammar"}, b.Tools):
		return fmt.Errorf("tools %q is neither native nor grammar", b.Tools)
	case b.Dimensions < 0 || b.MaxTokens < 0 || b.ContextWindow < 0 || b.InFlight < 0 || b.BatchTexts < 0 || b.Queue < 0 || b.Timeout < 0:
		return errors.New("a limit is negative")
	}
	return nil
}

func given(s string) int {
	if s == "" {
		return 0
	}
	return 1
}

// withDefaults fills what the file left out.
func (b Backend) withDefaults(m Model, getenv func(string) string) Backend {
	if b.Model == "" {
		b.Model = b.Engine
	}
	if b.Model == "" {
		b.Model = m.Name
	}
	if b.Kind == "" {
		b.Kind = taskKinds[m.Task][0]
		if b.URL != "" && b.Kind == "llama" {
			b.Kind = "openai"
		}
	}
	if getenv != nil {
		b.Key = os.Expand(b.Key, getenv)
	}
	if b.InFlight == 0 {
		b.InFlight = defaultInFlight(m.Task)
	}
	if b.BatchTexts == 0 {
		b.BatchTexts = defaultBatchTexts
	}
	if b.Queue == 0 {
		b.Queue = defaultQueue
	}
	if b.Timeout == 0 {
		b.Timeout = defaultTimeout
	}
	if b.Tools == "" {
		b.Tools = "native"
	}
	return b
}

const (
	defaultBatchTexts = 8                // texts: the engine is busy for a fraction of a second, then a question may pass
	defaultQueue      = 64               // requests: more would wait longer than clients do
	defaultTimeout    = 10 * time.Minute // a long answer on a CPU
)

func defaultInFlight(task string) int {
	if task == TaskEmbeddings {
		return 2 // one runs, one is ready: the engine never waits for us
	}
	return 4 // the slots of a llama.cpp server as a rule
}

func sortedTasks() []string {
	var names []string
	for t := range taskNames {
		names = append(names, t)
	}
	slices.Sort(names)
	return names
}
