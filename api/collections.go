package api

import (
	"encoding/hex"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/footnote-rag/footnote/store"
)

// maxPlanSources bounds one plan.
const maxPlanSources = 100_000

var collectionPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

var languagePattern = regexp.MustCompile(`^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$`)

func collectionName(name string) string { return firstOf(name, defaultCollection) }

func checkCollectionName(name string) error {
	if !collectionPattern.MatchString(name) {
		return &problem{status: 400, Code: "invalid_collection", Message: "a collection's name has 1 to 63 letters, digits, dots, dashes and underscores, and begins with a letter or digit"}
	}
	return nil
}

type collectionView struct {
	Name        string                 `json:"name"`
	Model       string                 `json:"model"`
	Pooling     string                 `json:"pooling"`
	Dimensions  int                    `json:"dimensions"`
	Chunking    store.Chunking         `json:"chunking"`
	TranslateTo string                 `json:"translate_to"`
	Documents   int64                  `json:"documents"`
	Chunks      int64                  `json:"chunks"`
	Status      map[store.Status]int64 `json:"status"`
	CreatedAt   time.Time              `json:"created_at"`
}

func (s *Server) viewCollection(c echo.Context, k store.Collection) (collectionView, error) {
	counts, err := s.cfg.Store.StatusCounts(c.Request().Context(), k.ID)
	if counts == nil {
		counts = map[store.Status]int64{}
	}
	return collectionView{k.Name, k.Space.Model, k.Space.Pooling, k.Space.Dimensions, k.Chunking, k.TranslateTo, k.Documents, k.Chunks, counts, k.CreatedAt}, err
}

func (s *Server) createCollection(c echo.Context) error {
	var in struct {
		Name        string         `json:"name"`
		Chunking    store.Chunking `json:"chunking"`
		TranslateTo *string        `json:"translate_to"`
	}
	if err := decode(c, &in); err != nil {
		return err
	}
	if err := checkCollectionName(in.Name); err != nil {
		return err
	}
	if t, o := in.Chunking.MaxTokens, in.Chunking.Overlap; t < 0 || t > 512 || t > 0 && t < 32 || o < 0 || t > 0 && o > t/2 {
		return invalid("chunking.max_tokens is from 32 to 512 and chunking.overlap at most half of it")
	}
	if to := in.TranslateTo; to != nil && *to != "" && !languagePattern.MatchString(*to) {
		return invalid(`translate_to is %q: give a language's code, such as en, or "" for none`, *to)
	}
	k, created, err := s.cfg.Ingest.EnsureCollection(c.Request().Context(), in.Name, in.Chunking)
	if err != nil {
		return err
	}
	if to := in.TranslateTo; to != nil && *to != k.TranslateTo {
		if err := s.cfg.Store.SetTranslation(c.Request().Context(), in.Name, *to); err != nil {
			return missing(err, errNoCollection)
		}
		k.TranslateTo = *to
	}
	view, err := s.viewCollection(c, k)
	if err != nil {
		return err
	}
	if created {
		return c.JSON(http.StatusCreated, view)
	}
	return c.JSON(http.StatusOK, view)
}

func (s *Server) listCollections(c echo.Context) error {
	list, err := s.cfg.Store.Collections(c.Request().Context())
	if err != nil {
		return err
	}
	views := make([]collectionView, len(list))
	for i, k := range list {
		if views[i], err = s.viewCollection(c, k); err != nil {
			return err
		}
	}
	return c.JSON(http.StatusOK, map[string]any{"collections": views})
}

func (s *Server) collection(c echo.Context) error {
	k, err := s.namedCollection(c, c.Param("name"))
	if err != nil {
		return err
	}
	view, err := s.viewCollection(c, k)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, view)
}

func (s *Server) deleteCollection(c echo.Context) error {
	name := c.Param("name")
	if err := checkCollectionName(name); err != nil {
		return err
	}
	if err := s.cfg.Store.DeleteCollection(c.Request().Context(), name); err != nil {
		return missing(err, errNoCollection)
	}
	return c.NoContent(http.StatusNoContent)
}

func (s *Server) namedCollection(c echo.Context, name string) (store.Collection, error) {
	if err := checkCollectionName(name); err != nil {
		return store.Collection{}, err
	}
	k, err := s.cfg.Store.Collection(c.Request().Context(), name)
	return k, missing(err, errNoCollection)
}

// planRequest tells what a loader has; planReply what the server would do with each.
type planRequest struct {
	Collection string       `json:"collection"`
	Documents  []planSource `json:"documents"`
}

type planSource struct {
	URI    string `json:"uri"`
	SHA256 string `json:"sha256"`
}

type planItem struct {
	URI     string           `json:"uri"`
	Outcome store.PutOutcome `json:"outcome"`
	ID      string           `json:"id,omitempty"`     // of the stored document
	Status  store.Status     `json:"status,omitempty"` // of its newest version
}

// plan answers which of the sources would be created, changed or unchanged. Documents whose files are gone are found
// with GET /v1/documents?uri_prefix=.
func (s *Server) plan(c echo.Context) error {
	var in planRequest
	if err := decode(c, &in); err != nil {
		return err
	}
	name := collectionName(firstOf(in.Collection, c.QueryParam("collection")))
	sources, err := in.sources(name)
	if err != nil {
		return err
	}
	outcomes, err := s.cfg.Ingest.Plan(c.Request().Context(), name, sources)
	if err != nil {
		return err
	}
	items := make([]planItem, len(in.Documents))
	for i, d := range in.Documents {
		p := outcomes[d.URI]
		items[i] = planItem{d.URI, p.Outcome, p.ID, p.Status}
	}
	return c.JSON(http.StatusOK, map[string]any{"documents": items})
}

func (p planRequest) sources(collection string) (map[string][]byte, error) {
	if err := checkCollectionName(collection); err != nil {
		return nil, err
	}
	if len(p.Documents) > maxPlanSources {
		return nil, invalid("the plan has %d documents: send at most %d at a time", len(p.Documents), maxPlanSources)
	}
	sources := make(map[string][]byte, len(p.Documents))
	for i, d := range p.Documents {
		hash, err := hex.DecodeString(strings.ToLower(d.SHA256))
		if err != nil || len(hash) != 32 {
			return nil, invalid("documents[%d].sha256 must be the 64 hexadecimal digits of the file's SHA-256", i)
		}
		if d.URI == "" {
			return nil, invalid("documents[%d] has no uri", i)
		}
		if err := checkText("uri", d.URI, maxURIBytes); err != nil {
			return nil, err
		}
		sources[d.URI] = hash
	}
	return sources, nil
}
