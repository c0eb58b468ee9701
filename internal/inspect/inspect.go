package inspect

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/policy"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/signing"
	"github.com/ingot-os/ingot/internal/sparse"
	"github.com/ingot-os/ingot/partition/iso"
	"github.com/ingot-os/ingot/partition/qcow2"
	"github.com/ingot-os/ingot/partition/vhd"
	"github.com/ingot-os/ingot/partition/vmdk"
)

// Path inspects a file, an image set directory, or the state directory of a
// server.
func Path(path string) (*Node, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		if file := inDirectory(path); file != path {
			return Path(file)
		}
		return set(path)
	}
	f, size, err := open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return read(f, size, filepath.Base(path), formats)
}

// open opens a file or block device, whose size it finds by seeking. Anything
// else has no size: a pipe would wait for a writer for ever.
func open(path string) (*os.File, int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	if m := info.Mode(); !m.IsRegular() && (m&os.ModeDevice == 0 || m&os.ModeCharDevice != 0) {
		return nil, 0, fmt.Errorf("inspect %s: neither a file nor a block device", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, size, nil
}

// Reader inspects size bytes by what they are, not by their name. It does not
// look into containers of disks: whoever finds one within another is led in a
// circle.
func Reader(r io.ReaderAt, size int64, name string) (*Node, error) {
	return read(r, size, name, slices.DeleteFunc(slices.Clone(formats), func(f format) bool { return f.container }))
}

func read(r io.ReaderAt, size int64, name string, formats []format) (*Node, error) {
	head := make([]byte, min(size, 40<<10)) // a CD begins at 32 KiB
	if _, err := r.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	for _, f := range formats {
		if f.match(head) {
			n := &Node{Name: name, Kind: f.kind}
			n.add("size", size)
			if err := f.read(n, r, size); err != nil {
				n.add("problem", err)
			}
			return n, nil
		}
	}
	n := &Node{Name: name, Kind: "file"}
	n.add("size", size)
	sum, err := digestRange(r, 0, size)
	n.add("sha256", sum)
	return n, err
}

// format is one kind of artifact: how to know it and how to read it.
type format struct {
	kind  string
	match func(head []byte) bool
	read  func(n *Node, r io.ReaderAt, size int64) error

	container bool // of a disk
}

var formats []format

func init() { // formats refer to readers that refer to formats
	formats = []format{
		{"qcow2", at(qcow2.Magic, 0), readQcow2, true},
		{"vhd", at(vhd.Magic, 0), readVHD, true},
		{"vmdk", at(vmdk.Magic, 0), readVMDK, true},
		{"iso", iso.Is, readISO, true},
		{"cpio", at("\x28\xb5\x2f\xfd", 0), readZstd, true},
		{"database", at("SQLite format 3\x00", 0), readFleet, true},
		{"disk", at("EFI PART", 512, 4096), readDisk, false},
		{"pe", at("MZ", 0), readPE, false},
		{"squashfs", at("hsqs", 0), readSquashfs, false},
		{"erofs", at("\xe2\xe1\xf5\xe0", 1024), readErofs, false},
		{"fat", at("FAT32   ", 82), readFAT, false},
		{"cpio", at("070701", 0), readInitramfs, false},
		{"cpio", at("\x28\xb5\x2f\xfd", 0), readStream, false},
		{"blockmap", isBlockMap, readBlockMap, false},
		{"verity", at("verity\x00\x00", 0), readVerity, false},
		{"luks", isLUKS, readLUKS, false},
		{"state", isState, readState, false},
		{"variables", at("_FVH", 40), readVariables, false},
		{"signatures", isList, readSignatureList, false},
		{"update", isUpdate, readUpdate, false},
		{"log", isLog, readLog, false},
		{"token", isToken, readToken, false},
		{"pem", isPEM, readPEM, false},
		{"certificate", isDER, readDER, false},
		{"request", isJSON(signing.RequestType), readRequest, false},
		{"response", isJSON(signing.ResponseType), readResponse, false},
		{"evidence", isJSON(`"` + attest.Format + `"`), readEvidence, false},
		{"enrolled", isJSON(`"ingot-enrolled/1"`), readStatement, false},
		{"result", isJSON(`"ear_verifier_id"`), readStatement, false},
		{"pcrlock", isJSON(`"hashAlg"`), readStatement, false},
		{"envelope", isJSON(`"payloadType"`, `{"payload":"`), readEnvelope, false},
		{"sbom", isJSON(`"CycloneDX"`), readSBOM, false},
		{"spdx", isJSON(`"spdxVersion"`), readStatement, false},
		{"statement", isJSON(`"https://in-toto.io/Statement/v1"`), readStatement, false},
		{"reference", isJSON(`"` + attest.ReferenceFormat + `"`), readReference, false},
		{"policies", isJSON(`"` + policy.Format + `"`), readPolicies, false},
		{"delta", at("INGOTDL1", 0), readDelta, false},
		{"manifest", isJSON(`"partitions"`, `"sections"`), readManifest, false},
		{"keys", isJSON(`"fingerprint"`), readStatement, false},
		{"lock", isJSON(`"ingot"`, `"epoch"`), readLock, false},
	}
}

func at(magic string, offsets ...int) func([]byte) bool {
	return func(head []byte) bool {
		for _, o := range offsets {
			if len(head) >= o+len(magic) && string(head[o:o+len(magic)]) == magic {
				return true
			}
		}
		return false
	}
}

func isJSON(keys ...string) func([]byte) bool {
	return func(head []byte) bool {
		if !bytes.HasPrefix(bytes.TrimSpace(head), []byte("{")) {
			return false
		}
		for _, k := range keys {
			if bytes.Contains(head, []byte(k)) {
				return true
			}
		}
		return false
	}
}

func digest(r io.Reader) (string, error) {
	h := sha256.New()
	if _, err := io.CopyBuffer(h, struct{ io.Reader }{r}, make([]byte, 1<<18)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// digestRange is the digest of n bytes at off; holes of a file are not read.
func digestRange(r io.ReaderAt, off, n int64) (string, error) {
	f, ok := r.(*os.File)
	if !ok {
		return digest(io.NewSectionReader(r, off, n))
	}
	h := sha256.New()
	err := sparse.Copy(h, f, off, n)
	return hex.EncodeToString(h.Sum(nil)), err
}

// set inspects every file of an image set, the manifest first.
func set(dir string) (*Node, error) {
	s, err := release.Open(dir)
	if err != nil {
		return nil, err
	}
	n := &Node{Kind: "set", Name: s.Manifest.Stem()}
	for _, name := range setFiles(s) {
		c, err := Path(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		n.Children = append(n.Children, c)
	}
	return n, nil
}

// allZero reads n bytes at off and says whether they are all zero; holes of a
// sparse file are skipped without being read.
func allZero(r io.ReaderAt, off, n int64) (bool, error) {
	if f, ok := r.(*os.File); ok {
		data, err := f.Seek(off, 3) // SEEK_DATA: lseek(2)
		if errors.Is(err, syscall.ENXIO) || err == nil && data >= off+n {
			return true, nil
		}
	}
	buf := make([]byte, 1<<18)
	for n > 0 {
		m, err := r.ReadAt(buf[:min(n, int64(len(buf)))], off)
		if m == 0 && err != nil {
			return false, err
		}
		for _, b := range buf[:m] {
			if b != 0 {
				return false, nil
			}
		}
		off, n = off+int64(m), n-int64(m)
	}
	return true, nil
}
