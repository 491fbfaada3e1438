package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
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

// ErrFetchFailed wraps what went wrong between a URL that is allowed and its server.
var ErrFetchFailed = errors.New("url could not be fetched")

// fetch downloads a public page or file, whose URI is the URL as given. A URL that is refused, also as the target of a
// redirect, wraps ErrURLNotAllowed; a long body ErrTooLarge; a body of no use ErrMediaType; all else ErrFetchFailed.
func fetch(ctx context.Context, rawURL string) (Document, error) {
	return newFetcher([]uint16{80, 443}, net.DefaultResolver).fetch(ctx, rawURL)
}

// fetcher checks every address after it was looked up and before it is connected to, so that no name can stand for a
// private one. Proxies of the environment are not for users' URLs.
type fetcher struct {
	ports   []uint16
	guard   *ssrf.Guardian
	client  *http.Client
	timeout time.Duration
}

func newFetcher(ports []uint16, resolver *net.Resolver, options ...ssrf.Option) *fetcher {
	f := &fetcher{ports: ports, guard: ssrf.New(append(options, ssrf.WithPorts(ports...))...), timeout: maxFetchTime}
	dialer := &net.Dialer{Resolver: resolver, Control: f.guard.Safe}
	f.client = &http.Client{CheckRedirect: f.checkRedirect, Transport: &http.Transport{DialContext: dialer.DialContext,
		Proxy: nil, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10}}
	return f
}

func (f *fetcher) fetch(ctx context.Context, rawURL string) (Document, error) {
	u, err := f.check(rawURL)
	if err != nil {
		return Document{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, f.timeout, fmt.Errorf("it took longer than %s", f.timeout))
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return Document{}, fmt.Errorf("%w: %v", ErrURLNotAllowed, err)
	}
	request.Header.Set("User-Agent", "Footnote/1.0")
	request.Header.Set("Accept", "text/html,application/xhtml+xml,text/markdown,text/plain,*/*;q=0.5")
	response, err := f.client.Do(request)
	if err != nil {
		return Document{}, fetchError(ctx, u, err)
	}
	defer response.Body.Close()
	d := Document{URI: rawURL}
	if d.Source, err = body(ctx, u, response); err != nil {
		return Document{}, err
	}
	if d.MediaType, err = fetchedType(response, d.Source); err != nil {
		return Document{}, err
	}
	return d, nil
}

// check allows absolute http and https URLs without credentials, on the ports of these schemes. Addresses in place of a
// host's name are checked here already, so that nothing is asked of the network.
func (f *fetcher) check(rawURL string) (*url.URL, error) {
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
	address, addressErr := netip.ParseAddr(u.Hostname())
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return refuse("only http and https are fetched")
	case u.Hostname() == "":
		return refuse("it names no host")
	case u.User != nil:
		return refuse("it carries credentials")
	case strings.Contains(u.Host, "%"):
		return refuse("its host has a zone or escapes")
	case !f.allowsPort(u):
		return refuse("only the ports 80 and 443 are fetched from")
	case addressErr == nil && f.guard.SafeAddr(address) != nil:
		return refuse("its address is not public")
	case addressErr != nil && endsInNumber(u.Hostname()):
		return refuse("its host is a number that some read as an address")
	}
	return u, nil
}

func (f *fetcher) allowsPort(u *url.URL) bool {
	if u.Port() == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	return err == nil && slices.Contains(f.ports, uint16(port))
}

// endsInNumber is the URL standard's test for an IPv4 address, which includes octal, hexadecimal and shortened ones.
func endsInNumber(host string) bool {
	host = strings.TrimSuffix(host, ".")
	last := strings.ToLower(host[strings.LastIndexByte(host, '.')+1:])
	if digits, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(digits, "0123456789abcdef") == ""
	}
	return last != "" && strings.Trim(last, "0123456789") == ""
}

func (f *fetcher) checkRedirect(request *http.Request, via []*http.Request) error {
	if len(via) > maxFetchRedirects {
		return fmt.Errorf("%w: more than %d redirects", ErrURLNotAllowed, maxFetchRedirects)
	}
	request.Header.Del("Referer")
	_, err := f.check(request.URL.String())
	return err
}

// fetchError parts addresses that are refused from servers that fail.
func fetchError(ctx context.Context, u *url.URL, err error) error {
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
	var unknown *net.DNSError
	if errors.As(err, &unknown) {
		err = errors.New(unknown.Err) // without the address of our name server
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return fmt.Errorf("%w: %s: %w; check the address in a browser", ErrFetchFailed, u.Hostname(), err)
}

// body reads a whole answer; what counts is its size after decompression.
func body(ctx context.Context, u *url.URL, response *http.Response) ([]byte, error) {
	if response.StatusCode != http.StatusOK {
		return nil, fetchError(ctx, u, fmt.Errorf("the server answered %s", response.Status))
	}
	tooLarge := fmt.Errorf("%w: fetched documents may have at most %d MB; download it and send it as a file", ErrTooLarge, maxFetchBytes/1_000_000)
	if response.ContentLength > maxFetchBytes {
		return nil, tooLarge
	}
	source, err := io.ReadAll(io.LimitReader(response.Body, maxFetchBytes+1))
	if err != nil {
		return nil, fetchError(ctx, u, err)
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
