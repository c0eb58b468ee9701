package verity

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/oracle"
)

func TestStructSize(t *testing.T) {
	if got := binary.Size(rawSuperblock{}); got != superblockSize {
		t.Errorf("superblock: %d bytes, want %d", got, superblockSize)
	}
}

// memory is a WriterAt over bytes that were something else before.
type memory struct{ b []byte }

func newMemory(n int64) *memory { return &memory{noise(99, int(n))} }

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	return copy(m.b[off:], p), nil
}

func noise(seed uint64, n int) []byte {
	b := make([]byte, n+8)
	rnd := rand.New(rand.NewPCG(seed, 7))
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], rnd.Uint64())
	}
	return b[:n]
}

func testParams(salt int) Params {
	return Params{Salt: noise(5, salt), UUID: [16]byte(noise(6, 16))}
}

func build(t testing.TB, data []byte, p Params) ([]byte, [32]byte) {
	t.Helper()
	n := uint64(len(data) / BlockSize)
	m := newMemory(HashSize(n))
	root, err := Build(bytes.NewReader(data), n, m, p)
	if err != nil {
		t.Fatal(err)
	}
	return m.b, root
}

func TestWorkersDoNotMatter(t *testing.T) {
	data := noise(1, 20_000*BlockSize)
	p := testParams(32)
	p.Workers = 1
	want, wantRoot := build(t, data, p)
	for _, w := range []int{0, 2, 8, 64} {
		p.Workers = w
		got, root := build(t, data, p)
		if root != wantRoot || !bytes.Equal(got, want) {
			t.Errorf("%d workers: other bytes", w)
		}
	}
}

func TestVerify(t *testing.T) {
	for _, n := range []int{2, 127, 128, 129, 128*128 - 1, 128 * 128, 128*128 + 1} {
		data := noise(uint64(n), n*BlockSize)
		hash, root := build(t, data, testParams(32))
		if err := Verify(bytes.NewReader(data), bytes.NewReader(hash), root); err != nil {
			t.Errorf("%d blocks: %v", n, err)
		}
	}
}

// TestVerifyFindsEveryFault flips one bit in each place that counts.
func TestVerifyFindsEveryFault(t *testing.T) {
	const n = 20_000 // three levels: 1 + 2 + 157 hash blocks
	data := noise(3, n*BlockSize)
	hash, root := build(t, data, testParams(32))
	check := func(data, hash []byte, root [32]byte, want MismatchError) {
		t.Helper()
		err := Verify(bytes.NewReader(data), bytes.NewReader(hash), root)
		var got *MismatchError
		if !errors.As(err, &got) || *got != want {
			t.Errorf("got %v, want %v", err, &want)
		}
	}
	for _, block := range []int{0, 1, 128, n - 1} {
		data[block*BlockSize+4095] ^= 1
		check(data, hash, root, MismatchError{"data", uint64(block)})
		data[block*BlockSize+4095] ^= 1
	}
	data[500*BlockSize] ^= 1
	data[19_000*BlockSize] ^= 1
	check(data, hash, root, MismatchError{"data", 500}) // the first one is named
	data[500*BlockSize] ^= 1
	data[19_000*BlockSize] ^= 1
	for block := 1; block < len(hash)/BlockSize; block++ {
		hash[block*BlockSize] ^= 0x80
		check(data, hash, root, MismatchError{"hash", uint64(block)})
		hash[block*BlockSize] ^= 0x80
	}
	hash[88] ^= 1 // the salt
	check(data, hash, root, MismatchError{"hash", 1})
	hash[88] ^= 1
	root[0] ^= 1
	check(data, hash, root, MismatchError{"hash", 1})
}

func TestShortInputs(t *testing.T) {
	data := noise(3, 300*BlockSize)
	hash, root := build(t, data, testParams(32))
	for _, err := range []error{
		Verify(bytes.NewReader(data[:len(data)-1]), bytes.NewReader(hash), root),
		Verify(bytes.NewReader(data), bytes.NewReader(hash[:len(hash)-1]), root),
		Verify(bytes.NewReader(data), bytes.NewReader(hash[:100]), root),
	} {
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("got %v, want an unexpected EOF", err)
		}
	}
	if _, err := Build(bytes.NewReader(data), 301, newMemory(HashSize(301)), testParams(0)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("one block too many: %v", err)
	}
	for _, n := range []uint64{0, 1, 1 << 60} {
		if _, err := Build(bytes.NewReader(data), n, newMemory(0), testParams(0)); err == nil || !strings.Contains(err.Error(), "data blocks") {
			t.Errorf("%d blocks: %v", n, err)
		}
	}
	if _, err := Build(bytes.NewReader(data), 300, newMemory(0), testParams(257)); err == nil || !strings.Contains(err.Error(), "salt") {
		t.Errorf("salt of 257 bytes: %v", err)
	}
}

type full struct{ at int64 }

var errFull = errors.New("no space")

