package powercut

import (
	"crypto/sha256"
	"io"
	"slices"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/partition/fat"
)

// Vars is the NVRAM: two boot entries, BootOrder and BootNext, and behind the slots
// the entry of the selector's spare copy.
type Vars struct {
	Entries bool
	Order   [2]slot.Slot
	Next    slot.Slot
	Spare   bool
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

// choose is the boot manager (UEFI 2.10 section 3.1.2). It returns None when no slot
// loads: selector says what comes then. BootNext is deleted before it is tried
// (section 3.3).
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

// selector is what the firmware starts when no slot loads: the spare copy by its
// entry, else the removable media path (section 3.5.1.1); "" when that is torn, too.
func (m *Machine) selector() string {
	switch {
	case m.Vars.Spare && m.Spare:
		return "spare"
	case m.ESP:
		return "selector"
	}
	return ""
}

// loads says whether the firmware starts what is in the slot.
func (m *Machine) loads(x slot.Slot) bool { return m.look(x).version != "" }

// seen is what is in a slot.
type seen struct {
	version string // of the boot file; "" when it does not load, "?" when it is nobody's
	whole   bool   // all bytes are those of that release, those of its root, too
	torn    bool   // it loads, and finds another root than its own
}

// name is the version, or what is wrong with a slot that is started.
func (s seen) name() string {
	if s.torn {
		return s.version + " without its root"
	}
	return s.version
}

// contents are the identities of what is in a slot and in its root.
type contents struct{ slot, root *int }

// look reads a slot, once for each content.
func (m *Machine) look(x slot.Slot) seen {
	p, root := m.part(x), m.root(x)
	key := contents{m.Disk.versions[p.area], m.Disk.versions[root.area]}
	if s, ok := m.memory[key]; ok {
		return s
	}
	var s seen
	if sum, ok := m.bootFile(p); ok {
		s.version = "?"
		if i := slices.IndexFunc(m.releases, func(r *Release) bool { return r.boot == sum }); i >= 0 {
			r := m.releases[i]
			right := r.rootIsOn(root)
			s = seen{r.Version, right && r.isOn(p), !right}
		}
	}
	m.memory[key] = s
	return s
}

// bootFile gives the digest of what a slot loads, once for each content.
func (m *Machine) bootFile(p Part) (sum [32]byte, ok bool) {
	key := m.Disk.versions[p.area]
	f, ok := m.files[key]
	if !ok {
		f.sum, f.ok = load(p, p.Size())
		m.files[key] = f
	}
	return f.sum, f.ok
}

// loaded is what load returned.
type loaded struct {
	sum [32]byte
	ok  bool
}

func (m *Machine) part(x slot.Slot) Part {
	if x == slot.B {
		return m.Disk.Part(SlotB)
	}
	return m.Disk.Part(SlotA)
}

func (m *Machine) root(x slot.Slot) Part {
	if x == slot.B {
		return m.Disk.Part(RootB)
	}
	return m.Disk.Part(RootA)
}
