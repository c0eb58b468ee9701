package netslot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sync"
)

// hostName is what a machine may be called: it becomes the name of a file.
var hostName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$`)

// Dir is a Store with a file for each machine. One program uses it at a time.
type Dir struct {
	Path string // of a directory that exists

	mu sync.Mutex
}

// maxFile bounds a file in bytes: two payloads of the state partition in base64.
const maxFile = 256 << 10

// Change implements Store.
func (d *Dir) Change(host string, f func(*Entry) error) error {
	if !hostName.MatchString(host) {
		return fmt.Errorf("%.80q is no name of a machine: want letters, digits, dots, colons, dashes and underscores", host)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	path := filepath.Join(d.Path, host+".json")
	old, e, err := read(path)
	if err != nil {
		return err
	}
	if err := f(&e); err != nil {
		return err
	}
	b, err := json.Marshal(e)
	if err != nil || string(b) == string(old) {
		return err
	}
	return replace(path, b)
}

func read(path string) (b []byte, e Entry, err error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, e, nil
	}
	if err == nil && st.Size() > maxFile {
		err = fmt.Errorf("%s: %d bytes are more than %d", path, st.Size(), maxFile)
	}
	if err != nil {
		return nil, e, err
	}
	if b, err = os.ReadFile(path); err != nil {
		return nil, e, err
	}
	if err := json.Unmarshal(b, &e); err != nil {
		return nil, e, fmt.Errorf("read %s: %w", path, err)
	}
	return b, e, nil
}

// replace writes a file so that after a power cut it is the old one or the new.
func replace(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
