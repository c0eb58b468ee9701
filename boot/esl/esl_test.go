package esl_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/boot/esl"
	"github.com/ingot-os/ingot/boot/pkcs7"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/testkey"
	"github.com/ingot-os/ingot/partition/gpt"
)

var owner = gpt.MustGUID("11223344-5566-4788-99aa-bbccddeeff00")

// people has a db and an other, with keys that are published.
var people = sync.OnceValue(func() map[string]testkey.Identity {
	return map[string]testkey.Identity{"db": testkey.New("db", nil), "other": testkey.New("other", nil)}
})

func lists() []esl.List {
	return []esl.List{
		esl.Certificate(owner, people()["db"].Cert),
		esl.Hashes(gpt.GUID{}, sha256.Sum256([]byte("a")), sha256.Sum256([]byte("b"))),
		esl.Certificate(gpt.GUID{1}, people()["other"].Cert),
	}
}

func update() esl.Update {
	return esl.Update{Name: "db", GUID: efivar.ImageSecurity, Attributes: esl.Attributes, Time: time.Date(2012, 7, 21, 9, 39, 37, 0, time.UTC), Data: esl.Marshal(lists())}
}

func TestListRoundTrip(t *testing.T) {
	got, err := esl.Parse(esl.Marshal(lists()))
	ignoreNil := cmp.Transformer("bytes", func(b []byte) string { return string(b) })
	if diff := cmp.Diff(lists(), got, ignoreNil); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	certs, err := esl.Certificates(got)
	if err != nil || len(certs) != 2 || !certs[1].Equal(people()["other"].Cert) {
		t.Errorf("certificates %v, %v", certs, err)
	}
	if none, err := esl.Parse(nil); err != nil || none != nil || esl.Marshal([]esl.List{esl.Hashes(owner)}) != nil {
		t.Errorf("nothing became %v, %v", none, err)
	}
}

// TestSizes holds the structures against UEFI 2.10 section 32.4.1.
func TestSizes(t *testing.T) {
	if got := len(esl.Marshal([]esl.List{esl.Hashes(owner, [32]byte{})})); got != 28+16+32 {
		t.Errorf("a list of one hash has %d bytes, want 76", got)
	}
}

func TestParseRefuses(t *testing.T) {
	one := esl.Marshal([]esl.List{esl.Hashes(owner, [32]byte{}, [32]byte{1})})
	for _, c := range []struct {
		name, field string
		at          int
		value       byte
	}{
		{"list longer than the value", "SignatureListSize", 17, 1},
		{"list of no length", "SignatureListSize", 16, 0},
		{"header longer than the list", "SignatureHeaderSize", 21, 1},
		{"signature of no data", "SignatureSize", 24, 16},
		{"signatures do not fill the list", "SignatureSize", 24, 47},
	} {
		b := bytes.Clone(one)
		b[c.at] = c.value
		var fe *esl.FormatError
		if _, err := esl.Parse(b); !errors.As(err, &fe) || fe.Field != c.field {
			t.Errorf("%s: %v, want an error about %s", c.name, err, c.field)
		}
	}
	if _, err := esl.Parse(one[:27]); err == nil {
		t.Error("truncated: no error")
	}
}

func TestSign(t *testing.T) {
	who := people()["other"]
	auth, err := update().Sign(who.Key, who.Cert)
	if err != nil {
		t.Fatal(err)
	}
	again, err := update().Sign(who.Key, who.Cert)
	if err != nil || !bytes.Equal(auth, again) {
		t.Errorf("signed twice, different bytes: %v", err)
	}
	a, err := esl.ParseAuth(auth)
	if err != nil || !a.Time.Equal(update().Time) || !bytes.Equal(a.Data, update().Data) {
		t.Fatalf("%+v, %v", a, err)
	}
	if cert, err := a.Verify("db", efivar.ImageSecurity, esl.Attributes); err != nil || !cert.Equal(who.Cert) {
		t.Errorf("verify: %v", err)
	}
	if _, err := a.Verify("dbx", efivar.ImageSecurity, esl.Attributes); !errors.Is(err, pkcs7.ErrSignature) {
		t.Errorf("for another variable: %v", err)
	}
}

