package device

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// loader loads modules with what they depend on. It stands where u-root's
// kmodule would: that package reads every module into memory and links
// decompressors for four formats, 0.6 MB of an init that has to be measured
// and copied at each boot, while the modules of an image are never compressed.
type loader struct {
	dir     string // lib/modules/RELEASE
	modules map[string]*module
	pre     map[string][]string        // modules.softdep: names or aliases to load before, if there are any
	resolve func(name string) []string // the modules behind an alias
	insert  func(path string) error    // init of a module file; another one in tests
}

// module is a line of modules.dep, or one that is built into the kernel and
// has nothing to load.
type module struct {
	deps []string     // names
	load func() error // once; everybody gets the same answer
}

// newLoader reads modules.dep and modules.builtin of a directory. A machine
// without them gets a loader that knows no module.
func newLoader(dir string) (*loader, error) {
	l := &loader{dir: dir, modules: map[string]*module{}, pre: map[string][]string{}, insert: insert}
	for name, add := range map[string]func(string){"modules.dep": l.addDep, "modules.builtin": l.addBuiltin, "modules.softdep": l.addSoftdep} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return l, err
		}
		for line := range strings.Lines(string(b)) {
			add(strings.TrimSpace(line))
		}
	}
	return l, nil
}

// addDep takes "kernel/a/b.ko: kernel/c.ko kernel/d.ko" (modules.dep(5)).
func (l *loader) addDep(line string) {
	path, deps, ok := strings.Cut(line, ":")
	if !ok {
		return
	}
	m := &module{load: sync.OnceValue(func() error { return l.insert(filepath.Join(l.dir, path)) })}
	for _, d := range strings.Fields(deps) {
		m.deps = append(m.deps, moduleName(d))
	}
	l.modules[moduleName(path)] = m
}

// addSoftdep takes "softdep ext4 pre: crypto-crc32c post: x" (modprobe.d(5)). PID 1
// answers no request_module of the kernel, so what a module asks for when it is used
// has to be there before: Debian's generic kernel has the checksums of ext4 in
// modules, its cloud kernel has them built in. What is to come after is not needed.
func (l *loader) addSoftdep(line string) {
	f := strings.Fields(line)
	if len(f) < 2 || f[0] != "softdep" {
		return
	}
	pre := false
	for _, word := range f[2:] {
		if strings.HasSuffix(word, ":") {
			pre = word == "pre:"
		} else if pre {
			l.pre[moduleName(f[1])] = append(l.pre[moduleName(f[1])], word)
		}
	}
}

func (l *loader) addBuiltin(path string) {
	if name := moduleName(path); path != "" && l.modules[name] == nil {
		l.modules[name] = &module{load: func() error { return nil }}
	}
}

// moduleName is the kernel's name of a module: of its file without directory
// and suffix, with underscores.
func moduleName(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// knows reports whether a module is in the image or in the kernel.
func (l *loader) knows(name string) bool { return l.modules[moduleName(name)] != nil }

// Load loads a module after all that it depends on, one after the other: a
// call never waits for a module while it holds another one back, so not even a
// cycle in modules.dep can stop it. Calls run at the same time.
func (l *loader) Load(name string) error {
	order, err := l.closure(moduleName(name), map[string]bool{}, nil)
	if err != nil {
		return err
	}
	for _, m := range order {
		if err := m.load(); err != nil {
			return err
		}
	}
	return nil
}

// closure appends the module behind everything that it depends on.
func (l *loader) closure(name string, seen map[string]bool, order []*module) ([]*module, error) {
	m := l.modules[name]
	if m == nil {
		return nil, fmt.Errorf("%s is not in %s: %w", name, l.dir, fs.ErrNotExist)
	}
	if seen[name] {
		return order, nil
	}
	seen[name] = true
	for _, soft := range l.pre[name] {
		order = l.wish(soft, seen, order)
	}
	for _, d := range m.deps {
		var err error
		if order, err = l.closure(d, seen, order); err != nil {
			return nil, err
		}
	}
	return append(order, m), nil
}

// wish appends the modules behind a soft dependency. What is missing, or does not
// load on this machine (a checksum by another processor's instructions), is passed
// over.
func (l *loader) wish(name string, seen map[string]bool, order []*module) []*module {
	names := []string{moduleName(name)}
	if l.resolve != nil {
		names = append(names, l.resolve(name)...)
	}
	for _, n := range names {
		more, err := l.closure(n, seen, nil)
		if err != nil {
			continue
		}
		for _, m := range more {
			order = append(order, &module{load: func() error { _ = m.load(); return nil }})
		}
	}
	return order
}

// insert gives a module file to the kernel. One that is loaded already is fine.
func insert(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("finit_module %s: %w", path, err)
	}
	return nil
}
