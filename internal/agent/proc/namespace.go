package proc

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Namespace is a mount namespace kept alive by a file descriptor.
type Namespace struct{ file *os.File }

// onThread runs f on a thread that ends with it.
func onThread(f func() error) error {
	errs := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread must not return to the pool
		errs <- f()
	}()
	return <-errs
}

// NewNamespace makes a mount namespace that is a private copy of the caller's
// and lets build change it. build runs on a thread inside the namespace; it
// must not start goroutines that mount. Nothing that it mounts is visible
// outside, and mounts that are made outside later are not visible inside.
func NewNamespace(build func() error) (*Namespace, error) {
	var ns *Namespace
	err := onThread(func() (err error) {
		ns, err = newNamespace(build)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make mount namespace: %w", err)
	}
	return ns, nil
}

func newNamespace(build func() error) (*Namespace, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return nil, err
	}
	// MS_PRIVATE on the whole tree: rootfs is private already, but a test or a
	// container start with shared mounts, and those would leak out.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	// Taken before build changes the root directory, below which /proc may differ.
	f, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/mnt", unix.Gettid()))
	if err != nil {
		return nil, err
	}
	if err := build(); err != nil {
		f.Close()
		return nil, err
	}
	return &Namespace{f}, nil
}

// Close lets the namespace end with its last process.
func (n *Namespace) Close() error { return n.file.Close() }

// enter moves the calling thread, which must not share its file system
// context. The kernel sets root and working directory to the topmost mount on
// the namespace's root, which is what View moved there.
func (n *Namespace) enter() error {
	if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("enter mount namespace: %w", err)
	}
	return nil
}
