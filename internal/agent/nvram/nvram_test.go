package nvram

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/partition/gpt"
)

func entry(role string, number uint32, guid string) Entry {
	part := efivar.HDPartition{Number: number, Start: 2048, Size: 4096, GUID: gpt.MustGUID(guid)}
	return Entry{Role: role, Option: efivar.SlotEntry(part, "EFI/BOOT/BOOTX64.EFI", "hello "+role, nil)}
}

const (
	guidA = "5275d4b3-dd6b-8423-8675-9fad8241f15c"
	guidB = "90468378-5792-8d56-b270-7ac112d1e559"
)

func TestSelectorWrites(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	// What firmware has by itself: a foreign entry and an order.
	foreign := entry("shell", 1, "11111111-dd6b-8423-8675-9fad8241f15c")
	b, _ := foreign.Option.MarshalBinary()
	for name, v := range map[string][]byte{"Boot0010": b, "Boot0000": {1, 2, 3}, efivar.BootOrder: efivar.MarshalOrder(0, 0x10)} {
		if err := s.Set(name, efivar.Global, efivar.BootAttributes, v); err != nil {
			t.Fatal(err)
		}
	}
	entries := []Entry{entry("slot-a", 2, guidA), entry("slot-b", 3, guidB)}
	for range 2 { // the second time changes nothing
		numbers, err := s.Ensure(entries)
		if err != nil {
			t.Fatal(err)
		}
		if len(numbers) != 2 || numbers[0] != 0x11 || numbers[1] != 0x12 {
			t.Fatalf("Ensure() = %04X, want 0011 and 0012", numbers)
		}
		if err := s.Order(numbers, First); err != nil {
			t.Fatal(err)
		}
		if err := s.Next(numbers[0]); err != nil {
			t.Fatal(err)
		}
	}
	got := strings.Join(s.Snapshot(), "\n")
	for _, want := range []string{"BootNext: [0011]", "BootOrder: [0011 0012 0000 0010]", "Boot0011: hello slot-a", "Boot0012: hello slot-b", "Boot0010: hello shell"} {
		if !strings.Contains(got, want) {
			t.Errorf("variables lack %q:\n%s", want, got)
		}
	}
	names, _ := filepath.Glob(s.Dir + "/Boot00*")
	if len(names) != 4 {
		t.Errorf("%d entries after two rounds, want 4", len(names))
	}
}

func TestEnsureRepairsInPlace(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	old := entry("slot-x", 2, guidA)
	b, _ := old.Option.MarshalBinary()
	if err := s.Set("Boot0003", efivar.Global, efivar.BootAttributes, b); err != nil {
		t.Fatal(err)
	}
	numbers, err := s.Ensure([]Entry{entry("slot-a", 2, guidA)})
	if err != nil || len(numbers) != 1 || numbers[0] != 3 {
		t.Fatalf("Ensure() = %v, %v; want number 3", numbers, err)
	}
	if got := strings.Join(s.Snapshot(), "\n"); !strings.Contains(got, "Boot0003: hello slot-a") {
		t.Errorf("variables: %s", got)
	}
}

func TestSetDoesNotWriteWhatIsThere(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	if err := s.Next(7); err != nil {
		t.Fatal(err)
	}
	file := s.file(efivar.BootNext, efivar.Global)
	if err := os.Chmod(file, 0o444); err != nil {
		t.Fatal(err)
	}
	before, _ := os.Stat(file)
	if err := s.Next(7); err != nil {
		t.Errorf("Next with the same value = %v", err)
	}
	after, _ := os.Stat(file)
	if !after.ModTime().Equal(before.ModTime()) {
		t.Error("the variable was written again")
	}
	if err := (Store{Dir: "/proc/no-such"}).Next(1); err == nil {
		t.Error("Next without efivarfs succeeds")
	}
}

func TestSecureBootStates(t *testing.T) {
	for _, c := range []struct {
		secure, setup byte
		want          string
	}{{0, 0, "disabled"}, {1, 0, "enabled"}, {0, 1, "setup"}} {
		s := Store{Dir: t.TempDir()}
		const ro = efivar.BootServiceAccess | efivar.RuntimeAccess
		for name, v := range map[string]byte{"SecureBoot": c.secure, "SetupMode": c.setup} {
			if err := s.Set(name, efivar.Global, ro, []byte{v}); err != nil {
				t.Fatal(err)
			}
		}
		if got := s.SecureBoot(); got != c.want {
			t.Errorf("SecureBoot() with %d %d = %s, want %s", c.secure, c.setup, got, c.want)
		}
	}
	if got := (Store{Dir: t.TempDir()}).SecureBoot(); got != "unknown" {
		t.Errorf("SecureBoot() without variables = %s", got)
	}
}

func TestText(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	text := "5275D4B3\x00"
	var b []byte
	for _, c := range text {
		b = append(b, byte(c), 0)
	}
	if err := s.Set("LoaderDevicePartUUID", efivar.Loader, efivar.RuntimeAccess, b); err != nil {
		t.Fatal(err)
	}
	if got := s.Text("LoaderDevicePartUUID"); got != "5275D4B3" {
		t.Errorf("Text() = %q", got)
	}
	if got := s.Text("none"); got != "" {
		t.Errorf("Text of nothing = %q", got)
	}
}

// TestPlatformKey reads a PK as firmware keeps it, and shrugs at a broken one.
func TestPlatformKey(t *testing.T) {
	cert := []byte("certificate")
	list := append(make([]byte, 28+16), cert...) // EFI_SIGNATURE_LIST, SignatureOwner
	list[16], list[24] = byte(len(list)), byte(16+len(cert))
	sum := sha256.Sum256(cert)
	want := hex.EncodeToString(sum[:])
	huge := bytes.Clone(list)
	huge[20], huge[23] = 0xff, 0xff
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"good": {list, want}, "cut": {list[:50], ""}, "head only": {list[:20], ""}, "header beyond": {huge, ""}, "zeros": {make([]byte, 60), ""},
	} {
		s := Store{Dir: t.TempDir()}
		write(t, s, "PK", c.data)
		if got := s.PlatformKey(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if got := (Store{Dir: t.TempDir()}).PlatformKey(); got != "" {
		t.Errorf("without variables: %q", got)
	}
}

func write(t *testing.T, s Store, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.Dir, efivar.FileName(name, efivar.Global)), efivar.MarshalFile(0x27, data), 0o644); err != nil {
		t.Fatal(err)
	}
}
