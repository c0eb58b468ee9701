package slots

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/ingot-os/ingot/boot/slot"
)

// Selector is the actuator that starts a slot from the running system, by
// kexec: for machines whose boot variables are of no use. What comes next is in
// the journal, so SetDefault and SetNext have nothing to do.
type Selector struct {
	File string // path of the boot file in a slot, with slashes
	// Refuse is why nothing may be started from here: Secure Boot is on. The
	// kernel would check the signature of a kernel alone, never that of the
	// initramfs beside it, so whoever can write the disk could start anything.
	Refuse error
	// Open opens the partition of a role, and gives its size in bytes.
	Open func(role string) (Part, int64, error)
	// Extend measures what is about to be started: neither firmware nor stub does.
	// Without a TPM it returns nil.
	Extend func(slot.Slot, slot.Digest) error
	// Exec starts a kernel. It returns only when that is not possible.
	Exec func(kernel, initrd []byte, cmdline string) error
}

// SetDefault implements slot.Actuator.
func (s Selector) SetDefault(_, _ slot.Slot) error { return nil }

// SetNext implements slot.Actuator.
func (s Selector) SetNext(slot.Slot) error { return nil }

// Argument is what the command line of a slot that was started by kexec has at
// its end, before the letter of the slot: the variables of the stub speak of the
// program that the firmware started.
const Argument = "ingot.slot="

// Launch implements slot.Actuator.
func (s Selector) Launch(x slot.Slot) error {
	if s.Refuse != nil {
		return fmt.Errorf("start %s by kexec: %w: %w", x, slot.ErrRefused, s.Refuse)
	}
	p, size, err := s.Open(x.Role())
	if err != nil {
		return fmt.Errorf("start %s by kexec: %w", x, err)
	}
	i, err := bootFile(p, size, s.File)
	p.Close()
	if err != nil {
		return fmt.Errorf("start %s by kexec: %w", x, err)
	}
	if err := s.launch(x, i); err != nil {
		return fmt.Errorf("start %s by kexec: %w", x, err)
	}
	return nil
}

func (s Selector) launch(x slot.Slot, i *image) error {
	var parts [3][]byte
	for n, name := range []string{".linux", ".initrd", ".cmdline"} {
		b, err := i.section(name)
		if err != nil {
			return err
		}
		if b == nil {
			return fmt.Errorf("its boot file has no section %s", name)
		}
		parts[n] = b
	}
	line := strings.TrimSpace(string(bytes.TrimRight(parts[2], "\x00")))
	if strings.Contains(line, Argument) {
		return errors.New("its command line names a slot already")
	}
	if err := s.Extend(x, sha256.Sum256(i.bytes)); err != nil {
		return fmt.Errorf("measure it: %w", err)
	}
	i.bytes = nil // as large as the image: kernel and initramfs are copied once more
	return s.Exec(parts[0], parts[1], line+" "+Argument+letter(x))
}

// checked looks at a slot that could not be launched: what is written off must
// have been read.
type checked struct {
	k *Keeper
	Selector
}

func (c checked) Launch(x slot.Slot) error {
	err := c.Selector.Launch(x)
	if err == nil || errors.Is(err, slot.ErrRefused) {
		return err
	}
	want := c.k.durable.Of(x).Image
	got, e := c.k.sum(x.Role(), 0)
	if e == nil && got != want && want != (slot.Digest{}) {
		return errors.Join(err, slot.ErrDigest)
	}
	if want == (slot.Digest{}) && e == nil && c.k.verify(x, want) != nil {
		return errors.Join(err, slot.ErrDigest) // flashed, and without a boot file
	}
	return err
}
