package workersai_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

func TestEmbedSplitsIntoRequestsOf100(t *testing.T) {
	t.Parallel()
	srv := workersaitest.NewInMemory(t)
	c := srv.Client(t)
	for _, n := range []int{0, 1, 99, 100, 101, 250} {
		before := srv.Calls("")
		texts := make([]string, n)
		for i := range texts {
			texts[i] = fmt.Sprintf("text %d", i)
		}
		got, err := embed(t, c, texts...)
		if err != nil || len(got.Vectors) != n || got.Pooling != "cls" {
			t.Fatalf("Embed(%d texts): %v", n, err)
		}
		if calls := srv.Calls("") - before; calls != (n+99)/100 {
			t.Errorf("Embed(%d texts): %d calls, want %d", n, calls, (n+99)/100)
		}
		for i, v := range got.Vectors {
			if !slices.Equal(v, workersaitest.Vector(texts[i], 768)) {
				t.Fatalf("Embed(%d texts): vector %d belongs to another text", n, i)
			}
		}
		if want := 2 * n; got.Usage.PromptTokens != want {
			t.Errorf("Embed(%d texts): %d tokens, want %d", n, got.Usage.PromptTokens, want)
		}
	}
}

func TestEmbedSendsPoolingAsTheModelWantsIt(t *testing.T) {
	t.Parallel()
	srv := workersaitest.NewInMemory(t)
	c := srv.Client(t)
	for _, test := range []struct{ model, asked, sent string }{
		{bge, "", `"pooling":"cls"`},
		{bge, "mean", `"pooling":"mean"`},
		{"@cf/other/embeddinggemma-300m", "", `"pooling":"mean"`},
		{"@cf/baai/bge-m3", "", `{"text":["a"]}`},
	} {
		if _, err := c.Embed(t.Context(), workersai.EmbedRequest{Model: test.model, Texts: []string{"a"}, Pooling: test.asked}); err != nil {
			t.Fatal(err)
		}
		all := srv.Requests()
		if body := string(all[len(all)-1].Body); !strings.Contains(body, test.sent) {
			t.Errorf("%s, pooling %q: sent %s, want %s", test.model, test.asked, body, test.sent)
		}
	}
}

func TestWrongVectorsAreRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		step workersaitest.Step
		row  int
		text string
	}{
		"missing row":       {workersaitest.MissingRow(1), -1, "2 vectors for 3 texts"},
		"extra row":         {workersaitest.ExtraRow(), -1, "4 vectors for 3 texts"},
		"short row":         {workersaitest.ShortRow(2), 2, "767 dimensions, want 768"},
		"NaN":               {workersaitest.Element(1, 5, "NaN"), 1, "element 5 is not a number"},
		"over a float32":    {workersaitest.Element(1, 5, "1e39"), 1, "element 5 is not finite"},
		"over a float64":    {workersaitest.Element(1, 5, "1e999"), 1, "element 5 is not finite"},
		"null":              {workersaitest.Element(0, 0, "null"), 0, "element 0 is not a number"},
		"string":            {workersaitest.Element(0, 0, `"0.1"`), 0, "element 0 is not a number"},
		"nothing":           {workersaitest.Element(0, 0, ""), 0, "element 0 is not a number"},
		"list":              {workersaitest.Element(0, 0, "[1]"), 0, "element 0 is not a number"},
		"zeros":             {workersaitest.ZeroRow(2), 2, "all zeros"},
		"empty rows":        {workersaitest.JSON(200, `{"result":{"data":[[],[],[]]},"success":true}`), 0, "0 dimensions"},
		"null rows":         {workersaitest.JSON(200, `{"result":{"data":[null,null,null]},"success":true}`), 0, "not a list"},
		"no data":           {workersaitest.JSON(200, `{"result":{},"success":true}`), -1, "0 vectors for 3 texts"},
		"null data":         {workersaitest.JSON(200, `{"result":{"data":null},"success":true}`), -1, "not a list of vectors"},
		"null result":       {workersaitest.JSON(200, `{"result":null,"success":true}`), -1, "0 vectors for 3 texts"},
		"data is an object": {workersaitest.JSON(200, `{"result":{"data":{"0":[1]}},"success":true}`), -1, "not a list"},
		"data twice":        {workersaitest.JSON(200, `{"result":{"data":[[1],[2],[3]],"data":[[1],[2],[3]]},"success":true}`), -1, "not that of an embedding"},
		"cut JSON":          {workersaitest.ShortAt(100), -1, ""},
		"other dimensions":  {workersaitest.JSON(200, `{"result":{"data":[[1],[2],[3]]},"success":true}`), 0, "1 dimensions, want 768"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := workersaitest.NewInMemory(t)
			srv.Script(test.step)
			got, err := srv.Client(t).Embed(t.Context(), workersai.EmbedRequest{Model: bge, Texts: []string{"a", "b", "c"}, Dimensions: 768})
			var bad *workersai.ReplyError
			if got != nil || !errors.Is(err, workersai.ErrBadReply) || !errors.As(err, &bad) || !strings.Contains(err.Error(), test.text) {
				t.Fatalf("error %v, want a bad reply with %q", err, test.text)
			}
			if test.text != "" && bad.Row != test.row {
				t.Errorf("row %d, want %d", bad.Row, test.row)
			}
			if srv.Calls("") != 1 {
				t.Errorf("%d calls, want 1: a bad reply is not retried", srv.Calls(""))
			}
		})
	}
}

