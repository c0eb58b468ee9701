package flash

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Probe finds out about the block device or regular file at path.
func Probe(path string) (Device, error) {
	return prober{sys: "/sys", proc: "/proc"}.probe(path)
}

// prober reads facts from sysfs and procfs at the given places.
type prober struct {
	sys, proc string
}

func (p prober) probe(path string) (Device, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Device{}, fmt.Errorf("probe device: %w", err)
	}
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return Device{
			Path: path, Name: filepath.Base(path), Kind: File, Size: info.Size(),
			ReadOnly: unix.Access(path, unix.W_OK) != nil,
		}, nil
	case mode&os.ModeDevice != 0 && mode&os.ModeCharDevice == 0:
		rdev := info.Sys().(*syscall.Stat_t).Rdev
		d, err := p.block(fmt.Sprintf("%d:%d", unix.Major(rdev), unix.Minor(rdev)))
		d.Path = path
		return d, err
	}
	return Device{}, fmt.Errorf("probe device: %s is neither a block device nor a regular file", path)
}

// block collects the facts of the block device with number "major:minor".
func (p prober) block(number string) (Device, error) {
	dir, err := filepath.EvalSymlinks(filepath.Join(p.sys, "dev/block", number))
	if err != nil {
		return Device{}, fmt.Errorf("probe device %s: %w", number, err)
	}
	d := Device{Name: filepath.Base(dir), Kind: Disk}
	queue := dir
	if exists(dir, "partition") {
		queue = filepath.Dir(dir)
		d.Kind, d.Parent = Partition, filepath.Base(queue)
	}
	sectors, err := strconv.ParseInt(attr(dir, "size"), 10, 64)
	if err != nil {
		return Device{}, fmt.Errorf("probe %s: read size: %w", d.Name, err)
	}
	d.Size = sectors * 512 // whatever the device's sectors are: this attribute counts 512 bytes
	d.SectorSize, err = strconv.Atoi(attr(queue, "queue/logical_block_size"))
	if err != nil {
		return Device{}, fmt.Errorf("probe %s: read logical_block_size: %w", d.Name, err)
	}
	d.ReadOnly = attr(dir, "ro") == "1"
	d.Removable = attr(queue, "removable") == "1"
	d.Model = strings.Join(strings.Fields(attr(queue, "device/vendor")+" "+attr(queue, "device/model")+" "+attr(queue, "device/name")), " ")
	for _, a := range []string{"wwid", "device/wwid", "device/cid", "device/serial"} {
		if d.ID == "" {
			d.ID = strings.Join(strings.Fields(attr(queue, a)), " ")
		}
	}
	d.Uses, err = p.uses(dir)
	return d, err
}

// uses finds mounts, swaps and holders of the device at a sysfs directory, of
// its partitions, and of everything that is stacked on them.
func (p prober) uses(dir string) ([]Use, error) {
	s := stack{p: p, byNumber: map[string]string{}, byName: map[string]bool{}}
	s.add(dir)
	mounts, err := p.mounts(s)
	if err != nil {
		return nil, err
	}
	swaps, err := p.swaps(s)
	return append(append(mounts, swaps...), s.holders...), err
}

// stack is a device with all that lies on it.
type stack struct {
	p        prober
	byNumber map[string]string // "8:17" -> "sdb1"
	byName   map[string]bool
	holders  []Use
}

func (s *stack) add(dir string) {
	name := filepath.Base(dir)
	if s.byName[name] {
		return
	}
	s.byName[name] = true
	s.byNumber[attr(dir, "dev")] = name
	parts, _ := filepath.Glob(filepath.Join(dir, "*", "partition"))
	for _, part := range parts {
		s.add(filepath.Dir(part))
	}
	holders, _ := os.ReadDir(filepath.Join(dir, "holders"))
	for _, h := range holders {
		real, err := filepath.EvalSymlinks(filepath.Join(s.p.sys, "class/block", h.Name()))
		if err != nil {
			continue // gone since
		}
		where := h.Name()
		if dm := attr(real, "dm/name"); dm != "" {
			where += " (" + dm + ")"
		}
		s.holders = append(s.holders, Use{"holder", name, where})
		s.add(real)
	}
}

// mounts reads mountinfo (proc_pid_mountinfo(5)). Both the device number and
// the source count: btrfs shows a number of its own.
func (p prober) mounts(s stack) ([]Use, error) {
	b, err := os.ReadFile(filepath.Join(p.proc, "self/mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	var uses []Use
	for line := range strings.Lines(string(b)) {
		head, tail, _ := strings.Cut(line, " - ")
		f, t := strings.Fields(head), strings.Fields(tail)
		if len(f) < 5 {
			continue
		}
		name := s.byNumber[f[2]]
		if name == "" && len(t) >= 2 && strings.HasPrefix(t[1], "/") {
			name = s.named(unescape(t[1]))
		}
		if u := (Use{"mount", name, unescape(f[4])}); name != "" && !slices.Contains(uses, u) {
			uses = append(uses, u)
		}
	}
	return uses, nil
}

// swaps reads /proc/swaps; a kernel without swap has no such file.
func (p prober) swaps(s stack) ([]Use, error) {
	b, err := os.ReadFile(filepath.Join(p.proc, "swaps"))
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read swaps: %w", err)
	}
	var uses []Use
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 || f[1] != "partition" {
			continue
		}
		if name := s.named(unescape(f[0])); name != "" {
			uses = append(uses, Use{"swap", name, ""})
		}
	}
	return uses, nil
}

// named returns the kernel name of a device path when it is in the stack.
func (s stack) named(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if name := filepath.Base(path); s.byName[name] {
		return name
	}
	return ""
}

// unescape undoes the octal escapes of mountinfo and swaps: \040 is a space.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// attr reads a sysfs attribute; one that is missing is empty.
func attr(dir, name string) string {
	b, _ := os.ReadFile(filepath.Join(dir, name))
	return strings.TrimSpace(string(b))
}

func exists(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}
