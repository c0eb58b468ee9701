package keys

import (
	"fmt"
	"os"
	"path/filepath"
)

// file is a file of a folder that is written as a whole.
type file struct {
	name string
	data []byte
	mode os.FileMode
}

// writeDir writes a folder that appears complete or not at all. Whatever has
// its name stays as it is; the error wraps ErrExists.
func writeDir(dir string, mode os.FileMode, files []file) (err error) {
	dir = filepath.Clean(dir)
	if _, err := os.Lstat(dir); err == nil {
		return fmt.Errorf("write %s: %w", dir, ErrExists)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(tmp)
		}
	}()
	for _, f := range files {
		if err := writeFile(filepath.Join(tmp, f.name), f); err != nil {
			return err
		}
	}
	if err := os.Chmod(tmp, mode); err != nil { // whatever the umask is
		return err
	}
	if err := syncDir(tmp); err != nil {
		return err
	}
	// Rename replaces an empty folder that came meanwhile, and no other.
	if err := os.Rename(tmp, dir); err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

func writeFile(path string, f file) error {
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, f.mode)
	if err != nil {
		return err
	}
	_, err = w.Write(f.data)
	if err == nil {
		err = w.Chmod(f.mode) // whatever the umask is
	}
	if err == nil {
		err = w.Sync()
	}
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	return err
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
