// Package regular opens files of directories that came from elsewhere: image
// sets, key sets, databases. What has a file's name there may be a pipe, which
// would be waited on for ever, a device, whose reading may have effects, or a
// link out of the directory. Only regular files are opened here, and what is
// looked at is the open file, so that nobody can exchange it in between.
//
//	f, info, err := regular.Open(path)
//	data, err := regular.Read(path, 64<<20)
package regular

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Errors, to be tested with errors.Is.
var (
	// ErrKind: a directory, pipe, socket or device, or a symbolic link where none may be.
	ErrKind = errors.New("not a regular file")
	// ErrSize: a file is larger than the limit.
	ErrSize = errors.New("the file is too large")
)

// Open opens a regular file for reading. A symbolic link to one is followed.
func Open(path string) (*os.File, fs.FileInfo, error) { return open(path, 0) }

// OpenHere is Open for a file that lies in its directory itself: a symbolic
// link at path is ErrKind.
func OpenHere(path string) (*os.File, fs.FileInfo, error) { return open(path, unix.O_NOFOLLOW) }

func open(path string, flags int) (*os.File, fs.FileInfo, error) {
	// O_NONBLOCK: open(2) of a pipe without a writer returns at once.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|flags, 0)
	if errors.Is(err, unix.ELOOP) && flags != 0 || errors.Is(err, unix.ENXIO) { // ENXIO: a socket
		return nil, nil, &fs.PathError{Op: "open", Path: path, Err: ErrKind}
	}
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: ErrKind}
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// Read returns a regular file of at most limit bytes.
func Read(path string, limit int64) ([]byte, error) {
	f, info, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info.Size() > limit {
		return nil, tooLarge(path, limit)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1)) // it may have grown
	if err == nil && int64(len(b)) > limit {
		err = tooLarge(path, limit)
	}
	return b, err
}

func tooLarge(path string, limit int64) error {
	return &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("%w: more than %d bytes", ErrSize, limit)}
}
