package api

import (
	"fmt"

	"github.com/footnote-rag/footnote/retrieval"
	"github.com/footnote-rag/footnote/store"
)

// rankingInput is the part of a search or an answer's request that controls the order of passages.
type rankingInput struct {
	Fusion  string `json:"fusion"`
	Weights *struct {
		Vector  float64 `json:"vector"`
		Lexical float64 `json:"lexical"`
	} `json:"weights"`
	Smoothing  *float64     `json:"smoothing"`
	Candidates int          `json:"candidates"`
	MMR        float64      `json:"mmr"`
	Expand     string       `json:"expand"`
	Boost      *boostInput  `json:"boost"`
	Rerank     *rerankInput `json:"rerank"`
}

type boostInput struct {
	Recency *struct {
		Field    string  `json:"field"`
		HalfLife string  `json:"half_life"`
		Weight   float64 `json:"weight"`
	} `json:"recency"`
	Fields map[string]map[string]float64 `json:"fields"`
}

type rerankInput struct {
	Model      string `json:"model"` // "chat": the chat model
	Candidates int    `json:"candidates"`
}

// defaultReranker is used where a request says rerank and names no model.
const defaultReranker = "@cf/baai/bge-reranker-base"

func (in rankingInput) ranking() (r retrieval.Ranking, err error) {
	r = retrieval.Ranking{MMR: in.MMR, Expand: in.Expand, Fusion: store.Fusion{Method: in.Fusion, Candidates: in.Candidates, Smoothing: in.Smoothing}}
	if in.Weights != nil {
		if in.Weights.Vector == 0 && in.Weights.Lexical == 0 {
			return r, fmt.Errorf("%w: weights are 0 and 0: give one of them more than 0, or leave weights out", store.ErrInvalidFusion)
		}
		r.Fusion.VectorWeight, r.Fusion.LexicalWeight = in.Weights.Vector, in.Weights.Lexical
	}
	if in.Rerank != nil {
		r.Rerank = retrieval.Rerank{Model: firstOf(in.Rerank.Model, defaultReranker), Candidates: in.Rerank.Candidates}
	}
	if in.Boost == nil {
		return r, nil
	}
	r.Boost.Fields = in.Boost.Fields
	if recency := in.Boost.Recency; recency != nil {
		r.Boost.Recency = &retrieval.Recency{Field: recency.Field, Weight: recency.Weight}
		r.Boost.Recency.HalfLife, err = retrieval.ParseHalfLife(recency.HalfLife)
	}
	return r, err
}
