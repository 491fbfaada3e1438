package ingest_test

import (
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"code.dny.dev/ssrf"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/footnote-rag/footnote/ingest"
)

// refusedURLs must not cause a single packet.
var refusedURLs = []string{
	"", "x", "/etc/passwd", "//example.com/", "example.com", "example.com:80/x", "http:", "http://", "http:///path", "http:example.com",
	"file:///etc/passwd", "ftp://example.com/", "gopher://example.com/", "data:text/plain,x", "javascript:alert(1)", "ws://example.com/",
	"ldap://example.com", "dict://example.com:11211/", "HTTPX://example.com", "unix:///var/run/docker.sock", "jar:http://example.com!/",
	"http://user@example.com/", "http://user:password@example.com/", "http://@example.com/", "http://example.com@127.0.0.1/",
	"http://example.com:22/", "http://example.com:25/", "http://example.com:5432/", "http://example.com:6379/", "http://example.com:8080/",
	"http://example.com:0/", "http://example.com:65536/", "http://example.com:-1/", "http://example.com:/", "http://example.com:443x/",
	"http://127.0.0.1/", "http://127.1.2.3/", "http://0.0.0.0/", "http://0.1.2.3/", "http://10.0.0.1/", "http://172.16.0.1/",
	"http://192.168.1.1/", "http://169.254.169.254/latest/meta-data/", "http://100.64.0.1/", "http://100.100.100.200/", "http://192.0.0.192/",
	"http://192.0.2.1/", "http://198.18.0.1/", "http://198.51.100.1/", "http://203.0.113.1/", "http://224.0.0.1/", "http://240.0.0.1/", "http://255.255.255.255/",
	"http://2130706433/", "http://017700000001/", "http://0x7f000001/", "http://0x7f.1/", "http://127.1/", "http://127.0.1/", "http://0177.0.0.1/",
	"http://127.0.0.1./", "http://1.2.3.4.5/", "http://example.0/", "http://0/", "http://0x/", "http://example.0X7F/",
	"http://[::1]/", "http://[::]/", "http://[::ffff:127.0.0.1]/", "http://[::ffff:8.8.8.8]/", "http://[::127.0.0.1]/", "http://[fe80::1]/", "http://[fe80::1%25eth0]/",
	"http://[fec0::1]/", "http://[fc00::1]/", "http://[fd00:ec2::254]/", "http://[ff02::1]/", "http://[64:ff9b::7f00:1]/", "http://[64:ff9b:1::1]/",
	"http://[2002:7f00:1::]/", "http://[2001::1]/", "http://[2001:db8::1]/", "http://[100::1]/", "http://[::1]:443/", "http://[::1", "http://::1/",
	"http://exa mple.com/", "http://example.com\n/", "http://example.com\x00/", "http://127.0.0.1%2f@example.com/", "http://%31%32%37.0.0.1/", "http://①②⑦.⓪.⓪.①/%zz",
	"https://example.com/" + strings.Repeat("x", 64<<10),
}

// silent is a resolver that may not be asked.
func silent(t testing.TB) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		t.Error("a name was looked up")
		return nil, errors.New("looked up")
	}}
}

func TestFetchRefusesURLs(t *testing.T) {
	t.Parallel()
	if len(refusedURLs) < 60 {
		t.Fatalf("%d URLs, want 60", len(refusedURLs))
	}
	for _, raw := range refusedURLs {
		_, err := ingest.FetchFrom(t.Context(), raw, 443, silent(t), time.Second)
		if !errors.Is(err, ingest.ErrURLNotAllowed) {
			t.Errorf("fetch of %.100q = %v, want ErrURLNotAllowed", raw, err)
		}
	}
}

func FuzzURLGuard(f *testing.F) {
	for _, raw := range append(refusedURLs, "https://example.com/a?b#c", "http://8.8.8.8:80/", "https://[2606:4700::1]/") {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // no name is looked up
		_, err := ingest.FetchFrom(ctx, raw, 443, silent(t), time.Second)
		if err == nil {
			t.Fatalf("fetch of %q without a network succeeds", raw)
		}
		if errors.Is(err, ingest.ErrURLNotAllowed) {
			return
		}
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.Port() != "" && u.Port() != "80" && u.Port() != "443" {
			t.Errorf("%q is allowed", raw)
		}
		if ip, err := netip.ParseAddr(u.Hostname()); err == nil && (!ip.IsGlobalUnicast() || ip.IsPrivate() || ip.Is4In6()) {
			t.Errorf("%q is allowed, with a private address", raw)
		}
	})
}