func (f full) WriteAt(p []byte, off int64) (int, error) {
	if off >= f.at {
		return 0, errFull
	}
	return len(p), nil
}

func TestWriteErrors(t *testing.T) {
	data := noise(3, 300*BlockSize)
	for _, at := range []int64{0, BlockSize, 2 * BlockSize} {
		if _, err := Build(bytes.NewReader(data), 300, full{at}, testParams(0)); !errors.Is(err, errFull) {
			t.Errorf("disk full at %d: %v", at, err)
		}
	}
}

func TestSuperblock(t *testing.T) {
	p := testParams(32)
	good, _ := build(t, noise(3, 300*BlockSize), p)
	s, err := ReadSuperblock(bytes.NewReader(good))
	if err != nil || s.DataBlocks != 300 || s.UUID != p.UUID || !bytes.Equal(s.Salt, p.Salt) || s.Algorithm != "sha256" {
		t.Errorf("%+v, %v", s, err)
	}
	for _, c := range []struct {
		off   int
		b     byte
		field string
	}{
		{0, 'x', "signature"}, {8, 2, "version"}, {12, 0, "hash_type"}, {32, 'S', "algorithm"}, {64, 1, "data_block_size"},
		{69, 0, "hash_block_size"}, {79, 0xFF, "data_blocks"}, {81, 0xFF, "salt_size"},
	} {
		b := bytes.Clone(good[:superblockSize])
		b[c.off] = c.b
		_, err := ReadSuperblock(bytes.NewReader(b))
		var fe *FormatError
		if !errors.As(err, &fe) || fe.Field != c.field {
			t.Errorf("%s: %v", c.field, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	data := noise(1, 300*BlockSize)
	hash, root := build(f, data, testParams(32))
	f.Add(hash[:superblockSize])
	f.Add(make([]byte, superblockSize))
	f.Fuzz(func(t *testing.T, head []byte) {
		h := bytes.Clone(hash)
		copy(h, head)
		_ = Verify(bytes.NewReader(data), bytes.NewReader(h), root) // must only end without a panic
	})
}

// TestVeritysetup: the same bytes as cryptsetup's own program, and it agrees with ours.
func TestVeritysetup(t *testing.T) {
	oracle.Need(t, "cryptsetup-bin", "veritysetup")
	dir := t.TempDir()
	for _, c := range []struct{ blocks, salt int }{{2, 32}, {128, 32}, {129, 0}, {300, 256}, {300, 1}, {16385, 32}} {
		t.Run(fmt.Sprintf("%d blocks salt %d", c.blocks, c.salt), func(t *testing.T) {
			data, p := noise(uint64(c.blocks), c.blocks*BlockSize), testParams(c.salt)
			dataFile, theirs, ours := filepath.Join(dir, "data"), filepath.Join(dir, "theirs"), filepath.Join(dir, "ours")
			hash, root := build(t, data, p)
			for name, b := range map[string][]byte{dataFile: data, theirs: nil, ours: hash} {
				if err := os.WriteFile(name, b, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			salt := "-"
			if c.salt > 0 {
				salt = hex.EncodeToString(p.Salt)
			}
			u := hex.EncodeToString(p.UUID[:])
			uuid := strings.Join([]string{u[:8], u[8:12], u[12:16], u[16:20], u[20:]}, "-")
			veritysetup(t, "format", "--salt", salt, "--uuid", uuid, dataFile, theirs)
			want, err := os.ReadFile(theirs)
			if err != nil || !bytes.Equal(hash, want) {
				t.Errorf("bytes differ from veritysetup format (%v): %d and %d", err, len(hash), len(want))
			}
			veritysetup(t, "verify", dataFile, ours, hex.EncodeToString(root[:]))
			data[len(data)-1] ^= 1
			if err := os.WriteFile(dataFile, data, 0o644); err != nil {
				t.Fatal(err)
			}
			if exec.Command("veritysetup", "verify", dataFile, ours, hex.EncodeToString(root[:])).Run() == nil {
				t.Error("veritysetup verify accepts changed data")
			}
		})
	}
}

func veritysetup(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("veritysetup", args...).CombinedOutput(); err != nil {
		t.Errorf("veritysetup %s: %v\n%s", args[0], err, out)
	}
}

const benchBlocks = 200 << 20 / BlockSize

func BenchmarkBuild(b *testing.B) {
	data := noise(1, benchBlocks*BlockSize)
	m := newMemory(HashSize(benchBlocks))
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := Build(bytes.NewReader(data), benchBlocks, m, testParams(32)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVeritysetup(b *testing.B) {
	oracle.Need(b, "cryptsetup-bin", "veritysetup")
	dir := b.TempDir()
	data := filepath.Join(dir, "data")
	if err := os.WriteFile(data, noise(1, benchBlocks*BlockSize), 0o644); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(benchBlocks * BlockSize)
	for b.Loop() {
		veritysetup(b, "format", data, filepath.Join(dir, "hash"))
	}
}
