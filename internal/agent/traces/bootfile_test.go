package traces

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"math/big"
	"strings"
	"syscall"
	"testing"

	"github.com/ingot-os/ingot/boot/authenticode"
	"github.com/ingot-os/ingot/boot/esl"
	"github.com/ingot-os/ingot/boot/pe"
	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/testkey"
	"github.com/ingot-os/ingot/partition/fat"
	"github.com/ingot-os/ingot/partition/gpt"
	"github.com/ingot-os/ingot/partition/tree"
)

const bootPath = "EFI/BOOT/BOOTX64.EFI"

// program is an EFI application with one section.
func program() []byte {
	le := binary.LittleEndian
	b := make([]byte, 0x400)
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], 0x40)
	copy(b[0x40:], "PE\x00\x00\x64\x86\x01")
	le.PutUint16(b[0x54:], 240)
	opt := b[0x58:]
	le.PutUint16(opt, 0x20b)
	le.PutUint32(opt[32:], 0x1000)
	le.PutUint32(opt[36:], 0x200)
	le.PutUint32(opt[56:], 0x2000)
	le.PutUint32(opt[60:], 0x200)
	le.PutUint16(opt[68:], 10)
	le.PutUint32(opt[108:], 16)
	section := opt[240:]
	copy(section, ".text")
	le.PutUint32(section[8:], 4)
	le.PutUint32(section[12:], 0x1000)
	le.PutUint32(section[16:], 0x200)
	le.PutUint32(section[20:], 0x200)
	le.PutUint32(section[36:], 0x60000020)
	copy(b[0x200:], "code")
	return b
}

func signed(t *testing.T, image []byte, by testkey.Identity) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := authenticode.Sign(&b, bytes.NewReader(image), int64(len(image)), by.Key, by.Cert); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// volume is a slot with a boot file.
func volume(t *testing.T, path string, file []byte) []byte {
	t.Helper()
	var tr tree.Tree
	if err := tr.Add(tree.Node{Path: path, Mode: 0o644, Content: tree.Bytes(file)}); err != nil {
		t.Fatal(err)
	}
	plan, err := fat.Plan(&tr, fat.Options{Size: 34 << 20, Epoch: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := plan.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func check(v []byte, secure bool, db, dbx []esl.List) *slot.Evidence {
	return BootFile{Slot: bytes.NewReader(v), Size: int64(len(v)), Path: bootPath, Machine: pe.MachineAMD64,
		SecureBoot: secure, DB: esl.Marshal(db), DBX: esl.Marshal(dbx)}.Check()
}

func TestCorruptPE(t *testing.T) {
	good := volume(t, bootPath, program())
	if e := check(good, false, nil, nil); e != nil {
		t.Fatalf("a good file: %+v", e)
	}
	at := bytes.Index(good, program()[:0x80])
	for name, spoil := range map[string]func(b []byte){
		"zeroed header of the slot": func(b []byte) { clear(b[:4096]) },
		"zeroed file":               func(b []byte) { clear(b[at : at+0x400]) },
		"signature":                 func(b []byte) { b[at+0x40] = 'X' },
		"machine":                   func(b []byte) { b[at+0x44] = 0x4c },
		"subsystem":                 func(b []byte) { b[at+0x58+68] = 3 },
		"section behind the end":    func(b []byte) { b[at+0x58+240+18] = 0xff },
	} {
		bad := bytes.Clone(good)
		spoil(bad)
		if e := check(bad, false, nil, nil); e == nil || e.Cause != slot.CorruptPE || e.Detail == "" {
			t.Errorf("%s: %+v, want corrupt-pe", name, e)
		}
	}
	if e := check(volume(t, "EFI/BOOT/OTHER.EFI", program()), false, nil, nil); e == nil || e.Cause != slot.CorruptPE || !strings.Contains(e.Detail, bootPath) {
		t.Errorf("no boot file: %+v", e)
	}
	broken := BootFile{Slot: failing{}, Size: 34 << 20, Path: bootPath, Machine: pe.MachineAMD64}
	if e := broken.Check(); e != nil {
		t.Errorf("a medium that does not read: %+v", e)
	}
}

type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, syscall.EIO }

func TestWrongSignature(t *testing.T) {
	db, other := testkey.New("db", nil), testkey.New("other", nil)
	// A key of somebody else under the name of ours.
	impostor := testkey.New("other", func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "TEST db"} })
	authority := testkey.New("db", func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true })
	leaf := testkey.Certify(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "TEST leaf"},
		NotBefore: db.Cert.NotBefore, NotAfter: db.Cert.NotAfter}, testkey.Key("other"), &authority)
	plain := program()
	d, err := pe.Authenticode(bytes.NewReader(plain), int64(len(plain)), crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	digest := [sha256.Size]byte(d)
	cert := func(who testkey.Identity) []esl.List { return []esl.List{esl.Certificate(gpt.GUID{}, who.Cert)} }
	hash := []esl.List{esl.Hashes(gpt.GUID{}, [sha256.Size]byte{}, digest)}
	moved := signed(t, plain, db)
	moved[0x200] ^= 1
	both := signed(t, signed(t, plain, other), db)
	for name, c := range map[string]struct {
		file    []byte
		db, dbx []esl.List
		want    string // "" = accepted
	}{
		"ours":                 {signed(t, plain, db), cert(db), nil, ""},
		"by our authority":     {signed(t, plain, leaf), cert(authority), nil, ""},
		"second signature":     {both, cert(db), nil, ""},
		"by its hash":          {plain, hash, nil, ""},
		"not signed":           {plain, cert(db), nil, "not signed"},
		"another key":          {signed(t, plain, other), cert(db), nil, "not in db"},
		"impostor":             {signed(t, plain, impostor), cert(db), nil, "not in db"},
		"no keys at all":       {signed(t, plain, db), nil, nil, "not in db"},
		"changed afterwards":   {moved, cert(db), nil, "differs from what was signed"},
		"revoked hash":         {signed(t, plain, db), cert(db), hash, "dbx revokes the boot file"},
		"revoked certificate":  {signed(t, plain, db), cert(db), cert(db), "dbx revokes the certificate"},
		"unrelated revocation": {signed(t, plain, db), cert(db), cert(other), ""},
	} {
		e := check(volume(t, bootPath, c.file), true, c.db, c.dbx)
		switch {
		case c.want == "" && e != nil:
			t.Errorf("%s: %+v, want it accepted", name, e)
		case c.want != "" && (e == nil || e.Cause != slot.WrongSignature || !strings.Contains(e.Detail, c.want)):
			t.Errorf("%s: %+v, want wrong-signature with %q", name, e, c.want)
		}
	}
	if e := check(volume(t, bootPath, plain), false, cert(db), nil); e != nil {
		t.Errorf("not signed, Secure Boot off: %+v", e)
	}
}

