package luks

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/oracle"
)

const testSize = MinSize + 1<<20

var (
	slotKey  = []byte("0123456789abcdef0123456789abcdef")
	recovery = []byte("2m4kq-vr7de-0c9xh-t5wjn-8bsp3-yzg6a-f1m2k-3q4v5")
)

// noise is a source of randomness that is the same in each run.
func noise(seed byte) io.Reader { return mrand.NewChaCha8([32]byte{seed}) }

// disk is a device in memory that fails after some writes, keeping a part of
// the last one.
type disk struct {
	b    []byte
	left int // writes until the cut; -1 = never
	keep int // bytes of the cut write that arrive
}

var errCut = errors.New("cut")

func newDisk(size int) *disk { return &disk{b: make([]byte, size), left: -1} }

func (d *disk) ReadAt(b []byte, off int64) (int, error) {
	return bytes.NewReader(d.b).ReadAt(b, off)
}

func (d *disk) WriteAt(b []byte, off int64) (int, error) {
	if d.left == 0 {
		return copy(d.b[off:], b[:min(len(b), d.keep)]), errCut
	}
	d.left--
	return copy(d.b[off:], b), nil
}

func (d *disk) Sync() error {
	if d.left == 0 {
		return errCut
	}
	return nil
}

func volume() Volume {
	return Volume{UUID: "11111111-2222-4333-8444-555555555555", Label: "data", Size: testSize, SectorSize: 4096,
		Slots:  []Slot{{Passphrase: slotKey}, {Passphrase: recovery}},
		Tokens: map[string]json.RawMessage{"0": json.RawMessage(`{"type":"ingot-tpm2","keyslots":["0"],"floor":1}`)}}
}

func format(t testing.TB) (*disk, []byte) {
	t.Helper()
	d := newDisk(testSize)
	key, err := Format(d, noise(1), volume())
	if err != nil {
		t.Fatal(err)
	}
	return d, key
}

func TestStructs(t *testing.T) {
	var h binaryHeader
	if got := binary.Size(h); got != sectorSize {
		t.Errorf("the binary header has %d bytes, the specification says 512 before its padding", got)
	}
	d, _ := format(t)
	for at, want := range map[int]string{0: primaryMagic, 72: "sha256\x00", 168: "11111111-", headerSize: secondaryMagic} {
		if !bytes.HasPrefix(d.b[at:], []byte(want)) {
			t.Errorf("at %d is %q, want %q", at, d.b[at:at+len(want)], want)
		}
	}
	if got := binary.BigEndian.Uint64(d.b[headerSize+256:]); got != headerSize || d.b[23] != 1 { // seqid ends at 24
		t.Errorf("hdr_offset of the second copy is %d", got)
	}
}

func TestUnlock(t *testing.T) {
	d, key := format(t)
	h, err := Read(d)
	if err != nil {
		t.Fatal(err)
	}
	for slot, pass := range [][]byte{slotKey, recovery} {
		if got, err := h.Unlock(d, slot, pass); err != nil || !bytes.Equal(got, key) {
			t.Errorf("slot %d: %v", slot, err)
		}
	}
	if _, err := h.Unlock(d, 0, recovery); !errors.Is(err, ErrPassphrase) {
		t.Errorf("the passphrase of another slot: %v", err)
	}
	if _, err := h.Unlock(d, 7, recovery); err == nil {
		t.Error("a slot that is not there opens")
	}
	again := newDisk(testSize)
	if _, err := Format(again, noise(1), volume()); err != nil || !bytes.Equal(again.b, d.b) {
		t.Errorf("the same randomness gives another volume (%v)", err)
	}
}

func TestToken(t *testing.T) {
	d, key := format(t)
	h, _ := Read(d)
	id, raw := h.Token("ingot-tpm2")
	if id != "0" || !strings.Contains(string(raw), `"floor":1`) {
		t.Fatalf("token %q: %s", id, raw)
	}
	h.SetToken(id, json.RawMessage(`{"type":"ingot-tpm2","keyslots":["0"],"floor":2}`))
	if err := h.Store(d); err != nil {
		t.Fatal(err)
	}
	h, err := Read(d)
	if err != nil || h.Seq != 2 {
		t.Fatalf("%v, sequence %d", err, h.Seq)
	}
	if _, raw := h.Token("ingot-tpm2"); !strings.Contains(string(raw), `"floor":2`) {
		t.Errorf("token: %s", raw)
	}
	if got, err := h.Unlock(d, 0, slotKey); err != nil || !bytes.Equal(got, key) {
		t.Errorf("unlock: %v", err)
	}
	h.SetToken(id, json.RawMessage(`"`+strings.Repeat("x", headerSize)+`"`))
	if err := h.Store(d); err == nil {
		t.Error("a token that does not fit is stored")
	}
	if h, err := Read(d); err != nil || h.Seq != 2 {
		t.Errorf("after it: %v", err)
	}
}

