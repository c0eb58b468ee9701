package trust_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/trust"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// exported is a key set and its export as files in memory.
func exported(t *testing.T) (*keys.Set, fstest.MapFS) {
	t.Helper()
	dir := t.TempDir()
	set, err := keys.Init(t.Context(), filepath.Join(dir, "keys"), keys.Options{Name: "acme", Test: true, Now: now, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	names, err := set.Export(t.Context(), filepath.Join(dir, "trust"))
	if err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{}
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join(dir, "trust", n))
		if err != nil {
			t.Fatal(err)
		}
		files[n] = &fstest.MapFile{Data: b, Mode: 0o644}
	}
	return set, files
}

// TestExportedDirectory reads what keys export writes: firmware gets the same
// bytes from it as from the key set, also after a journey through an image.
func TestExportedDirectory(t *testing.T) {
	set, files := exported(t)
	a, problems := trust.ReadDir(files, 1)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want, err := set.SecureBootKeys()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(a.Spec())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "PRIVATE") || len(text) > 9000 {
		t.Errorf("an image carries %d bytes: %.200s", len(text), text)
	}
	var spec appliance.Trust
	if err := json.Unmarshal(text, &spec); err != nil {
		t.Fatal(err)
	}
	back, err := trust.Parse(&spec)
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]*trust.Anchors{"directory": a, "image": back} {
		k, ok := x.SecureBootKeys()
		if !ok || !bytes.Equal(k.PK, want.PK) || !bytes.Equal(k.KEK, want.KEK) || !bytes.Equal(k.DB, want.DB) {
			t.Errorf("%s: signature lists differ from those of the key set", name)
		}
		if len(x.Image) != 1 || x.Threshold != 1 || x.Fleet == nil || x.Operator == nil || len(x.Server) != 1 || x.Policy == nil || !x.Test() {
			t.Errorf("%s: %+v", name, x)
		}
		if fp, _ := keys.Fingerprint(x.Image[0]); fp != set.Keys[3].Fingerprint {
			t.Errorf("%s: image key %s, want %s", name, fp, set.Keys[3].Fingerprint)
		}
	}
	if trust.Owner(a.PK) != set.Owner {
		t.Errorf("derived owner %v, the set's is %v", trust.Owner(a.PK), set.Owner)
	}
	if e := a.Expired(now.AddDate(11, 0, 0)); len(e) != 2 || e[0].Field != "operator" || e[1].Field != "server[0]" {
		t.Errorf("expired in 11 years: %v", e)
	}
	if e := a.Expired(now); len(e) != 0 {
		t.Errorf("expired today: %v", e)
	}
}

