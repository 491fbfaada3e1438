package api

import (
	"context"
	_ "embed"
	"io/fs"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
)

// readyTimeout: a database that takes longer to answer one ping is not ready.
const readyTimeout = 2 * time.Second

//go:embed openapi.yaml
var openAPIDescription []byte

// livez says that the process serves; it asks nobody else.
func (s *Server) livez(c echo.Context) error {
	return c.JSON(http.StatusOK, map[string]string{"status": "ok"})
}

// readyz says whether new work is welcome: not while stopping, not without the database.
func (s *Server) readyz(c echo.Context) error {
	if s.streams.isDraining() {
		return errServerStopping
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), readyTimeout)
	defer cancel()
	if err := s.cfg.Store.Ping(ctx); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]string{"status": "ok"})
}

func (s *Server) openAPI(c echo.Context) error {
	return c.Blob(http.StatusOK, "application/yaml", openAPIDescription)
}

// contentSecurityPolicy lets the page load its own files, talk to this server and do nothing else.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// routeWeb serves index.html at / and the other files under /assets/.
func (s *Server) routeWeb() {
	files := http.FileServerFS(s.cfg.Web)
	s.echo.GET("/", func(c echo.Context) error {
		page, err := fs.ReadFile(s.cfg.Web, "index.html")
		if err != nil {
			return err
		}
		pageHeaders(c)
		return c.Blob(http.StatusOK, "text/html; charset=utf-8", page)
	})
	s.echo.GET("/assets/*", func(c echo.Context) error {
		name := c.Param("*")
		if info, err := fs.Stat(s.cfg.Web, "assets/"+name); err != nil || info.IsDir() {
			return echo.ErrNotFound
		}
		pageHeaders(c)
		files.ServeHTTP(c.Response(), c.Request())
		return nil
	})
}

func pageHeaders(c echo.Context) {
	h := c.Response().Header()
	h.Set("Content-Security-Policy", contentSecurityPolicy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-cache") // a new version of the server brings its own page
}
