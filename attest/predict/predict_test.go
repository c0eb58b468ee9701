package predict

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/boot/pe"
)

var sha = Options{Boot: Disk, Banks: []pcr.Bank{pcr.SHA256}}

func with(change func(*Options)) Options {
	o := sha
	change(&o)
	return o
}

// names are the events of one register.
func names(p *Prediction, register int) (out []string) {
	for _, e := range p.Events {
		if e.PCR == register {
			out = append(out, e.Name)
		}
	}
	return out
}

// digest is that of the event of a name.
func digest(t *testing.T, p *Prediction, name string) string {
	t.Helper()
	for _, e := range p.Events {
		if e.Name == name {
			return e.Digests[pcr.SHA256].String()
		}
	}
	t.Fatalf("no event %q", name)
	return ""
}

func sum(s string) string {
	d := sha256.Sum256([]byte(s))
	return hex.EncodeToString(d[:])
}

// utf16 is plain ASCII as UTF-16 with a NUL.
func utf16of(s string) string { return strings.Join(strings.Split(s+"\x00", ""), "\x00") + "\x00" }

func everything(version string) []sec {
	return []sec{stubOf(version), {name: ".sbat", data: "sbat,1"}, {name: ".pcrsig", data: "{}"}, {name: ".other", data: "x"},
		{name: ".initrd", data: "initrd"}, {name: ".ucode", data: "microcode"}, linux, {name: ".osrel", data: "ID=x"},
		{name: ".cmdline", data: "console=ttyS0"}, {name: ".uname", data: "6.12"}, {name: ".pcrpkey", data: "key"},
		{name: ".splash", data: "BM"}, {name: ".dtb", data: "\xd0\x0d\xfe\xed"}}
}

// TestBootPaths holds the order of PCR 4, 5 and 12 for each way to boot
// against the table of docs/measure.md.
func TestBootPaths(t *testing.T) {
	disk := &Table{entries: make([]byte, 256)}
	for name, c := range map[string]struct {
		o                Options
		pcr4, pcr5, pc12 string
	}{
		"disk":               {Options{Boot: Disk, Table: disk}, "C|S|UKI|.linux", "S|GPT|E|D", ""},
		"disk, secure boot":  {Options{Boot: Disk, Table: disk, SecureBoot: true}, "C|S|UKI", "S|GPT|E|D", ""},
		"disk, two failures": {Options{Boot: Disk, Table: disk, Failed: 2}, "C|S|R|C|R|C|UKI|.linux", "S|GPT|E|D", ""},
		"pxe":                {Options{Boot: PXE, Table: disk}, "C|S|UKI|.linux", "S|E|D", ""},
		"http, secure boot":  {Options{Boot: HTTP, SecureBoot: true}, "C|S|UKI", "S|E|D", ""},
		"ipxe":               {Options{Boot: IPXE, LoadOptions: "x.efi"}, "C|S|UKI|UKI|.linux", "S|E|D", "load options"},
		"ipxe, secure boot":  {Options{Boot: IPXE, SecureBoot: true, LoadOptions: "x.efi"}, "C|S|UKI|UKI", "S|E|D", ""},
		"kernel":             {Options{Boot: Kernel}, "UKI|C|S|.linux", "S|E|D", ""},
		"kernel, append":     {Options{Boot: Kernel, LoadOptions: "quiet"}, "UKI|C|S|.linux", "S|E|D", "load options"},
	} {
		c.o.Banks = sha.Banks
		p := mustPredict(t, c.o, everything("257")...)
		short := strings.NewReplacer(calling, "C", returning, "R", "separator", "S", exitInvoked, "E", exitDone, "D")
		for register, want := range map[int]string{4: c.pcr4, 5: c.pcr5, 12: c.pc12} {
			if got := short.Replace(strings.Join(names(p, register), "|")); got != want {
				t.Errorf("%s: PCR %d is %s, want %s", name, register, got, want)
			}
		}
	}
}

// TestAuthenticode: PCR 4 has the digest that a signature covers.
func TestAuthenticode(t *testing.T) {
	b := build(everything("257")...)
	p, err := UKI(bytes.NewReader(b), int64(len(b)), sha)
	if err != nil {
		t.Fatal(err)
	}
	want, err := pe.Authenticode(bytes.NewReader(b), int64(len(b)), crypto.SHA256)
	if err != nil || digest(t, p, "UKI") != hex.EncodeToString(want) {
		t.Errorf("%s, want %x, %v", digest(t, p, "UKI"), want, err)
	}
}

// TestReplay: final values are those of the events, and what is not predicted
// is named with its reason.
func TestReplay(t *testing.T) {
	p := mustPredict(t, sha, stubOf("257"), linux)
	const nothing = "0000000000000000000000000000000000000000000000000000000000000000"
	if got := p.PCRs[pcr.SHA256][12].String(); got != nothing {
		t.Errorf("PCR 12: %s", got)
	}
	s := pcr.Start(pcr.SHA256, 0)
	for _, e := range p.Events {
		if e.PCR == 11 {
			s.Extend(11, e.Digests[pcr.SHA256])
		}
	}
	if !bytes.Equal(p.PCRs[pcr.SHA256][11], s.Value(11)) {
		t.Error("PCR 11 is not what its events give")
	}
	for _, register := range []int{5, 7} {
		if _, ok := p.PCRs[pcr.SHA256][register]; ok || p.Open[register] == "" {
			t.Errorf("PCR %d is predicted from nothing", register)
		}
	}
}

