package serve

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/ui"
)

// tryState says whether a server could begin with a state directory, without changing
// anything there; running says that one has begun.
func tryState(dir string) (running bool, err error) {
	const hint = "name a directory that this user may write by --state (state: in serve.yaml), or start it as root"
	wrong := func(hint, format string, args ...any) (bool, error) {
		return false, &ui.Error{Err: fmt.Errorf("state "+dir+": "+format, args...), Hint: hint}
	}
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		at := above(dir)
		if err := writable(at); err != nil {
			return wrong(hint, "it is not there, and cannot be made in %s: %v", at, err)
		}
		return false, nil
	}
	switch {
	case err != nil:
		return wrong(hint, "%v", err)
	case !info.IsDir():
		return wrong("name another by --state (state: in serve.yaml)", "it is no directory")
	case info.Mode().Perm()&0o077 != 0 && !fleet.Fresh(dir):
		return wrong("chmod 700 "+dir, "mode %04o lets others in; want 0700", info.Mode().Perm())
	}
	if err := writable(dir); err != nil {
		return wrong(hint, "%v", err)
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		return wrong(hint, "%v", err)
	}
	for _, e := range list {
		if err := unix.Faccessat(unix.AT_FDCWD, filepath.Join(dir, e.Name()), unix.R_OK|unix.W_OK, unix.AT_EACCESS); err != nil {
			return wrong("chown -R its user "+dir+": a server that ran as another user has left it", "%s: %v", e.Name(), err)
		}
	}
	return locked(filepath.Join(dir, "lock")), nil
}

// above is the nearest directory over one that is not there.
func above(dir string) string {
	for {
		dir = filepath.Dir(dir)
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return dir
		}
	}
}

// writable says why this user could make no file in a directory.
func writable(dir string) error {
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return unix.ENOTDIR
	}
	return unix.Faccessat(unix.AT_FDCWD, dir, unix.R_OK|unix.W_OK|unix.X_OK, unix.AT_EACCESS)
}

// locked reports whether a server holds the lock of a state directory.
func locked(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close() // and with it goes the lock
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}
