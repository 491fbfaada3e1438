package modelhost

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// HeaderFault names the faults of one request, in the words of ParseFaults, where Faults allow that with "header".
const HeaderFault = "Footnote-Fault"

// Faults are failures that a host injects on purpose, so that clients can be tested against them: those that were met
// at Cloudflare. The zero value injects none. Made by ParseFaults; safe for concurrent use.
type Faults struct {
	rules      []faultRule
	perRequest bool
	random     *lockedRandom
}

// faultRule is one fault with its argument and how often it happens.
type faultRule struct {
	name  string
	share float64       // 0 to 1
	after time.Duration // slow_first_byte; Retry-After of 3040 and 429
	bytes int           // stream_cut: where; -1 anywhere
}

// ParseFaults reads a list such as
//
//	stream_cut=0.1,429=0.05,double_done,slow_first_byte=5s@0.2,seed=7
//
// of name, name=share, name=argument or name=argument@share. A share is above 0 and at most 1; without it the fault
// happens to every request it fits. "seed" makes a run repeatable, "header" lets a request choose its own faults with
// the header Footnote-Fault. FaultNames lists the rest.
func ParseFaults(spec string) (Faults, error) {
	f := Faults{}
	seed := uint64(1)
	for item := range strings.SplitSeq(spec, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		name, value, _ := strings.Cut(item, "=")
		var err error
		switch {
		case item == "header":
			f.perRequest = true
		case name == "seed":
			seed, err = strconv.ParseUint(value, 10, 64)
		default:
			var r faultRule
			if r, err = parseFault(item); err == nil {
				f.rules = append(f.rules, r)
			}
		}
		if err != nil {
			return Faults{}, fmt.Errorf("fault %q: %w", item, err)
		}
	}
	f.random = &lockedRandom{r: rand.New(rand.NewPCG(seed, 0))}
	return f, nil
}

func parseFault(item string) (faultRule, error) {
	item, share, shared := strings.Cut(item, "@")
	name, value, given := strings.Cut(item, "=")
	r := faultRule{name: name, share: 1, bytes: -1}
	if !slices.Contains(FaultNames(), name) {
		return r, fmt.Errorf("there is no such fault; there are %s", strings.Join(FaultNames(), ", "))
	}
	if p, err := strconv.ParseFloat(value, 64); given && !shared && err == nil && p <= 1 {
		share, shared, given = value, true, false
	}
	if shared {
		p, err := strconv.ParseFloat(share, 64)
		if err != nil || !(p > 0 && p <= 1) {
			return r, fmt.Errorf("share %q is not above 0 and at most 1", share)
		}
		r.share = p
	}
	if !given {
		return r, r.needsArgument()
	}
	return r, r.readArgument(value)
}

func (r *faultRule) needsArgument() error {
	if r.name == faultSlow {
		r.after = defaultSlow
	}
	return nil
}

const defaultSlow = 5 * time.Second

func (r *faultRule) readArgument(value string) (err error) {
	switch r.name {
	case faultSlow, "3040", "429":
		if r.after, err = time.ParseDuration(value); err == nil && r.after < 0 {
			err = fmt.Errorf("%s is negative", value)
		}
	case faultCut:
		r.bytes, err = strconv.Atoi(strings.TrimSuffix(value, "b"))
		if err == nil && r.bytes < 0 {
			err = fmt.Errorf("%s is negative", value)
		}
	default:
		err = fmt.Errorf("it takes no argument, only a share above 0 and at most 1")
	}
	return err
}

// Names of the faults that change a true answer. Those that stand in for one are in faultAnswers.
const (
	faultSlow       = "slow_first_byte"      // =5s: nothing is sent for so long
	faultCut        = "stream_cut"           // =120b: the connection is dropped there; without it anywhere before [DONE]
	faultCutClean   = "stream_end"           // the stream ends properly, without [DONE]
	faultDoubleDone = "double_done"          // [DONE] comes twice
	faultNumbers    = "number_tokens"        // pieces of digits are JSON numbers
	faultHybrid     = "hybrid_frames"        // text twice in a frame, repeated finish_reason
	faultErrors     = "errors_frame"         // the stream fails after its first piece
	faultWhole      = "json_instead_of_sse"  // a stream's answer at once
	faultEmpty      = "empty_for_stream"     // a stream is asked for, an empty result comes
	faultEndMarker  = "end_marker_tool_call" // calls in pieces, and a piece that is none at the end
	faultMissingRow = "missing_row"
	faultDimension  = "wrong_dimension"
	faultNaN        = "nan"
	faultJPEG       = "jpeg_for_png"
	faultReset      = "reset" // the connection is reset before anything is sent
)