// names is a resolver that knows only these addresses.
func names(addresses map[string][]string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			for answerName(theirs, addresses) == nil {
			}
		}()
		return ours, nil
	}}
}

// answerName speaks DNS over a stream: two bytes of length before each message.
func answerName(conn net.Conn, addresses map[string][]string) error {
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return err
	}
	packed := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, packed); err != nil {
		return err
	}
	var m dnsmessage.Message
	if err := m.Unpack(packed); err != nil {
		return err
	}
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	q := m.Questions[0]
	for _, address := range addresses[strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))] {
		ip := netip.MustParseAddr(address)
		head := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}
		if ip.Is4() && q.Type == dnsmessage.TypeA {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: ip.As4()}})
		}
		if ip.Is6() && q.Type == dnsmessage.TypeAAAA {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AAAAResource{AAAA: ip.As16()}})
		}
	}
	packed, err := m.Pack()
	if err != nil {
		return err
	}
	_, err = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(packed))), packed...))
	return err
}

func TestFetchRefusesNamesOfPrivateAddresses(t *testing.T) {
	t.Parallel()
	resolver := names(map[string][]string{
		"loopback.test": {"127.0.0.1"}, "metadata.test": {"169.254.169.254"}, "six.test": {"::1"}, "mapped.test": {"::ffff:127.0.0.1"},
		"several.test": {"10.0.0.1", "127.0.0.1", "192.168.0.1", "fd00::1"},
	})
	for _, host := range []string{"loopback.test", "LOOPBACK.TEST.", "metadata.test", "six.test", "mapped.test", "several.test", "localhost"} {
		_, err := ingest.FetchFrom(t.Context(), "http://"+host+"/", 80, resolver, 5*time.Second)
		if !errors.Is(err, ingest.ErrURLNotAllowed) {
			t.Errorf("fetch from %s = %v, want ErrURLNotAllowed", host, err)
		}
	}
}

// site is a server at site.test, which may be fetched from although it is on this machine.
type site struct {
	*httptest.Server
	base string
	port uint16
}

func newSite(t *testing.T, handler http.HandlerFunc) site {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	port := netip.MustParseAddrPort(s.Listener.Addr().String()).Port()
	return site{s, fmt.Sprintf("http://site.test:%d", port), port}
}

func (s site) fetch(ctx context.Context, path string) (ingest.Document, error) {
	return s.fetchWithin(ctx, path, 20*time.Second)
}

func (s site) fetchWithin(ctx context.Context, path string, timeout time.Duration) (ingest.Document, error) {
	// The private answers are tried as well, and refused.
	resolver := names(map[string][]string{"site.test": {"127.0.0.1", "::1", "10.0.0.1"}, "private.test": {"127.0.0.9"}})
	return ingest.FetchFrom(ctx, s.base+path, s.port, resolver, timeout, ssrf.WithAllowedV4Prefixes(netip.MustParsePrefix("127.0.0.1/32")))
}

func TestFetch(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", r.URL.Query().Get("type"))
		fmt.Fprint(w, "<p>caf\xe9")
	})
	for path, want := range map[string]string{
		"/?type=text/html;charset=latin1":      "text/html; charset=latin1",
		"/a.md?type=text/plain":                "text/markdown",
		"/a.md?type=text/plain;charset=utf-8":  "text/markdown; charset=utf-8",
		"/a.unknown?type=text/plain":           "text/plain",
		"/a.csv?type=application/octet-stream": "text/csv",
	} {
		path = strings.ReplaceAll(path, ";", "%3B")
		d, err := s.fetch(t.Context(), path)
		if err != nil || d.URI != s.base+path || d.MediaType != want || string(d.Source) != "<p>caf\xe9" {
			t.Errorf("fetch of %s = %+v, %v, want media type %s", path, d, err, want)
		}
	}
}

