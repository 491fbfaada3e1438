// Package web owns the page at /: hand-written HTML, CSS and JavaScript, embedded, with no build step.
package web

import (
	"embed"
	"io/fs"
)

//go:embed index.html assets
var files embed.FS

// Files holds index.html and the folder assets.
func Files() fs.FS { return files }
