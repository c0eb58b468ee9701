package ear_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"flag"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/ear"
)

var update = flag.Bool("update", false, "rewrite the recorded results")

var at = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func trusted() attest.Verdict {
	return attest.Verdict{Trusted: true, Host: "edge-042", At: at, Release: "hello", Version: "1.0.0", Boot: "disk", Bank: "sha256", Compared: 5}
}

func refused(codes ...attest.Code) attest.Verdict {
	v := attest.Verdict{Host: "edge-042", At: at}
	for _, c := range codes {
		v.Findings = append(v.Findings, attest.Finding{Code: c, PCR: -1, Detail: "x"})
	}
	return v
}

func marshal(t *testing.T, v attest.Verdict, o ear.Options) []byte {
	t.Helper()
	b, err := ear.New(v, o).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRecorded keeps the bytes. The recorded results were read by another
// party's library, too (docs/attestation.md, "Formats").
func TestRecorded(t *testing.T) {
	o := ear.Options{Nonce: []byte("thirty-two bytes of a verifier.."), Build: "ingot 1.0.0", PolicyID: "ni:///sha-256;47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"}
	for name, v := range map[string]attest.Verdict{"trusted": trusted(), "refused": refused(attest.ImageUnknown, attest.CmdlineAdded)} {
		path := "testdata/" + name + ".json"
		got := marshal(t, v, o)
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s (-recorded +made):\n%s", name, diff)
		}
	}
}

// claims are what a reader of the draft sees.
type claims struct {
	Profile string `json:"eat_profile"`
	IAT     int64  `json:"iat"`
	ID      struct {
		Developer string `json:"developer"`
		Build     string `json:"build"`
	} `json:"ear_verifier_id"`
	Nonce   string `json:"eat_nonce"`
	Submods map[string]struct {
		Status string         `json:"ear_status"`
		Vector map[string]int `json:"ear_trustworthiness_vector"`
		Claims map[string]any `json:"ear_verifier_claims"`
	} `json:"submods"`
}

func read(t *testing.T, b []byte) claims {
	t.Helper()
	var c claims
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	if c.Profile != "tag:ietf.org,2026:rats/ear#04" || c.IAT != at.Unix() || c.ID.Developer == "" || c.ID.Build == "" || len(c.Submods) != 1 {
		t.Errorf("mandatory claims: %+v", c)
	}
	return c
}

// tier of a claim's value (AR4SI section 2.3.2).
func tier(value int) int {
	switch {
	case value >= 2 && value <= 31:
		return 2
	case value >= 32 && value <= 95:
		return 32
	case value >= 96:
		return 96
	}
	return 0
}

var tiers = map[string]int{"none": 0, "affirming": 2, "warning": 32, "contraindicated": 96}

// TestEveryReason: no reason gives an affirming result, and none claims more
// than the status says.
func TestEveryReason(t *testing.T) {
	for code := range attest.Codes {
		c := read(t, marshal(t, refused(code), ear.Options{Build: "x", Chained: true}))
		a := c.Submods["edge-042"]
		if a.Status != "contraindicated" && a.Status != "none" {
			t.Errorf("%s: %s", code, a.Status)
		}
		if a.Status == "none" && a.Vector != nil {
			t.Errorf("%s: nothing was judged and claimed is %v", code, a.Vector)
		}
		worst := 0
		for name, value := range a.Vector {
			worst = max(worst, tier(value))
			if tier(value) == 2 && name != "instance-identity" {
				t.Errorf("%s: %s is affirmed", code, name)
			}
		}
		if worst < 32 && a.Status != "none" {
			t.Errorf("%s: no claim says why: %v", code, a.Vector)
		}
		if a.Claims["ingot_reason"] != string(code) {
			t.Errorf("%s: reason %v", code, a.Claims["ingot_reason"])
		}
	}
}

func TestVector(t *testing.T) {
	for _, c := range []struct {
		name   string
		v      attest.Verdict
		chain  bool
		status string
		want   map[string]int
	}{
		{"trusted", trusted(), false, "affirming", map[string]int{"instance-identity": 2, "configuration": 2, "executables": 3}},
		{"trusted, chained", trusted(), true, "affirming", map[string]int{"instance-identity": 2, "configuration": 2, "executables": 3, "hardware": 2}},
		{"image", refused(attest.ImageUnknown), true, "contraindicated", map[string]int{"instance-identity": 2, "executables": 33}},
		{"image and command line", refused(attest.ImageUnknown, attest.CmdlineReplaced), true, "contraindicated", map[string]int{"instance-identity": 2, "executables": 33, "configuration": 96}},
		{"signature", refused(attest.QuoteSignature), true, "contraindicated", map[string]int{"instance-identity": 99}},
		{"stranger", refused(attest.HostUnknown), true, "contraindicated", map[string]int{"instance-identity": 97}},
		{"revoked", refused(attest.HostRevoked), true, "contraindicated", map[string]int{"instance-identity": 96}},
		{"firmware", refused(attest.FirmwareChanged), true, "contraindicated", map[string]int{"instance-identity": 2, "hardware": 96}},
		{"no reference", refused(attest.ReferenceNone), true, "none", nil},
	} {
		a := read(t, marshal(t, c.v, ear.Options{Build: "x", Chained: c.chain})).Submods["edge-042"]
		if diff := cmp.Diff(c.want, a.Vector); diff != "" || a.Status != c.status {
			t.Errorf("%s: %s (-want +got):\n%s", c.name, a.Status, diff)
		}
		for name, value := range a.Vector {
			if tier(value) > tiers[a.Status] {
				t.Errorf("%s: %s is worse than the status", c.name, name)
			}
		}
	}
}

// TestNonce: what EAT has no room for is left out, not cut.
func TestNonce(t *testing.T) {
	for n, want := range map[int]bool{0: false, 5: false, 6: true, 66: true, 67: false} {
		c := read(t, marshal(t, trusted(), ear.Options{Build: "x", Nonce: make([]byte, n)}))
		if (c.Nonce != "") != want {
			t.Errorf("%d bytes: %q", n, c.Nonce)
		}
	}
}

// TestSign reads the token with nothing of this package.
func TestSign(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	token, err := ear.New(trusted(), ear.Options{Build: "x"}).Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(token), ".")
	if len(parts) != 3 {
		t.Fatalf("%d parts", len(parts))
	}
	decode := func(s string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if got := string(decode(parts[0])); got != `{"alg":"ES256","typ":"eat+jwt"}` {
		t.Errorf("header %s", got)
	}
	read(t, decode(parts[1]))
	sum, sig := sha256.Sum256([]byte(parts[0]+"."+parts[1])), decode(parts[2])
	if len(sig) != 64 || !ecdsa.Verify(&key.PublicKey, sum[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		t.Error("the signature does not hold")
	}
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ear.New(trusted(), ear.Options{}).Sign(other); err == nil {
		t.Error("a key of P-384 signs ES256")
	}
}

func TestParseKey(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range []*pem.Block{{Type: "EC PRIVATE KEY", Bytes: sec1}, {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		got, err := ear.ParseKey(pem.EncodeToMemory(block))
		if err != nil || !got.Equal(key) {
			t.Errorf("%s: %v", block.Type, err)
		}
	}
	for _, text := range []string{"", "hello", "-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----\n"} {
		if _, err := ear.ParseKey([]byte(text)); err == nil {
			t.Errorf("%q is a key", text)
		}
	}
}
