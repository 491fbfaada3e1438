package embedded

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// startScript begins every script of ours; serverScript follows it where a script serves HTTP itself.
var (
	//go:embed python/start.py
	startScript string
	//go:embed python/server.py
	serverScript string
)

// engineRequirements pins the packages of the engines for speech and translation; python/pin.py writes the file.
//
//go:embed python/requirements.txt
var engineRequirements string

// enginesPython is the least version that the pinned packages are for: 3.11.
const enginesPython = 11

// pythonPackages is a folder of Python packages for one version of Python.
type pythonPackages struct {
	python string // the interpreter
	dir    string // for sys.path
}

// packages returns the folder of the pinned packages, installed by pip, which checks every file's SHA-256 before it unpacks
// it. Nothing of them runs while they are installed: wheels only. ErrUnavailable if that cannot be.
func (c *Cache) packages(ctx context.Context) (pythonPackages, error) {
	who, err := chooseAccount()
	if err != nil {
		return pythonPackages{}, err
	}
	python, minor, err := findPython(who, enginesPython)
	if err != nil {
		return pythonPackages{}, err
	}
	sum := sha256.Sum256([]byte(engineRequirements))
	folder := fmt.Sprintf("python3.%d-engines-%s", minor, hex.EncodeToString(sum[:4]))
	if c.Offline && !isDir(filepath.Join(c.Dir, folder)) {
		return pythonPackages{}, fmt.Errorf("%w: the packages of the Python engines are not installed", ErrUnavailable)
	}
	dir, err := c.made(ctx, folder, func(into string) error {
		c.progress("python engines", 0, 0)
		return pipInstall(ctx, minor, into)
	})
	if err != nil {
		return pythonPackages{}, fmt.Errorf("install the Python engines: %w", err)
	}
	return pythonPackages{python, dir}, nil
}

func pipInstall(ctx context.Context, minor int, into string) error {
	list := into + ".requirements"
	if err := os.WriteFile(list, []byte(engineRequirements), 0o644); err != nil {
		return err
	}
	defer os.Remove(list)
	cmd := exec.CommandContext(ctx, "python3", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore",
		"--no-deps", "--require-hashes", "--only-binary=:all:", "--no-compile", "--python-version", fmt.Sprintf("3.%d", minor),
		"--implementation", "cp", "--target", into, "--requirement", list)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: pip install: %w: %s\nConnect to the network once; Python 3 with pip must be installed", ErrUnavailable, err, lastLines(string(out), 5))
	}
	return nil
}

// pythonCommand runs a script of ours with its settings as the one argument.
func pythonCommand(python, script string, settings map[string]any) (*exec.Cmd, error) {
	arg, err := json.Marshal(settings)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(python, "-I", "-u", "-c", startScript+script, string(arg))
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/", "LANG=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1"}
	return cmd, nil
}

// findPython returns a Python of 3.minor or newer that the account may run: version managers keep theirs below a home
// folder, which an unprivileged user often cannot enter.
func findPython(who account, minor int) (python string, found int, err error) {
	var tried []string
	for _, name := range []string{"python3", "/usr/bin/python3", "/usr/local/bin/python3", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10"} {
		out, err := exec.Command(name, "-c", "import sys; print(sys.version_info.minor, sys.executable)").Output()
		if err != nil {
			continue
		}
		var version int
		if _, err := fmt.Sscan(string(out), &version); err != nil || version < minor {
			continue
		}
		_, exe, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
		real, err := filepath.EvalSymlinks(exe)
		if err == nil {
			err = who.reachable(real)
		}
		if err == nil {
			return real, version, nil
		}
		tried = append(tried, fmt.Sprintf("%s: %v", exe, err))
	}
	return "", 0, fmt.Errorf("%w: this engine needs a Python of 3.%d or newer that the engine's user can run: install the system's python3 (tried %s)", ErrUnavailable, minor, strings.Join(tried, "; "))
}
