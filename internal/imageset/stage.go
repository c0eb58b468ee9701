package imageset

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// stagePrefix begins the names of the directories in OUT that builds write
// into before they publish.
const stagePrefix = ".ingot-"

// Stage is a temporary directory beside the final one. Its builder holds a
// lock on it (flock(2)), which ends with the process however that ends. So a
// staging directory without a holder was left by a killed build.
type Stage struct {
	Dir  string
	lock *os.File // nil where the file system has no locks
}

// NewStage removes what killed builds have left in out and makes a new stage.
func NewStage(out, stem string) (*Stage, error) {
	if err := os.MkdirAll(out, 0o777); err != nil {
		return nil, fmt.Errorf("create output directory: %w", err)
	}
	sweep(out)
	for {
		dir, err := os.MkdirTemp(out, stagePrefix+stem+"-")
		if err != nil {
			return nil, fmt.Errorf("create staging directory: %w", err)
		}
		s := &Stage{Dir: dir}
		if s.lock, err = lockDir(dir); err == nil {
			return s, nil
		}
		// Another build may have swept the directory before it was locked. A
		// file system without locks has no sweepers either.
		if !errors.Is(err, unix.EWOULDBLOCK) && !os.IsNotExist(err) {
			return s, nil
		}
	}
}

// Remove ends the stage. What was published is not there any more; what it
// replaced is, and goes.
func (s *Stage) Remove() {
	os.RemoveAll(s.Dir)
	s.lock.Close()
}

// lockDir locks a directory for this process. EWOULDBLOCK: another has it.
// ErrNotExist: it has been removed before it was locked.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	locked, err := f.Stat()
	if err == nil {
		var there os.FileInfo
		if there, err = os.Lstat(dir); err == nil && !os.SameFile(locked, there) {
			err = os.ErrNotExist
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// sweep removes stages that nobody holds. What cannot be removed stays: it is
// in nobody's way.
func sweep(out string) {
	entries, _ := os.ReadDir(out)
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), stagePrefix) {
			continue
		}
		dir := filepath.Join(out, e.Name())
		if f, err := lockDir(dir); err == nil {
			os.RemoveAll(dir)
			f.Close()
		}
	}
}

// Publish gives the stage its final name in one step: whoever looks sees the
// old set or the new one, also when two builds publish at once. The old set is
// then where the stage was.
func (s *Stage) Publish(final string) error {
	if err := os.Chmod(s.Dir, 0o755); err != nil {
		return err
	}
	for {
		err := unix.Renameat2(unix.AT_FDCWD, s.Dir, unix.AT_FDCWD, final, unix.RENAME_NOREPLACE)
		if errors.Is(err, unix.EEXIST) {
			err = unix.Renameat2(unix.AT_FDCWD, s.Dir, unix.AT_FDCWD, final, unix.RENAME_EXCHANGE)
		}
		switch {
		case errors.Is(err, unix.ENOENT): // the other set has gone in between
			if _, lost := os.Lstat(s.Dir); lost != nil {
				return lost
			}
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
			return s.publishApart(final)
		default:
			return err
		}
	}
}

// publishApart is for file systems that cannot exchange two names (NFS, many
// in user space): between its two steps there is no set under the final name.
func (s *Stage) publishApart(final string) error {
	old := s.Dir + ".old"
	if err := os.Rename(final, old); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("move the old image set aside: %w", err)
	}
	defer os.RemoveAll(old)
	if err := os.Rename(s.Dir, final); err != nil {
		os.Rename(old, final)
		return err
	}
	return nil
}