func TestSetSlot(t *testing.T) {
	d, key := format(t)
	h, _ := Read(d)
	if err := h.SetSlot(d, noise(2), 0, Slot{Passphrase: []byte("another")}, key); err != nil {
		t.Fatal(err)
	}
	if err := h.Store(d); err != nil {
		t.Fatal(err)
	}
	f := tempFile(t, "volume", d.b)
	h, err := Read(f)
	if err != nil {
		t.Fatal(err)
	}
	for slot, pass := range [][]byte{[]byte("another"), recovery} {
		if got, err := h.Unlock(f, slot, pass); err != nil || !bytes.Equal(got, key) {
			t.Errorf("slot %d: %v", slot, err)
		}
		must(t, pass, "open", "--test-passphrase", "--key-slot", fmt.Sprint(slot), "--key-file", "-", f.Name())
	}
	if _, err := h.Unlock(f, 0, slotKey); !errors.Is(err, ErrPassphrase) {
		t.Errorf("the old passphrase: %v", err)
	}
	wrong := bytes.Clone(key)
	wrong[0]++
	if err := h.SetSlot(f, noise(2), 0, Slot{Passphrase: []byte("x")}, wrong); !errors.Is(err, ErrPassphrase) {
		t.Errorf("another volume key: %v", err)
	}
	if err := h.SetSlot(f, noise(2), 5, Slot{Passphrase: []byte("x")}, key); err == nil {
		t.Error("a slot that is not there is set")
	}
}

// TestCutFormat: until the volume is whole the device reads as blank, then it
// is a volume; there is nothing between.
func TestCutFormat(t *testing.T) {
	cut(t, func() *disk { return newDisk(testSize) }, func(d *disk) error {
		_, err := Format(d, noise(1), volume())
		return err
	}, func(d *disk, where string) {
		h, err := Read(d)
		if errors.Is(err, ErrBlank) {
			return
		}
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		if _, err := h.Unlock(d, 1, recovery); err != nil {
			t.Fatalf("%s: %v", where, err)
		}
	})
}

// TestCutStore: a cut leaves the old token or the new one.
func TestCutStore(t *testing.T) {
	whole, _ := format(t)
	store := func(d *disk) error {
		h, err := Read(d)
		if err != nil {
			return err
		}
		h.SetToken("0", json.RawMessage(`{"type":"ingot-tpm2","keyslots":["0"],"floor":2}`))
		return h.Store(d)
	}
	cut(t, func() *disk { return &disk{b: bytes.Clone(whole.b), left: -1} }, store, func(d *disk, where string) {
		h, err := Read(d)
		if err != nil || h.Seq != 1 && h.Seq != 2 {
			t.Fatalf("%s: %v", where, err)
		}
		if _, raw := h.Token("ingot-tpm2"); !strings.Contains(string(raw), fmt.Sprintf(`"floor":%d`, h.Seq)) {
			t.Fatalf("%s: sequence %d with %s", where, h.Seq, raw)
		}
		d.left = -1
		if err := store(d); err != nil {
			t.Fatalf("%s: store again: %v", where, err)
		}
		if h, err := Read(d); err != nil || h.Seq < 2 {
			t.Fatalf("%s: after another store: %v", where, err)
		}
	})
}

// TestCutTwice: a cut that follows a cut leaves a volume that opens as well,
// whether the first came in Format or in Store, and with and without Repair.
func TestCutTwice(t *testing.T) {
	whole, _ := format(t)
	store := func(floor int, repair bool) func(*disk) error {
		return func(d *disk) error {
			h, err := Read(d)
			if err != nil {
				return err
			}
			if repair {
				if err := h.Repair(d); err != nil {
					return err
				}
			}
			h.SetToken("0", json.RawMessage(fmt.Sprintf(`{"type":"ingot-tpm2","keyslots":["0"],"floor":%d}`, floor)))
			return h.Store(d)
		}
	}
	again := func(d *disk, where string) {
		if _, err := Read(d); errors.Is(err, ErrBlank) {
			return // of Format
		}
		for _, repair := range []bool{false, true} {
			cut(t, func() *disk { return &disk{b: bytes.Clone(d.b), left: -1} }, store(3, repair), func(d *disk, then string) {
				if h, err := Read(d); err != nil {
					t.Fatalf("%s, then %s (repair %v): %v", where, then, repair, err)
				} else if _, err := h.Unlock(d, 1, recovery); err != nil {
					t.Fatalf("%s, then %s (repair %v): %v", where, then, repair, err)
				}
			})
		}
	}
	cut(t, func() *disk { return &disk{b: bytes.Clone(whole.b), left: -1} }, store(2, false), again)
	cut(t, func() *disk { return newDisk(testSize) }, func(d *disk) error {
		_, err := Format(d, noise(1), volume())
		return err
	}, again)
}

