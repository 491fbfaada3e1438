package embedded

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
)

// BERTShape is the architecture of a BERT model. The zero numbers mean bge-base-en-v1.5's: 768 dimensions, 12 layers, 12
// heads, 3072 in between, 512 positions.
type BERTShape struct {
	Name         string
	Layers       int
	Hidden       int
	Intermediate int
	Heads        int
	Positions    int
	Pooling      string   // mean, cls, or rank: a reranker with XLM-RoBERTa's vocabulary and its classification head
	Vocab        []string // WordPiece, special tokens first; a reranker makes its pieces of the same words
	Seed         uint64
}

func (s BERTShape) withDefaults() BERTShape {
	for _, f := range []struct {
		to *int
		is int
	}{{&s.Layers, 12}, {&s.Hidden, 768}, {&s.Intermediate, 3072}, {&s.Heads, 12}, {&s.Positions, 512}} {
		if *f.to == 0 {
			*f.to = f.is
		}
	}
	return s
}

// WriteRandomBERT writes a model of the shape with random weights, 8 bits each, as a GGUF file that llama.cpp serves. What it
// computes means nothing, and takes exactly the time and the memory of the real model: for tests of shapes and limits, and
// for benchmarks, where the real weights cannot be had.
func WriteRandomBERT(shape BERTShape, out string) error {
	s := shape.withDefaults()
	w := &ggufWriter{}
	cfg := bertConfig{Layers: s.Layers, Hidden: s.Hidden, Intermediate: s.Intermediate, Heads: s.Heads, Positions: s.Positions, NormEpsilon: 1e-12}
	tokens := len(s.Vocab)
	var err error
	if s.Pooling == "rank" {
		tokens, err = w.rerankMetadata(s, cfg)
	} else {
		err = w.bertMetadata(BERTFiles{Name: s.Name, Pooling: s.Pooling}, cfg, s.Vocab, Q80)
	}
	if err != nil {
		return err
	}
	w.randomTensors(s, tokens)
	if err := w.write(out + ".tmp"); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", out, err), os.Remove(out+".tmp"))
	}
	return os.Rename(out+".tmp", out)
}

// rerankMetadata follows llama.cpp's conversion of XLMRobertaForSequenceClassification: a unigram vocabulary, named t5.
func (w *ggufWriter) rerankMetadata(s BERTShape, cfg bertConfig) (tokens int, err error) {
	w.bertShape(s.Name, cfg, llamaPooling[s.Pooling], Q80)
	pieces, scores := []string{"<s>", "<pad>", "</s>", "<unk>"}, []float32{0, 0, 0, 0}
	types := []int32{tokenControl, tokenControl, tokenControl, tokenUnknown}
	for i, word := range s.Vocab {
		if strings.HasPrefix(word, "[") && len(word) > 1 {
			continue // special or unused
		}
		piece := "\u2581" + word
		if rest, inside := strings.CutPrefix(word, "##"); inside {
			piece = rest
		}
		pieces, scores, types = append(pieces, piece), append(scores, -5-float32(i)/float32(len(s.Vocab))*8), append(types, tokenNormal)
	}
	for _, kv := range []struct {
		k string
		v any
	}{
		{"tokenizer.ggml.model", "t5"}, {"tokenizer.ggml.pre", "default"}, {"tokenizer.ggml.tokens", pieces}, {"tokenizer.ggml.scores", scores},
		{"tokenizer.ggml.token_type", types}, {"tokenizer.ggml.add_space_prefix", true}, {"tokenizer.ggml.token_type_count", 1},
		{"tokenizer.ggml.remove_extra_whitespaces", true}, {"tokenizer.ggml.bos_token_id", 0}, {"tokenizer.ggml.padding_token_id", 1},
		{"tokenizer.ggml.eos_token_id", 2}, {"tokenizer.ggml.unknown_token_id", 3}, {"tokenizer.ggml.seperator_token_id", 2},
		{"tokenizer.ggml.add_bos_token", true}, {"tokenizer.ggml.add_eos_token", true}, {"tokenizer.ggml.add_sep_token", true},
	} {
		w.set(kv.k, kv.v)
	}
	return len(pieces), nil
}

