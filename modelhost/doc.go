// Package modelhost serves the Cloudflare Workers AI REST API from engines of our own: llama.cpp servers that someone
// else supervises, or any OpenAI-compatible URL.
//
// [New] takes a [Catalogue], which maps model names to engines, and the engines by name. [Host.Handler] is plain
// net/http. Requests are validated by the model's JSON Schema with the texts of Cloudflare's own validator; failures
// carry the project's codes (7502, 7504, 7505, 7506) in errors[0] and Cloudflare's of today in messages[0].
package modelhost
