package serve

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// drop goes on as another user, without any capability: setuid(2) from 0 to
// another number clears all sets. Go applies it to all threads.
// What is below dir becomes that user's before.
func drop(name, dir string) error {
	u, err := user.Lookup(name)
	if err != nil {
		return fmt.Errorf("look up user %s: %w", name, err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err1 != nil || err2 != nil || uid == 0 {
		return fmt.Errorf("go on as user %s: it is not an ordinary one", name)
	}
	if err := own(dir, uid, gid); err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return syscall.Setgroups(nil) },
		func() error { return syscall.Setgid(gid) },
		func() error { return syscall.Setuid(uid) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("go on as user %s: %w", name, err)
		}
	}
	if syscall.Setuid(0) == nil {
		return fmt.Errorf("go on as user %s: root can be had back", name)
	}
	return nil
}

// own gives a state directory to a user. Links in it are not followed: who
// could write there before must not get a file elsewhere.
func own(dir string, uid, gid int) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := root.Lchown(filepath.FromSlash(path), uid, gid); err != nil {
			return fmt.Errorf("give the state to its user: %w", err)
		}
		return nil
	})
}
