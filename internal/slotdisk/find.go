package slotdisk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Find returns the only disk of this machine that has ingot's partitions.
func Find() (string, error) { return find("/sys/block", "/dev") }

// NoneError says why no disk was found.
type NoneError struct {
	Found []string // more than one, or none
	Err   error    // a disk that could not be read
}

// Error implements error.
func (e *NoneError) Error() string {
	switch {
	case len(e.Found) > 1:
		return fmt.Sprintf("find disk: %d disks have ingot's partitions: %s", len(e.Found), strings.Join(e.Found, ", "))
	case e.Err != nil:
		return fmt.Sprintf("find disk: no disk with ingot's partitions could be read: %v", e.Err)
	}
	return "find disk: no disk of this machine has ingot's partitions"
}

// Hint says what to type instead.
func (e *NoneError) Hint() string {
	switch {
	case len(e.Found) > 1:
		return "name one of them"
	case errors.Is(e.Err, os.ErrPermission):
		return "reading disks needs root: sudo, or name a disk image or a host"
	}
	return "name a disk, a disk image, an image set or a host"
}

func find(sys, dev string) (string, error) {
	list, err := os.ReadDir(sys)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("find disk: %w", err)
	}
	none := &NoneError{}
	for _, e := range list {
		path := filepath.Join(dev, e.Name())
		d, err := Open(path)
		var foreign *NoDiskError
		switch {
		case err == nil:
			none.Found = append(none.Found, path)
			d.Close()
		case errors.As(err, &foreign):
		case errors.Is(err, os.ErrPermission): // others are drives without a medium, or broken ones
			none.Err = err
		}
	}
	if len(none.Found) != 1 {
		return "", none
	}
	return none.Found[0], nil
}
