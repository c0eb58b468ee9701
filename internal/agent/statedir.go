package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/ingot-os/ingot/internal/agent/proc"
	"github.com/ingot-os/ingot/internal/appliance"
)

// prepareState makes the state directory of a service below the data mount,
// before every start: the service may have been renamed or given another user
// since the data was written. Where the data partition could not be mounted the
// error is that of the read-only place holder, and the service waits for it in
// the same way as for a missing program.
func (m *Machine) prepareState(s appliance.Service, c proc.Command) error {
	if s.StateDirectory == "" || m.spec.Data.Mount == "" {
		return nil
	}
	if err := makeState(m.spec.Data.Mount, s.StateDirectory, int(c.UID), int(c.GID)); err != nil {
		return fmt.Errorf("make state directory %s: %w", path.Join(m.spec.Data.Mount, s.StateDirectory), err)
	}
	return nil
}

// makeState makes dir, a clean relative path, below mount with mode 0755 and
// gives it with all that is in it to uid and gid. Nothing outside of mount is
// ever touched, whatever links a service has left there.
func makeState(mount, dir string, uid, gid int) error {
	root, err := os.OpenRoot(mount)
	if err != nil {
		return err
	}
	defer root.Close()
	at := ""
	for name := range strings.SplitSeq(dir, "/") {
		at = path.Join(at, name)
		if err := makeDir(root, at); err != nil {
			return err
		}
	}
	info, err := root.Lstat(dir)
	if err != nil || owned(info, uid, gid) {
		return err
	}
	return give(root, dir, uid, gid)
}

// makeDir makes one directory. A link is refused: below a directory of another
// service it could lead to a third one's data.
func makeDir(root *os.Root, name string) error {
	err := root.Mkdir(name, 0o755)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := root.Lstat(name)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "make", Path: name, Err: errors.New("it exists and is not a directory")}
	}
	return err
}

func owned(info fs.FileInfo, uid, gid int) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == uid && int(st.Gid) == gid
}

// give changes the owner of a directory and what is in it, the directory
// itself last: when the machine loses power in between, the next start sees
// the old owner and begins again.
func give(root *os.Root, dir string, uid, gid int) error {
	f, err := root.Open(dir)
	if err != nil {
		return err
	}
	entries, err := f.ReadDir(-1)
	f.Close()
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if e.IsDir() {
			err = give(root, name, uid, gid)
		} else {
			err = root.Lchown(name, uid, gid)
		}
		if err != nil {
			return err
		}
	}
	return root.Lchown(dir, uid, gid)
}
