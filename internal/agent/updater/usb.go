package updater

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/accept"
	"github.com/ingot-os/ingot/internal/dsse"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/partition/fat"
	"github.com/ingot-os/ingot/partition/tree"
)

// sticks looks for releases on USB media: directories NAME-VERSION at the top of
// a FAT32 volume, with manifest.dsse.json and slot.zst and root.zst (package
// stick), or the image set's NAME-VERSION.img in their place. The volume is read
// by package fat: no kernel driver sees what a stranger has plugged in.
type sticks struct {
	u          *Updater
	sysfs, dev string
	seen       map[string]int64 // size of the block devices that were looked at
	failed     map[string]int   // how often in a row a release could not be written
}

// Of media whose release could not be taken: another update was being written, or
// this one failed. The first passes by itself.
const (
	againUSB = 30 * time.Second
	triesUSB = 3
)

// lookUSB is the time between two looks when the kernel tells nothing.
const lookUSB = 5 * time.Second

func newSticks(u *Updater, sysfs, dev string) *sticks {
	return &sticks{u: u, sysfs: sysfs, dev: dev, seen: map[string]int64{}, failed: map[string]int{}}
}

// usb takes newer releases from sticks until the context ends.
func (u *Updater) usb(ctx context.Context) {
	s := newSticks(u, "/sys", "/dev")
	for ctx.Err() == nil {
		if s.look() {
			sleep(ctx, againUSB)
			continue
		}
		if u.m.Wait == nil {
			sleep(ctx, lookUSB)
			continue
		}
		u.m.Wait(ctx, time.Minute, s.changed)
	}
}

// changed says whether there is another set of media than look has seen.
func (s *sticks) changed() bool { return !maps.Equal(s.present(), s.seen) }

// present lists the block devices behind USB, whole disks and partitions.
func (s *sticks) present() map[string]int64 {
	out := map[string]int64{}
	entries, _ := os.ReadDir(filepath.Join(s.sysfs, "class/block"))
	for _, e := range entries {
		path, err := os.Readlink(filepath.Join(s.sysfs, "class/block", e.Name()))
		if size := s.size(e.Name()); err == nil && strings.Contains(path, "/usb") && size > 0 {
			out[e.Name()] = size
		}
	}
	return out
}

// size of a block device in bytes.
func (s *sticks) size(name string) int64 {
	b, err := os.ReadFile(filepath.Join(s.sysfs, "class/block", name, "size"))
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 54)
	if err != nil {
		return 0
	}
	return n * 512 // always, whatever the disk's sectors
}

// look reads what was plugged in since the last look, and says whether some of it
// has to be looked at again.
func (s *sticks) look() (again bool) {
	now := s.present()
	maps.DeleteFunc(s.failed, func(name string, _ int) bool { return now[name] == 0 })
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if s.seen[name] == now[name] {
			continue
		}
		var err error
		s.u.guard("read "+name, func() { err = s.open(name) })
		if s.retries(name, err) {
			delete(now, name)
			again = true
		}
	}
	s.seen = now
	return again
}

// retries says whether what could not be taken is tried again.
func (s *sticks) retries(name string, err error) bool {
	var own *updateapi.Error
	switch {
	case !errors.As(err, &own):
	case own.Code == updateapi.Busy:
		return true
	case own.Code == updateapi.Failed:
		s.failed[name]++
		return s.failed[name] < triesUSB
	}
	delete(s.failed, name)
	return false
}

// open looks at one device. What is no FAT32 volume is none of our business: a
// whole disk, a keyboard's memory, the machine's own boot disk.
func (s *sticks) open(name string) error {
	f, err := os.Open(filepath.Join(s.dev, name))
	if err != nil {
		s.u.say("stick %s: %v", name, err)
		return nil
	}
	defer f.Close()
	volume, err := fat.Open(f, s.size(name))
	if err != nil {
		return nil
	}
	if err = s.read(name, volume); err != nil {
		s.u.say("stick %s: %v", name, err)
	}
	return err
}

// bundle is a release on a stick.
type bundle struct {
	folder  string
	files   map[string]fat.Item // by name in lower case
	release *accept.Release
}

// read takes the newest release of a volume that is newer than what runs.
func (s *sticks) read(name string, v *fat.FS) error {
	top, err := v.List(nil)
	if err != nil {
		return err
	}
	var best *bundle
	for _, item := range top {
		if !item.Dir || !strings.HasPrefix(item.Name, s.u.m.Spec.Name+"-") {
			continue
		}
		b, err := s.bundle(v, item)
		switch {
		case err != nil:
			s.u.say("stick %s: %s: %v", name, item.Name, err)
		case b != nil && (best == nil || later(b.release.Manifest.Epoch, b.release.Version, best.release.Manifest.Epoch, best.release.Version)):
			best = b
		}
	}
	if best == nil {
		return nil
	}
	if err := s.take(name, v, best); err != nil {
		return fmt.Errorf("%s: %w", best.folder, err)
	}
	s.u.say("stick %s: version %s is written", name, best.release.Version)
	return nil
}

