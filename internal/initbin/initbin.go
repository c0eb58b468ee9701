// Package initbin carries ingot-init inside the ingot program, so that a recipe
// without Go code needs no Go toolchain.
//
// `make build` runs the program in generate, which compiles cmd/ingot-init for
// each architecture and leaves bin/ingot-init-ARCH.zst; the folder is embedded.
// A plain `go build` from a fresh checkout works too, but then carries nothing.
// The lock pins the digest of the uncompressed program (S12 in the design).
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
)

//go:embed bin
var files embed.FS

// maxSize bounds the unpacked program; its own budget is 12 MB.
const maxSize = 64 << 20

// MissingError says that this ingot was built without ingot-init for an architecture.
type MissingError struct{ Arch string }

func (e *MissingError) Error() string {
	return fmt.Sprintf("this ingot carries no ingot-init for %s: build it with make build", e.Arch)
}

type program struct {
	content []byte
	digest  string
}

// programs unpack once; a build asks for digest and content.
var programs = map[string]func() (program, error){
	"amd64": sync.OnceValues(func() (program, error) { return unpack(files, "amd64") }),
	"arm64": sync.OnceValues(func() (program, error) { return unpack(files, "arm64") }),
}

func load(arch string) (program, error) {
	get, ok := programs[arch]
	if !ok {
		return program{}, &MissingError{arch}
	}
	return get()
}

// Open returns ingot-init for amd64 or arm64. The caller must not change it.
// Its error is a MissingError when this ingot does not carry it.
func Open(arch string) ([]byte, error) {
	p, err := load(arch)
	return p.content, err
}

// Digest returns the SHA-256 in hex of what Open returns.
func Digest(arch string) (string, error) {
	p, err := load(arch)
	return p.digest, err
}

func unpack(fsys fs.FS, arch string) (program, error) {
	packed, err := fs.ReadFile(fsys, "bin/ingot-init-"+arch+".zst")
	if errors.Is(err, fs.ErrNotExist) {
		return program{}, &MissingError{arch}
	}
	if err != nil {
		return program{}, fmt.Errorf("read ingot-init for %s: %w", arch, err)
	}
	// At once and not as a stream: the frame says how large its content is, so
	// this takes 14 ms instead of 24, and every build and no-op waits for it.
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxSize))
	if err != nil {
		return program{}, fmt.Errorf("unpack ingot-init for %s: %w", arch, err)
	}
	defer d.Close()
	b, err := d.DecodeAll(packed, nil)
	if err != nil {
		return program{}, fmt.Errorf("unpack ingot-init for %s: %w", arch, err)
	}
	sum := sha256.Sum256(b)
	return program{b, hex.EncodeToString(sum[:])}, nil
}
