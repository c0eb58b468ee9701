package blockmap

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/partition/blocks"
)

// disk has data at its start, over a step and at its end, and is not a multiple
// of the block size.
func disk() []byte {
	b := make([]byte, 3*Step+1<<20+512)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b[:5000])
	r.Read(b[Step-4096 : Step+1])
	b[len(b)-1] = 1
	return b
}

func mapped(t testing.TB, b []byte, keep ...blocks.Range) *Map {
	t.Helper()
	m, err := New(blocks.Disk{R: bytes.NewReader(b), Size: int64(len(b))}, keep)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func places(m *Map) (out [][2]int64) {
	for _, r := range m.Ranges {
		out = append(out, [2]int64{r.First, r.Last})
	}
	return out
}

func TestNewMapsDataAndWhatIsKept(t *testing.T) {
	b := disk()
	last := int64(len(b)) / BlockSize
	want := [][2]int64{{0, 1}, {1023, 1023}, {1024, 1024}, {last, last}}
	if diff := cmp.Diff(want, places(mapped(t, b))); diff != "" {
		t.Error(diff)
	}
	want = [][2]int64{{0, 3}, {1022, 1023}, {1024, 1025}, {2000, 2047}, {2048, 2050}, {last, last}}
	got := mapped(t, b, blocks.Range{Off: 8192, End: 4 * 4096}, blocks.Range{Off: 1022 * 4096, End: 1025*4096 + 1}, blocks.Range{Off: 2000 * 4096, End: 2051 * 4096})
	if diff := cmp.Diff(want, places(got)); diff != "" {
		t.Error(diff)
	}
}

func TestParseReadsMarshal(t *testing.T) {
	m := mapped(t, disk())
	got, err := Parse(m.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m, got); diff != "" {
		t.Error(diff)
	}
}

func TestCheck(t *testing.T) {
	b := disk()
	m := mapped(t, b, blocks.Range{Off: 2 * Step, End: 2*Step + 8192})
	check := func(b []byte) error {
		for off := 0; off < len(b); off += Step {
			if err := m.Check(int64(off), b[off:min(off+Step, len(b))]); err != nil {
				return err
			}
		}
		return nil
	}
	if err := check(b); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{0, 4999, 5000, 8192, Step - 1, Step, Step + 4096, 2 * Step, 2*Step + 9000, len(b) - 513, len(b) - 1} {
		bad := bytes.Clone(b)
		bad[at] ^= 1
		if err := check(bad); !errors.Is(err, ErrMismatch) {
			t.Errorf("byte %d changed: %v", at, err)
		}
	}
	if m.Empty(0, Step) || !m.Empty(2*Step+8192, Step-8192) || m.Empty(2*Step, 4096) || !m.Empty(8192, 4096) {
		t.Error("Empty is wrong")
	}
}

func TestBadMaps(t *testing.T) {
	good := string(mapped(t, disk()).Marshal())
	// sealed makes the checksum right again.
	sealed := func(s string) string {
		i := strings.Index(s, "<BmapFileChecksum> ") + len("<BmapFileChecksum> ")
		s = s[:i] + noSum + s[i+64:]
		return strings.Replace(s, noSum, sum(s), 1)
	}
	if sealed(good) != good {
		t.Fatal("the test seals otherwise")
	}
	for _, c := range []struct{ old, new, want string }{
		{`version="2.0"`, `version="1.4"`, "version"},
		{"sha256 <", "sha1 <", "ChecksumType"},
		{"<ImageSize> 1", "<ImageSize> x1", "ImageSize"},
		{"<BlockSize> 4096", "<BlockSize> 4095", "BlockSize"},
		{"<BlocksCount> ", "<BlocksCount> 1", "BlocksCount"},
		{"<MappedBlocksCount> ", "<MappedBlocksCount> 1", "MappedBlocksCount"},
		{"> 0-1 <", "> 1-0 <", "range 1"},
		{"> 1023 <", "> 1 <", "range 2"},
		{"> 1024 <", "> 99999999 <", "range 3"},
		{`chksum="`, `chksum="zz`, "chksum"},
		{"</BlockMap>", "", "XML"},
	} {
		bad := strings.Replace(good, c.old, c.new, 1)
		if bad == good {
			t.Fatalf("no %q", c.old)
		}
		if _, err := Parse([]byte(sealed(bad))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.new, err)
		}
	}
	if _, err := Parse([]byte(strings.Replace(good, "> 0-1 <", "> 0-2 <", 1))); !errors.Is(err, ErrMismatch) {
		t.Errorf("wrong checksum: %v", err)
	}
}

func TestBmaptoolCopies(t *testing.T) {
	oracle.Need(t, "bmap-tools", "bmaptool")
	b, dir := disk(), t.TempDir()
	img, to := filepath.Join(dir, "disk.img"), filepath.Join(dir, "target")
	os.WriteFile(img, b, 0o666)
	os.WriteFile(img+".bmap", mapped(t, b).Marshal(), 0o666)
	out, err := exec.Command("bmaptool", "copy", "--bmap", img+".bmap", img, to).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got, _ := os.ReadFile(to)
	if !bytes.Equal(got, b) {
		t.Error("the copy differs")
	}
	b[0] ^= 1
	os.WriteFile(img, b, 0o666)
	if out, err := exec.Command("bmaptool", "copy", "--bmap", img+".bmap", img, to).CombinedOutput(); err == nil {
		t.Errorf("bmaptool takes a changed image: %s", out)
	}
}

func FuzzParse(f *testing.F) {
	small := make([]byte, 20_000)
	small[1] = 1
	f.Add(mapped(f, small).Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		if i := bytes.Index(b, []byte("<BmapFileChecksum> ")) + 19; i > 19 && i+64 < len(b) { // or nothing gets past it
			b = bytes.Clone(b)
			copy(b[i:], noSum)
			copy(b[i:], sum(string(b)))
		}
		m, err := Parse(b)
		if err != nil {
			return
		}
		m.Check(0, small)
		m.Empty(4096, 4096)
		if _, err := Parse(m.Marshal()); err != nil {
			t.Errorf("own output is refused: %v", err)
		}
	})
}

func sum(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}
