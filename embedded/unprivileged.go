package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the user that Postgres and the engines run as: ourselves, or an unprivileged one where we are root, because
// Postgres refuses root and an engine that parses model files should not have its powers.
type account struct {
	uid, gid int
	switched bool
}

// unprivilegedUsers are tried in order where we are root.
var unprivilegedUsers = []string{"footnote", "nobody"}

func chooseAccount() (account, error) {
	if os.Geteuid() != 0 {
		return account{uid: os.Getuid(), gid: os.Getgid()}, nil
	}
	for _, name := range unprivilegedUsers {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err := errors.Join(err1, err2); err != nil {
			return account{}, err
		}
		return account{uid, gid, true}, nil
	}
	return account{}, fmt.Errorf("%w: running as root, Postgres needs an unprivileged user: create one with `useradd --system footnote`", ErrUnavailable)
}

// credential is nil where we stay who we are.
func (a account) credential() *syscall.Credential {
	if !a.switched {
		return nil
	}
	return &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
}

// own makes dir and everything in it the account's.
func (a account) own(dir string) error {
	if !a.switched {
		return nil
	}
	return filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(p, a.uid, a.gid)
	})
}

// reachable tells which folder on the way to dir the account may not pass.
func (a account) reachable(dir string) error {
	if !a.switched {
		return nil
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	for p := abs; p != "/"; p = filepath.Dir(p) {
		i, err := os.Stat(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if !i.IsDir() {
			continue
		}
		st := i.Sys().(*syscall.Stat_t)
		passes := i.Mode()&0o001 != 0 || int(st.Uid) == a.uid && i.Mode()&0o100 != 0 || int(st.Gid) == a.gid && i.Mode()&0o010 != 0
		if !passes {
			return fmt.Errorf("running as root, Postgres and the engines run as user %d, who cannot enter %s: choose another --data-dir and --cache-dir, or `chmod a+x %s`", a.uid, p, p)
		}
	}
	return nil
}