// randomTensors adds the tensors of the architecture in llama.cpp's names.
func (w *ggufWriter) randomTensors(s BERTShape, tokens int) {
	r := rand.New(rand.NewPCG(s.Seed, 1))
	matrix := func(name string, in, out int) { w.randomMatrix(r, name+".weight", in, out) }
	vector := func(name string, n int, around, spread float32) { w.randomVector(r, name, n, around, spread) }
	linear := func(name string, in, out int) { matrix(name, in, out); vector(name+".bias", out, 0, 0.02) }
	norm := func(name string) {
		vector(name+".weight", s.Hidden, 1, 0.1)
		vector(name+".bias", s.Hidden, 0, 0.02)
	}
	types := 2
	if s.Pooling == "rank" {
		types = 1
	}
	matrix("token_embd", s.Hidden, tokens)
	w.randomFloats(r, "position_embd.weight", s.Hidden, s.Positions)
	w.randomFloats(r, "token_types.weight", s.Hidden, types)
	norm("token_embd_norm")
	for i := range s.Layers {
		at := fmt.Sprintf("blk.%d.", i)
		for _, name := range []string{"attn_q", "attn_k", "attn_v", "attn_output"} {
			linear(at+name, s.Hidden, s.Hidden)
		}
		norm(at + "attn_output_norm")
		linear(at+"ffn_up", s.Hidden, s.Intermediate)
		linear(at+"ffn_down", s.Intermediate, s.Hidden)
		norm(at + "layer_output_norm")
	}
	if s.Pooling == "rank" {
		linear("cls", s.Hidden, s.Hidden)
		w.randomFloats(r, "cls.output.weight", s.Hidden, 1)
		vector("cls.output.bias", 1, 0, 0.02)
	}
}

// randomScale makes numbers of 8 bits a matrix with a standard deviation of about 0.05.
const randomScale = 0.05 / 74

func (w *ggufWriter) randomMatrix(r *rand.Rand, name string, in, out int) {
	blocks := in * out / q80Block
	seed := r.Uint64()
	w.tensors = append(w.tensors, ggufTensor{name, []uint64{uint64(in), uint64(out)}, ggmlQ80, uint64(blocks) * (2 + q80Block), func(to io.Writer) error {
		r := rand.New(rand.NewPCG(seed, 2))
		buffered := bufio.NewWriter(to)
		block := binary.LittleEndian.AppendUint16(nil, float16(randomScale))
		for range blocks {
			block = block[:2]
			for range q80Block / 8 {
				block = binary.LittleEndian.AppendUint64(block, r.Uint64())
			}
			if _, err := buffered.Write(block); err != nil {
				return err
			}
		}
		return buffered.Flush()
	}})
}

func (w *ggufWriter) randomFloats(r *rand.Rand, name string, in, out int) {
	w.floats(name, []uint64{uint64(in), uint64(out)}, r, 0, 0.05)
}

func (w *ggufWriter) randomVector(r *rand.Rand, name string, n int, around, spread float32) {
	w.floats(name, []uint64{uint64(n)}, r, around, spread)
}

func (w *ggufWriter) floats(name string, dims []uint64, r *rand.Rand, around, spread float32) {
	n := dims[0]
	for _, d := range dims[1:] {
		n *= d
	}
	values := make([]float32, n)
	for i := range values {
		values[i] = around + spread*float32(r.NormFloat64())
	}
	w.tensors = append(w.tensors, ggufTensor{name, dims, ggmlF32, 4 * n, func(to io.Writer) error {
		_, err := to.Write(encodeTensor(values, ggmlF32))
		return err
	}})
}
