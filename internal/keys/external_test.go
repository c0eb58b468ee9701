package keys

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/oracle"
)

const softHSM = "/usr/lib/softhsm/libsofthsm2.so"

// newToken makes a token "fleet:1" with PIN 1234 and keys on it, and returns
// what follows the object in its URIs.
func newToken(t *testing.T, rsaLabels, ecLabels []string) string {
	t.Helper()
	oracle.Need(t, "softhsm2", softHSM)
	util, tool, dir := oracle.Need(t, "softhsm2", "softhsm2-util"), oracle.Need(t, "opensc", "pkcs11-tool"), t.TempDir()
	conf, pin := filepath.Join(dir, "conf"), filepath.Join(dir, "pin")
	for path, text := range map[string]string{conf: "directories.tokendir = " + dir + "\n", pin: "1234\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	oracle.Run(t, util, "--init-token", "--free", "--label", "fleet:1", "--pin", "1234", "--so-pin", "5678")
	make := func(kind, label, id string) {
		oracle.Run(t, tool, "--module", softHSM, "--token-label", "fleet:1", "--login", "--pin", "1234", "--keypairgen", "--key-type", kind, "--label", label, "--id", id)
	}
	for i, l := range rsaLabels {
		make("rsa:2048", l, "a"+string(rune('0'+i)))
	}
	for i, l := range ecLabels {
		make("EC:prime256v1", l, "b"+string(rune('0'+i)))
	}
	return "?module-path=" + softHSM + "&pin-source=file:" + pin
}

// TestPKCS11 makes a set whose keys are on a token: certificates are signed there, and so is everything later.
func TestPKCS11(t *testing.T) {
	where := newToken(t, []string{"pk", "db"}, []string{"image", "fleet"})
	uris := map[Purpose]string{
		PK: "pkcs11:token=fleet%3A1;object=pk;id=%a0" + where, DB: "pkcs11:token=fleet%3A1;id=%a1" + where,
		Image: "pkcs11:token=fleet%3A1;object=image;id=%b0;type=private" + where, Fleet: "pkcs11:token=fleet%3A1;object=fleet;id=%b1" + where,
	}
	dir := filepath.Join(t.TempDir(), "set")
	s, err := Init(context.Background(), dir, Options{Name: "acme", Test: true, Now: now, Rand: rand.Reader, URIs: uris})
	if err != nil {
		t.Fatal(err)
	}
	for p, uri := range uris {
		if k, err := s.Key(p); err != nil || k.URI != uri {
			t.Errorf("%s: %+v, %v", p, k, err)
		}
		if _, err := os.Stat(filepath.Join(dir, string(p)+".key")); err == nil {
			t.Errorf("%s has a private key file", p)
		}
		signs(t, s, p)
	}
	if err := s.Certificate(Operator).CheckSignatureFrom(s.Certificate(Fleet)); err != nil {
		t.Error(err)
	}
	if _, err := s.Export(context.Background(), filepath.Join(t.TempDir(), "out")); err != nil {
		t.Error(err)
	}
	wrong := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(wrong, []byte("9999"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, uri := range map[string]string{
		"wrong PIN":  uris[DB][:strings.Index(uris[DB], "pin-source=")] + "pin-source=" + wrong,
		"no such id": strings.ReplaceAll(uris[DB], "id=%a1", "id=%ff"),
		"other key":  strings.ReplaceAll(uris[DB], "id=%a1", "id=%a0"),
		"other hash": uris[DB],
	} {
		key, err := reach(context.Background(), uri, s.Public(DB))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		hash := crypto.SHA256
		if name == "other hash" {
			hash = crypto.SHA512
		}
		if sig, err := key.Sign(nil, make([]byte, 32), hash); err == nil || sig != nil {
			t.Errorf("%s: %x", name, sig)
		}
	}
}

// TestPKCS11Deterministic: a key on a token gives the bytes that the same RSA
// key in a file would, so a signed image does not depend on where the key is.
func TestPKCS11Deterministic(t *testing.T) {
	where := newToken(t, nil, nil)
	tool := oracle.Need(t, "opensc", "pkcs11-tool")
	for kind, name := range map[string]string{"privkey": "db.key", "pubkey": "db.crt"} {
		path := filepath.Join(testDir, name)
		if kind == "pubkey" {
			path = filepath.Join(t.TempDir(), "pub")
			oracle.Run(t, oracle.Need(t, "openssl", "openssl"), "pkey", "-in", filepath.Join(testDir, "db.key"), "-pubout", "-outform", "DER", "-out", path)
		}
		oracle.Run(t, tool, "--module", softHSM, "--token-label", "fleet:1", "--login", "--pin", "1234", "--write-object", path, "--type", kind, "--label", "db", "--id", "01")
	}
	s := open(t, testDir)
	inFile, err := s.Signer(context.Background(), DB, "test")
	if err != nil {
		t.Fatal(err)
	}
	onToken, err := reach(context.Background(), "pkcs11:token=fleet%3A1;id=%01"+where, nil)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("a message"))
	a, err := inFile.Sign(nil, digest[:], crypto.SHA256)
	b, err2 := onToken.Sign(nil, digest[:], crypto.SHA256)
	if err != nil || err2 != nil || string(a) != string(b) {
		t.Errorf("file %x, %v\ntoken %x, %v", a, err, b, err2)
	}
}

func TestURIsRefused(t *testing.T) {
	for uri, want := range map[string]string{
		"https://x":                                        "want the scheme file, pkcs11 or exec",
		"pkcs11:id=%01":                                    "want token=",
		"pkcs11:token=t;object=o":                          "want token= and id=",
		"pkcs11:token=t;id=1":                              "want module-path=",
		"pkcs11:token=t;object=%zz":                        "invalid URL escape",
		"pkcs11:token=t;token=u":                           "there twice",
		"pkcs11:token=t;id=1?module-path=/m&pin-value=1":   "pin-value puts a secret",
		"pkcs11:token=t;id=1?module-path=/m&pin-source=/x": "read PIN",
		"pkcs11:token=t;serial=1;id=1?module-path=/m":      "attribute serial is not supported",
		"pkcs11:token=t;id=1?module-path=/m&pin-sorce=/x":  "option pin-sorce is not supported",
		"pkcs11:token=t;id=1?module-path=/m&module-name=x": "option module-name is not supported",
		"exec:sign?key=x":                                  "exec:/absolute/path",
		"exec:/bin/sign":                                   "exec:/absolute/path",
		"exec:/bin/sign?key=x&y=z":                         "exec:/absolute/path",
		"exec:/no/such?key=x":                              "no such file",
	} {
		if _, err := reach(context.Background(), uri, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", uri, err, want)
		}
	}
	t.Setenv(pinVariable, "")
	key, err := reach(context.Background(), "pkcs11:token=t;id=1?module-path=/m", &rsa.PublicKey{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := key.Sign(nil, make([]byte, 32), crypto.SHA256); err == nil || !strings.Contains(err.Error(), "no PIN") {
		t.Errorf("no PIN: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	var missing interface{ Hint() string }
	if _, err := reach(context.Background(), "pkcs11:token=t;id=1?module-path=/m", nil); !errors.As(err, &missing) || !strings.Contains(missing.Hint(), "apt install opensc") {
		t.Errorf("no pkcs11-tool: %v", err)
	}
}

// helper writes a signing program in shell.
func helper(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "signer")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return "exec:" + path + "?key=my%20key"
}

// TestExec signs with openssl behind the protocol of the package comment, with
// each algorithm.
func TestExec(t *testing.T) {
	oracle.Need(t, "openssl", "openssl")
	from := filepath.Join(t.TempDir(), "set")
	o := Options{Name: "acme", Test: true, Now: now, Rand: rand.Reader, Algorithms: map[Purpose]Algorithm{Image: Ed25519}}
	if _, err := Init(context.Background(), from, o); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		purpose  Purpose
		want, do string
	}{
		{DB, "rsa-pkcs1-sha256", `openssl pkeyutl -sign -inkey "$k" -pkeyopt digest:sha256`},
		{Fleet, "ecdsa-sha256", `openssl pkeyutl -sign -inkey "$k"`},
		{Image, "ed25519", `cat > "$0.in"; openssl pkeyutl -sign -rawin -in "$0.in" -inkey "$k"`},
	} {
		uri := helper(t, `k=`+filepath.Join(from, string(c.purpose)+".key")+`
[ "$2" = "my key" ] || exit 9
case $1 in
public) exec openssl pkey -in "$k" -pubout ;;
sign) [ "$3" = `+c.want+` ] || exit 8; `+c.do+` ;;
esac`)
		key, err := reach(context.Background(), uri, nil)
		if err != nil {
			t.Fatal(err)
		}
		dir := copyOf(t, from)
		changeIndex(t, dir, func(i *Index) {
			for n := range i.Keys {
				if i.Keys[n].Purpose == c.purpose {
					i.Keys[n].URI = uri
				}
			}
		})
		s := open(t, dir)
		if got, _ := Fingerprint(key.Public()); got == "" || !key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(s.Public(c.purpose)) {
			t.Errorf("%s: another public key", c.purpose)
		}
		signs(t, s, c.purpose)
	}
}

// TestExecMisbehaves: programs that fail, lie, hang or flood.
func TestExecMisbehaves(t *testing.T) {
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for script, want := range map[string]string{
		"echo first >&2; echo vault is sealed >&2; exit 3": "exit status 3: first; vault is sealed",
		"cat": "are no signature by this key",
		"head -c 100000 /dev/zero; cat >/dev/null": "more than 65536 bytes",
		"exec sleep 60":            "deadline exceeded",
		"sleep 60 & exec sleep 60": "deadline exceeded",
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		if strings.Contains(script, "sleep") {
			cancel()
			ctx, cancel = context.WithTimeout(context.Background(), 200*time.Millisecond)
		}
		key, err := reach(ctx, helper(t, script), pub)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := key.Sign(nil, []byte("a message"), crypto.Hash(0)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", script, err, want)
		}
		cancel()
	}
	key, err := reach(context.Background(), helper(t, "cat"), pub)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := key.Sign(nil, nil, &rsa.PSSOptions{}); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("PSS: %v", err)
	}
}

// TestPINUnsaid: the refusal of a PIN in a URI does not repeat it.
func TestPINUnsaid(t *testing.T) {
	for _, uri := range []string{"pkcs11:token=x;id=%01?module-path=/x.so&pin-value=864209", "pkcs11:token=x;id=%01;pin-value=864209?module-path=/x.so"} {
		_, err := Reach(t.Context(), uri, nil)
		if err == nil || strings.Contains(err.Error(), "864209") || !strings.Contains(err.Error(), "pin-value") {
			t.Errorf("%v", err)
		}
	}
}
