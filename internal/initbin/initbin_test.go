package initbin

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/klauspost/compress/zstd"

	"github.com/ingot-os/ingot/internal/appliance"
)

func packed(t *testing.T, content string) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return enc.EncodeAll([]byte(content), nil)
}

func TestUnpack(t *testing.T) {
	fsys := fstest.MapFS{
		"bin/ingot-init-amd64.zst": {Data: packed(t, "the program")},
		"bin/ingot-init-arm64.zst": {Data: packed(t, "the program")[:12]},
	}
	p, err := unpack(fsys, Plain, "amd64")
	sum := sha256.Sum256([]byte("the program"))
	if err != nil || string(p.content) != "the program" || p.digest != hex.EncodeToString(sum[:]) {
		t.Errorf("amd64: %q %s %v", p.content, p.digest, err)
	}
	if _, err := unpack(fsys, Plain, "arm64"); err == nil || !strings.Contains(err.Error(), "unpack ingot-init for arm64") {
		t.Errorf("cut file: %v", err)
	}
}

func TestMissing(t *testing.T) {
	_, err := unpack(fstest.MapFS{}, Fleet, "amd64")
	var missing *MissingError
	if !errors.As(err, &missing) || err.Error() != "this ingot carries no ingot-init-fleet for amd64: build it with make build" {
		t.Errorf("error %v", err)
	}
	if _, err := Open(Plain, "riscv64"); !errors.As(err, &missing) || missing.Arch != "riscv64" {
		t.Errorf("riscv64: %v", err)
	}
	if _, err := Digest(Fleet, "riscv64"); err == nil {
		t.Error("riscv64 has a digest")
	}
}

// TestCarried checks what this build carries, if it does.
func TestCarried(t *testing.T) {
	for _, v := range Variants {
		for _, arch := range Arches {
			b, err := Open(v, arch)
			var missing *MissingError
			if errors.As(err, &missing) {
				t.Skipf("make build has not been run: %v", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			machine := map[string]byte{"amd64": 62, "arm64": 183}[arch] // e_machine
			if string(b[:4]) != "\x7fELF" || b[18] != machine {
				t.Errorf("%s %s: not a program for it: % x", v, arch, b[:20])
			}
		}
	}
}

// TestFor: the larger program only where a recipe asks for what is in it.
func TestFor(t *testing.T) {
	for _, c := range []struct {
		attest  *appliance.Attest
		encrypt string
		update  *appliance.Update
		want    Variant
	}{
		{nil, "", nil, Plain},
		{&appliance.Attest{}, "", nil, Fleet},
		{nil, "tpm", nil, Fleet},
		{nil, "", &appliance.Update{}, Fleet},
	} {
		if got := For(c.attest, c.encrypt, c.update); got != c.want {
			t.Errorf("%+v: %s, want %s", c, got, c.want)
		}
	}
}