// TestStoreAfterFailure: one that fails between the copies is followed by one
// that is cut.
func TestStoreAfterFailure(t *testing.T) {
	whole, _ := format(t)
	d := &disk{b: bytes.Clone(whole.b), left: 2}
	h, err := Read(d)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Store(d); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	d.left, d.keep = 0, 512
	if err := h.Store(d); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	if _, err := Read(d); err != nil {
		t.Error(err)
	}
}

func TestRepair(t *testing.T) {
	whole, _ := format(t)
	for name, at := range map[string]int{"first": 5000, "second": headerSize + 5000, "none": -1} {
		d := &disk{b: bytes.Clone(whole.b), left: -1}
		if at >= 0 {
			d.b[at]++
		}
		h, err := Read(d)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Repair(d); err != nil || !bytes.Equal(d.b, whole.b) {
			t.Errorf("%s: %v, as it was: %v", name, err, bytes.Equal(d.b, whole.b))
		}
	}
}

// cut runs work with a cut at each of its writes, at several places in it.
func cut(t *testing.T, fresh func() *disk, work func(*disk) error, check func(*disk, string)) {
	t.Helper()
	for n := 0; ; n++ {
		for _, keep := range []int{0, 512, 4096, 1 << 20} {
			d := fresh()
			d.left, d.keep = n, keep
			err := work(d)
			if err == nil {
				if n < 4 {
					t.Fatalf("only %d writes", n)
				}
				return
			}
			check(d, fmt.Sprintf("write %d cut after %d bytes", n, keep))
		}
	}
}