func certificate(t *testing.T, key any, public any, ca bool) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "probe"}, NotBefore: now, NotAfter: now.AddDate(1, 0, 0), IsCA: ca, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestRefusals(t *testing.T) {
	set, files := exported(t)
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	large, _ := rsa.GenerateKey(rand.Reader, 3072)
	pkcs8, _ := x509.MarshalPKCS8PrivateKey(p256)
	sec1, _ := x509.MarshalECPrivateKey(p256)
	big384, _ := x509.MarshalPKIXPublicKey(p384.Public())
	other, _, _ := ed25519.GenerateKey(rand.Reader)
	otherDER, _ := x509.MarshalPKIXPublicKey(other)
	db := files["db.pem"].Data
	extra := map[string][]byte{
		"ec.pem": certificate(t, p256, p256.Public(), true), "rsa3072.pem": certificate(t, large, large.Public(), true),
		"leaf.pem": certificate(t, p256, p256.Public(), false), "p384.pem": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: big384}),
		"pkcs8.der": pkcs8, "sec1.der": sec1, "text.txt": []byte("hello"), "empty.pem": {}, "other.der": otherDER,
		"openssh": []byte("-----BEGIN OPENSSH PRIVATE KEY-----\n"), "two.pem": append(bytes.Clone(db), db...), "sealed.p12": []byte("?"),
		"cut.esl": files["db.esl"].Data[:100], "torn.pem": append(bytes.Clone(db), db[:100]...), "torn first.pem": append(append(bytes.Clone(db[:100]), '\n'), db...), "large.pem": make([]byte, 2<<20),
	}
	read := func(name string) ([]byte, error) {
		if b, ok := extra[name]; ok {
			return b, nil
		}
		return files.ReadFile(name)
	}
	good := trust.Files{PK: "PK.der", KEK: "KEK.pem", DB: []string{"db.pem"}, Image: []string{"image.pem"}}
	if a, problems := trust.Read(good, read); len(problems) > 0 || a.Owner != set.Owner {
		t.Fatalf("PEM and DER: %v, owner %v, want %v", problems, a.Owner, set.Owner)
	}
	for _, c := range []struct {
		name string
		edit func(*trust.Files)
		want string
	}{
		{"EC key for db", func(f *trust.Files) { f.DB[0] = "ec.pem" }, "db[0]: ec.pem has an ECDSA key"},
		{"3072 bits for pk", func(f *trust.Files) { f.PK = "rsa3072.pem" }, "pk: rsa3072.pem has an RSA key of 3072 bits"},
		{"text", func(f *trust.Files) { f.KEK = "text.txt" }, "kek: text.txt is no certificate"},
		{"public key for pk", func(f *trust.Files) { f.PK = "image.pem" }, "pk: image.pem is no certificate"},
		{"cut list", func(f *trust.Files) { f.DB[0] = "cut.esl" }, "db[0]: cut.esl is no certificate: signature list: offset 0x10"},
		{"two in one", func(f *trust.Files) { f.DB[0] = "two.pem" }, "2 PEM blocks"},
		{"second block cut off", func(f *trust.Files) { f.DB[0] = "torn.pem" }, "db[0]: torn.pem is no certificate: line "},
		{"first block cut off", func(f *trust.Files) { f.KEK = "torn first.pem" }, "kek: torn first.pem is no certificate: line 1: a PEM block that is damaged or cut off"},
		{"missing", func(f *trust.Files) { f.DB[0] = "none.pem" }, "db[0]: none.pem does not exist"},
		{"empty", func(f *trust.Files) { f.DB[0] = "empty.pem" }, "db[0]: empty.pem has 0 bytes"},
		{"large", func(f *trust.Files) { f.DB[0] = "large.pem" }, "db[0]: large.pem has 2097152 bytes"},
		{"no kek", func(f *trust.Files) { f.KEK = "" }, "kek: is missing"},
		{"twice db", func(f *trust.Files) { f.DB = []string{"db.pem", "db.der"} }, "db[1]: is the certificate of db[0] again"},
		{"twice image", func(f *trust.Files) { f.Image = []string{"image.pem", "image.pem"}; f.Threshold = 2 }, "image[1]: is the key of image[0] again"},
		{"threshold", func(f *trust.Files) { f.Image = append(f.Image, "other.der"); f.Threshold = 3 }, "threshold: is 3, and 2 image keys are named"},
		{"P-384", func(f *trust.Files) { f.Image[0] = "p384.pem" }, "image[0]: p384.pem is an ECDSA key on P-384"},
		{"policy", func(f *trust.Files) { f.Policy = "other.der" }, "policy: other.der is no RSA key"},
		{"leaf", func(f *trust.Files) { f.Server = []string{"leaf.pem"} }, `server[0]: leaf.pem is the certificate of "probe" itself`},
		{"operator is the fleet root", func(f *trust.Files) { f.Fleet, f.Operator = "fleet.pem", "fleet.pem" }, "operator: fleet.pem is also named for others"},
		{"operator is a server authority", func(f *trust.Files) { f.Operator = "server.pem" }, "operator: server.pem issues servers"},
		{"operator is no authority", func(f *trust.Files) { f.Operator = "leaf.pem" }, `operator: leaf.pem is the certificate of "probe" itself`},
		{"nothing", func(f *trust.Files) { *f = trust.Files{} }, "there are no public keys"},
		{"owner", func(f *trust.Files) { f.Owner = "me" }, `owner: is "me"`},
		{"pkcs8", func(f *trust.Files) { f.Image[0] = "pkcs8.der" }, "image[0]: pkcs8.der holds a private key"},
		{"sec1", func(f *trust.Files) { f.Image[0] = "sec1.der" }, "holds a private key"},
		{"openssh", func(f *trust.Files) { f.Image[0] = "openssh" }, "holds a private key"},
		{"p12", func(f *trust.Files) { f.Image[0] = "sealed.p12" }, "holds a private key"},
	} {
		f := good
		f.DB, f.Image = []string{"db.pem"}, []string{"image.pem"}
		c.edit(&f)
		_, problems := trust.Read(f, read)
		if err := problems.Err(); err == nil || !strings.Contains(err.Error(), c.want) || problems.Hint() == "" {
			t.Errorf("%s: %v, hint %q; want %q", c.name, err, problems.Hint(), c.want)
		}
	}
}

// TestPrivateDirectory: a key set itself is refused, whatever is missing in it.
func TestPrivateDirectory(t *testing.T) {
	_, files := exported(t)
	files["sub/db.key"] = &fstest.MapFile{Data: []byte("sealed")}
	if _, p := trust.ReadDir(files, 1); len(p) != 1 || !strings.Contains(p.Error(), "sub/db.key holds a private key") || !strings.Contains(p.Hint(), "ingot keys export") {
		t.Errorf("got %v, hint %q", p, p.Hint())
	}
	if _, p := trust.ReadDir(fstest.MapFS{"README": {Data: []byte("x")}}, 1); len(p) != 1 || !strings.Contains(p.Error(), "no public keys") {
		t.Errorf("directory without keys: %v", p)
	}
	if _, err := trust.Open(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("no directory, no error")
	}
}

// FuzzRead takes any bytes for any key: no panic, and what is accepted survives
// the journey through an image. The seeds are an export of TEST keys.
func FuzzRead(f *testing.F) {
	seeds, err := filepath.Glob("../recipe/testdata/good/trust/*")
	if err != nil || len(seeds) == 0 {
		f.Fatal("no seeds", err)
	}
	for _, name := range seeds {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		trust.Read(trust.Files{Operator: "f"}, func(string) ([]byte, error) { return data, nil })
		a, problems := trust.Read(trust.Files{PK: "f", KEK: "f", DB: []string{"f"}, Image: []string{"f"}, Server: []string{"f"}, Policy: "f"},
			func(string) ([]byte, error) { return data, nil })
		if len(problems) > 0 {
			return
		}
		if _, err := trust.Parse(a.Spec()); err != nil {
			t.Errorf("what was read cannot be read again: %v", err)
		}
	})
}
