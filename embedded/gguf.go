package embedded

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
)

// Quantization is how the matrices of a converted model are stored. Norms, biases, positions and token types stay 32-bit.
type Quantization int

const (
	F16 Quantization = iota // half precision: the fastest on an engine built for this machine
	Q80                     // 8 bits in blocks of 32 with a half-precision scale: the fastest on the portable engine
)

// ggml's numbers for tensor types, and the alignment of tensor data (ggml/include/ggml.h, gguf.h).
const (
	ggmlF32, ggmlF16, ggmlQ80 = 0, 1, 8
	ggufAlign                 = 32
	q80Block                  = 32
)

// bertConfig is the part of a Hugging Face BERT config.json that the conversion needs.
type bertConfig struct {
	Layers       int     `json:"num_hidden_layers"`
	Hidden       int     `json:"hidden_size"`
	Intermediate int     `json:"intermediate_size"`
	Heads        int     `json:"num_attention_heads"`
	Positions    int     `json:"max_position_embeddings"`
	NormEpsilon  float32 `json:"layer_norm_eps"`
	ModelType    string  `json:"model_type"`
}

// BERTFiles names the files of a BERT embedding model in Hugging Face's layout (all-MiniLM-L6-v2, the bge family).
type BERTFiles struct {
	Name        string // of the model
	Config      string // config.json
	Safetensors string // model.safetensors
	Vocab       string // vocab.txt
	Pooling     string // "mean" or "cls"
}

// ConvertBERT writes the model as a GGUF file that llama.cpp serves: architecture "bert", WordPiece vocabulary. It follows
// llama.cpp's convert_hf_to_gguf.py (BertModel). The file appears whole or not at all.
func ConvertBERT(in BERTFiles, out string, q Quantization) error {
	cfg, err := readBERTConfig(in.Config)
	if err != nil {
		return err
	}
	vocab, err := readVocab(in.Vocab)
	if err != nil {
		return err
	}
	st, err := openSafetensors(in.Safetensors)
	if err != nil {
		return err
	}
	defer st.Close()
	w := &ggufWriter{}
	if err := w.bertMetadata(in, cfg, vocab, q); err != nil {
		return err
	}
	if err := w.bertTensors(st, q); err != nil {
		return err
	}
	tmp := out + ".tmp"
	if err := w.write(tmp); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", out, err), os.Remove(tmp))
	}
	return os.Rename(tmp, out)
}

func readBERTConfig(name string) (bertConfig, error) {
	var cfg bertConfig
	b, err := os.ReadFile(name)
	if err != nil {
		return cfg, err
	}
	if err := json.Unmarshal(b, &cfg); err != nil {
		return cfg, fmt.Errorf("read %s: %w", name, err)
	}
	if cfg.ModelType != "bert" || cfg.Layers == 0 || cfg.Hidden == 0 || cfg.Heads == 0 {
		return cfg, fmt.Errorf("%s describes a %q model: only bert can be converted", name, cfg.ModelType)
	}
	return cfg, nil
}

func readVocab(name string) ([]string, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	tokens := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	for i, t := range tokens {
		tokens[i] = strings.TrimSuffix(t, "\r")
	}
	return tokens, nil
}

// ggufWriter collects metadata and tensors, then writes them in the order of the format (version 3, little-endian).
type ggufWriter struct {
	keys    int
	meta    []byte
	tensors []ggufTensor
}

type ggufTensor struct {
	name string
	dims []uint64 // fastest first
	kind uint32
	size uint64
	data func(io.Writer) error
}

// Numbers of GGUF's value types.
const (
	ggufUint32, ggufInt32, ggufFloat32, ggufBool, ggufString, ggufArray = 4, 5, 6, 7, 8, 9
)

func (w *ggufWriter) str(s string) {
	w.meta = binary.LittleEndian.AppendUint64(w.meta, uint64(len(s)))
	w.meta = append(w.meta, s...)
}

func (w *ggufWriter) key(name string, kind uint32) {
	w.keys++
	w.str(name)
	w.meta = binary.LittleEndian.AppendUint32(w.meta, kind)
}