// bundle reads a folder; nil without a manifest.
func (s *sticks) bundle(v *fat.FS, dir fat.Item) (*bundle, error) {
	items, err := v.List(&dir)
	if err != nil {
		return nil, err
	}
	b := &bundle{folder: dir.Name, files: map[string]fat.Item{}}
	for _, i := range items {
		b.files[strings.ToLower(i.Name)] = i
	}
	i, ok := b.files[release.EnvelopeName]
	if !ok {
		return nil, nil
	}
	if i.Size > dsse.MaxEnvelope {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are read", i.Name, i.Size, dsse.MaxEnvelope)
	}
	envelope, err := whole(v, i)
	if err != nil {
		return nil, err
	}
	st := s.u.m.Keeper.State()
	if b.release, err = s.u.accept.Accept(envelope, s.u.m.Now(), st.Floor); err != nil {
		return nil, err
	}
	return b, s.newer(st, b.release)
}

// newer says why a release is not taken from a stick: there, what is old must
// not come back. A machine without a slot that starts takes what it needs.
func (s *sticks) newer(st slot.State, r *accept.Release) error {
	switch {
	case st.Recovering:
		return nil
	case st.IsRejected(r.Content):
		return fmt.Errorf("version %s failed on this machine before", r.Version)
	case !later(r.Manifest.Epoch, r.Version, s.u.m.Spec.Epoch, s.u.m.Spec.Version):
		return fmt.Errorf("version %s is not newer than %s, which runs", r.Version, s.u.m.Spec.Version)
	case st.Phase == slot.Failed && st.Of(st.Candidate).Image == r.Content.Image:
		return fmt.Errorf("version %s: its trial has failed, and is made again when its time comes", r.Version)
	}
	return nil
}

// later orders releases by the time of their inputs, and those of one lock by their
// versions: a number in them counts by its value, as people read it.
func later(epoch int64, version string, than int64, other string) bool {
	if epoch != than {
		return epoch > than
	}
	for version != "" && other != "" {
		var a, b string
		a, version = run(version)
		b, other = run(other)
		if a == b {
			continue
		}
		x, errX := strconv.ParseUint(a, 10, 64)
		y, errY := strconv.ParseUint(b, 10, 64)
		if errX == nil && errY == nil && x != y {
			return x > y
		}
		return a > b
	}
	return version != "" && other == ""
}

// run splits a text behind its first digits, or what comes before digits.
func run(s string) (first, rest string) {
	digit := func(c byte) bool { return c >= '0' && c <= '9' }
	n := 1
	for n < len(s) && digit(s[n]) == digit(s[0]) {
		n++
	}
	return s[:n], s[n:]
}

// take writes a bundle, and lets the machine try it.
func (s *sticks) take(name string, v *fat.FS, b *bundle) error {
	p, err := s.u.offer(b.release, updateapi.Offer{Approve: true, By: "the stick " + name})
	if err == nil {
		s.u.say("stick %s: version %s is taken", name, b.release.Version)
	}
	for err == nil && len(p.Wants) > 0 {
		p, err = s.part(v, b, p.Wants[0].Part)
	}
	return err
}

// part writes one part, from its beginning: a stick is not cut often.
func (s *sticks) part(v *fat.FS, b *bundle, part string) (updateapi.Progress, error) {
	if i, ok := b.files[part+".zst"]; ok {
		c, err := v.Content(i)
		if err != nil {
			return updateapi.Progress{}, err
		}
		return s.write(part, updateapi.CodingZstd, c)
	}
	i, ok := b.files[strings.ToLower(b.release.Manifest.Stem()+".img")]
	if !ok {
		return updateapi.Progress{}, fmt.Errorf("there is neither %s.zst nor %s.img", part, b.release.Manifest.Stem())
	}
	c, err := v.Content(i)
	if err != nil {
		return updateapi.Progress{}, err
	}
	for _, p := range b.release.Manifest.Disk.Partitions {
		if p.Role == accept.Role(part, slot.A) {
			return s.write(part, updateapi.CodingIdentity, extract{c, p.Start, p.Size})
		}
	}
	return updateapi.Progress{}, errors.New("the manifest has no such partition") // accept has looked
}

func (s *sticks) write(part, coding string, c tree.Blob) (updateapi.Progress, error) {
	r, err := c.Open()
	if err != nil {
		return updateapi.Progress{}, err
	}
	defer r.Close()
	return s.u.Write(part, 0, coding, r)
}

// extract is a range of a file.
type extract struct {
	tree.Blob
	off, n int64
}

// Open implements tree.Blob.
func (e extract) Open() (io.ReadCloser, error) {
	if e.off+e.n > e.Size() {
		return nil, fmt.Errorf("the image has %d bytes, its partition ends at %d", e.Size(), e.off+e.n)
	}
	r, err := e.Blob.Open()
	if err != nil {
		return nil, err
	}
	if _, err := io.CopyN(io.Discard, r, e.off); err != nil {
		r.Close()
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(r, e.n), r}, nil
}

// whole reads a small file.
func whole(v *fat.FS, i fat.Item) ([]byte, error) {
	c, err := v.Content(i)
	if err != nil {
		return nil, err
	}
	r, err := c.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}