func TestFetchFollowsRedirects(t *testing.T) {
	t.Parallel()
	canary := atomic.Int64{}
	listener, err := net.Listen("tcp", "127.0.0.9:0")
	if err != nil {
		t.Fatal(err)
	}
	private := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { canary.Add(1) })}}
	private.Start()
	t.Cleanup(private.Close)
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		var code, hops int
		if _, err := fmt.Sscanf(r.URL.Path, "/hop/%d/%d", &code, &hops); err == nil && hops > 0 {
			http.Redirect(w, r, fmt.Sprintf("/hop/%d/%d", code, hops-1), code)
			return
		}
		if to := r.URL.Query().Get("to"); to != "" {
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusFound)
			return
		}
		if r.Header.Get("Referer") != "" {
			t.Error("a redirect carried a referer")
		}
		fmt.Fprint(w, "arrived")
	})
	for _, code := range []int{301, 302, 303, 307, 308} {
		if d, err := s.fetch(t.Context(), fmt.Sprintf("/hop/%d/5", code)); err != nil || string(d.Source) != "arrived" {
			t.Errorf("fetch after 5 redirects of %d = %q, %v", code, d.Source, err)
		}
		if _, err := s.fetch(t.Context(), fmt.Sprintf("/hop/%d/6", code)); !errors.Is(err, ingest.ErrURLNotAllowed) {
			t.Errorf("fetch after 6 redirects of %d = %v, want ErrURLNotAllowed", code, err)
		}
	}
	for _, to := range []string{"file:///etc/passwd", "gopher://site.test/", "http://user@site.test/", "http://site.test:22/", "http://[::1]/",
		private.URL, fmt.Sprintf("http://private.test:%d/", s.port), "http://0x7f.9/", "//127.0.0.9/"} {
		if _, err := s.fetch(t.Context(), "/?to="+to); !errors.Is(err, ingest.ErrURLNotAllowed) {
			t.Errorf("redirect to %s = %v, want ErrURLNotAllowed", to, err)
		}
	}
	if n := canary.Load(); n != 0 {
		t.Errorf("the private server was asked %d times", n)
	}
}

func TestFetchBodies(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/endless":
			for r.Context().Err() == nil {
				_, _ = w.Write(make([]byte, 1<<16))
			}
		case "/long":
			w.Header().Set("Content-Length", "10000001")
			w.WriteHeader(http.StatusOK)
		case "/bomb":
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			for range 20 {
				_, _ = z.Write(make([]byte, 1<<20))
			}
			_ = z.Close()
		case "/short":
			w.Header().Set("Content-Length", "10")
			fmt.Fprint(w, "x")
		case "/pdf":
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "%PDF-1.7\n")
		case "/full":
			_, _ = w.Write([]byte(strings.Repeat("x", 10_000_000)))
		default:
			code := 500
			_, _ = fmt.Sscanf(r.URL.Path, "/%d", &code)
			w.WriteHeader(code)
		}
	})
	for path, want := range map[string]error{
		"/endless": ingest.ErrTooLarge, "/long": ingest.ErrTooLarge, "/bomb": ingest.ErrTooLarge, "/short": ingest.ErrFetchFailed, "/pdf": ingest.ErrMediaType,
		"/204": ingest.ErrFetchFailed, "/206": ingest.ErrFetchFailed, "/304": ingest.ErrFetchFailed, "/404": ingest.ErrFetchFailed, "/500": ingest.ErrFetchFailed,
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			if _, err := s.fetch(t.Context(), path); !errors.Is(err, want) {
				t.Errorf("fetch of %s = %v, want %v", path, err, want)
			}
		})
	}
	if d, err := s.fetch(t.Context(), "/full"); err != nil || len(d.Source) != 10_000_000 {
		t.Errorf("fetch of 10 MB = %d bytes, %v", len(d.Source), err)
	}
}

func TestFetchTakesNoLongerThanItMay(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			fmt.Fprint(w, "x")
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
	})
	for _, path := range []string{"/head", "/body"} {
		_, err := s.fetchWithin(t.Context(), path, 200*time.Millisecond)
		if !errors.Is(err, ingest.ErrFetchFailed) || !strings.Contains(err.Error(), "longer than 200ms") {
			t.Errorf("fetch of %s = %v, want ErrFetchFailed for its time", path, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.fetch(ctx, "/head"); !errors.Is(err, context.Canceled) {
		t.Errorf("fetch that was cancelled = %v, want %v", err, context.Canceled)
	}
}

func TestFetchUsesNoProxy(t *testing.T) {
	asked := atomic.Int64{}
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer proxy.Close()
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	s := newSite(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "direct") })
	if d, err := s.fetch(t.Context(), "/"); err != nil || string(d.Source) != "direct" || asked.Load() != 0 {
		t.Errorf("fetch = %q, %v, and the proxy was asked %d times", d.Source, err, asked.Load())
	}
}