func (w *ggufWriter) set(name string, value any) {
	le := binary.LittleEndian
	switch v := value.(type) {
	case string:
		w.key(name, ggufString)
		w.str(v)
	case int:
		w.key(name, ggufUint32)
		w.meta = le.AppendUint32(w.meta, uint32(v))
	case float32:
		w.key(name, ggufFloat32)
		w.meta = le.AppendUint32(w.meta, math.Float32bits(v))
	case bool:
		w.key(name, ggufBool)
		w.meta = append(w.meta, map[bool]byte{true: 1}[v])
	case []string:
		w.key(name, ggufArray)
		w.meta = le.AppendUint64(le.AppendUint32(w.meta, ggufString), uint64(len(v)))
		for _, s := range v {
			w.str(s)
		}
	case []float32:
		w.key(name, ggufArray)
		w.meta = le.AppendUint64(le.AppendUint32(w.meta, ggufFloat32), uint64(len(v)))
		for _, f := range v {
			w.meta = le.AppendUint32(w.meta, math.Float32bits(f))
		}
	case []int32:
		w.key(name, ggufArray)
		w.meta = le.AppendUint64(le.AppendUint32(w.meta, ggufInt32), uint64(len(v)))
		for _, n := range v {
			w.meta = le.AppendUint32(w.meta, uint32(n))
		}
	default:
		panic(fmt.Sprintf("gguf: no type for %T", value)) // a mistake in this file
	}
}

// Numbers of llama.cpp's pooling and token types.
var llamaPooling = map[string]int{"mean": 1, "cls": 2, "rank": 4}

const tokenNormal, tokenUnknown, tokenControl = 1, 2, 3

func (w *ggufWriter) bertMetadata(in BERTFiles, cfg bertConfig, vocab []string, q Quantization) error {
	pooling, ok := llamaPooling[in.Pooling]
	if !ok {
		return fmt.Errorf("pooling %q: mean, cls or rank", in.Pooling)
	}
	w.bertShape(in.Name, cfg, pooling, q)
	for _, kv := range []struct {
		k string
		v any
	}{{"tokenizer.ggml.model", "bert"}, {"tokenizer.ggml.pre", "default"}, {"tokenizer.ggml.token_type_count", 2}} {
		w.set(kv.k, kv.v)
	}
	return w.bertVocab(vocab)
}

// bertShape writes what the engine must know of the architecture.
func (w *ggufWriter) bertShape(name string, cfg bertConfig, pooling int, q Quantization) {
	fileType := map[Quantization]int{F16: 1, Q80: 7}[q]
	for _, kv := range []struct {
		k string
		v any
	}{
		{"general.architecture", "bert"}, {"general.name", name}, {"general.file_type", fileType},
		{"general.quantization_version", 2}, {"general.alignment", ggufAlign},
		{"bert.block_count", cfg.Layers}, {"bert.context_length", cfg.Positions}, {"bert.embedding_length", cfg.Hidden},
		{"bert.feed_forward_length", cfg.Intermediate}, {"bert.attention.head_count", cfg.Heads},
		{"bert.attention.layer_norm_epsilon", cfg.NormEpsilon}, {"bert.attention.causal", false}, {"bert.pooling_type", pooling},
	} {
		w.set(kv.k, kv.v)
	}
}

// bertVocab writes the vocabulary in llama.cpp's convention: a piece inside a word loses its ##, a word's start gets U+2581.
func (w *ggufWriter) bertVocab(vocab []string) error {
	special := map[string]string{"[UNK]": "unknown", "[SEP]": "seperator", "[PAD]": "padding", "[CLS]": "cls", "[MASK]": "mask"}
	tokens, types := make([]string, len(vocab)), make([]int32, len(vocab))
	for i, t := range vocab {
		name, isSpecial := special[t]
		types[i] = tokenNormal
		switch {
		case isSpecial:
			tokens[i], types[i] = t, tokenControl
			w.set("tokenizer.ggml."+name+"_token_id", i) // "seperator" is how the format spells it
			delete(special, t)
		case strings.HasPrefix(t, "##"):
			tokens[i] = t[2:]
		default:
			tokens[i] = "\u2581" + t
		}
	}
	if len(special) > 0 {
		return fmt.Errorf("the vocabulary lacks special tokens: %v", special)
	}
	w.set("tokenizer.ggml.bos_token_id", slices.Index(vocab, "[CLS]"))
	w.set("tokenizer.ggml.eos_token_id", slices.Index(vocab, "[SEP]"))
	w.set("tokenizer.ggml.tokens", tokens)
	w.set("tokenizer.ggml.token_type", types)
	return nil
}

