package agent

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
)

// hangs are the kernel's own watches over itself. A trial that trips one is over;
// a blessed version may have a slow disk without falling back for it.
var hangs = []string{"kernel/hung_task_panic", "kernel/softlockup_panic", "kernel/hardlockup_panic"}

// kernelWatch has these watches end the machine for a time, and knows what the
// command line or the kernel's configuration had set before.
type kernelWatch struct {
	dir string // "" = /proc/sys

	mu     sync.Mutex
	before map[string][]byte // nil: not begun
}

func (w *kernelWatch) file(name string) string {
	if w.dir == "" {
		return filepath.Join("/proc/sys", name)
	}
	return filepath.Join(w.dir, name)
}

// begin may be called again.
func (w *kernelWatch) begin() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.before != nil {
		return nil
	}
	w.before = map[string][]byte{}
	var errs []error
	for _, name := range hangs {
		old, err := os.ReadFile(w.file(name))
		if errors.Is(err, os.ErrNotExist) {
			continue // this kernel has not got it
		}
		if err = errors.Join(err, os.WriteFile(w.file(name), []byte("1"), 0)); err == nil {
			w.before[name] = bytes.TrimSpace(old)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// end restores what was before begin. Without begin it does nothing.
func (w *kernelWatch) end() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var errs []error
	for name, old := range w.before {
		errs = append(errs, os.WriteFile(w.file(name), old, 0))
	}
	w.before = nil
	return errors.Join(errs...)
}
