package workersai_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http/httptest"

	"github.com/footnote-rag/footnote/workersai"
	"github.com/footnote-rag/footnote/workersai/workersaitest"
)

// local is a client of a test server; at Cloudflare, Config wants AccountID and Token instead of BaseURL.
func local(opts ...workersaitest.Option) (c *workersai.Client, done func()) {
	srv := httptest.NewServer(workersaitest.NewServer(opts...))
	c, err := workersai.New(workersai.Config{BaseURL: srv.URL + "/client/v4", MaxRetries: -1})
	if err != nil {
		log.Fatal(err)
	}
	return c, func() { c.CloseIdleConnections(); srv.Close() }
}

func ExampleClient_ChatStream() {
	c, done := local()
	defer done()
	r := workersai.ChatRequest{Model: llama, Prompt: "The tower of Pisa leans south. Where does the tower lean?"}
	for event, err := range c.ChatStream(context.Background(), r) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(event.Text)
		if event.Usage != nil {
			fmt.Printf(" (%d tokens)\n", event.Usage.CompletionTokens)
		}
	}
	// Output: The tower of Pisa leans south. (6 tokens)
}

func ExampleClient_Embed() {
	c, done := local()
	defer done()
	got, err := c.Embed(context.Background(), workersai.EmbedRequest{Model: bge, Texts: []string{"Query", "Doc 1", "Doc 2"}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(got.Vectors), "vectors of", len(got.Vectors[0]), "dimensions, pooling", got.Pooling)
	// Output: 3 vectors of 768 dimensions, pooling cls
}

func ExampleError() {
	c, done := local(workersaitest.Limit(func(_, _ string) (int, int) { return 731, 512 }))
	defer done()
	_, err := c.Embed(context.Background(), workersai.EmbedRequest{Model: bge, Texts: []string{"a long text"}})
	if errors.Is(err, workersai.ErrContextExceeded) {
		fmt.Println("split the text")
	}
	var e *workersai.Error
	if errors.As(err, &e) {
		fmt.Println(e.Status, e.Code, e.Message)
	}
	// Output:
	// split the text
	// 413 7506 text 0 has 731 tokens, the model takes 512
}

func ExampleNewTool() {
	c, done := local(workersaitest.ChatOutput(caller(`{"id":"call_1","function":{"name":"weather","arguments":"{\"city\":\"Oslo\"}"}}`)))
	defer done()
	tool, err := workersai.NewTool("weather", "Weather of a city", func(_ context.Context, in weather) (any, error) {
		return "12 degrees in " + in.City, nil
	})
	if err != nil {
		log.Fatal(err)
	}
	got, err := c.ChatWithTools(context.Background(), workersai.ChatRequest{Model: llama, Prompt: "Weather in Oslo?"}, tool)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(got.Text)
	// Output: read 12 degrees in Oslo
}