// bertNames maps the parts of Hugging Face's tensor names to llama.cpp's.
var bertNames = strings.NewReplacer(
	"embeddings.word_embeddings", "token_embd", "embeddings.position_embeddings", "position_embd",
	"embeddings.token_type_embeddings", "token_types", "embeddings.LayerNorm", "token_embd_norm",
	"encoder.layer.", "blk.", "attention.self.query", "attn_q", "attention.self.key", "attn_k", "attention.self.value", "attn_v",
	"attention.output.dense", "attn_output", "attention.output.LayerNorm", "attn_output_norm",
	"intermediate.dense", "ffn_up", "output.dense", "ffn_down", "output.LayerNorm", "layer_output_norm",
	".gamma", ".weight", ".beta", ".bias",
)

func (w *ggufWriter) bertTensors(st *safetensors, q Quantization) error {
	for _, name := range st.names() {
		short := strings.TrimPrefix(name, "bert.")
		if strings.HasPrefix(short, "pooler.") || strings.HasSuffix(short, "position_ids") || strings.HasPrefix(short, "cls.") {
			continue
		}
		t := st.header[name]
		kind := uint32(ggmlF32)
		to := bertNames.Replace(short)
		if len(t.Shape) == 2 && to != "position_embd.weight" && to != "token_types.weight" {
			kind = map[Quantization]uint32{F16: ggmlF16, Q80: ggmlQ80}[q]
		}
		if kind == ggmlQ80 && t.Shape[1]%q80Block != 0 {
			kind = ggmlF16
		}
		w.add(st, name, to, kind)
	}
	if len(w.tensors) == 0 {
		return errors.New("the model holds no BERT tensors")
	}
	return nil
}

func (w *ggufWriter) add(st *safetensors, from, to string, kind uint32) {
	shape := st.header[from].Shape
	n := uint64(1)
	dims := make([]uint64, 0, len(shape))
	for _, d := range slices.Backward(shape) {
		dims = append(dims, uint64(d))
		n *= uint64(d)
	}
	size := map[uint32]uint64{ggmlF32: 4 * n, ggmlF16: 2 * n, ggmlQ80: n / q80Block * (2 + q80Block)}[kind]
	w.tensors = append(w.tensors, ggufTensor{to, dims, kind, size, func(out io.Writer) error {
		values, err := st.read(from)
		if err != nil {
			return err
		}
		_, err = out.Write(encodeTensor(values, kind))
		return err
	}})
}

