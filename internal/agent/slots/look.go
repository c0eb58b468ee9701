package slots

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ingot-os/ingot/boot/pe"
	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/partition/fat"
)

// letters are the slots in the order of Record.Slots.
var letters = []slot.Slot{slot.A, slot.B}

// inspect looks at slots when this boot went another way than it should: the
// good slot when another one runs, both in the selector. A boot as it should be
// reads no slot. Where slots are started by kexec, that looks by itself.
func (k *Keeper) inspect(r slot.Record, b slot.Boot) (damaged [2]bool) {
	known := b.Journal == slot.JournalRead
	if known && (r.Means != slot.Firmware || b.Running == r.Good || b.Running == r.Candidate && r.Phase == slot.Armed) {
		return damaged
	}
	if !known && b.Running != slot.None {
		return damaged
	}
	for i, x := range letters {
		if x == b.Running {
			continue
		}
		c := r.Of(x)
		if known && c.Condition != slot.Good && c.Condition != slot.Ready {
			continue
		}
		if err := k.verify(x, c.Image); err != nil {
			damaged[i] = true
			k.o.Logf("slots: %s: %v", x, err)
		}
	}
	return damaged
}

// verify compares a slot with its digest; where that is not known, it looks for
// a boot file.
func (k *Keeper) verify(x slot.Slot, want slot.Digest) error {
	if want == (slot.Digest{}) {
		p, size, err := k.o.Slot(x.Role())
		if err != nil {
			return err
		}
		defer p.Close()
		_, err = bootFile(p, size, k.o.Selector.File)
		return err
	}
	got, err := k.sum(x.Role(), 0)
	if err == nil && got != want {
		err = errors.New("its bytes are not those that were written")
	}
	return err
}

// errMedium is a partition that is there, and gives not all of its bytes.
var errMedium = errors.New("read")

// chunk is how much of a slot is read at once, in bytes.
const chunk = 1 << 20

// sum is the digest of a partition, by what is on the medium and not in memory. rest is what is slept for each second of
// work, in seconds.
func (k *Keeper) sum(role string, rest int) (slot.Digest, error) {
	p, size, err := k.o.Slot(role)
	if err != nil {
		return slot.Digest{}, err
	}
	defer p.Close()
	if err := p.Sync(); err != nil {
		return slot.Digest{}, fmt.Errorf("read %s: %w", role, err)
	}
	h := sha256.New()
	b := make([]byte, chunk)
	for off := int64(0); off < size; off += chunk {
		began := k.o.Uptime()
		n := min(chunk, size-off)
		if _, err := io.ReadFull(io.NewSectionReader(p, off, n), b[:n]); err != nil {
			return slot.Digest{}, fmt.Errorf("%w %s at %d: %w", errMedium, role, off, err)
		}
		h.Write(b[:n])
		if rest > 0 {
			time.Sleep(time.Duration(rest) * (k.o.Uptime() - began))
		}
	}
	return slot.Digest(h.Sum(nil)), nil
}

// image is a boot file: what is in memory of it.
type image struct {
	bytes []byte
	file  *pe.File
}

// bootFile reads the program that starts a slot. It is as large as the
// partition at most.
func bootFile(r io.ReaderAt, size int64, path string) (*image, error) {
	fs, err := fat.Open(r, size)
	if err != nil {
		return nil, err
	}
	t, err := fs.Tree()
	if err != nil {
		return nil, err
	}
	node := t.Get(path)
	if node == nil || !node.Mode.IsRegular() {
		return nil, fmt.Errorf("it has no file %s", path)
	}
	f, err := node.Open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	i := &image{bytes: make([]byte, node.Size())}
	if _, err := io.ReadFull(f, i.bytes); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if i.file, err = pe.Parse(bytes.NewReader(i.bytes), node.Size()); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if err := i.file.CheckUKI(); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return i, nil
}

// section is the content of a section of the image; nil when it has none.
func (i *image) section(name string) ([]byte, error) {
	s := i.file.Section(name)
	if s == nil {
		return nil, nil
	}
	return io.ReadAll(s.Data(bytes.NewReader(i.bytes)))
}
