// Package embedded is the no-account default: a private Postgres, the local engines and their weights, found, fetched,
// checked, started, watched and stopped.
package embedded