func TestRequestsOfOneCallAgreeInDimensions(t *testing.T) {
	t.Parallel()
	srv := workersaitest.NewInMemory(t, workersaitest.Embed(func(text string, dims int) []float32 {
		if text == "short" {
			dims--
		}
		return workersaitest.Vector(text, dims)
	}))
	texts := slices.Repeat([]string{"a"}, 101)
	texts[100] = "short"
	if _, err := embed(t, srv.Client(t), texts...); !errors.Is(err, workersai.ErrBadReply) || !strings.Contains(err.Error(), "texts 100 to 100") {
		t.Errorf("second request of another length: %v, want a bad reply that names it", err)
	}
}

func TestSwappedVectorsShow(t *testing.T) {
	t.Parallel()
	srv := workersaitest.NewInMemory(t)
	srv.Script(workersaitest.SwappedRows(0, 1))
	got, err := embed(t, srv.Client(t), "a", "b")
	if err != nil || workersaitest.Cosine(got.Vectors[0], workersaitest.Vector("b", 768)) < 0.999 {
		t.Errorf("swapped rows: %v, want b's vector first", err)
	}
}

func TestEmbedCutAnywhereIsAnError(t *testing.T) {
	t.Parallel()
	srv := workersaitest.NewInMemory(t, workersaitest.Dims(3))
	c := srv.Client(t, noRetry)
	for _, clean := range []bool{false, true} {
		for n := 0; ; n++ {
			srv.Script(workersaitest.Step{Cut: true, CutAt: n, Clean: clean})
			_, err := embed(t, c, "a", "b")
			if err == nil && clean && n > 100 { // the whole answer, ended properly
				break
			}
			if !errors.Is(err, workersai.ErrUnreachable) && !errors.Is(err, workersai.ErrBadReply) {
				t.Fatalf("cut at byte %d (clean %v): %v", n, clean, err)
			}
			if n > 400 { // longer than the answer: a dropped connection is an error even after its last byte
				break
			}
		}
	}
}

func TestInputsAreCheckedBeforeTheyAreSent(t *testing.T) {
	t.Parallel()
	srv := workersaitest.NewInMemory(t)
	c := srv.Client(t)
	half, seed, k, nan := 5.5, int64(0), 51, math.NaN()
	chat := func(mend func(*workersai.ChatRequest)) error {
		r := hello(llama)
		mend(&r)
		_, _, err := answer(t, c, r)
		return err
	}
	embedWith := func(r workersai.EmbedRequest) error {
		_, err := c.Embed(t.Context(), r)
		return err
	}
	for name, err := range map[string]error{
		"no model":        embedWith(workersai.EmbedRequest{Texts: []string{"a"}}),
		"path in model":   embedWith(workersai.EmbedRequest{Model: "@cf/../x", Texts: []string{"a"}}),
		"query in model":  embedWith(workersai.EmbedRequest{Model: "m?x=1", Texts: []string{"a"}}),
		"empty text":      embedWith(workersai.EmbedRequest{Model: bge, Texts: []string{"a", ""}}),
		"no UTF-8":        embedWith(workersai.EmbedRequest{Model: bge, Texts: []string{"\xff"}}),
		"pooling":         embedWith(workersai.EmbedRequest{Model: bge, Texts: []string{"a"}, Pooling: "max"}),
		"nothing to say":  chat(func(r *workersai.ChatRequest) { r.Messages = nil }),
		"prompt and more": chat(func(r *workersai.ChatRequest) { r.Prompt = "x" }),
		"temperature":     chat(func(r *workersai.ChatRequest) { r.Temperature = &half }),
		"NaN":             chat(func(r *workersai.ChatRequest) { r.TopP = &nan }),
		"top_k":           chat(func(r *workersai.ChatRequest) { r.TopK = &k }),
		"seed":            chat(func(r *workersai.ChatRequest) { r.Seed = &seed }),
		"max_tokens":      chat(func(r *workersai.ChatRequest) { r.MaxTokens = -1 }),
		"role":            chat(func(r *workersai.ChatRequest) { r.Messages[0].Role = "robot" }),
		"content":         chat(func(r *workersai.ChatRequest) { r.Messages[0].Content = "\xff" }),
		"tool":            chat(func(r *workersai.ChatRequest) { r.Tools = []workersai.ToolSpec{{}} }),
		"arguments": chat(func(r *workersai.ChatRequest) {
			r.Messages[0].ToolCalls = []workersai.ToolCall{{Name: "f", Arguments: "[1]"}}
		}),
	} {
		if !errors.Is(err, workersai.ErrInvalidInput) {
			t.Errorf("%s: %v, want invalid input", name, err)
		}
	}
	if n := srv.Calls(""); n != 0 {
		t.Errorf("%d calls were made", n)
	}
}
