// Package disk finds the disk that the machine was booted from and its
// partitions (D5), by GUID, never by device name.
//
// All disks of one release carry the same GUIDs unless they were rekeyed, and
// the firmware tells only the partition's GUID. So two attached disks with one
// GUID cannot be told apart: Find then says so and names neither, and nobody
// writes (S9). Limits: a disk that is attached after Find has looked is not
// seen; the booted disk is by then in use.
package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/partition/gpt"
)

// Disk is the boot disk.
type Disk struct {
	Node  string // "/dev/vda"
	Size  int64  // bytes
	Table gpt.Table
	Info  gpt.Info
	sysfs string
	nodes func(string) string

	mu    sync.Mutex               // Grow changes parts while others look
	parts map[string]gpt.Partition // by role
}

// ErrNotFound means that no disk has the partition (yet).
var ErrNotFound = errors.New("no disk has this partition")

// AmbiguousError means that several disks could be the one.
type AmbiguousError struct {
	GUID  string
	Nodes []string
}

// Error implements error.
func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("find disk: %s all carry %s: detach all but one, or flash with --rekey", strings.Join(e.Nodes, " and "), e.GUID)
}

// Finder looks at the machine's disks. The zero value looks at the real ones.
type Finder struct {
	Sysfs string // "" = /sys
	Dev   string // "" = /dev

	seen map[string]*Disk // by name; what has no table is nil
}

// Find returns the disk that has the partition with this GUID. It reads each
// disk once, so it may be called at every device event.
func (f *Finder) Find(partition string, layout appliance.Layout) (*Disk, error) {
	guid, err := gpt.ParseGUID(partition)
	if err != nil {
		return nil, fmt.Errorf("find disk: %w", err)
	}
	var found, same []*Disk
	for _, d := range f.scan() {
		if slices.ContainsFunc(d.Table.Partitions, func(p gpt.Partition) bool { return p.GUID == guid }) {
			found = append(found, d)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("find partition %s: %w", partition, ErrNotFound)
	}
	for _, d := range f.scan() {
		if slices.Contains(found, d) || d.Table.Disk == found[0].Table.Disk {
			same = append(same, d)
		}
	}
	if len(same) > 1 {
		return nil, ambiguous(found[0].Table.Disk.String(), same)
	}
	found[0].assign(layout)
	return found[0], nil
}

func ambiguous(guid string, disks []*Disk) error {
	e := &AmbiguousError{GUID: "disk GUID " + guid}
	for _, d := range disks {
		e.Nodes = append(e.Nodes, d.Node)
	}
	slices.Sort(e.Nodes)
	return e
}

func (f *Finder) scan() []*Disk {
	if f.seen == nil {
		f.seen = map[string]*Disk{}
	}
	entries, _ := os.ReadDir(filepath.Join(f.sysfs(), "class/block"))
	var out []*Disk
	for _, e := range entries {
		d, ok := f.seen[e.Name()]
		if !ok {
			if d, ok = f.open(e.Name()); ok {
				f.seen[e.Name()] = d
			}
		}
		if d != nil {
			out = append(out, d)
		}
	}
	return out
}

// open reads one whole disk's table; the disk is nil for everything else. The
// answer is final only when ok: sysfs shows a disk a moment before it can be
// read, and an event follows when it can.
func (f *Finder) open(name string) (d *Disk, ok bool) {
	dir := filepath.Join(f.sysfs(), "class/block", name)
	for _, virtual := range []string{"loop", "ram", "dm-", "md", "zram", "sr", "nbd"} {
		if strings.HasPrefix(name, virtual) {
			return nil, true
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
		return nil, true
	}
	sectors, err := readInt(filepath.Join(dir, "size")) // always of 512 bytes
	if err != nil || sectors == 0 {
		return nil, false
	}
	d = &Disk{Node: filepath.Join(f.dev(), name), Size: sectors * 512, sysfs: f.sysfs(), nodes: f.node}
	file, err := os.Open(d.Node)
	if err != nil {
		return nil, false
	}
	defer file.Close()
	if d.Table, d.Info, err = gpt.Read(file, d.Size); err != nil {
		return nil, errors.Is(err, gpt.ErrNoTable)
	}
	return d, true
}

func (f *Finder) sysfs() string {
	if f.Sysfs == "" {
		return "/sys"
	}
	return f.Sysfs
}

func (f *Finder) dev() string {
	if f.Dev == "" {
		return "/dev"
	}
	return f.Dev
}

func (f *Finder) node(name string) string { return filepath.Join(f.dev(), name) }

func readInt(file string) (int64, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
}

// assign maps roles to partitions: by the GUIDs of the layout or, on a rekeyed
// disk, by name. Names are the roles (package partition).
func (d *Disk) assign(layout appliance.Layout) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.parts = map[string]gpt.Partition{}
	for _, p := range d.Table.Partitions {
		d.parts[p.Name] = p
	}
	for role, guid := range layout.Part {
		for _, p := range d.Table.Partitions {
			if p.GUID.String() == strings.ToLower(guid) {
				d.parts[role] = p
			}
		}
	}
}

// Role returns the role of the partition with this GUID, or "".
func (d *Disk) Role(partition string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for role, p := range d.parts {
		if p.GUID.String() == strings.ToLower(partition) {
			return role
		}
	}
	return ""
}

// Partition returns the partition of a role.
func (d *Disk) Partition(role string) (gpt.Partition, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, ok := d.parts[role]
	return p, ok
}

// NodeOf returns the device node of a role's partition, or "" while the kernel
// has none. The number in the name is not trusted: sysfs is asked which
// partition of this disk has that index.
func (d *Disk) NodeOf(role string) string {
	p, ok := d.Partition(role)
	if !ok {
		return ""
	}
	dir := filepath.Join(d.sysfs, "class/block", filepath.Base(d.Node))
	files, _ := filepath.Glob(dir + "/*/partition")
	for _, f := range files {
		if n, err := readInt(f); err == nil && n == int64(p.Index) {
			return d.nodes(filepath.Base(filepath.Dir(f)))
		}
	}
	return ""
}
