package embedded

import (
	"os"
	"path/filepath"
)

// Root runs Postgres and the engines as an unprivileged user, who must reach the folders: not a closed home folder then.
const (
	rootDataDir  = "/var/lib/footnote"
	rootCacheDir = "/var/cache/footnote"
)

// DefaultDataDir is where the private Postgres keeps its data: $XDG_DATA_HOME/footnote, or /var/lib/footnote for root.
func DefaultDataDir() string {
	return defaultDir(rootDataDir, "XDG_DATA_HOME", filepath.Join(".local", "share"))
}

// DefaultCacheDir is where engines and weights are kept: $XDG_CACHE_HOME/footnote, or /var/cache/footnote for root.
func DefaultCacheDir() string { return defaultDir(rootCacheDir, "XDG_CACHE_HOME", ".cache") }

func defaultDir(forRoot, xdg, below string) string {
	if os.Geteuid() == 0 {
		return forRoot
	}
	if d := os.Getenv(xdg); filepath.IsAbs(d) {
		return filepath.Join(d, "footnote")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return filepath.Join(os.TempDir(), "footnote")
	}
	return filepath.Join(home, below, "footnote")
}
