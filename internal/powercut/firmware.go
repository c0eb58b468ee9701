package powercut

import (
	"crypto/sha256"
	"io"
	"slices"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/partition/fat"
)

// Vars is the NVRAM: two boot entries, BootOrder and BootNext.
type Vars struct {
	Entries bool
	Order   [2]slot.Slot
	Next    slot.Slot
}

// file is where both firmware and selector look in a slot.
const file = "EFI/BOOT/BOOTX64.EFI"

// load returns the SHA-256 of the boot file in a slot, and false when firmware
// finds no file system or no file there.
func load(p io.ReaderAt, size int64) (sum [32]byte, ok bool) {
	fs, err := fat.Open(p, size)
	if err != nil {
		return sum, false
	}
	t, err := fs.Tree()
	if err != nil {
		return sum, false
	}
	n := t.Get(file)
	if n == nil || n.Content == nil {
		return sum, false
	}
	r, err := n.Content.Open()
	if err != nil {
		return sum, false
	}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return sum, false
	}
	return [32]byte(h.Sum(nil)), true
}

// choose is the boot manager (UEFI 2.10 section 3.1.2). It returns None when no
// option loads: then the removable media path starts the selector. BootNext is
// deleted before it is tried (section 3.3).
func (m *Machine) choose() slot.Slot {
	try := m.Vars.Order[:]
	if m.Vars.Next != slot.None {
		try = append([]slot.Slot{m.Vars.Next}, try...)
		v := m.Vars
		v.Next = slot.None
		m.mark("P8")
		m.setVars("P9", v)
	}
	for _, x := range try {
		if m.Vars.Entries && x != slot.None && m.loads(x) {
			return x
		}
	}
	return slot.None
}

// loads says whether the firmware starts what is in the slot.
func (m *Machine) loads(x slot.Slot) bool { return m.look(x).version != "" }

// seen is what is in a slot.
type seen struct {
	version string // of the boot file; "" when it does not load, "?" when it is nobody's
	whole   bool   // all bytes are those of that release
}

// look reads a slot, once for each content.
func (m *Machine) look(x slot.Slot) seen {
	p := m.part(x)
	key := m.Disk.versions[p.area]
	if s, ok := m.memory[key]; ok {
		return s
	}
	var s seen
	if sum, ok := load(p, p.Size()); ok {
		s.version = "?"
		if i := slices.IndexFunc(m.releases, func(r *Release) bool { return r.boot == sum }); i >= 0 {
			s = seen{m.releases[i].Version, m.releases[i].isOn(p)}
		}
	}
	m.memory[key] = s
	return s
}

func (m *Machine) part(x slot.Slot) Part {
	if x == slot.B {
		return m.Disk.Part(SlotB)
	}
	return m.Disk.Part(SlotA)
}