func encodeTensor(values []float32, kind uint32) []byte {
	le := binary.LittleEndian
	switch kind {
	case ggmlF16:
		b := make([]byte, 0, 2*len(values))
		for _, v := range values {
			b = le.AppendUint16(b, float16(v))
		}
		return b
	case ggmlQ80:
		return encodeQ80(values)
	}
	b := make([]byte, 0, 4*len(values))
	for _, v := range values {
		b = le.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

// encodeQ80 is ggml's quantize_row_q8_0: per block of 32 a half-precision scale, the largest magnitude over 127, and the
// values divided by it, rounded.
func encodeQ80(values []float32) []byte {
	b := make([]byte, 0, len(values)/q80Block*(2+q80Block))
	for block := range slices.Chunk(values, q80Block) {
		var top float32
		for _, v := range block {
			top = max(top, float32(math.Abs(float64(v))))
		}
		scale := top / 127
		b = binary.LittleEndian.AppendUint16(b, float16(scale))
		for _, v := range block {
			q := float32(0)
			if scale > 0 {
				q = v / scale
			}
			b = append(b, byte(int8(math.Round(float64(q)))))
		}
	}
	return b
}

// float16 rounds to the nearest half-precision number, ties to even (IEEE 754 binary16).
func float16(f float32) uint16 {
	bits := math.Float32bits(f)
	sign := uint16(bits >> 16 & 0x8000)
	exp := int(bits>>23&0xff) - 127 + 15
	frac := bits & 0x7fffff
	switch {
	case bits&0x7f800000 == 0x7f800000: // infinite or not a number
		if frac != 0 {
			return sign | 0x7e00
		}
		return sign | 0x7c00
	case exp >= 31:
		return sign | 0x7c00
	case exp <= 0:
		if exp < -10 {
			return sign
		}
		frac |= 0x800000
		return sign | roundShift(frac, uint(14-exp))
	}
	return sign | (uint16(exp)<<10 + roundShift(frac, 13)) // a carry out of the fraction raises the exponent, as it should
}

func roundShift(v uint32, by uint) uint16 {
	half := uint32(1) << (by - 1)
	r := v >> by
	if rest := v & (1<<by - 1); rest > half || rest == half && r&1 == 1 {
		r++
	}
	return uint16(r)
}

func (w *ggufWriter) write(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(f, 1<<20)
	if err := errors.Join(w.writeTo(out), out.Flush(), f.Sync()); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}

func (w *ggufWriter) writeTo(out *bufio.Writer) error {
	le := binary.LittleEndian
	head := append([]byte("GGUF"), le.AppendUint32(nil, 3)...)
	head = le.AppendUint64(le.AppendUint64(head, uint64(len(w.tensors))), uint64(w.keys))
	head = append(head, w.meta...)
	offset := uint64(0)
	for _, t := range w.tensors {
		head = append(le.AppendUint64(head, uint64(len(t.name))), t.name...)
		head = le.AppendUint32(head, uint32(len(t.dims)))
		for _, d := range t.dims {
			head = le.AppendUint64(head, d)
		}
		head = le.AppendUint64(le.AppendUint32(head, t.kind), offset)
		offset += padded(t.size)
	}
	if _, err := out.Write(pad(head, uint64(len(head)))); err != nil {
		return err
	}
	for _, t := range w.tensors {
		if err := t.data(out); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		if _, err := out.Write(pad(nil, t.size)); err != nil {
			return err
		}
	}
	return nil
}

func padded(n uint64) uint64 { return (n + ggufAlign - 1) / ggufAlign * ggufAlign }

// pad appends the zeros that bring n bytes to the alignment.
func pad(b []byte, n uint64) []byte { return append(b, make([]byte, padded(n)-n)...) }

// safetensors reads Hugging Face's format: a length, a JSON header, raw little-endian tensors.
type safetensors struct {
	f      *os.File
	base   int64
	header map[string]safetensor
}

type safetensor struct {
	DType   string   `json:"dtype"`
	Shape   []int    `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
}

// maxSafetensorsHeader is the format's own limit.
const maxSafetensorsHeader = 100 << 20

func openSafetensors(name string) (*safetensors, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	s := &safetensors{f: f}
	if err := s.readHeader(); err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", name, err), f.Close())
	}
	return s, nil
}

func (s *safetensors) readHeader() error {
	var n uint64
	if err := binary.Read(s.f, binary.LittleEndian, &n); err != nil {
		return err
	}
	if n > maxSafetensorsHeader {
		return fmt.Errorf("a header of %d bytes: not a safetensors file", n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(s.f, b); err != nil {
		return err
	}
	s.base = int64(8 + n)
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	delete(raw, "__metadata__")
	s.header = make(map[string]safetensor, len(raw))
	for name, j := range raw {
		var t safetensor
		if err := json.Unmarshal(j, &t); err != nil {
			return err
		}
		s.header[name] = t
	}
	return nil
}

func (s *safetensors) names() []string {
	var names []string
	for n := range s.header {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// read returns a tensor's values as 32-bit floats.
func (s *safetensors) read(name string) ([]float32, error) {
	t, ok := s.header[name]
	if !ok {
		return nil, fmt.Errorf("no tensor %q", name)
	}
	if t.DType != "F32" {
		return nil, fmt.Errorf("tensor %q is %s: only F32 is read", name, t.DType)
	}
	b := make([]byte, t.Offsets[1]-t.Offsets[0])
	if _, err := s.f.ReadAt(b, s.base+t.Offsets[0]); err != nil {
		return nil, fmt.Errorf("tensor %q: %w", name, err)
	}
	v := make([]float32, len(b)/4)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return v, nil
}

func (s *safetensors) Close() error { return s.f.Close() }
