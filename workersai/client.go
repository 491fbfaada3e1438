package workersai

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Defaults of Config.
const (
	DefaultBaseURL = "https://api.cloudflare.com/client/v4"

	defaultMaxRetries = 2
	// A cold start of a large model takes tens of seconds; a hang must still free its caller.
	defaultTimeout = 60 * time.Second
	// A server that asks for more than a minute gets its wish from the caller, who sees RetryAfter: not from a sleeping call.
	defaultMaxRetryAfter = 60 * time.Second
	// 100 vectors of 1,024 dimensions are 2 MB of JSON, a 2048 x 2048 PNG in base64 about 17 MB.
	defaultMaxReplyBytes = 64 << 20
)

// Config says where the API is and how patient to be. Zero fields mean the documented default.
type Config struct {
	BaseURL   string // default https://api.cloudflare.com/client/v4; for another host up to and including /client/v4
	AccountID string // required at Cloudflare; elsewhere default "local"
	Token     string // required at Cloudflare; "" sends none
	GatewayID string // of an AI Gateway that all calls go through; default none

	// GatewayHeaders go with every call: those of the AI Gateway, cf-aig-cache-ttl or cf-aig-metadata for example.
	GatewayHeaders http.Header

	HTTPClient *http.Client // its Transport, Jar and Timeout are used; redirects are never followed. Default: one of its own
	UserAgent  string       // default footnote-workersai

	MaxRetries    int           // of one call, after the first try; default 2, -1 none
	MaxRetryAfter time.Duration // a longer Retry-After ends the call with its error; default 60 s
	Timeout       time.Duration // for each try of a plain call; default 60 s, -1 none
	HeaderTimeout time.Duration // until a stream's response headers; default 60 s, -1 none
	IdleTimeout   time.Duration // for each read of a stream; default 60 s, -1 none
	MaxReplyBytes int64         // of one reply, inflated; default 64 MiB

	// FallbackDeprecated asks a retired model's known successor when a call is answered 5028.
	FallbackDeprecated bool
	// OnFallback is called once for each retired model. Default: nothing is reported.
	OnFallback func(retired, successor string)
	// OnAttempt is called after each try, for logs and metrics. It must be fast and safe for concurrent use.
	OnAttempt func(Attempt)
}

// Client calls the API. It does not change after New and is safe for concurrent use.
type Client struct {
	cfg     Config
	base    string // base URL and account, up to /ai
	http    *http.Client
	retired sync.Map // retired model → successor, filled by answers 5028
}

// New checks the configuration and fills in the defaults. It makes no call.
func New(cfg Config) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("workersai config: %w", err)
	}
	c := &Client{cfg: cfg, base: cfg.BaseURL + "/accounts/" + url.PathEscape(cfg.AccountID) + "/ai"}
	own := http.Client{Transport: newTransport()}
	if cfg.HTTPClient != nil {
		own = *cfg.HTTPClient
	}
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.http = &own
	return c, nil
}

// newTransport keeps enough idle connections for a pool of workers that all talk to one host.
func newTransport() http.RoundTripper {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultTransport
	}
	t = t.Clone()
	t.MaxIdleConnsPerHost = 64
	return t
}

// CloseIdleConnections closes the connections that no call uses.
func (c *Client) CloseIdleConnections() { c.http.CloseIdleConnections() }

func (cfg Config) withDefaults() (Config, error) {
	cfg.BaseURL = strings.TrimRight(strings.TrimSpace(cfg.BaseURL), "/")
	cfg.AccountID = strings.TrimSpace(cfg.AccountID)
	cfg.Token = strings.TrimSpace(cfg.Token)
	if err := cfg.fillAddress(); err != nil {
		return cfg, err
	}
	if strings.ContainsFunc(cfg.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return cfg, errors.New("the token holds blanks or control characters: copy it again")
	}
	cfg.UserAgent = cmp.Or(cfg.UserAgent, "footnote-workersai")
	cfg.MaxRetries = cmp.Or(cfg.MaxRetries, defaultMaxRetries)
	cfg.MaxRetryAfter = cmp.Or(cfg.MaxRetryAfter, defaultMaxRetryAfter)
	cfg.Timeout = cmp.Or(cfg.Timeout, defaultTimeout)
	cfg.HeaderTimeout = cmp.Or(cfg.HeaderTimeout, defaultTimeout)
	cfg.IdleTimeout = cmp.Or(cfg.IdleTimeout, defaultTimeout)
	cfg.MaxReplyBytes = cmp.Or(cfg.MaxReplyBytes, defaultMaxReplyBytes)
	for name := range cfg.GatewayHeaders {
		if !strings.HasPrefix(strings.ToLower(name), "cf-aig-") {
			return cfg, fmt.Errorf("GatewayHeaders has %s: only cf-aig-* belong there", name)
		}
	}
	cfg.GatewayHeaders = cfg.GatewayHeaders.Clone()
	if cfg.MaxReplyBytes < 0 {
		return cfg, errors.New("MaxReplyBytes is negative")
	}
	return cfg, nil
}

func (cfg *Config) fillAddress() error {
	if cfg.BaseURL == "" || cfg.BaseURL == DefaultBaseURL {
		cfg.BaseURL = DefaultBaseURL
		if cfg.AccountID == "" {
			return errors.New("AccountID is empty: set CLOUDFLARE_ACCOUNT_ID, or a base URL of your own")
		}
		if cfg.Token == "" {
			return errors.New("the token is empty: set CLOUDFLARE_API_TOKEN (permissions Workers AI Read and Edit)")
		}
		return nil
	}
	cfg.AccountID = cmp.Or(cfg.AccountID, "local")
	u, err := url.Parse(cfg.BaseURL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("BaseURL %q is not an http or https URL, such as %s", cfg.BaseURL, DefaultBaseURL)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("BaseURL must have no user, query or fragment")
	}
	return nil
}

// String leaves the token out.
func (cfg Config) String() string {
	return fmt.Sprintf("workersai.Config{BaseURL:%q AccountID:%q}", cfg.BaseURL, cfg.AccountID)
}

// GoString leaves the token out.
func (cfg Config) GoString() string { return cfg.String() }

// LogValue leaves the token out.
func (cfg Config) LogValue() slog.Value {
	return slog.GroupValue(slog.String("base_url", cfg.BaseURL), slog.String("account_id", cfg.AccountID))
}
