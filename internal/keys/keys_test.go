package keys

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/boot/esl"
	"github.com/ingot-os/ingot/boot/pkcs7"
	"github.com/ingot-os/ingot/internal/oracle"
)

var now = time.Date(2026, 3, 14, 15, 9, 26, 535, time.UTC)

// real and test are key sets that tests read and do not change.
var realDir, testDir string

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "keys")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	realDir, testDir = filepath.Join(dir, "real"), filepath.Join(dir, "test")
	for dir, test := range map[string]bool{realDir: false, testDir: true} {
		if _, err := Init(context.Background(), dir, Options{Name: "acme", Test: test, Now: now, Rand: rand.Reader}); err != nil {
			panic(err)
		}
	}
	return m.Run()
}

func open(t *testing.T, dir string) *Set {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// copyOf returns a copy of the set that a test may damage.
func copyOf(t *testing.T, dir string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(out, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	for _, r := range roles {
		if err := os.Chmod(filepath.Join(out, string(r.purpose)+".key"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// signs uses a key as its owner would.
func signs(t *testing.T, s *Set, p Purpose) {
	t.Helper()
	key, err := s.Signer(context.Background(), p, "dev")
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("a message")
	digest := sha256.Sum256(message)
	input, hash := digest[:], crypto.SHA256
	if k, _ := s.Key(p); k.Algorithm == Ed25519 {
		input, hash = message, 0
	}
	sig, err := key.Sign(rand.Reader, input, hash)
	if err != nil {
		t.Fatal(err)
	}
	_, verify, err := (&remote{key: s.Public(p)}).scheme(hash)
	if err != nil || !verify(input, sig) {
		t.Errorf("signature by %s does not verify: %v", p, err)
	}
}

func TestInit(t *testing.T) {
	s := open(t, realDir)
	if len(s.Keys) != 10 || s.Test || s.Name != "acme" || !s.Created.Equal(now.Truncate(time.Second)) || s.Owner.IsZero() {
		t.Errorf("index %+v", s.Index)
	}
	for _, k := range s.Keys {
		info, err := os.Stat(filepath.Join(realDir, strings.TrimPrefix(k.URI, "file:")))
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", k.URI, info, err)
		}
		signs(t, s, k.Purpose)
	}
	if info, err := os.Stat(realDir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder: %v, %v", info, err)
	}
	if b, err := os.ReadFile(filepath.Join(realDir, ".gitignore")); err != nil || string(b) != "*.key\n" {
		t.Errorf(".gitignore: %q, %v", b, err)
	}
	b, err := os.ReadFile(filepath.Join(realDir, "keys.json"))
	if err != nil || strings.Contains(string(b), "PRIVATE") {
		t.Errorf("index: %v\n%s", err, b)
	}
}

// TestCertificates: what firmware and TLS stacks look at.
func TestCertificates(t *testing.T) {
	s := open(t, realDir)
	for _, p := range []Purpose{PK, KEK, DB} {
		c := s.Certificate(p)
		if c.SignatureAlgorithm != x509.SHA256WithRSA || c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) != nil {
			t.Errorf("%s: %v, self-signature does not hold", p, c.SignatureAlgorithm)
		}
		if !c.NotBefore.Equal(time.Date(2026, 3, 14, 0, 0, 0, 0, time.UTC)) || c.NotAfter.Year() != 2051 || len(c.SerialNumber.Bytes()) != 16 {
			t.Errorf("%s: %v to %v, serial %x", p, c.NotBefore, c.NotAfter, c.SerialNumber)
		}
	}
	if c := s.Certificate(Boot); c.PublicKeyAlgorithm != x509.RSA || c.CheckSignatureFrom(c) != nil || !c.MaxPathLenZero || c.CheckSignatureFrom(s.Certificate(Fleet)) == nil {
		t.Errorf("boot: %v, issued by %s, path length %d", c.PublicKeyAlgorithm, c.Issuer, c.MaxPathLen)
	}
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate(Fleet))
	for p, usage := range map[Purpose]x509.ExtKeyUsage{Operator: x509.ExtKeyUsageClientAuth, Server: x509.ExtKeyUsageServerAuth, Hosts: x509.ExtKeyUsageClientAuth} {
		if c := s.Certificate(p); c.MaxPathLen != 0 || !c.MaxPathLenZero {
			t.Errorf("%s may issue authorities: path length %d", p, c.MaxPathLen)
		}
		for _, u := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
			_, err := s.Certificate(p).Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{u}, CurrentTime: now})
			if (err == nil) != (u == usage) {
				t.Errorf("%s for usage %v: %v", p, u, err)
			}
		}
	}
	openssl := oracle.Need(t, "openssl", "openssl")
	at := []string{"verify", "-x509_strict", "-attime", "1800000000", "-CAfile", filepath.Join(realDir, "fleet.crt")}
	oracle.Run(t, openssl, append(at, filepath.Join(realDir, "operator.crt"), filepath.Join(realDir, "server.crt"), filepath.Join(realDir, "hosts.crt"))...)
}

