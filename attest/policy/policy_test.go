package policy

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/ingot-os/ingot/internal/tpmtest"
)

// tpm is an swtpm that tpm2-tools speak to: the oracle of every digest.
type tpm struct {
	*tpmtest.Tools
	t *testing.T
}

// value extends a register and gives what it holds.
func (e *tpm) value(register int, text string) (out [32]byte) {
	e.t.Helper()
	sum := sha256.Sum256([]byte(text))
	e.Run("tpm2_pcrextend", fmt.Sprintf("%d:sha256=%x", register, sum))
	e.Run("tpm2_pcrread", fmt.Sprintf("sha256:%d", register), "-o", "pcr")
	copy(out[:], e.Read("pcr"))
	return out
}

// counter is a new NV counter at the index, incremented once; it gives its
// name and value.
func (e *tpm) counter(index string) ([]byte, uint64) {
	e.t.Helper()
	e.Run("tpm2_nvdefine", index, "-C", "o", "-s", "8", "-a", "ownerwrite|ownerread|authread|no_da|nt=counter")
	e.Run("tpm2_nvincrement", index, "-C", "o")
	out, err := e.Try("tpm2_nvreadpublic", index)
	if err != nil {
		e.t.Fatal(out)
	}
	_, name, _ := strings.Cut(out, "name: ")
	name, _, _ = strings.Cut(name, "\n")
	b, err := hex.DecodeString(strings.TrimSpace(name))
	if err != nil {
		e.t.Fatal(err)
	}
	e.Run("tpm2_nvread", index, "-C", "o", "-o", "count")
	return b, binary.BigEndian.Uint64(e.Read("count"))
}

func tpm2b(b []byte) []byte { return append(be16(uint16(len(b))), b...) }

// TestOracle compares every step with a trial session of a TPM.
func TestOracle(t *testing.T) {
	e := &tpm{tpmtest.NewTools(t), t}
	key, spki := testKey(t)
	pcr11, pcr7 := Values{11: e.value(11, "kernel")}, Values{7: e.value(7, "own keys")}
	index, count := e.counter("0x1500016")
	e.Write("key", tpm2b(key.Public))
	e.Run("tpm2_loadexternal", "-C", "o", "-u", "key", "-c", "key.ctx", "-n", "name")
	if got := e.Read("name"); string(got) != string(key.Name) {
		t.Fatalf("the TPM calls the key %x, we call it %x", got, key.Name)
	}
	step := func(name string, want Digest, program string, args ...string) {
		t.Helper()
		e.Run(program, append(args, "-S", "session", "-L", "digest")...)
		if got := e.Read("digest"); string(got) != string(want[:]) {
			t.Fatalf("%s: the TPM has %x, we have %x", name, got, want)
		}
	}
	e.Run("tpm2_startauthsession", "-S", "session", "-g", "sha256") // a trial
	first := Digest{}.PCR(pcr11)
	step("PCR", first, "tpm2_policypcr", "-l", "sha256:11")
	e.Write("first", first[:])
	e.Write("ref", []byte(Ref(3)))
	step("Authorize", Authorized(key.Name, Ref(3)), "tpm2_policyauthorize", "-i", "first", "-n", "name", "-q", "ref")
	step("PCR 7", Authorized(key.Name, Ref(3)).PCR(pcr7), "tpm2_policypcr", "-l", "sha256:7")
	e.Write("limit", binary.BigEndian.AppendUint64(nil, count+5))
	step("NV", Sealed(key, Ref(3), pcr7, Counter{index, count + 5}), "tpm2_policynv", "0x1500016", "ule", "-C", "o", "-i", "limit")
	e.Run("tpm2_flushcontext", "session")
	both := Digest{}.PCR(Values{0: {}, 7: pcr7[7], 11: pcr11[11], 23: {}})
	e.Run("tpm2_startauthsession", "-S", "session", "-g", "sha256")
	step("several registers", both, "tpm2_policypcr", "-l", "sha256:0,7,11,23")
	e.Run("tpm2_flushcontext", "session")

	f := signed(t, spki, first, 3)
	s, _ := f.Find(first, 3)
	e.Write("sig", s.Signature)
	e.Write("approval", append(first[:], Ref(3)...))
	e.Run("tpm2_verifysignature", "-c", "key.ctx", "-g", "sha256", "-f", "rsassa", "-m", "approval", "-s", "sig")
}

