package ingest

import (
	"context"
	"io"
	"log/slog"
	"net"
	"time"

	"code.dny.dev/ssrf"
)

// ServeExtractor is RunExtractor around another function.
func ServeExtractor(r io.Reader, w io.Writer, extract func(string, []byte) (Extracted, error)) error {
	return serveExtractor(r, w, extract)
}

// Extractor lets tests run children.
type Extractor = extractor

// NewExtractor starts children with a command.
func NewExtractor(command []string, log *slog.Logger, timeout time.Duration) *Extractor {
	x := newExtractor(command, log)
	if timeout > 0 {
		x.timeout = timeout
	}
	return x
}

// IdleChildren are the process numbers of the children that wait.
func (x *Extractor) IdleChildren() []int {
	x.mu.Lock()
	defer x.mu.Unlock()
	var ids []int
	for _, c := range x.idle {
		ids = append(ids, c.cmd.Process.Pid)
	}
	return ids
}

// FetchFrom is fetch with one more port, other names and other addresses than those of the internet.
func FetchFrom(ctx context.Context, url string, port uint16, resolver *net.Resolver, timeout time.Duration, options ...ssrf.Option) (Document, error) {
	f := newFetcher([]uint16{80, 443, port}, resolver, options...)
	f.timeout = timeout
	return f.fetch(ctx, url)
}
