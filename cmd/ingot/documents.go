package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/internal/signing"
	"github.com/ingot-os/ingot/internal/ui"
)

// readDocument reads a file of a size that signing documents may have.
func readDocument(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, signing.MaxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return data, nil
}

// outFlags say where a document goes.
type outFlags struct {
	Out   string `short:"o" placeholder:"FILE" help:"File to write (default: standard output)." type:"path"`
	Force bool   `help:"Replace the file of -o when there is one."`
}

// free refuses a file that is there: it may be the only copy of a signature that
// somebody made with a key in a safe.
func (o *outFlags) free() error {
	if o.Out == "" || o.Force {
		return nil
	}
	if _, err := os.Lstat(o.Out); err != nil {
		return nil // that it cannot be written is said when it is
	}
	return o.taken()
}

func (o *outFlags) taken() error {
	return &ui.Error{Err: fmt.Errorf("write %s: it exists already", o.Out), Hint: "choose another file, or add --force; nothing was written"}
}

// write writes the file at once, or to standard output without a path.
func (o *outFlags) write(v *verb, data []byte) error {
	if o.Out == "" {
		_, err := v.env.Stdout.Write(data)
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(o.Out), ".ingot-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err != nil {
		return fmt.Errorf("write %s: %w", o.Out, err)
	}
	if o.Force {
		return os.Rename(tmp.Name(), o.Out)
	}
	err = unix.Renameat2(unix.AT_FDCWD, tmp.Name(), unix.AT_FDCWD, o.Out, unix.RENAME_NOREPLACE)
	switch {
	case errors.Is(err, unix.EEXIST):
		return o.taken()
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS): // a file system that cannot; free has looked
		return os.Rename(tmp.Name(), o.Out)
	case err != nil:
		return fmt.Errorf("write %s: %w", o.Out, err)
	}
	return nil
}