var private = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func testKey(t testing.TB) (Key, []byte) {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(private().Public())
	if err != nil {
		t.Fatal(err)
	}
	k, err := ParseKey(spki)
	if err != nil {
		t.Fatal(err)
	}
	return k, spki
}

// signed is the file of a release of an epoch.
func signed(t testing.TB, spki []byte, d Digest, epoch int) File {
	t.Helper()
	f, err := Sign(nil, private(), epoch, d)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(f.Key, spki) {
		t.Fatal("the file names another key")
	}
	return f
}

func TestSignRefuses(t *testing.T) {
	_, ec, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]func() error{
		"another kind of key": func() error { _, err := Sign(nil, ec, 0, Digest{}); return err },
		"epoch 64":            func() error { _, err := Sign(nil, private(), 64, Digest{}); return err },
		"nothing to sign":     func() error { _, err := Sign(nil, private(), 0); return err },
	} {
		if try() == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

func encode(t testing.TB, f File) []byte {
	t.Helper()
	b, err := f.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFile(t *testing.T) {
	_, spki := testKey(t)
	d := Digest{}.PCR(Values{11: {1}})
	f, err := ParseFile(encode(t, signed(t, spki, d, 2)))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Verify(spki); err != nil || f.Epoch(d) != 2 || f.Epoch(Digest{}) != -1 {
		t.Errorf("%v, epoch %d and %d", err, f.Epoch(d), f.Epoch(Digest{}))
	}
	if _, ok := f.Find(d, 3); ok {
		t.Error("a release of epoch 2 has a signature for floor 3")
	}
	// A signature for a lower floor, told to be one for a higher, does not hold.
	moved := f
	moved.Policies = append([]Signed(nil), f.Policies...)
	moved.Policies[2].Floor, moved.Policies[2].Ref = 3, Ref(3)
	if err := moved.Verify(spki); !errors.Is(err, ErrSignature) {
		t.Errorf("moved to another floor: %v", err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	foreign, _ := x509.MarshalPKIXPublicKey(other.Public())
	if err := f.Verify(foreign); !errors.Is(err, ErrSignature) {
		t.Errorf("another key: %v", err)
	}
}

func TestParseFileRefuses(t *testing.T) {
	_, spki := testKey(t)
	good := signed(t, spki, Digest{1}, 1)
	for name, c := range map[string]struct {
		change func(*File)
		want   string
	}{
		"format":   {func(f *File) { f.Format = "x" }, "format"},
		"register": {func(f *File) { f.PCR = 12 }, "PCR 12"},
		"bank":     {func(f *File) { f.Bank = "sha1" }, "sha1"},
		"none":     {func(f *File) { f.Policies = nil }, "0 policies"},
		"ref":      {func(f *File) { f.Policies[1].Ref = Ref(0) }, "policies[1].ref"},
		"floor":    {func(f *File) { f.Policies[1].Floor = 64 }, "policies[1].floor"},
		"digest":   {func(f *File) { f.Policies[0].Digest = "00" }, "policies[0].digest"},
	} {
		f := good
		f.Policies = append([]Signed(nil), good.Policies...)
		c.change(&f)
		if _, err := ParseFile(encode(t, f)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	for _, text := range []string{"", "{}", "[]", string(encode(t, good)) + "{}", strings.Replace(string(encode(t, good)), `"pcr"`, `"x": 1, "pcr"`, 1)} {
		if _, err := ParseFile([]byte(text)); err == nil {
			t.Errorf("%.40q is taken", text)
		}
	}
}

func TestParseKeyRefuses(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err == nil {
		spki, _ := x509.MarshalPKIXPublicKey(small.Public())
		if _, err := ParseKey(spki); err == nil {
			t.Error("RSA-1024 is taken")
		}
	}
	if _, err := ParseKey([]byte("no key")); err == nil {
		t.Error("what is no key is taken")
	}
}

func FuzzParseFile(f *testing.F) {
	spki, _ := x509.MarshalPKIXPublicKey(private().Public())
	f.Add(encode(f, signed(f, spki, Digest{1}, 1)))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := ParseFile(b)
		if err == nil && len(file.Policies) > maxPolicies {
			t.Error("too many policies")
		}
	})
}
