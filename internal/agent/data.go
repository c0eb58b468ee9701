package agent

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/u-root/u-root/pkg/mount"
	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/internal/agent/disk"
	"github.com/ingot-os/ingot/internal/agent/listener"
)

// mountData gives services their writable directory: p7, made and grown when
// it must be. Without a disk (RAM role) it is memory. When the partition is
// there but cannot be used, the directory is read only: a service that writes
// gets an error now, not an empty directory after the next boot.
func (m *Machine) mountData() {
	dir := m.spec.Data.Mount
	if dir == "" {
		m.update(func(s *listener.Status) { s.Data.State = "none" })
		return
	}
	d := listener.Data{Mount: dir, Filesystem: "ext4", State: "mounted"}
	err := os.MkdirAll(dir, 0o755)
	switch {
	case err != nil:
	case m.disk != nil:
		err = m.mountPartition(&d)
	case m.bootState() != "absent":
		err = errors.New("the disk that this system was started from is " + m.bootState())
	case m.spec.Data.Encrypt != "":
		err = errors.New("the recipe encrypts data, and this machine runs from memory: it has no disk to keep any")
	default:
		d.State, d.Filesystem = "ram", "tmpfs"
		_, err = mount.Mount("data", dir, "tmpfs", "mode=0755,size=50%", noDev)
	}
	if err != nil {
		m.closeEncrypted()
		d.State, d.Error = "failed", err.Error()
		m.problem("data: %v", err)
		if _, err := mount.Mount("none", dir, "tmpfs", "mode=0755,size=4k", noDev|unix.MS_RDONLY); err != nil {
			m.problem("data: %v", err)
		}
	}
	m.update(func(s *listener.Status) { s.Data = d })
}

func (m *Machine) bootState() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status.Boot.State
}

func (m *Machine) mountPartition(d *listener.Data) error {
	part, ok := m.disk.Partition(partData)
	if !ok {
		return fmt.Errorf("find partition data: not on %s", m.disk.Node)
	}
	grown, err := m.disk.Grow()
	if err != nil {
		m.problem("%v", err) // it may still be used as it is
	}
	if grown {
		part, _ = m.disk.Partition(partData)
		m.log.Printf("data partition grown to %d MiB", part.Size>>20)
	}
	if d.Device = m.disk.NodeOf(partData); d.Device == "" {
		return fmt.Errorf("find partition data: the kernel has no node for %d on %s", part.Index, m.disk.Node)
	}
	node, size := d.Device, part.Size
	if m.spec.Data.Encrypt != "" {
		v, err := m.openEncrypted(d, size)
		if err != nil {
			return err
		}
		node, size = v.Node, v.Size
	}
	super, err := m.prepareData(d, node, size)
	if err != nil {
		return err
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_RELATIME
	if _, err := mount.Mount(node, d.Mount, "ext4", "errors=remount-ro", flags); err != nil {
		return err
	}
	if size-super.Size >= 1<<20 {
		d.Growing = true
		m.growTo = growth{super.Size, size}
	}
	return nil
}

// growth is a resize of the data file system, in bytes.
type growth struct{ from, to int64 }

// startGrowth takes the rest of the partition while services run: the kernel needs
// about a millisecond for each 128 MiB, so minutes for 16 TiB. It works in steps
// that are each complete; what a cut or a shutdown leaves is grown at the next
// boot.
func (m *Machine) startGrowth() {
	if m.growTo.to == 0 {
		return
	}
	done := make(chan struct{})
	m.mu.Lock()
	m.grown = done
	m.mu.Unlock()
	m.spawn("grow", func() {
		defer close(done)
		m.growData(m.growTo)
	})
}

func (m *Machine) growData(g growth) {
	err := disk.Resize(m.spec.Data.Mount, g.to)
	m.update(func(s *listener.Status) { s.Data.Growing, s.Data.Grown = false, err == nil })
	if err != nil {
		m.problem("%v", err)
		return
	}
	m.log.Printf("data file system grown from %d to %d MiB", g.from>>20, g.to>>20)
}

// growLimit is how long a shutdown waits for a resize that runs.
const growLimit = 20 * time.Second

// prepareData makes a file system on a blank partition, or in a blank encrypted
// volume, and looks at one that is there.
func (m *Machine) prepareData(d *listener.Data, node string, size int64) (disk.Super, error) {
	f, err := os.OpenFile(node, os.O_RDWR|unix.O_EXCL, 0)
	if err != nil {
		return disk.Super{}, err
	}
	defer f.Close()
	content, super, err := disk.Probe(f)
	if err != nil {
		return super, err
	}
	switch content {
	case disk.Foreign:
		return super, fmt.Errorf("%s holds something that is not ext4: it is left alone", d.Device)
	case disk.Blank:
		if err := disk.Format(disk.Device{File: f}, size); err != nil {
			return super, err
		}
		d.Created = true
		m.log.Printf("data file system made on %s", d.Device)
		_, super, err = disk.Probe(f)
		return super, err
	}
	d.Dirty = super.Dirty
	if super.Dirty {
		m.log.Printf("data: %s was not unmounted cleanly, its journal is replayed", d.Device)
	}
	if super.Errored {
		m.problem("data: the kernel has recorded errors in %s: copy what matters and reformat", d.Device)
	}
	return super, nil
}

// unmountData ends the data file system cleanly. It is first made read only as
// a whole: that also reaches the bind mounts in the namespaces of services,
// which would keep an unmounted file system alive.
func (m *Machine) unmountData() {
	dir := m.spec.Data.Mount
	if dir == "" || m.dataState() != "mounted" {
		return
	}
	m.awaitGrowth()
	if m.rootfs != nil {
		m.rootfs.close()
	}
	err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, "")
	if err = errors.Join(err, unix.Unmount(dir, 0)); err != nil {
		m.log.Printf("data: unmount: %v", err)
	}
	m.closeEncrypted()
}

func (m *Machine) dataState() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status.Data.State
}

func (m *Machine) awaitGrowth() {
	m.mu.Lock()
	grown := m.grown
	m.mu.Unlock()
	if grown == nil {
		return
	}
	select {
	case <-grown:
	case <-time.After(growLimit):
		m.log.Printf("data: still growing, goes on at the next boot")
	}
}
