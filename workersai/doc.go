// Package workersai is a client of the Cloudflare Workers AI REST API, with its wire types and error codes. The same
// types serve package modelhost, which answers this API from local engines, and package workersaitest, which answers it
// in tests: all three differ by a base URL.
//
//	client, err := workersai.New(workersai.Config{AccountID: account, Token: token})
//	for event, err := range client.ChatStream(ctx, workersai.ChatRequest{Model: model, Prompt: "Hello"}) { … }
//
// # Errors
//
// A failure that the API reports is an *Error, whatever its shape and whether it came before or inside a stream; its
// sentinel (ErrRateLimited, ErrContextExceeded, …) is found by its code first and its HTTP status second. An answer that
// came and cannot be used is a *ReplyError: vectors missing, of another length, not finite. No answer, or one that broke
// off, matches ErrUnreachable. Texts of the server are bounded, and never hold the token.
//
// # Retries
//
// A call is tried again, twice by default, after 408, 409, 429 and 5xx and after lost connections; never after a used-up
// quota, a refused certificate or an unusable answer, and a stream only before its first event. The wait is what
// Retry-After asks for, else 0.5 s doubling to 8 s less up to a quarter, and ends with the context. A caller with a queue
// of its own sets MaxRetries to -1: then there is one layer of retries.
//
// # Streams
//
// A stream is an iter.Seq2: lazy, closed by break, its error last. One that ends without [DONE] ends with
// io.ErrUnexpectedEOF, never as a short answer. A limit of time is on each read, not on the whole, and a slow
// consumer does not count.
package workersai
