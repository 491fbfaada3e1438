package modelhost

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/footnote-rag/footnote/workersai"
)

// BindingPath is where the host answers what the Workers runtime sends for env.AI: Miniflare's remote bindings send each
// call there as it is, its URL in mf-url and its headers with the prefix mf-header-. Formats: workerd's
// src/cloudflare/internal/ai-api.ts and Miniflare's remote-proxy-client.worker.ts.
const BindingPath = "/binding"

const (
	bindingURLHeader = "Mf-Url"
	bindingPrefix    = "Mf-Header-"
	bindingModel     = "Cf-Consn-Model-Id" // may have a prefix and a colon before the name
	bindingAccount   = "binding"           // where the URL names none
)

// binding serves BindingPath. Its query may hold token, where the host has tokens, and account.
func (h *Host) binding(c *call) error {
	own := c.r.URL.Query()
	c.account, c.path = own.Get("account"), "binding"
	if c.account == "" {
		c.account = bindingAccount
	}
	sent, err := url.Parse(c.r.Header.Get(bindingURLHeader))
	if err != nil || sent.Path == "" {
		return &failure{status: http.StatusUpgradeRequired, code: codeEdgeMethod,
			message: "this is the URL of an AI binding: Miniflare's remoteProxyConnectionString. It takes calls, with mf-url, and no RPC sessions"}
	}
	c.bare = sent.Path == "/run" || sent.Path == "/ai-gateway/run"
	if err := h.checkToken(c.r, own.Get("token"), "give the binding's URL the query ?token=…"); err != nil {
		return err
	}
	if err := h.checkAccount(c); err != nil {
		return err
	}
	c.r = unwrapBinding(c.r, sent)
	for _, e := range h.bindingEndpoints() {
		if e.path != sent.Path {
			continue
		}
		if e.method != c.r.Method {
			return wrongMethod(c.r.Method)
		}
		return e.serve(c)
	}
	f := noRoute()
	f.message = "the binding serves run, models and toMarkdown here, not " + sent.Path
	return f
}

func (h *Host) bindingEndpoints() []endpoint {
	return []endpoint{
		{http.MethodPost, "/run", h.bindingRun},
		{http.MethodPost, "/ai-gateway/run", h.bindingRun}, // the gateway's options need a gateway: there is none
		{http.MethodGet, "/ai-api/models/search", h.searchModels},
		{http.MethodPost, "/to-everything/markdown/transformer", h.bindingMarkdown},
		{http.MethodGet, "/to-everything/markdown/supported", h.markdownFormats},
	}
}

// unwrapBinding is the request that the runtime made, before Miniflare wrapped it.
func unwrapBinding(r *http.Request, sent *url.URL) *http.Request {
	in := r.Clone(r.Context())
	in.URL, in.Header = sent, http.Header{}
	for name, values := range r.Header {
		if original, ok := strings.CutPrefix(name, bindingPrefix); ok {
			in.Header[http.CanonicalHeaderKey(original)] = values
		}
	}
	return in
}

// bindingOptions are the options of env.AI.run that mean something here; the gateway's are for a gateway.
type bindingOptions struct {
	QueueRequest bool `json:"queueRequest"`
	RejectIfBusy bool `json:"rejectIfBusy"`
}

// bindingRun serves env.AI.run.
func (h *Host) bindingRun(c *call) error {
	model := c.r.Header.Get(bindingModel)
	if _, name, found := strings.Cut(model, ":"); found && !strings.HasPrefix(model, "@") {
		model = name // the option prefix of env.AI.run
	}
	var o bindingOptions
	var err error
	if strings.HasPrefix(c.r.Header.Get("Content-Type"), "application/json") {
		o, err = h.bindingJSON(c)
	} else {
		o, err = h.bindingStream(c)
	}
	if err != nil {
		return err
	}
	c.r.URL = &url.URL{Path: "/run/" + model}
	if o.QueueRequest {
		c.r.URL.RawQuery = "queueRequest=true"
	}
	return h.run(c, model)
}

