package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

// Limits of a download: pages, not archives, are fetched, and someone may be waiting.
const (
	maxFetchBytes     = 10_000_000
	maxFetchTime      = 20 * time.Second
	maxFetchRedirects = 5
	maxURLBytes       = 2048 // also the most that an index entry of the database takes well
)

// fetch downloads a public page or file, whose URI is the URL as given. A refused URL, also as the target of a redirect,
// wraps ErrURLNotAllowed, a long body ErrTooLarge, a body of no use ErrMediaType; other errors say what the server did.
func fetch(ctx context.Context, rawURL string) (Document, error) {
	return newFetcher(ssrf.New().Safe, net.DefaultResolver).fetch(ctx, rawURL)
}

// fetcher holds what tests replace.
type fetcher struct {
	client  *http.Client
	timeout time.Duration
}

// newFetcher checks every address after it was looked up and before it is connected to, so that no name can stand for a
// private one. Proxies of the environment are not for users' URLs.
func newFetcher(allow func(network, address string, c syscall.RawConn) error, resolver *net.Resolver) *fetcher {
	dialer := &net.Dialer{Timeout: maxFetchTime, Resolver: resolver, Control: allow}
	return &fetcher{timeout: maxFetchTime, client: &http.Client{
		Transport: &http.Transport{DialContext: dialer.DialContext, Proxy: nil, DisableKeepAlives: true,
			MaxResponseHeaderBytes: 64 << 10, TLSHandshakeTimeout: maxFetchTime},
		CheckRedirect: checkRedirect,
	}}
}

func (f *fetcher) fetch(ctx context.Context, rawURL string) (Document, error) {
	u, err := checkURL(rawURL)
	if err != nil {
		return Document{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return Document{}, fmt.Errorf("%w: %v", ErrURLNotAllowed, err)
	}
	request.Header.Set("User-Agent", "Footnote/1.0")
	request.Header.Set("Accept", "text/html,application/xhtml+xml,text/markdown,text/plain,*/*;q=0.5")
	response, err := f.client.Do(request)
	if err != nil {
		return Document{}, fetchError(u, err)
	}
	defer response.Body.Close()
	d := Document{URI: rawURL}
	if d.Source, err = body(u, response); err != nil {
		return Document{}, err
	}
	if d.MediaType, err = fetchedType(response, d.Source); err != nil {
		return Document{}, err
	}
	return d, nil
}

// checkURL allows absolute http and https URLs without credentials, on the ports of these schemes.
func checkURL(rawURL string) (*url.URL, error) {
	refuse := func(reason string) (*url.URL, error) {
		return nil, fmt.Errorf("%w: %s; give a public address like https://example.com/page", ErrURLNotAllowed, reason)
	}
	if len(rawURL) > maxURLBytes {
		return refuse(fmt.Sprintf("it is longer than %d bytes", maxURLBytes))
	}
	u, err := url.Parse(rawURL)
	if err != nil {
		return refuse("it cannot be parsed")
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return refuse("only http and https are fetched")
	case u.Hostname() == "":
		return refuse("it names no host")
	case u.User != nil:
		return refuse("it carries credentials")
	case strings.Contains(u.Host, "%"):
		return refuse("its host has a zone or escapes")
	case u.Port() != "" && u.Port() != "80" && u.Port() != "443" || strings.HasSuffix(u.Host, ":"):
		return refuse("only the ports 80 and 443 are fetched from")
	}
	return u, nil
}

func checkRedirect(request *http.Request, via []*http.Request) error {
	if len(via) > maxFetchRedirects {
		return fmt.Errorf("%w: more than %d redirects", ErrURLNotAllowed, maxFetchRedirects)
	}
	request.Header.Del("Referer")
	_, err := checkURL(request.URL.String())
	return err
}

// fetchError parts addresses that are refused from servers that fail.
func fetchError(u *url.URL, err error) error {
	var cause *url.Error
	if errors.As(err, &cause) {
		err = cause.Err // without the URL, which may hold secrets
	}
	if errors.Is(err, ErrURLNotAllowed) {
		return err
	}
	if errors.Is(err, ssrf.ErrProhibitedIP) || errors.Is(err, ssrf.ErrProhibitedPort) || errors.Is(err, ssrf.ErrProhibitedNetwork) || errors.Is(err, ssrf.ErrInvalidHostPort) {
		return fmt.Errorf("%w: %s is not a public address", ErrURLNotAllowed, u.Hostname())
	}
	return fmt.Errorf("fetch from %s: %w", u.Hostname(), err)
}

// body reads a whole answer, uncompressed sizes counted.
func body(u *url.URL, response *http.Response) ([]byte, error) {
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch from %s: the server answered %s; check the address in a browser", u.Hostname(), response.Status)
	}
	tooLarge := fmt.Errorf("%w: fetched documents may have at most %d MB; download it and send it as a file", ErrTooLarge, maxFetchBytes/1_000_000)
	if response.ContentLength > maxFetchBytes {
		return nil, tooLarge
	}
	source, err := io.ReadAll(io.LimitReader(response.Body, maxFetchBytes+1))
	if err != nil {
		return nil, fetchError(u, err)
	}
	if len(source) > maxFetchBytes {
		return nil, tooLarge
	}
	return source, nil
}

// fetchedType corrects servers that serve Markdown and the like as plain text.
func fetchedType(response *http.Response, source []byte) (string, error) {
	declared := response.Header.Get("Content-Type")
	name, params, err := mime.ParseMediaType(declared)
	if err != nil || name == "text/plain" && formatOfName(response.Request.URL.Path) != nil {
		declared = ""
	}
	mediaType, err := DetectMediaType(declared, response.Request.URL.Path, source)
	if err == nil && declared == "" && params["charset"] != "" {
		mediaType = mime.FormatMediaType(mediaType, map[string]string{"charset": params["charset"]})
	}
	return mediaType, err
}
