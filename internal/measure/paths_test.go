package measure

import (
	"bytes"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/attest/predict"
	"github.com/ingot-os/ingot/boot/authenticode"
	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/boot/esl"
	"github.com/ingot-os/ingot/boot/varstore"
	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/rig"
	"github.com/ingot-os/ingot/internal/testkey"
	"github.com/ingot-os/ingot/partition/gpt"
)

func TestDisk(t *testing.T) {
	set, spec := openSet(t)
	e := record(t, qemu.Machine{Image: set.Image(), Vars: rig.Vars(set, spec)})
	compare(t, must(t, set.Dir, Options{Boot: predict.Disk}), e)
}

// TestSystemdBoot boots from disk by way of systemd-boot.
func TestSystemdBoot(t *testing.T) {
	set, _ := openLoader(t, "systemd-boot")
	e := record(t, qemu.Machine{Image: set.Image()})
	p := must(t, set.Dir, Options{Boot: predict.Disk})
	compare(t, p, e)
	if n := slices.IndexFunc(p.Events, func(e predict.Event) bool { return e.Name == "loader.conf" }); n < 0 {
		t.Error("loader.conf is not predicted")
	}
}

// TestSecureBoot boots a signed image on firmware that enforces our keys.
func TestSecureBoot(t *testing.T) {
	set, spec := openSet(t)
	e, keys := enforced(t, set, spec, read(t, set.UKI()))
	// From the unsigned file: signing changes nothing that is measured.
	compare(t, must(t, set.Dir, Options{Boot: predict.Disk, SecureBoot: true, Keys: keys}), e)
}

// enforced signs an image and boots it from the slot.
func enforced(t *testing.T, set *release.Set, spec *appliance.Spec, plain []byte) (evidence, *predict.Keys) {
	t.Helper()
	db := testkey.New("db", nil)
	var signed bytes.Buffer
	if err := authenticode.Sign(&signed, bytes.NewReader(plain), int64(len(plain)), db.Key, db.Cert); err != nil {
		t.Fatal(err)
	}
	list := esl.Marshal([]esl.List{esl.Certificate(gpt.MustGUID("11223344-5566-4788-99aa-bbccddeeff00"), db.Cert)})
	vars := func(flash []byte) ([]byte, error) {
		flash, err := rig.Vars(set, spec)(flash)
		if err != nil {
			return nil, err
		}
		s, err := varstore.Open(flash)
		if err != nil {
			return nil, err
		}
		err = s.EnrollSecureBoot(varstore.SecureBootKeys{PK: list, KEK: list, DB: list})
		return s.Bytes(), err
	}
	e := record(t, qemu.Machine{Image: withUKI(t, set, signed.Bytes()), Vars: vars, Firmware: &qemu.Firmware{
		Code: oracle.Need(t, "ovmf", "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"), Vars: oracle.Need(t, "ovmf", "/usr/share/OVMF/OVMF_VARS_4M.fd"), Secure: true}})
	return e, &predict.Keys{PK: list, KEK: list, DB: list}
}

// blank is a disk without anything to boot.
func blank(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "blank.img")
	if err := os.WriteFile(name, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestPXE boots over TFTP after a disk that has nothing to boot.
func TestPXE(t *testing.T) {
	set, _ := openSet(t)
	e := record(t, qemu.Machine{Image: blank(t), ExtraArgs: []string{
		"-netdev", "user,id=pxe,net=10.0.9.0/24,tftp=" + set.Dir + ",bootfile=/" + filepath.Base(set.UKI()),
		"-device", "virtio-net-pci,netdev=pxe,romfile=,bootindex=1"}})
	compare(t, must(t, set.Dir, Options{Boot: predict.PXE, Failed: 1}), e)
}

// TestHTTP boots by the firmware's HTTP Boot from an entry with a URL.
func TestHTTP(t *testing.T) {
	set, _ := openSet(t)
	server := httptest.NewServer(http.FileServer(http.Dir(set.Dir)))
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	mac := append([]byte{0x52, 0x54, 0, 0x12, 0x34, 0x99}, make([]byte, 26)...)
	entry := efivar.LoadOption{Attributes: efivar.Active, Description: "http", Paths: []efivar.DevicePath{{
		{Type: 2, SubType: 1, Data: []byte{0xd0, 0x41, 0x03, 0x0a, 0, 0, 0, 0}}, // PciRoot(0)
		{Type: 1, SubType: 1, Data: []byte{0, 0x10}},                            // Pci(0x10,0)
		{Type: 3, SubType: 11, Data: append(mac, 1)},
		{Type: 3, SubType: 12, Data: make([]byte, 23)}, // IPv4, by DHCP
		{Type: 3, SubType: 24, Data: []byte("http://10.0.9.2:" + port + "/" + filepath.Base(set.UKI()))},
	}}}
	data, err := entry.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	vars := func(flash []byte) ([]byte, error) {
		return stored(flash, map[string][]byte{efivar.BootName(0x30): data, efivar.BootOrder: efivar.MarshalOrder(0x30)})
	}
	e := record(t, qemu.Machine{Image: blank(t), Vars: vars, ExtraArgs: []string{
		"-netdev", "user,id=pxe,net=10.0.9.0/24", "-device", "virtio-net-pci,netdev=pxe,romfile=,addr=0x10,mac=52:54:00:12:34:99,bootindex=1"}})
	compare(t, must(t, set.Dir, Options{Boot: predict.HTTP, Failed: failed(t, e)}), e)
}

// failed counts the boot options that the log says failed.
func failed(t *testing.T, e evidence) (n int) {
	t.Helper()
	l, err := eventlog.Parse(e.Log)
	if err != nil {
		t.Fatal(err)
	}
	for i := range l.Events {
		if strings.HasPrefix(l.Events[i].Text(), "Returning from EFI Application") {
			n++
		}
	}
	return n
}

// stored writes boot variables into a variable store.
func stored(flash []byte, vars map[string][]byte) ([]byte, error) {
	s, err := varstore.Open(flash)
	if err != nil {
		return nil, err
	}
	for name, data := range vars {
		if err := s.Set(varstore.Variable{Name: name, GUID: efivar.Global, Attributes: efivar.BootAttributes, Data: data}); err != nil {
			return nil, err
		}
	}
	return s.Bytes(), nil
}

// TestIPXE boots through iPXE as an option ROM, which gives the image its file
// name as the command line.
func TestIPXE(t *testing.T) {
	set, _ := openSet(t)
	rom := oracle.Need(t, "ipxe-qemu", "/usr/lib/ipxe/qemu/efi-virtio.rom")
	name := filepath.Base(set.UKI())
	e := record(t, qemu.Machine{Image: blank(t), ExtraArgs: []string{
		"-netdev", "user,id=pxe,net=10.0.9.0/24,tftp=" + set.Dir + ",bootfile=/" + name,
		"-device", "virtio-net-pci,netdev=pxe,bootindex=1,romfile=" + rom}})
	p := must(t, set.Dir, Options{Boot: predict.IPXE, Failed: 1, LoadOptions: name})
	compare(t, p, e)
	if !p.Replaced || e.Cmdline != name {
		t.Errorf("the kernel has %q", e.Cmdline)
	}
}
