package api

import (
	"net/http/httptest"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/footnote-rag/footnote/retrieval"
)

// EmitEvents writes events as POST /v1/answer does.
func EmitEvents(events ...retrieval.Event) string {
	rec := httptest.NewRecorder()
	s := &Server{cfg: Config{Heartbeat: time.Hour, WriteTimeout: time.Second}}
	c := echo.New().NewContext(httptest.NewRequest("POST", "/v1/answer", nil), rec)
	out := s.startEvents(c, func(error) {})
	defer out.close()
	for _, ev := range events {
		if err := (nativeEvents{}).event(out, ev); err != nil {
			return "error: " + err.Error()
		}
	}
	return rec.Body.String()
}

// Routes lists method and path of every route.
func (s *Server) Routes() [][2]string {
	var list [][2]string
	for _, r := range s.echo.Routes() {
		list = append(list, [2]string{r.Method, r.Path})
	}
	return list
}