// TestEveryByteOfAuthCounts flips each byte of an update.
func TestEveryByteOfAuthCounts(t *testing.T) {
	who := people()["other"]
	auth, err := update().Sign(who.Key, who.Cert)
	if err != nil {
		t.Fatal(err)
	}
	for i := range auth {
		b := bytes.Clone(auth)
		b[i] ^= 0x04
		a, err := esl.ParseAuth(b)
		if err != nil {
			continue
		}
		if cert, err := a.Verify("db", efivar.ImageSecurity, esl.Attributes); err == nil && cert.Equal(who.Cert) {
			t.Errorf("byte %#x is not covered", i)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	db, other := people()["db"], people()["other"]
	if _, err := update().Sign(db.Key, other.Cert); err == nil || !strings.Contains(err.Error(), "not that of certificate") {
		t.Errorf("key of another certificate: %v", err)
	}
	if _, err := update().Assemble(db.Cert, make([]byte, 256)); !errors.Is(err, pkcs7.ErrSignature) {
		t.Errorf("signature of nothing: %v", err)
	}
	u := update()
	u.Time = time.Time{}
	if _, err := u.Sign(db.Key, db.Cert); err == nil {
		t.Error("year 1: no error")
	}
}

// tool runs a program of efitools in a folder with keys and certificates.
func tool(t *testing.T, dir, program string, args ...string) []byte {
	t.Helper()
	path := oracle.Need(t, "efitools", program)
	out := filepath.Join(dir, "out")
	if err := os.WriteFile(out, []byte("left from before"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, append(args, "out")...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TZ=UTC")
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, msg)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func folder(t *testing.T, more map[string][]byte) string {
	dir := t.TempDir()
	for name, p := range people() {
		more[name+".key"] = testkey.PEM(name)
		more[name+".crt"] = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Cert.Raw})
	}
	for name, b := range more {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestEfitools: the bytes are those of cert-to-efi-sig-list and
// sign-efi-sig-list, and sig-list-to-certs reads our lists.
func TestEfitools(t *testing.T) {
	ours := esl.Marshal([]esl.List{esl.Certificate(owner, people()["db"].Cert)})
	dir := folder(t, map[string][]byte{"db.esl": ours, "all.esl": esl.Marshal(lists())})
	if theirs := tool(t, dir, "cert-to-efi-sig-list", "-g", owner.String(), "db.crt"); !bytes.Equal(ours, theirs) {
		t.Errorf("list\n%x\nefitools\n%x", ours, theirs)
	}
	u := update()
	u.Data = ours
	message, err := u.Message()
	if err != nil {
		t.Fatal(err)
	}
	sign := []string{"-t", u.Time.Format("2006-01-02 15:04:05"), "-c", "other.crt", "-k", "other.key", "db", "db.esl"}
	if theirs := tool(t, dir, "sign-efi-sig-list", append([]string{"-o"}, sign...)...); !bytes.Equal(message, theirs) {
		t.Errorf("message\n%x\nefitools\n%x", message, theirs)
	}
	auth, err := u.Sign(people()["other"].Key, people()["other"].Cert)
	if err != nil {
		t.Fatal(err)
	}
	if theirs := tool(t, dir, "sign-efi-sig-list", sign...); !bytes.Equal(auth, theirs) {
		t.Errorf("update\n%x\nefitools\n%x", auth, theirs)
	}
	tool(t, dir, "sig-list-to-certs", "all.esl")
	for name, want := range map[string][]byte{"out-0.der": people()["db"].Cert.Raw, "out-1.hash": nil, "out-3.der": people()["other"].Cert.Raw} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || want != nil && !bytes.Equal(got, want) {
			t.Errorf("%s: %v, %d bytes", name, err, len(got))
		}
	}
}

// FuzzParse: what is read is written back as it was.
func FuzzParse(f *testing.F) {
	f.Add(esl.Marshal(lists()))
	f.Add(esl.Marshal(lists()[1:2]))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := esl.Parse(b)
		if err == nil && !bytes.Equal(esl.Marshal(l), b) {
			t.Error("written again, other bytes")
		}
		esl.Certificates(l)
	})
}

// FuzzParseAuth: hostile updates end in an error or can be verified.
func FuzzParseAuth(f *testing.F) {
	auth, err := update().Sign(people()["db"].Key, people()["db"].Cert)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(auth)
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := esl.ParseAuth(b); err == nil {
			a.Verify("db", efivar.ImageSecurity, esl.Attributes)
		}
	})
}
