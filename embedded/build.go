package embedded

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// llamaSourceVersion is the version of the package that holds llama.cpp's source.
const llamaSourceVersion = "11434.0.0"

// BuildEngine compiles llama.cpp's server for this machine's processor and keeps it in the cache, where Engine finds it.
// It takes some five minutes on two cores, is done once, and writes the compiler's output to log. ErrUnavailable if cmake
// or a C++ compiler is missing.
func (c *Cache) BuildEngine(ctx context.Context, log io.Writer) (Engine, error) {
	for _, tool := range []string{"cmake", "c++"} {
		if _, err := exec.LookPath(tool); err != nil {
			return Engine{}, fmt.Errorf("%w: building the engine needs %s: install cmake and a C++ compiler (on Debian: apt install cmake g++)", ErrUnavailable, tool)
		}
	}
	dir, err := c.made(ctx, builtEngine, func(into string) error { return c.buildEngine(ctx, into, log) })
	if err != nil {
		return Engine{}, fmt.Errorf("build the engine: %w", err)
	}
	return Engine{EngineBuilt, filepath.Join(dir, "llama-server")}, nil
}

func (c *Cache) buildEngine(ctx context.Context, into string, log io.Writer) error {
	archive, err := c.fetch(ctx, assetLlamaSource)
	if err != nil {
		return err
	}
	// The work folder stays after a failure or an interruption, so that the next try compiles only what is missing.
	work := filepath.Join(c.Dir, builtEngine+".work")
	src := filepath.Join(work, "llama.cpp")
	if !isFile(filepath.Join(src, ".unpacked")) {
		if err := errors.Join(os.RemoveAll(work), untar(archive, work, "llama.cpp")); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(src, ".unpacked"), nil, 0o644); err != nil {
			return err
		}
	}
	build := filepath.Join(work, "build")
	configure := []string{"-S", src, "-B", build, "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=OFF",
		"-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF"}
	compile := []string{"--build", build, "--target", "llama-server", "--parallel", strconv.Itoa(runtime.NumCPU())}
	for _, args := range [][]string{configure, compile} {
		words := &tail{}
		cmd := exec.CommandContext(ctx, "cmake", args...)
		cmd.Stdout, cmd.Stderr = io.MultiWriter(log, words), io.MultiWriter(log, words)
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("cmake: %w: %s", err, words)
		}
	}
	if err := copyFile(filepath.Join(build, "bin", "llama-server"), filepath.Join(into, "llama-server")); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(work), os.Remove(archive))
}

// untar unpacks the folder named top (below the archive's own first folder) into dir.
func untar(archive, dir, top string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		_, name, _ := strings.Cut(h.Name, "/")
		if h.Typeflag != tar.TypeReg || !strings.HasPrefix(name, top+"/") || !filepath.IsLocal(name) {
			continue
		}
		if err := writeMember(t, filepath.Join(dir, name), h.FileInfo().Mode().Perm()); err != nil {
			return err
		}
	}
}

func writeMember(r io.Reader, to string, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	w, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, io.LimitReader(r, maxMember)); err != nil {
		return errors.Join(err, w.Close())
	}
	return w.Close()
}
