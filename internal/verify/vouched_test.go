package verify_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/boot/authenticode"
	"github.com/ingot-os/ingot/internal/build/buildtest"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/verify"
	"github.com/ingot-os/ingot/partition/fat"
	"github.com/ingot-os/ingot/partition/tree"
)

// TestVouched changes partitions together with their digests in the manifest:
// what is in them must agree with everything else all the same.
func TestVouched(t *testing.T) {
	set := makeSet(t, fixture(t, full), nil)
	image, err := os.Open(set.Image())
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	part := func(role string) release.Partition {
		for _, p := range set.Manifest.Disk.Partitions {
			if p.Role == role {
				return p
			}
		}
		t.Fatal(role)
		return release.Partition{}
	}
	file := func(role, path string) int64 {
		p := part(role)
		v, err := fat.Open(sectionOf(image, p), p.Size)
		if err != nil {
			t.Fatal(err)
		}
		files, err := v.Tree()
		if err != nil {
			t.Fatal(err)
		}
		return p.Start + files.Get(path).Content.(tree.Section).Off
	}
	const fallback = "EFI/BOOT/BOOTX64.EFI"
	for _, c := range []struct {
		name  string
		off   int64
		data  string
		code  verify.Code
		place string
	}{
		{"an ESP that is no FAT volume", part("esp").Start, strings.Repeat("\x00", 512), verify.PartitionFormat, "esp"},
		{"another UKI in slot-a", file("slot-a", fallback) + 0x280 + 8, "\x01", verify.BootMissing, "slot-a → " + fallback},
		{"another UKI in slot-b", file("slot-b", fallback) + 0x280 + 8, "\x01", verify.SBOMFiles, "slot-b → " + fallback},
		{"another program on the ESP", file("esp", "EFI/tool/tool.efi") + 700, "\x01", verify.SBOMFiles, "esp → EFI/tool/tool.efi"},
		{"another byte in root-a", part("root-a").Start + 200, "\xff\xff", verify.RootHash, "root-a"},
		{"another byte in root-b", part("root-b").Start + 200, "\xff\xff", verify.RootHash, "root-b"},
		{"no hash tree", part("root-a").Start + set.Manifest.Root.HashStart, "\x00\x00", verify.RootVerity, "root-a"},
		{"a hash tree over other data", part("root-a").Start + set.Manifest.Root.HashStart + 72, "\x05", verify.RootVerity, "root-a"},
		{"another hash", part("root-a").Start + set.Manifest.Root.HashStart + 4096, "\x00\x00", verify.RootHash, "root-a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := copySet(t, set)
			r := patched{image, []byte(c.data), c.off}
			m := *set.Manifest
			m.Disk.Partitions = append([]release.Partition{}, m.Disk.Partitions...)
			for i, p := range m.Disk.Partitions {
				if c.off >= p.Start && c.off < p.Start+p.Size {
					h := sha256.New()
					if _, err := io.Copy(h, io.NewSectionReader(r, p.Start, p.Size)); err != nil {
						t.Fatal(err)
					}
					m.Disk.Partitions[i].SHA256 = hex.EncodeToString(h.Sum(nil))
				}
			}
			data, err := m.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, release.ManifestName), data)
			o := verify.Options{Path: filepath.Join(dir, filepath.Base(set.Image())), Unsigned: true}
			refused(t, run(t, o.WithImage(r, m.Disk.Size)), c.code, c.place)
		})
	}
}

// TestConsistent: without db certificates, signatures must be of the program
// and all by one key.
func TestConsistent(t *testing.T) {
	sign := func(image []byte, dir string) []byte {
		s := open(t, dir)
		k, err := s.Signer(ctx, keys.DB, "dev")
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := authenticode.Sign(&out, bytes.NewReader(image), int64(len(image)), k, s.Certificate(keys.DB)); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	check := func(image []byte) (string, error) {
		c, err := verify.Consistent(bytes.NewReader(image), int64(len(image)))
		if c == nil {
			return "", err
		}
		return c.Subject.CommonName, err
	}
	bare := buildtest.Kernel()
	if who, err := check(bare); who != "" || err != nil {
		t.Errorf("unsigned: %q, %v", who, err)
	}
	one := sign(bare, ours)
	if who, err := check(one); who != open(t, ours).Certificate(keys.DB).Subject.CommonName || err != nil {
		t.Errorf("signed: %q, %v", who, err)
	}
	if _, err := check(sign(one, theirs)); !errors.Is(err, authenticode.ErrUnknownKey) {
		t.Errorf("by two keys: %v", err)
	}
	one[0x500] ^= 1
	if _, err := check(one); !errors.Is(err, authenticode.ErrDigest) {
		t.Errorf("of another program: %v", err)
	}
}

// TestConclusion: no check that looked at anything is no verdict.
func TestConclusion(t *testing.T) {
	none := verify.Finish(
		&verify.Check{Name: verify.CheckSignature, State: verify.Skipped, Why: verify.WhyNoKeys},
		&verify.Check{Name: verify.CheckManifest, State: verify.Passed, Count: 1},
		&verify.Check{Name: verify.CheckTable, State: verify.Skipped, Why: verify.WhyNoImage},
	)
	refused(t, none, verify.NothingChecked, "")
	some := verify.Finish(&verify.Check{Name: verify.CheckTable, State: verify.Passed, Count: 6})
	accepted(t, some, verify.Unsigned)
}

// TestNoReference: an offset is named only where the volume that it was found
// by is the one that the manifest means.
func TestNoReference(t *testing.T) {
	set := makeSet(t, fixture(t, full), nil)
	image, err := os.Open(set.Image())
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	dir := copySet(t, set)
	m := *set.Manifest
	m.Disk.Partitions = append([]release.Partition{}, m.Disk.Partitions...)
	m.Disk.Partitions[0].SHA256 = zero64
	data, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, release.ManifestName), data)
	o := verify.Options{Path: filepath.Join(dir, filepath.Base(set.Image())), Unsigned: true}
	r := run(t, o.WithImage(patched{image, []byte{1}, m.Disk.Partitions[0].Start + 700}, m.Disk.Size))
	refused(t, r, verify.PartitionDigest, "esp")
	for _, x := range r.Refusals {
		if x.Code == verify.PartitionDigest && x.Place.Offset != nil {
			t.Errorf("byte %d is named without a reference", *x.Place.Offset)
		}
	}
}
