// Package initbin carries ingot-init inside the ingot program, so that a recipe
// without Go code needs no Go toolchain.
//
// There are two variants. What a machine needs to prove to a server what it has
// booted, or to take updates (TLS, all of the TPM), makes PID 1 half as large again, so an
// image has it only when its recipe asks for it: see For.
//
// `make build` runs the program in generate, which compiles each variant for
// each architecture and leaves bin/VARIANT-ARCH.zst; the folder is embedded.
// A plain `go build` from a fresh checkout works too, but then carries nothing.
// The lock pins the digest of the uncompressed program (S12 in the design).
//
// Shape of use:
//
//	v := initbin.For(recipe.Attest, recipe.Data.Encrypt, recipe.Update)
//	program, err := initbin.Open(v, "amd64")
package initbin

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/ingot-os/ingot/internal/appliance"
)

//go:embed bin
var files embed.FS

// maxSize bounds the unpacked program; its own budget is 12 MB.
const maxSize = 64 << 20

// Variant is a program that can be /init, by the name of its folder in cmd.
type Variant string

// The variants.
const (
	Plain Variant = "ingot-init"
	Fleet Variant = "ingot-init-fleet" // attests to a server, opens encrypted data, takes updates
)

// Variants are all of them.
var Variants = []Variant{Plain, Fleet}

// Arches are the architectures that each is compiled for.
var Arches = []string{"amd64", "arm64"}

// For is the variant that an appliance needs, by its keys attest, data.encrypt
// and update.
func For(attest *appliance.Attest, encrypt string, update *appliance.Update) Variant {
	if attest != nil || encrypt != "" || update != nil {
		return Fleet
	}
	return Plain
}

// MissingError says that this ingot was built without a variant for an
// architecture.
type MissingError struct {
	Variant Variant
	Arch    string
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("this ingot carries no %s for %s: build it with make build", e.Variant, e.Arch)
}

type program struct {
	content []byte
	digest  string
}

type key struct {
	variant Variant
	arch    string
}

// programs unpack once; a build asks for digest and content.
var programs = sync.OnceValue(func() map[key]func() (program, error) {
	all := map[key]func() (program, error){}
	for _, v := range Variants {
		for _, arch := range Arches {
			all[key{v, arch}] = sync.OnceValues(func() (program, error) { return unpack(files, v, arch) })
		}
	}
	return all
})

func load(v Variant, arch string) (program, error) {
	get, ok := programs()[key{v, arch}]
	if !ok {
		return program{}, &MissingError{v, arch}
	}
	return get()
}

// Open returns a variant for amd64 or arm64. The caller must not change it.
// Its error is a MissingError when this ingot does not carry it.
func Open(v Variant, arch string) ([]byte, error) {
	p, err := load(v, arch)
	return p.content, err
}

// Digest returns the SHA-256 in hex of what Open returns.
func Digest(v Variant, arch string) (string, error) {
	p, err := load(v, arch)
	return p.digest, err
}

func unpack(fsys fs.FS, v Variant, arch string) (program, error) {
	packed, err := fs.ReadFile(fsys, fmt.Sprintf("bin/%s-%s.zst", v, arch))
	if errors.Is(err, fs.ErrNotExist) {
		return program{}, &MissingError{v, arch}
	}
	if err != nil {
		return program{}, fmt.Errorf("read %s for %s: %w", v, arch, err)
	}
	// At once and not as a stream: the frame says how large its content is, so
	// this takes 14 ms instead of 24, and every build and no-op waits for it.
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxSize))
	if err != nil {
		return program{}, fmt.Errorf("unpack %s for %s: %w", v, arch, err)
	}
	defer d.Close()
	b, err := d.DecodeAll(packed, nil)
	if err != nil {
		return program{}, fmt.Errorf("unpack %s for %s: %w", v, arch, err)
	}
	sum := sha256.Sum256(b)
	return program{b, hex.EncodeToString(sum[:])}, nil
}
