package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/boot/pe"
	"github.com/ingot-os/ingot/internal/initbin"
	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/recipe"
	"github.com/ingot-os/ingot/internal/source"
	"github.com/ingot-os/ingot/internal/source/debian/debiantest"
	"github.com/ingot-os/ingot/partition/tree"
)

// efiProgram is the least that reads as an EFI program for amd64: headers and
// one section of code (PE/COFF specification, sections 2 to 4).
func efiProgram(code int) []byte {
	const headers, align = 0x400, 0x1000
	b := make([]byte, headers+code)
	le := binary.LittleEndian
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], 0x280)
	copy(b[0x280:], "PE\x00\x00")
	coff, opt := b[0x284:], b[0x298:]
	le.PutUint16(coff, pe.MachineAMD64)
	le.PutUint16(coff[2:], 1)    // sections
	le.PutUint16(coff[16:], 240) // size of the optional header
	le.PutUint16(coff[18:], 0x22)
	le.PutUint16(opt, 0x20b)
	for at, v := range map[int]uint32{4: uint32(code), 16: align, 20: align, 32: align, 36: 0x200, 56: 2 * align, 60: headers, 108: 16} {
		le.PutUint32(opt[at:], v)
	}
	le.PutUint16(opt[68:], pe.SubsystemEFIApplication)
	section := opt[240:]
	copy(section, ".text")
	for at, v := range map[int]uint32{8: uint32(code), 12: align, 16: uint32(code), 20: headers, 36: 0x60000020} {
		le.PutUint32(section[at:], v)
	}
	return b
}

// tinyKernel passes for a bzImage (Documentation/arch/x86/boot.rst).
func tinyKernel() []byte {
	b := efiProgram(0x200)
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x206:], 0x20f)
	binary.LittleEndian.PutUint16(b[0x236:], 1)
	binary.LittleEndian.PutUint16(b[0x20e:], 0x400-0x200) // kernel_version
	copy(b[0x400:], "6.12.0-tiny (test) #1\x00")
	return b
}

// tinyStub passes for systemd-stub.
func tinyStub(t testing.TB) []byte {
	t.Helper()
	p, err := pe.AppendSections(efiProgram(0x200), []pe.Section{{Name: ".sdmagic", Data: tree.Bytes("#### LoaderInfo: systemd-stub 257.13-1 ####\x00")}})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := p.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// head starts every recipe of these tests: nothing to download, nothing to
// compile, and the smallest disk that FAT32 allows.
const head = `name: tiny
version: 1.0.0
epoch: "2026-01-02T03:04:05Z"
kernel: {file: ./vmlinuz}
stub: {file: ./stub.efi}
disk: {esp: 36M, slot: 36M%s}
data: {disabled: true}
`

// bench is a recipe directory with a cache and an output directory.
type bench struct {
	tb                      testing.TB
	dir, cache, out, vendor string
	pins                    lock.Lock // what a root payload takes out of Debian
}

func newBench(t testing.TB, more string) *bench {
	t.Helper()
	if _, err := initbin.Digest("amd64"); err != nil {
		if os.Getenv("INGOT_REQUIRE_TOOLS") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	root := t.TempDir()
	b := &bench{tb: t, dir: filepath.Join(root, "recipe"), cache: filepath.Join(root, "cache"), out: filepath.Join(root, "out"), vendor: filepath.Join(root, "vendor")}
	b.pins.Arch = "amd64"
	b.vendored("ca-certificates", map[string]string{"usr/share/ca-certificates/test.crt": "-----BEGIN CERTIFICATE-----\n"})
	b.vendored("tzdata", map[string]string{"usr/share/zoneinfo/UTC": "TZif2"})
	b.file("vmlinuz", string(tinyKernel()), 0o644)
	b.file("stub.efi", string(tinyStub(t)), 0o644)
	b.recipe(more)
	return b
}

// vendored makes a package, pins it and puts it where Debian's would lie.
func (b *bench) vendored(name string, files map[string]string) {
	b.tb.Helper()
	deb := debiantest.Deb(b.tb, debiantest.Package{Name: name, Version: "1-1", Arch: "all", Files: files})
	sum := sha256.Sum256(deb)
	sha := hex.EncodeToString(sum[:])
	b.pins.Inputs = append(b.pins.Inputs, lock.Input{
		Name: name, Kind: lock.KindDeb, SHA256: sha, Size: int64(len(deb)), Package: name, Version: "1-1", Arch: "all",
		Suite: recipe.DefaultSuite, Pocket: "main", Path: "pool/" + name + ".deb",
	})
	path := source.VendorPath(b.vendor, sha)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, deb, 0o644)); err != nil {
		b.tb.Fatal(err)
	}
}

// recipe writes appliance.yaml; a root payload gets its partitions.
func (b *bench) recipe(more string) {
	root := ""
	if strings.Contains(more, "\nroot:") {
		root = ", root: 4M"
	}
	b.file("appliance.yaml", fmt.Sprintf(head, root)+more, 0o644)
}

func (b *bench) file(name, content string, mode os.FileMode) {
	b.tb.Helper()
	path := filepath.Join(b.dir, name)
	os.Remove(path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.tb.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		b.tb.Fatal(err)
	}
}

// options resolves the recipe as it is now. No network is involved.
func (b *bench) options() Options {
	b.tb.Helper()
	r, err := recipe.Load(filepath.Join(b.dir, "appliance.yaml"))
	if err != nil {
		b.tb.Fatal(err)
	}
	f, err := source.New(source.Options{Store: &source.Store{Dir: b.cache}, Vendor: b.vendor, Offline: true})
	if err != nil {
		b.tb.Fatal(err)
	}
	digest, err := initbin.Digest(r.Arch)
	if err != nil {
		b.tb.Fatal(err)
	}
	l, err := lock.Resolve(context.Background(), lock.Options{Recipe: r, Old: &b.pins, Fetcher: f, Init: digest})
	if err != nil {
		b.tb.Fatal(err)
	}
	return Options{Recipe: r, Lock: l, Fetcher: f, Out: b.out, Version: "0.0.0-test"}
}

func (b *bench) build() *Result {
	b.tb.Helper()
	res, err := Build(context.Background(), b.options())
	if err != nil {
		b.tb.Fatal(err)
	}
	return res
}

// digestsOf gives the SHA-256 of every file of a set, by name.
func digestsOf(t testing.TB, dir string) map[string]string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]string{}
	for _, e := range list {
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		blob, err := newFileBlob(f)
		if err != nil {
			t.Fatal(err)
		}
		if sums[e.Name()], err = blobDigest(blob); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return sums
}