// FaultNames are the faults that ParseFaults knows.
func FaultNames() []string {
	names := []string{faultSlow, faultReset, faultCut, faultCutClean, faultDoubleDone, faultNumbers, faultHybrid, faultErrors,
		faultWhole, faultEmpty, faultEndMarker, faultMissingRow, faultDimension, faultNaN, faultJPEG}
	for _, a := range faultAnswers {
		names = append(names, a.name)
	}
	return names
}

// draw is what happens to one request: each rule that its share picks.
func (f Faults) draw(header string) ([]faultRule, error) {
	rules := f.rules
	if f.perRequest && header != "" {
		own, err := ParseFaults(header)
		if err != nil {
			return nil, err
		}
		rules = own.rules
	}
	var out []faultRule
	for _, r := range rules {
		if r.share == 1 || f.random.float() < r.share {
			out = append(out, r)
		}
	}
	return out, nil
}

func (f Faults) active() bool { return len(f.rules) > 0 || f.perRequest }

type lockedRandom struct {
	mu sync.Mutex
	r  *rand.Rand
}

func (l *lockedRandom) float() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Float64()
}

// faultAnswer stands in for an answer.
type faultAnswer struct {
	name        string
	status      int
	contentType string
	body        string
	retryAfter  bool // header Retry-After, 1 s or as the argument says; else only with an argument
}

const faultRequestID = "(c0a7213e-0d5c-4f5c-9c31-1c0f2a7b9d11)"

func modelFault(code string, status int, message string) faultAnswer {
	return faultAnswer{name: code, status: status, contentType: "application/json",
		body: fmt.Sprintf(`{"errors":[{"message":"AiError: Ai: %s %s","code":%s}],"success":false,"result":{},"messages":[]}`, message, faultRequestID, code)}
}

func edgeFault(code string, status int, message string) faultAnswer {
	return faultAnswer{name: code, status: status, contentType: "application/json",
		body: fmt.Sprintf(`{"result":null,"success":false,"errors":[{"code":%s,"message":"%s"}],"messages":[]}`, code, message)}
}

// faultAnswers are errors in the words and shapes in which Cloudflare's were met.
var faultAnswers = []faultAnswer{
	{name: "429", status: 429, contentType: "application/json", retryAfter: true,
		body: `{"result":{},"success":false,"errors":[{"code":7505,"message":"rate limited on purpose"}],"messages":[{"code":3040,"message":"AiError: Ai: Capacity temporarily exceeded, please try again. ` + faultRequestID + `"}]}`},
	modelFault("3040", 429, "Capacity temporarily exceeded, please try again."),
	modelFault("3036", 429, "Account limited"),
	modelFault("4006", 429, "you have used up your daily free allocation of 10,000 neurons, please upgrade to Cloudflare's Workers Paid plan if you would like to continue usage."),
	modelFault("5028", 410, "This model was deprecated on 2026-05-30"),
	modelFault("5007", 400, "No such model @cf/no/such or task"),
	modelFault("5006", 400, "Bad input: Error: required properties at '/' are 'prompt'"),
	modelFault("5021", 413, "The estimated number of input and maximum output tokens (263008) exceeded this model context window limit (262144)."),
	modelFault("3007", 408, "Request timeout"),
	modelFault("3043", 500, "Internal server error"),
	edgeFault("7000", 400, "No route for that URI"),
	edgeFault("7003", 404, "Could not route to /client/v4/accounts/x/ai/run, perhaps your object identifier is invalid?"),
	edgeFault("9106", 400, "Authentication failed (status: 400)"),
	edgeFault("10000", 401, "Authentication error"),
	{name: "nested", status: 400, contentType: "application/json",
		body: `{"errors":[{"message":"AiError: AiError: {\"error\":{\"message\":\"This model's maximum context length is 24000 tokens.\",\"type\":\"BadRequestError\",\"param\":\"input_tokens\",\"code\":400}} ` + faultRequestID + `","code":8001}],"success":false,"result":{},"messages":[]}`},
	{name: "openai_error", status: 408, contentType: "application/json", body: `{"error":{"code":"invalid_prompt","message":"AiError: AiError: Request timeout ` + faultRequestID + `"}}`},
	{name: "html", status: 502, contentType: "text/html; charset=utf-8", body: "<!DOCTYPE html><html><head><title>502</title></head><body><h1>Bad gateway</h1></body></html>"},
	{name: "html_200", status: 200, contentType: "text/html; charset=utf-8", body: "<!DOCTYPE html><html><body>Please sign in to this network.</body></html>"},
}
