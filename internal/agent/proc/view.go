package proc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// View is the file tree that a service sees when its programs are in a
// read-only root: that root, with places of the machine put into it.
type View struct {
	Root   string // directory of the mounted root
	Work   string // an empty directory for the view; a tmpfs is mounted on it
	Places []Place
}

// Place is one thing that is put into a View.
type Place struct {
	Path   string  // in the view, absolute
	Source string  // of the machine, bound here; "" = a fresh tmpfs
	Opts   string  // mount options of the tmpfs
	Flags  uintptr // MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC
}

// Namespace makes the mount namespace of the view.
//
// A place whose mount point the root does not have needs one, and the root is
// read only; so its parent directory, and if need be the parent's parent, is
// replaced by a tmpfs in which every entry of the original is bound.
func (v View) Namespace() (*Namespace, error) {
	return NewNamespace(v.build)
}

func (v View) build() error {
	if err := unix.Mount("root", v.Work, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size=4m"); err != nil {
		return fmt.Errorf("mount view: %w", err)
	}
	if err := v.mirror("/"); err != nil {
		return err
	}
	mirrored := map[string]bool{"/": true}
	for _, p := range v.Places {
		if err := v.point(p, mirrored); err != nil {
			return err
		}
		if err := v.mount(p); err != nil {
			return err
		}
	}
	for dir := range mirrored {
		// The tmpfs directories stand for the root's: as read only as it is.
		err := unix.Mount("", v.at(dir), "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, "")
		if err != nil {
			return fmt.Errorf("make %s read only: %w", dir, err)
		}
	}
	return v.enter()
}

func (v View) at(path string) string { return filepath.Join(v.Work, path) }

// mirror fills the tmpfs directory at dir with the entries of the root's.
func (v View) mirror(dir string) error {
	entries, err := os.ReadDir(filepath.Join(v.Root, dir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("mirror %s: %w", dir, err)
	}
	for _, e := range entries {
		from, to := filepath.Join(v.Root, dir, e.Name()), v.at(filepath.Join(dir, e.Name()))
		if err := mirrorEntry(e, from, to); err != nil {
			return fmt.Errorf("mirror %s: %w", filepath.Join(dir, e.Name()), err)
		}
	}
	return nil
}

func mirrorEntry(e os.DirEntry, from, to string) error {
	if e.Type()&os.ModeSymlink != 0 {
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	}
	if err := makePoint(to, e.IsDir()); err != nil {
		return err
	}
	return unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, "")
}

// makePoint makes a mount point: a directory, or an empty file.
func makePoint(path string, dir bool) error {
	if dir {
		return os.Mkdir(path, 0o755)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// point makes sure that the mount point of p exists in the view.
func (v View) point(p Place, mirrored map[string]bool) error {
	st, err := os.Lstat(v.at(p.Path))
	dir := true
	if p.Source != "" {
		src, err := os.Stat(p.Source)
		if err != nil {
			return fmt.Errorf("place %s: %w", p.Path, err)
		}
		dir = src.IsDir()
	}
	if err == nil && st.Mode()&os.ModeSymlink == 0 && st.IsDir() == dir {
		return nil
	}
	if v.inFresh(p.Path) && errors.Is(err, os.ErrNotExist) {
		return v.makeInFresh(p.Path, dir)
	}
	parent := filepath.Dir(p.Path)
	if err := v.replace(parent, mirrored); err != nil {
		return err
	}
	// A symlink (etc/resolv.conf often is one) or a thing of another type:
	// in the mirror it can go.
	if err := os.Remove(v.at(p.Path)); err != nil && !errors.Is(err, os.ErrNotExist) {
		if err := unix.Unmount(v.at(p.Path), unix.MNT_DETACH); err != nil {
			return fmt.Errorf("place %s: %w", p.Path, err)
		}
		if err := os.Remove(v.at(p.Path)); err != nil {
			return fmt.Errorf("place %s: %w", p.Path, err)
		}
	}
	return makePoint(v.at(p.Path), dir)
}

// inFresh reports whether a path lies below a place that is a fresh tmpfs. It
// is mounted by then: places are in order.
func (v View) inFresh(path string) bool {
	for _, p := range v.Places {
		if p.Source == "" && strings.HasPrefix(path, p.Path+"/") {
			return true
		}
	}
	return false
}

// makeInFresh makes a mount point there, with directories that can be passed
// through: a mirror would hide the tmpfs and be read only.
func (v View) makeInFresh(path string, dir bool) error {
	if err := os.MkdirAll(filepath.Dir(v.at(path)), 0o755); err != nil {
		return fmt.Errorf("place %s: %w", path, err)
	}
	if err := makePoint(v.at(path), dir); err != nil {
		return fmt.Errorf("place %s: %w", path, err)
	}
	return nil
}

// replace makes dir a mirror, which makes its parents mirrors where it does
// not exist.
func (v View) replace(dir string, mirrored map[string]bool) error {
	if mirrored[dir] {
		return nil
	}
	st, err := os.Lstat(v.at(dir))
	switch {
	case err != nil || !st.IsDir():
		if err == nil {
			return fmt.Errorf("place below %s: it is not a directory in the root", dir)
		}
		if err := v.replace(filepath.Dir(dir), mirrored); err != nil {
			return err
		}
		if err := os.Mkdir(v.at(dir), 0o755); err != nil {
			return fmt.Errorf("place below %s: %w", dir, err)
		}
	}
	if err := unix.Mount("mirror", v.at(dir), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size=4m"); err != nil {
		return fmt.Errorf("mirror %s: %w", dir, err)
	}
	mirrored[dir] = true
	return v.mirror(dir)
}

func (v View) mount(p Place) error {
	to := v.at(p.Path)
	if p.Source == "" {
		if err := unix.Mount("tmpfs", to, "tmpfs", p.Flags, p.Opts); err != nil {
			return fmt.Errorf("mount tmpfs on %s: %w", p.Path, err)
		}
		return nil
	}
	if err := unix.Mount(p.Source, to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s: %w", p.Path, err)
	}
	if p.Flags == 0 {
		return nil
	}
	// With what is mounted below it: a remount would leave efivarfs writable
	// under a read-only /sys. The MS_ flags of Place and the attributes of
	// mount_setattr(2) have the same numbers for ro, nosuid, nodev and noexec.
	attr := &unix.MountAttr{Attr_set: uint64(p.Flags)}
	if err := unix.MountSetattr(unix.AT_FDCWD, to, unix.AT_RECURSIVE, attr); err != nil {
		return fmt.Errorf("bind %s: %w", p.Path, err)
	}
	return nil
}

// enter makes the view the root. pivot_root(2) refuses on an initramfs; moving
// the mount over / and changing root, as switch_root(8) does, works there.
func (v View) enter() error {
	if err := os.Chdir(v.Work); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move view to /: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return os.Chdir("/")
}

// Do runs f on a thread inside the namespace.
func (n *Namespace) Do(f func() error) error {
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return err
		}
		if err := n.enter(); err != nil {
			return err
		}
		return f()
	})
}

// Look finds a program as execvp(3) does: a name with a slash is taken as it
// is, another is looked for in the directories of path.
func Look(name, path string) (string, error) {
	if strings.Contains(name, "/") {
		return name, executable(name)
	}
	for _, dir := range filepath.SplitList(path) {
		if file := filepath.Join(dir, name); executable(file) == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("find program %q in %s: %w", name, path, os.ErrNotExist)
}

func executable(file string) error {
	st, err := os.Stat(file)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
		return fmt.Errorf("run %s: %w", file, os.ErrPermission)
	}
	return nil
}