// FuzzSignature: what is read of a candidate and of firmware's variables is
// anybody's, and this is PID 1.
func FuzzSignature(f *testing.F) {
	db := testkey.New("db", nil)
	var b bytes.Buffer
	if err := authenticode.Sign(&b, bytes.NewReader(program()), int64(len(program())), db.Key, db.Cert); err != nil {
		f.Fatal(err)
	}
	list := esl.Marshal([]esl.List{esl.Certificate(gpt.GUID{}, db.Cert), esl.Hashes(gpt.GUID{}, [32]byte{})})
	f.Add(b.Bytes(), list)
	f.Add(b.Bytes()[:0x400], list[:40])
	f.Fuzz(func(t *testing.T, file, list []byte) {
		image, err := pe.Parse(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			embedded(file)
			names(file)
			signatures(file)
			return
		}
		_ = BootFile{DB: list, DBX: list}.signed(bytes.NewReader(file), int64(len(file)), image)
	})
}

func TestWasLost(t *testing.T) {
	armed := slot.Record{Good: slot.A, Candidate: slot.B, Phase: slot.Armed}
	waits, started, trying := armed, armed, armed
	waits.Means = slot.Selector
	started.Means, started.Launched = slot.Selector, true
	trying.Phase = slot.Trying
	for _, c := range []struct {
		r       slot.Record
		running slot.Slot
		want    bool
	}{
		{armed, slot.A, true}, {armed, slot.B, false}, {armed, slot.None, false}, {trying, slot.A, false},
		{waits, slot.A, false}, {started, slot.A, true}, {slot.Record{}, slot.None, false},
	} {
		if got := WasLost(c.r, c.running); got != c.want {
			t.Errorf("%+v, %s runs: %t", c.r, c.running, got)
		}
	}
}