// TestBanks: every bank has its own digests, computed in one pass.
func TestBanks(t *testing.T) {
	all := []pcr.Bank{pcr.SHA1, pcr.SHA256, pcr.SHA384, pcr.SHA512}
	p := mustPredict(t, Options{Boot: PXE, Banks: all}, everything("257")...)
	for _, e := range p.Events {
		for _, bank := range all {
			if len(e.Digests[bank]) != bank.Size() {
				t.Errorf("%s %s: %d bytes", e.Name, bank, len(e.Digests[bank]))
			}
		}
	}
	one := mustPredict(t, Options{Boot: PXE, Banks: all[2:3]}, everything("257")...)
	if !bytes.Equal(one.PCRs[pcr.SHA384][9], p.PCRs[pcr.SHA384][9]) {
		t.Error("a bank depends on the others")
	}
}

func TestOptionsRefused(t *testing.T) {
	for want, o := range map[string]Options{
		"is no way to boot":              {Boot: "floppy", Banks: sha.Banks},
		"no PCR bank":                    {Boot: Disk},
		"cannot be computed":             {Boot: Disk, Banks: []pcr.Bank{0x12}},
		"-1 failed boot options":         {Boot: Disk, Banks: sha.Banks, Failed: -1},
		"not within 0..65536":            {Boot: Disk, Banks: sha.Banks, Failed: 1 << 17},
		"gives no load options":          {Boot: Disk, Banks: sha.Banks, LoadOptions: "x"},
		"has no loader":                  {Boot: PXE, Banks: sha.Banks, Loader: &Program{}},
		"loader.conf without":            {Boot: Disk, Banks: sha.Banks, LoaderConf: []byte("x")},
		"loader.conf with":               {Boot: IPXE, Banks: sha.Banks, Loader: menu("257"), LoaderConf: []byte("x")},
		"no rules":                       {Boot: Disk, Banks: sha.Banks, Loader: menu("252.39")},
		"not a unified kernel":           {Boot: Disk, Banks: sha.Banks, Loader: &Program{bytes.NewReader(build(linux)), int64(len(build(linux)))}},
		"loader: pe: offset":             {Boot: IPXE, Banks: sha.Banks, Loader: &Program{bytes.NewReader(nil), 0}},
		"load options \"a\\x00b\": byte": {Boot: Kernel, Banks: sha.Banks, LoadOptions: "a\x00b"},
	} {
		if _, err := predictOf(t, o, stubOf("257"), linux); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestImage: boots that are predicted from one opened image are those that are
// predicted alone, in any order.
func TestImage(t *testing.T) {
	b := build(everything("257")...)
	m, err := Open(bytes.NewReader(b), int64(len(b)), sha.Banks...)
	if err != nil {
		t.Fatal(err)
	}
	loader := build(sec{name: ".text", data: "iPXE"})
	for _, o := range []Options{
		{Boot: Disk}, {Boot: Disk, SecureBoot: true}, {Boot: Disk}, {Boot: IPXE, LoadOptions: "x"},
		{Boot: IPXE, Loader: &Program{bytes.NewReader(loader), int64(len(loader))}}, {Boot: Kernel}, {Boot: IPXE},
		{Boot: Disk, Loader: menu("257.13"), LoaderConf: []byte("timeout 1")},
	} {
		got, err := m.Boot(o)
		if err != nil {
			t.Fatal(err)
		}
		o.Banks = sha.Banks
		want, err := UKI(bytes.NewReader(b), int64(len(b)), o)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-alone +together):\n%s", o.Boot, diff)
		}
		if got := names(want, 4); o.Loader != nil && (got[2] != map[Boot]string{IPXE: "iPXE", Disk: "systemd-boot"}[o.Boot] || got[3] != "UKI") {
			t.Errorf("PCR 4 is %q", got)
		}
	}
}

// menu is a systemd-boot.
func menu(version string) *Program {
	b := build(sec{name: ".sdmagic", data: "#### LoaderInfo: systemd-boot " + version + " ####\x00"})
	return &Program{bytes.NewReader(b), int64(len(b))}
}

// TestLoaderConf: systemd-boot measures its configuration behind the table.
func TestLoaderConf(t *testing.T) {
	p := mustPredict(t, with(func(o *Options) {
		o.Table, o.Loader, o.LoaderConf = &Table{}, menu("257.13-1~deb13u1"), []byte("timeout 1\n")
	}), everything("257")...)
	if got := strings.Join(names(p, 5), "|"); got != "separator|GPT|loader.conf|"+exitInvoked+"|"+exitDone {
		t.Errorf("PCR 5 is %s", got)
	}
	if got := digest(t, p, "loader.conf"); got != sum("timeout 1\n") {
		t.Errorf("got %s", got)
	}
}
