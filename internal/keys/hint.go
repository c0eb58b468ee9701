package keys

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
)

// FileError says that a file of a key set, or a private key, cannot be used as it is.
type FileError struct {
	Path    string
	Purpose Purpose // "" for a key outside of any set
	Err     error
}

// errOpen: others may read a private key.
var errOpen = errors.New("lets others read it")

// Error implements error.
func (e *FileError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *FileError) Unwrap() error { return e.Err }

// Hint says what to do about the file, as far as that is the same for all who need it.
func (e *FileError) Hint() string {
	name := filepath.Base(e.Path)
	switch {
	case errors.Is(e.Err, errOpen):
		return "chmod 600 " + e.Path
	case errors.Is(e.Err, fs.ErrPermission):
		return e.owned()
	case !errors.Is(e.Err, fs.ErrNotExist) || e.Purpose == "":
		return ""
	case filepath.Ext(name) != ".key":
		return "copy " + name + " there from the whole key set, which ingot keys init has made; each copy needs keys.json, *.crt and *.pub"
	case e.Purpose == Operator:
		return "commands of operators run where the whole key set is, or at least its " + name
	}
	return "this runs where the whole key set is, or at least its " + name
}

// owned is about a file that this user may not read. Another owner helps only where
// the directory lets this user in.
func (e *FileError) owned() string {
	me := "USER"
	if u, err := user.Current(); err == nil {
		me = u.Username
	}
	if _, err := os.Lstat(e.Path); err != nil {
		return fmt.Sprintf("%s is another user's: run this as that user, or give %s a copy of what it needs", filepath.Dir(e.Path), me)
	}
	return fmt.Sprintf("run this as its owner, or: sudo chown %s %s", me, e.Path)
}
