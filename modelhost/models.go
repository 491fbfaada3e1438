package modelhost

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/footnote-rag/footnote/workersai"
)

const maxPerPage = 100 // models a page of the search

type listedModel struct {
	ID          string          `json:"id"`
	Source      int             `json:"source"`
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Task        listedTask      `json:"task"`
	Tags        []string        `json:"tags"`
	Properties  []modelProperty `json:"properties"`
}

type listedTask struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Description string `json:"description"`
}

type modelProperty struct {
	ID    string `json:"property_id"`
	Value string `json:"value"`
}

// searchModels serves GET /ai/models/search: the whole catalogue, each with whether and from what it is served.
func (h *Host) searchModels(c *call) error {
	q := c.r.URL.Query()
	var found []listedModel
	for _, m := range h.cfg.Catalogue.Models {
		if matches(q.Get("search"), m.Name+" "+m.Description) && matches(q.Get("task"), taskNames[m.Task]) && matches(q.Get("author"), owner(m.Name)) {
			found = append(found, h.listed(m))
		}
	}
	page, per := number(q.Get("page"), 1), min(number(q.Get("per_page"), maxPerPage), maxPerPage)
	from := min(len(found), (page-1)*per)
	part := found[from:min(len(found), from+per)]
	env := workersai.Success(append([]listedModel{}, part...))
	env.ResultInfo = &workersai.ResultInfo{Page: page, PerPage: per, Count: len(part), TotalCount: len(found)}
	writeJSON(c.w, http.StatusOK, env)
	return nil
}

func matches(want, text string) bool {
	return strings.Contains(strings.ToLower(text), strings.ToLower(want))
}

// number reads a positive one, at most a million: beyond it there are no pages.
func number(text string, otherwise int) int {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return otherwise
	}
	return min(n, 1_000_000)
}

// listed names the properties as Cloudflare does, and ours: served, served_by, strength, setup.
func (h *Host) listed(m Model) listedModel {
	out := listedModel{
		ID: uuid.NewSHA1(uuid.NameSpaceURL, []byte(m.Name)).String(), Source: 1, Name: m.Name, Description: m.Description,
		Task: listedTask{ID: uuid.NewSHA1(uuid.NameSpaceURL, []byte(m.Task)).String(), Name: taskNames[m.Task]}, Tags: []string{}, Properties: []modelProperty{},
	}
	add := func(id, value string) {
		if value != "" && value != "0" {
			out.Properties = append(out.Properties, modelProperty{id, value})
		}
	}
	b := h.models[m.Name]
	add("served", strconv.FormatBool(b != nil))
	if b == nil {
		add("setup", m.Setup)
		return out
	}
	add("served_by", b.servedBy())
	add("strength", b.Strength)
	add("context_window", strconv.Itoa(b.ContextWindow))
	add("max_input_tokens", strconv.Itoa(b.MaxTokens))
	add("output_dimensions", strconv.Itoa(b.Dimensions))
	return out
}

// modelSchema serves GET /ai/models/schema?model=.
func (h *Host) modelSchema(c *call) error {
	name := c.r.URL.Query().Get("model")
	m, ok := h.known[name]
	if !ok {
		return unknownModel(name, "no model "+strconv.Quote(name)+" in this host's catalogue: give ?model=@cf/…")
	}
	writeJSON(c.w, http.StatusOK, workersai.Success(h.schemas[m.Task]))
	return nil
}