func TestInitRefuses(t *testing.T) {
	ctx := context.Background()
	good := Options{Name: "acme", Now: now, Rand: rand.Reader}
	before, err := os.ReadFile(filepath.Join(realDir, "db.key"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Init(ctx, realDir, good); !errors.Is(err, ErrExists) {
		t.Errorf("over a key set: %v", err)
	}
	if after, err := os.ReadFile(filepath.Join(realDir, "db.key")); err != nil || string(after) != string(before) {
		t.Errorf("the key set was changed: %v", err)
	}
	for name, o := range map[string]Options{
		"no name": {Now: now, Rand: rand.Reader}, "a newline": {Name: "a\nb", Now: now, Rand: rand.Reader},
		"TEST without being one": {Name: "acme TEST", Now: now, Rand: rand.Reader},
		"no time":                {Name: "acme", Rand: rand.Reader}, "no randomness": {Name: "acme", Now: now},
		"unknown purpose":                   {Name: "acme", Now: now, Rand: rand.Reader, URIs: map[Purpose]string{"root": "exec:/x?key=y"}},
		"a file":                            {Name: "acme", Now: now, Rand: rand.Reader, URIs: map[Purpose]string{PK: "file:/etc/passwd"}},
		"an algorithm that firmware cannot": {Name: "acme", Now: now, Rand: rand.Reader, Algorithms: map[Purpose]Algorithm{DB: P256}},
		"randomness that breaks":            {Name: "acme", Now: now, Rand: io.LimitReader(rand.Reader, 20)},
	} {
		parent := t.TempDir()
		if _, err := Init(ctx, filepath.Join(parent, "set"), o); err == nil {
			t.Errorf("%s: no error", name)
		}
		if left, err := os.ReadDir(parent); err != nil || len(left) != 0 {
			t.Errorf("%s: left %v, %v", name, left, err)
		}
	}
	if _, err := Init(ctx, filepath.Join(t.TempDir(), "no", "parent"), good); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no parent: %v", err)
	}
}

// TestWriteDirLeavesNothing fails at the second file.
func TestWriteDirLeavesNothing(t *testing.T) {
	parent := t.TempDir()
	if err := writeDir(filepath.Join(parent, "set"), 0o700, []file{{"a", nil, 0o600}, {"a", nil, 0o600}}); err == nil {
		t.Error("two files of one name: no error")
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// TestTestKeys: TEST is in every name, and such keys sign nothing real.
func TestTestKeys(t *testing.T) {
	s := open(t, testDir)
	for _, k := range s.Keys {
		if c := s.Certificate(k.Purpose); c != nil && !strings.HasPrefix(c.Subject.CommonName, "TEST acme ") {
			t.Errorf("%s: subject %q", k.Purpose, c.Subject)
		}
		for env, ok := range map[string]bool{"dev": true, "test": true, "prod": false, "production": false, "": false} {
			if _, err := s.Signer(context.Background(), k.Purpose, env); ok != (err == nil) || !ok && !errors.Is(err, ErrTestKey) {
				t.Errorf("%s for %q: %v", k.Purpose, env, err)
			}
			if _, err := open(t, realDir).Signer(context.Background(), k.Purpose, env); err != nil {
				t.Errorf("real %s for %q: %v", k.Purpose, env, err)
			}
		}
	}
}

func openedIndex(t *testing.T, dir string) Index {
	t.Helper()
	return open(t, dir).Index
}

func changeIndex(t *testing.T, dir string, change func(*Index)) {
	t.Helper()
	path := filepath.Join(dir, indexName)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var index Index
	if err := json.Unmarshal(b, &index); err != nil {
		t.Fatal(err)
	}
	change(&index)
	if b, err = json.Marshal(index); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, c := range []struct {
		name, want string
		from       string
		change     func(*Index)
	}{
		{"TEST keys that say they are none", "the index says test: false", testDir, func(i *Index) { i.Test = false }},
		{"a bare TEST key in a set of real ones", "image.pub says that it is a TEST key", realDir, func(i *Index) {
			i.Keys[3] = openedIndex(t, testDir).Keys[3]
			i.Keys[3].Public = "test-image.pub"
		}},
		{"later version", "version 2", realDir, func(i *Index) { i.Version = 2 }},
		{"fingerprint", "has fingerprint", realDir, func(i *Index) { i.Keys[2].Fingerprint = i.Keys[0].Fingerprint }},
		{"algorithm", "is rsa-2048, the index says ed25519", realDir, func(i *Index) { i.Keys[0].Algorithm = Ed25519 }},
		{"twice", "in the index twice", realDir, func(i *Index) { i.Keys[1].Purpose = PK }},
		{"outside", "not in the folder", realDir, func(i *Index) { i.Keys[0].Public = "../pk.crt" }},
		{"no certificate", "no such file", realDir, func(i *Index) { i.Keys[0].Public = "x.crt" }},
		{"not a certificate", "holds a PRIVATE KEY", realDir, func(i *Index) { i.Keys[0].Public = "pk.key" }},
	} {
		dir := copyOf(t, c.from)
		if err := os.Link(filepath.Join(testDir, "image.pub"), filepath.Join(dir, "test-image.pub")); err != nil {
			t.Fatal(err)
		}
		changeIndex(t, dir, c.change)
		if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if _, err := Open(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("empty folder: %v", err)
	}
}

func TestSignerRefuses(t *testing.T) {
	ctx, dir := context.Background(), copyOf(t, realDir)
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := os.Chmod(path("pk.key"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path("kek.key"), path("db.key")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path("image.key"), []byte("-----BEGIN EC PRIVATE KEY-----\n-----END EC PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	for p, want := range map[Purpose]string{
		PK: "mode 0640 lets others read it", KEK: "no such file", DB: "another key than the index names",
		Image: "not a PKCS #8 key", "root": "not in the key set",
	} {
		if _, err := s.Signer(ctx, p, "prod"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", p, err, want)
		}
	}
}

func TestExport(t *testing.T) {
	s, parent := open(t, realDir), t.TempDir()
	names, err := s.Export(context.Background(), filepath.Join(parent, "one"))
	if err != nil || len(names) != 9+2+10 {
		t.Fatalf("%q, %v", names, err)
	}
	if _, err := s.Export(context.Background(), filepath.Join(parent, "one")); !errors.Is(err, ErrExists) {
		t.Errorf("over an export: %v", err)
	}
	if _, err := s.Export(context.Background(), filepath.Join(parent, "two")); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		a, err := os.ReadFile(filepath.Join(parent, "one", n))
		b, err2 := os.ReadFile(filepath.Join(parent, "two", n))
		if err != nil || err2 != nil || string(a) != string(b) || strings.Contains(string(a), "PRIVATE") {
			t.Errorf("%s: %v, %v, or exported twice with other bytes", n, err, err2)
		}
	}
	boot, err := os.ReadFile(filepath.Join(parent, "one", "boot-ca.esl"))
	if err != nil {
		t.Fatal(err)
	}
	lists, err := esl.Parse(boot)
	if err != nil {
		t.Fatal(err)
	}
	if certs, err := esl.Certificates(lists); err != nil || len(certs) != 1 || !certs[0].Equal(s.Certificate(Boot)) {
		t.Errorf("boot-ca.esl: %d certificates, %v", len(certs), err)
	}
	k, err := s.SecureBootKeys()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		list   []byte
		holder Purpose
		by     Purpose
	}{"PK": {k.PK, PK, PK}, "KEK": {k.KEK, KEK, PK}, "db": {k.DB, DB, KEK}} {
		checkExport(t, s, filepath.Join(parent, "one", name), name, c.list, c.holder, c.by)
	}
}

func checkExport(t *testing.T, s *Set, path, name string, list []byte, holder, by Purpose) {
	t.Helper()
	b, err := os.ReadFile(path + ".esl")
	if err != nil || string(b) != string(list) {
		t.Errorf("%s.esl: %v, or not what a variable store is enrolled with", name, err)
	}
	lists, err := esl.Parse(list)
	certs, err2 := esl.Certificates(lists)
	if err != nil || err2 != nil || len(certs) != 1 || !certs[0].Equal(s.Certificate(holder)) || lists[0].Signatures[0].Owner != s.Owner {
		t.Errorf("%s.esl holds %v, %v, %v", name, certs, err, err2)
	}
	if b, err = os.ReadFile(path + ".auth"); err != nil {
		t.Fatal(err)
	}
	a, err := esl.ParseAuth(b)
	if err != nil {
		t.Fatal(err)
	}
	guid := efivar.Global
	if name == "db" {
		guid = efivar.ImageSecurity
	}
	cert, err := a.Verify(name, guid, esl.Attributes)
	if err != nil || !cert.Equal(s.Certificate(by)) || string(a.Data) != string(list) || !a.Time.Equal(s.Created) {
		t.Errorf("%s.auth: %v", name, err)
	}
	if err := pkcs7.CheckKey(cert.PublicKey); err != nil {
		t.Error(err)
	}
}
