package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/boot/varstore"
	"github.com/ingot-os/ingot/internal/agent/listener"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/rig"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/fat"
	"github.com/ingot-os/ingot/partition/tree"
)

// TestPollutedBoot: slot B is tried first and gives control back; then slot A runs
// in the same boot. The machine says so and resets once, and not again when the
// next boot is no better.
func TestPollutedBoot(t *testing.T) {
	needs(t, "amd64")
	set, err := release.Open(image(t, variant{example: hello}))
	if err != nil {
		t.Fatal(err)
	}
	spec, err := rig.Spec(set)
	if err != nil {
		t.Fatal(err)
	}
	entries := rig.Vars(set, spec)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	vm, err := qemu.Start(ctx, qemu.Machine{Arch: qemu.AMD64, Image: set.Image(), TPM: true, Accel: qemu.AccelTCG,
		State: func(disk *os.File) error { return returnFromSlotB(disk, set) },
		Vars: func(flash []byte) ([]byte, error) {
			flash, err := entries(flash)
			if err != nil {
				return nil, err
			}
			return slotBFirst(flash)
		},
		Forwards: []qemu.Forward{{Guest: 9443}}})
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	var s listener.Status
	for ctx.Err() == nil && !s.Healthy {
		time.Sleep(300 * time.Millisecond)
		r, err := http.Get("http://" + vm.Forward(9443) + "/v1/status")
		if err != nil {
			continue
		}
		b, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err == nil {
			_ = json.Unmarshal(b, &s)
		}
	}
	console := string(vm.Console())
	resets := strings.Count(console, "ingot: restarting now")
	polluted := func(p string) bool {
		return strings.Contains(p, `boot.polluted: \EFI\BOOT\BOOTX64.EFI on partition 3 ran before`)
	}
	if !s.Healthy || resets != 1 || !slices.ContainsFunc(s.Problems, polluted) || s.Slots == nil || !slices.Contains(s.Slots.Why, "boot.polluted: another program ran first; one cold reset was made") || s.Boot.Slot != "a" {
		t.Errorf("healthy %t after %d resets from slot %s, problems %q, slots %+v\n%s", s.Healthy, resets, s.Boot.Slot, s.Problems, s.Slots, console)
	}
}

// returningProgram is an EFI application that returns EFI_UNSUPPORTED: to the firmware a
// boot option that failed, after which it tries the next.
func returningProgram() []byte {
	code := []byte{0x48, 0xb8, 3, 0, 0, 0, 0, 0, 0, 0x80, 0xc3} // mov rax, 1<<63|3; ret
	b := make([]byte, 0x400)
	le := binary.LittleEndian
	copy(b, "MZ")
	b[0x3c] = 0x40 // where the PE header is
	copy(b[0x40:], "PE\x00\x00")
	coff := b[0x44:]
	le.PutUint16(coff, 0x8664)
	le.PutUint16(coff[2:], 1)     // sections
	le.PutUint16(coff[16:], 0xf0) // size of the optional header
	le.PutUint16(coff[18:], 0x22) // executable, large addresses
	opt := coff[20:]
	le.PutUint16(opt, 0x20b) // PE32+
	for off, v := range map[int]uint32{4: 0x200, 16: 0x1000, 20: 0x1000, 32: 0x1000, 36: 0x200, 56: 0x2000, 60: 0x200, 68: 10, 108: 16} {
		le.PutUint32(opt[off:], v) // code size, entry, base of code, alignments, sizes of image and headers, EFI application, directories
	}
	section := opt[0xf0:]
	copy(section, ".text")
	for off, v := range map[int]uint32{8: uint32(len(code)), 12: 0x1000, 16: 0x200, 20: 0x200, 36: 0x60000020} {
		le.PutUint32(section[off:], v)
	}
	copy(b[0x200:], code)
	return b
}

// returnFromSlotB puts that program into slot B.
func returnFromSlotB(disk *os.File, set *release.Set) error {
	var files tree.Tree
	for _, n := range []tree.Node{{Path: "EFI", Mode: fs.ModeDir | 0o755}, {Path: "EFI/BOOT", Mode: fs.ModeDir | 0o755},
		{Path: "EFI/BOOT/BOOTX64.EFI", Mode: 0o644, Content: tree.Bytes(returningProgram())}} {
		if err := files.Add(n); err != nil {
			return err
		}
	}
	info, err := disk.Stat()
	if err != nil {
		return err
	}
	l, err := partition.Read(disk, info.Size())
	if err != nil {
		return err
	}
	p, ok := l.Part(partition.SlotB)
	if !ok {
		return fs.ErrNotExist
	}
	img, err := fat.Plan(&files, fat.Options{Size: p.Size, Serial: 1, Epoch: set.Manifest.Epoch})
	if err != nil {
		return err
	}
	return img.Write(p.Window(disk))
}

// slotBFirst turns the order of the two slots around.
func slotBFirst(flash []byte) ([]byte, error) {
	s, err := varstore.Open(flash)
	if err != nil {
		return nil, err
	}
	v, ok := s.Get(efivar.BootOrder, efivar.Global)
	if !ok {
		return nil, fs.ErrNotExist
	}
	order, err := efivar.ParseOrder(bytes.Clone(v.Data))
	if err != nil {
		return nil, err
	}
	order[0], order[1] = order[1], order[0]
	v.Data = efivar.MarshalOrder(order...)
	if err := s.Set(v); err != nil {
		return nil, err
	}
	return s.Bytes(), nil
}
