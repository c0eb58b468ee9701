package device

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// recorded is a loader of some modules that notes what it would give to the kernel.
func recorded(t *testing.T, dep, builtin string) (*loader, func() []string) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "modules.dep"), dep)
	write(t, filepath.Join(dir, "modules.builtin"), builtin)
	l, err := newLoader(dir)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var order []string
	l.insert = func(path string) error {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, filepath.Base(path))
		return nil
	}
	return l, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(order)
	}
}

const virtioDeps = `kernel/net_failover.ko: kernel/failover.ko
kernel/failover.ko:
kernel/virtio-net.ko: kernel/net_failover.ko kernel/failover.ko
`

func TestLoadInOrder(t *testing.T) {
	l, inserted := recorded(t, virtioDeps, "kernel/virtio_pci.ko\n")
	for _, name := range []string{"virtio_net", "virtio-net", "failover", "virtio_pci"} {
		if err := l.Load(name); err != nil {
			t.Errorf("load %s: %v", name, err)
		}
	}
	want := []string{"failover.ko", "net_failover.ko", "virtio-net.ko"}
	if got := inserted(); !slices.Equal(got, want) {
		t.Errorf("inserted %q, want %q", got, want)
	}
	if err := l.Load("ext4"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a module that is nowhere: %v", err)
	}
}

// TestLoadSoftly: what a module will ask the kernel for is loaded before it, by its
// alias, and nothing of that is needed to load.
func TestLoadSoftly(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "modules.dep"), "ext4.ko: jbd2.ko\njbd2.ko:\ncrc32c_intel.ko:\ncrc32c-generic.ko: base.ko\nbase.ko:\nlater.ko:\n")
	write(t, filepath.Join(dir, "modules.builtin"), "")
	write(t, filepath.Join(dir, "modules.softdep"), "# c\nsoftdep ext4 pre: crypto-crc32c nowhere post: later\nsoftdep jbd2 pre: ext4\n")
	l, err := newLoader(dir)
	if err != nil {
		t.Fatal(err)
	}
	l.resolve = func(name string) []string {
		if name == "crypto-crc32c" {
			return []string{"crc32c_intel", "crc32c_generic"}
		}
		return nil
	}
	var order []string
	l.insert = func(path string) error {
		if order = append(order, filepath.Base(path)); filepath.Base(path) == "crc32c_intel.ko" {
			return errors.New("no such device")
		}
		return nil
	}
	if err := l.Load("ext4"); err != nil {
		t.Fatal(err)
	}
	if want := []string{"crc32c_intel.ko", "base.ko", "crc32c-generic.ko", "jbd2.ko", "ext4.ko"}; !slices.Equal(order, want) {
		t.Errorf("inserted %q, want %q", order, want)
	}
}

// TestLoadCycle: depmod makes none, but PID 1 must not wait for ever.
func TestLoadCycle(t *testing.T) {
	l, inserted := recorded(t, "a.ko: b.ko\nb.ko: a.ko\n", "")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { l.Load("a") })
		wg.Go(func() { l.Load("b") })
	}
	wg.Wait()
	if got := inserted(); len(got) != 2 {
		t.Errorf("inserted %q, want each once", got)
	}
}

func TestLoadFails(t *testing.T) {
	l, _ := recorded(t, virtioDeps+"lost.ko: kernel/gone.ko\n", "")
	broken := errors.New("exec format error")
	tries := 0
	l.insert = func(path string) error {
		tries++
		return broken
	}
	for range 2 {
		if err := l.Load("virtio_net"); !errors.Is(err, broken) {
			t.Errorf("got %v, want %v", err, broken)
		}
	}
	if tries != 1 {
		t.Errorf("tried %d modules, want the first one, once", tries)
	}
	if err := l.Load("lost"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a dependency that is nowhere: %v", err)
	}
}