func TestReadRefuses(t *testing.T) {
	whole, _ := format(t)
	for name, c := range map[string]struct {
		change func(b []byte)
		want   error
	}{
		"blank":          {func(b []byte) { clear(b) }, ErrBlank},
		"ext4":           {func(b []byte) { clear(b); b[1080] = 0x53 }, ErrForeign},
		"btrfs":          {func(b []byte) { clear(b); copy(b[65536+64:], "_BHRfS_M") }, ErrForeign},
		"last of a MiB":  {func(b []byte) { clear(b); b[1<<20-1] = 1 }, ErrForeign},
		"begun":          {func(b []byte) { clear(b); copy(b, begun()); b[65536] = 1 }, ErrBlank},
		"LUKS1":          {func(b []byte) { clear(b); copy(b, primaryMagic+"\x00\x01") }, ErrForeign},
		"both damaged":   {func(b []byte) { b[5000]++; b[headerSize+5000]++ }, ErrDamaged},
		"start cleared":  {func(b []byte) { clear(b[:headerSize]); b[headerSize+5000]++ }, ErrDamaged},
		"first damaged":  {func(b []byte) { b[5000]++ }, nil},
		"first cleared":  {func(b []byte) { clear(b[:headerSize]) }, nil},
		"second damaged": {func(b []byte) { b[headerSize+5000]++ }, nil},
	} {
		d := &disk{b: bytes.Clone(whole.b), left: -1}
		c.change(d.b)
		if _, err := Read(d); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := Read(bytes.NewReader(make([]byte, 100))); err == nil {
		t.Error("a device of 100 bytes has a volume")
	}
}

// remade changes the metadata of a volume and makes its checksums right.
func remade(t testing.TB, whole *disk, old, changed string) *disk {
	t.Helper()
	d := &disk{b: bytes.Clone(whole.b), left: -1}
	c, err := readCopy(d, 0)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(c.json, []byte(old)) {
		t.Fatalf("no %q in %s", old, c.json)
	}
	c.json = bytes.Replace(c.json, []byte(old), []byte(changed), 1)
	if err := c.writeBoth(d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestHostileMetadata(t *testing.T) {
	whole, _ := format(t)
	for _, c := range [][2]string{
		{`"iterations":1000`, `"iterations":2000000000`},
		{`"iterations":1000`, `"iterations":-1`},
		{`"stripes":4000`, `"stripes":2000000000`},
		{`"key_size":64`, `"key_size":1`},
		{`"offset":"32768"`, `"offset":"-1"`},
		{`"offset":"32768"`, `"offset":"9223372036854775807"`},
		{`"size":"258048"`, `"size":"1"`},
		{`"type":"pbkdf2"`, `"type":"argon2id"`},
		{`"af":{`, `"fa":{`},
	} {
		d := remade(t, whole, c[0], c[1])
		h, err := Read(d)
		if err != nil {
			continue
		}
		if _, err := h.Unlock(d, 0, slotKey); err == nil {
			t.Errorf("%s instead of %s is taken", c[1], c[0])
		}
	}
	for _, c := range [][2]string{
		{`"offset":"16777216"`, `"offset":"0"`},
		{`"sector_size":4096`, `"sector_size":7`},
		{`"type":"crypt"`, `"type":"linear"`},
		{`"encryption":"aes-xts-plain64","sector_size"`, `"encryption":"null","sector_size"`},
		{`"dynamic"`, `"-5"`},
		{`"config":{`, `"config":{"requirements":{"mandatory":["online-reencrypt"]},`},
		{`{"keyslots"`, `[{"keyslots"`},
	} {
		if _, err := Read(remade(t, whole, c[0], c[1])); err == nil {
			t.Errorf("%s instead of %s is taken", c[1], c[0])
		}
	}
}

func TestFormatRefuses(t *testing.T) {
	for name, change := range map[string]func(*Volume){
		"small":      func(v *Volume) { v.Size = MinSize - 4096 },
		"odd":        func(v *Volume) { v.Size++ },
		"sector":     func(v *Volume) { v.SectorSize = 1000 },
		"no slot":    func(v *Volume) { v.Slots = nil },
		"no secret":  func(v *Volume) { v.Slots[0].Passphrase = nil },
		"iterations": func(v *Volume) { v.Slots[0].Iterations = 10 },
		"uuid":       func(v *Volume) { v.UUID = strings.Repeat("x", 40) },
	} {
		v := volume()
		change(&v)
		d := newDisk(testSize)
		if _, err := Format(d, noise(1), v); err == nil {
			t.Errorf("%s is taken", name)
		}
		if !bytes.Equal(d.b, make([]byte, testSize)) {
			t.Errorf("%s: something was written", name)
		}
	}
	if _, err := Format(newDisk(testSize), strings.NewReader("short"), volume()); err == nil {
		t.Error("randomness that ends is taken")
	}
}

// cryptsetup runs the oracle. It works on files and needs no kernel.
func cryptsetup(t *testing.T, stdin []byte, args ...string) (string, error) {
	t.Helper()
	path := oracle.Need(t, "cryptsetup-bin", "cryptsetup")
	cmd := exec.Command(path, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func must(t *testing.T, stdin []byte, args ...string) string {
	t.Helper()
	out, err := cryptsetup(t, stdin, args...)
	if err != nil {
		t.Fatalf("cryptsetup %q: %v\n%s", args, err, out)
	}
	return out
}

// file is a device in a file.
type file struct{ *os.File }

func tempFile(t *testing.T, name string, content []byte) file {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	return file{f}
}

// TestCryptsetupReads: cryptsetup takes our volume, both passphrases, finds our
// volume key, and after it has added a slot and a key we still read ours.
func TestCryptsetupReads(t *testing.T) {
	d, key := format(t)
	f := tempFile(t, "volume", d.b)
	must(t, nil, "isLuks", "--type", "luks2", f.Name())
	dump := must(t, nil, "luksDump", f.Name())
	for _, want := range []string{"aes-xts-plain64", "ingot-tpm2", "sector: 4096", "11111111-2222", "Label:         \tdata"} {
		if !strings.Contains(dump, want) {
			t.Errorf("luksDump lacks %q:\n%s", want, dump)
		}
	}
	if strings.Contains(strings.ToLower(dump), "unknown") {
		t.Errorf("luksDump does not know something:\n%s", dump)
	}
	for slot, pass := range [][]byte{slotKey, recovery} {
		must(t, pass, "open", "--test-passphrase", "--key-slot", fmt.Sprint(slot), "--key-file", "-", f.Name())
	}
	if out, err := cryptsetup(t, []byte("wrong"), "open", "--test-passphrase", "--key-file", "-", f.Name()); err == nil {
		t.Errorf("a wrong passphrase opens: %s", out)
	}
	// What a person types ends with a line break, which belongs to no passphrase.
	must(t, append(bytes.Clone(recovery), '\n'), "open", "--test-passphrase", f.Name())
	keyFile := filepath.Join(t.TempDir(), "key")
	must(t, recovery, "luksDump", "--batch-mode", "--dump-volume-key", "--volume-key-file", keyFile, "--key-file", "-", f.Name())
	if got, err := os.ReadFile(keyFile); err != nil || !bytes.Equal(got, key) {
		t.Errorf("cryptsetup finds another volume key (%v)", err)
	}
	added := tempFile(t, "added", []byte("a third one"))
	must(t, recovery, "luksAddKey", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", "-", f.Name(), added.Name())
	h, err := Read(f)
	if err != nil || len(h.Slots()) != 3 || h.Seq < 2 {
		t.Fatalf("after luksAddKey: %v, %+v", err, h)
	}
	if got, err := h.Unlock(f, 0, slotKey); err != nil || !bytes.Equal(got, key) {
		t.Errorf("after luksAddKey: %v", err)
	}
	h.SetToken("0", json.RawMessage(`{"type":"ingot-tpm2","keyslots":["0"],"floor":7}`))
	if err := h.Store(f); err != nil {
		t.Fatal(err)
	}
	must(t, []byte("a third one"), "open", "--test-passphrase", "--key-file", "-", f.Name())
	if out := must(t, nil, "luksDump", "--dump-json-metadata", f.Name()); !strings.Contains(out, `"floor":7`) {
		t.Errorf("our token is not there: %s", out)
	}
	must(t, nil, "repair", "--batch-mode", f.Name())
}

// TestReadsCryptsetup opens volumes that cryptsetup made.
func TestReadsCryptsetup(t *testing.T) {
	for _, sector := range []string{"512", "4096"} {
		f := tempFile(t, "volume", make([]byte, 20<<20))
		must(t, recovery, "luksFormat", "--batch-mode", "--type", "luks2", "--pbkdf", "pbkdf2", "--hash", "sha256", "--pbkdf-force-iterations", "1000",
			"--cipher", Cipher, "--key-size", "512", "--sector-size", sector, "--key-file", "-", f.Name())
		h, err := Read(f)
		if err != nil {
			t.Fatal(err)
		}
		key, err := h.Unlock(f, 0, recovery)
		if err != nil {
			t.Fatal(err)
		}
		keyFile := filepath.Join(t.TempDir(), "key")
		must(t, recovery, "luksDump", "--batch-mode", "--dump-volume-key", "--volume-key-file", keyFile, "--key-file", "-", f.Name())
		if want, err := os.ReadFile(keyFile); err != nil || !bytes.Equal(want, key) {
			t.Errorf("another volume key (%v)", err)
		}
		if s, err := h.Segment(); err != nil || s.Offset != DataOffset || fmt.Sprint(s.SectorSize) != sector {
			t.Errorf("%+v, %v", s, err)
		}
	}
}

// zeros is a device without end and content.
type zeros struct{}

func (zeros) ReadAt(b []byte, _ int64) (int, error) { clear(b); return len(b), nil }

// FuzzRead is for the metadata.
func FuzzRead(f *testing.F) {
	d := newDisk(testSize)
	if _, err := Format(d, noise(1), volume()); err != nil {
		f.Fatal(err)
	}
	c, err := readCopy(d, 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(c.json)
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"segments":{"0":{}},"tokens":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parse(copyOf{binaryHeader: binaryHeader{Size: headerSize}, json: b})
		if err != nil {
			return
		}
		h.Token("ingot-tpm2")
		for _, n := range h.Slots() {
			if k := h.meta.Keyslots[fmt.Sprint(n)]; n < 2 && (k.KDF == nil || k.KDF.Iterations <= 1000) { // more is bounded, but slow
				h.Unlock(zeros{}, n, slotKey)
			}
		}
	})
}

// FuzzReadRaw is for the binary header.
func FuzzReadRaw(f *testing.F) {
	d := newDisk(testSize)
	if _, err := Format(d, noise(1), volume()); err != nil {
		f.Fatal(err)
	}
	f.Add(d.b[:2*headerSize])
	f.Fuzz(func(t *testing.T, b []byte) { Read(bytes.NewReader(b)) })
}