// bindingJSON takes the inputs out of {"inputs":{…},"options":{…}} and makes them the request's body.
func (h *Host) bindingJSON(c *call) (bindingOptions, error) {
	body, err := h.readBody(c)
	if err != nil {
		return bindingOptions{}, err
	}
	var in struct {
		Inputs  json.RawMessage `json:"inputs"`
		Options bindingOptions  `json:"options"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return in.Options, invalid("Invalid JSON", "the binding sent what is no call: "+err.Error())
	}
	inputs := in.Inputs
	if in.Options.RejectIfBusy {
		inputs = withOption(inputs)
	}
	var poll map[string]json.RawMessage // a batch is asked after with its request_id alone
	if len(inputs) < 200 && json.Unmarshal(inputs, &poll) == nil && len(poll) == 1 && poll["request_id"] != nil {
		in.Options.QueueRequest = true
	}
	setBody(c.r, inputs)
	return in.Options, nil
}

// withOption moves rejectIfBusy to where the REST API has it. Inputs that are no object stay: the schema refuses them.
func withOption(inputs json.RawMessage) json.RawMessage {
	var fields map[string]json.RawMessage
	if json.Unmarshal(inputs, &fields) != nil || fields == nil {
		return inputs
	}
	fields["options"] = json.RawMessage(`{"rejectIfBusy":true}`)
	return appendJSON(nil, fields)
}

// bindingStream takes a call whose one stream input is the body: an audio file. The other inputs are in the query's
// userInputs, the options beside it.
func (h *Host) bindingStream(c *call) (bindingOptions, error) {
	q := c.r.URL.Query()
	o := bindingOptions{QueueRequest: q.Get("queueRequest") == "true"}
	var others map[string]json.RawMessage
	if err := json.Unmarshal([]byte(q.Get("userInputs")), &others); err != nil && q.Has("userInputs") {
		return o, invalid("userInputs is not JSON", "")
	}
	c.streamed = others
	return o, nil
}

func setBody(r *http.Request, body []byte) {
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
}

// bindingNames are the names of the errors that a Worker sees.
var bindingNames = map[int]string{workersai.CodeInvalidInput: "InvalidInput"}

// writeBindingFailure answers as the Workers runtime reads it: the Worker gets an error of that name whose text is code
// and description.
func writeBindingFailure(w http.ResponseWriter, f *failure) {
	name := bindingNames[f.code]
	if name == "" {
		name = "InferenceUpstreamError"
	}
	f.setHeaders(w.Header())
	writeJSON(w, f.status, map[string]any{
		"internalCode": f.code, "name": name, "message": name + ": " + f.message, "description": f.message,
	})
}

// bindingMarkdown serves env.AI.toMarkdown(files).
func (h *Host) bindingMarkdown(c *call) error {
	body, err := h.readBody(c)
	if err != nil {
		return err
	}
	var in struct {
		Files []struct {
			Name     string `json:"name"`
			MimeType string `json:"mimeType"`
			Data     []byte `json:"data"`
		} `json:"files"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return invalid("Invalid JSON", "toMarkdown sent what is no list of files: "+err.Error())
	}
	docs := []convertedFile{}
	for _, f := range in.Files {
		docs = append(docs, convert(f.Name, f.MimeType, f.Data))
	}
	answer(c, docs)
	return nil
}

// fileFormat is a kind of file that is converted.
type fileFormat struct {
	MimeType  string `json:"mimeType"`
	Extension string `json:"extension"`
}

// markdownFormats serves env.AI.toMarkdown().supported() and GET /ai/tomarkdown/supported.
func (h *Host) markdownFormats(c *call) error {
	formats := make([]fileFormat, 0, len(extensions))
	for ext, kind := range extensions {
		formats = append(formats, fileFormat{kind, ext})
	}
	slices.SortFunc(formats, func(a, b fileFormat) int { return strings.Compare(a.Extension, b.Extension) })
	answer(c, formats)
	return nil
}

// checkAccount refuses accounts that are not served.
func (h *Host) checkAccount(c *call) error {
	if len(h.cfg.Accounts) == 0 || slices.Contains(h.cfg.Accounts, c.account) {
		return nil
	}
	return &failure{status: http.StatusNotFound, code: workersai.CodeEdgeInvalidObject,
		message: fmt.Sprintf("Could not route to %s, perhaps your object identifier is invalid? This host does not serve account %s", c.r.URL.Path, c.account)}
}
