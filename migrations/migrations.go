// Package migrations embeds the database schema as numbered SQL files, applied in order and never edited once released.
package migrations

import "embed"

// Files holds NNNN_name.sql, forward only.
//
//go:embed *.sql
var Files embed.FS
