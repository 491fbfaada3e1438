package embedded

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// GGUF returns the path of a GGUF file that the user names: a path, or a URL, which is fetched into the cache once and
// resumed where it broke off. A URL's fragment may give the file's checksum: …/model.gguf#sha256=0123….
func (c *Cache) GGUF(ctx context.Context, name string) (string, error) {
	if !strings.HasPrefix(name, "http://") && !strings.HasPrefix(name, "https://") {
		return name, checkGGUF(name)
	}
	u, err := url.Parse(name)
	if err != nil {
		return "", err
	}
	sum, _ := strings.CutPrefix(u.Fragment, "sha256=")
	u.Fragment = ""
	of := sha256.Sum256([]byte(u.String()))
	dir, err := c.made(ctx, "weights-"+hex.EncodeToString(of[:8]), func(into string) error {
		return c.fetchGGUF(ctx, u.String(), sum, filepath.Join(into, "model.gguf"))
	})
	return filepath.Join(dir, "model.gguf"), err
}

func (c *Cache) fetchGGUF(ctx context.Context, from, sum, to string) error {
	if c.Offline {
		return fmt.Errorf("%w: %s was not fetched yet", ErrUnavailable, from)
	}
	part := filepath.Join(c.Dir, filepath.Base(filepath.Dir(to))+".part") // beside the folder, which a failure removes
	a := asset{project: path.Base(from), file: path.Base(from), sha256: sum}
	for try := 1; ; try++ {
		err := c.downloadOnce(ctx, a, from, part)
		if err == nil {
			break
		}
		if try == downloadTries || ctx.Err() != nil {
			return fmt.Errorf("%w: fetch %s: %w", ErrUnavailable, from, err)
		}
	}
	if got, err := fileSHA256(part); err != nil || sum != "" && got != sum {
		_ = os.Remove(part)
		return fmt.Errorf("%s has SHA-256 %s, expected %s (%v)", from, got, sum, err)
	}
	if err := checkGGUF(part); err != nil {
		_ = os.Remove(part)
		return err
	}
	return os.Rename(part, to)
}

// checkGGUF tells early what llama.cpp would tell when the model is first used.
func checkGGUF(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("open the weights: %w", err)
	}
	defer f.Close()
	magic := make([]byte, 4)
	if _, err := io.ReadFull(f, magic); err != nil || string(magic) != "GGUF" {
		return fmt.Errorf("%s is not a GGUF file", name)
	}
	return nil
}
