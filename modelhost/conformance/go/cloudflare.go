package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/cloudflare/cloudflare-go/v7"
	"github.com/cloudflare/cloudflare-go/v7/ai"
	"github.com/cloudflare/cloudflare-go/v7/option"
)

func cloudflareChecks(base string) []check {
	client := cloudflare.NewClient(option.WithBaseURL(base), option.WithAPIToken(os.Getenv("TOKEN")), option.WithMaxRetries(0))
	run := func(ctx context.Context, model string, body ai.AIRunParamsBodyUnion) (ai.AIRunResponseUnion, error) {
		out, err := client.AI.Run(ctx, model, ai.AIRunParams{AccountID: cloudflare.F(os.Getenv("ACCOUNT_ID")), Body: body})
		if err != nil {
			return nil, err
		}
		return *out, nil
	}
	return []check{
		{"text", func(ctx context.Context) (string, error) {
			out, err := run(ctx, chat, ai.AIRunParamsBodyPrompt{Prompt: cloudflare.F("Say hello."), MaxTokens: cloudflare.F(int64(12))})
			text, ok := out.(ai.AIRunResponseObject)
			if err == nil && (!ok || text.Response == "" || text.Usage.CompletionTokens == 0) {
				err = differs("%#v", out)
			}
			return text.Response, err
		}},
		{"embeddings", func(ctx context.Context) (string, error) {
			out, err := run(ctx, embedder, ai.AIRunParamsBodyTextEmbeddings{
				Text: cloudflare.F[ai.AIRunParamsBodyTextEmbeddingsTextUnion](ai.AIRunParamsBodyTextEmbeddingsTextArray{"tea", "rain"})})
			// Its union takes any object with a field it does not know, Cloudflare's own "pooling" too, for its first struct.
			audio, ok := out.(ai.AIRunResponseAudio)
			if err != nil || !ok {
				return "", errors.Join(err, differs("%T", out))
			}
			var rows ai.AIRunResponseTextEmbeddings
			if err := json.Unmarshal([]byte(audio.JSON.RawJSON()), &rows); err != nil || len(rows.Data) != 2 || float64(len(rows.Data[1])) != rows.Shape[1] {
				return "", differs("%v %v", rows.Shape, err)
			}
			return fmt.Sprintf("2 vectors of %d", len(rows.Data[1])), nil
		}},
		{"error 7502", func(ctx context.Context) (string, error) {
			_, err := run(ctx, "@cf/none/such", ai.AIRunParamsBodyPrompt{Prompt: cloudflare.F("x")})
			var api *cloudflare.Error
			if !errors.As(err, &api) || api.StatusCode != 404 || len(api.Errors) == 0 || api.Errors[0].Code != 7502 {
				return "", differs("%v", err)
			}
			return api.Errors[0].Message, nil
		}},
	}
}
