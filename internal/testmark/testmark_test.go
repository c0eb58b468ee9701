package testmark

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/pemfile"
)

func key(t *testing.T, seed byte) *pem.Block {
	t.Helper()
	pub := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32)).Public()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return &pem.Block{Type: "PUBLIC KEY", Bytes: der}
}

// TestBlocks: of files with several keys the marked ones are told, whatever became of the
// ends of lines; text that only speaks of TEST keys marks none.
func TestBlocks(t *testing.T) {
	real, test := pem.EncodeToMemory(key(t, 1)), PEM(key(t, 2))
	for _, tt := range []struct {
		name string
		data []byte
		want []bool
	}{
		{"real", real, []bool{false}},
		{"test", test, []bool{true}},
		{"both", slices.Concat(real, test), []bool{false, true}},
		{"turned", slices.Concat(test, real), []bool{true, false}},
		{"from Windows", bytes.ReplaceAll(test, []byte("\n"), []byte("\r\n")), []bool{true}},
		{"a comment before", slices.Concat([]byte("# of plant 7\n"), test), []bool{true}},
		{"speaks of it", slices.Concat([]byte("no TEST key of ingot: for dev and test only, this one\n"), real), []bool{false}},
		{"nothing", nil, nil},
		{"DER", key(t, 2).Bytes, nil},
	} {
		if got := Blocks(tt.data); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
		if blocks, err := pemfile.Blocks(tt.data); err != nil || len(blocks) != len(tt.want) {
			t.Errorf("%s: pemfile reads %d blocks, %v", tt.name, len(blocks), err)
		}
	}
}

// TestOpenSSL reads a marked key as any other.
func TestOpenSSL(t *testing.T) {
	openssl := oracle.Need(t, "openssl", "openssl")
	path := filepath.Join(t.TempDir(), "image.pem")
	if err := os.WriteFile(path, PEM(key(t, 2)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(openssl, "pkey", "-pubin", "-in", path, "-outform", "DER").Output()
	if err != nil || !bytes.Equal(out, key(t, 2).Bytes) {
		t.Errorf("%x, %v", out, err)
	}
}

func TestName(t *testing.T) {
	for name, want := range map[string]bool{"TEST acme db": true, "acme TEST": true, "TESTING acme": false, "test acme": false, "": false} {
		if Name(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}

// FuzzBlocks: what package pemfile reads is told of block by block.
func FuzzBlocks(f *testing.F) {
	f.Add([]byte(line + "-----BEGIN A-----\nAAAA\n-----END A-----\n-----BEGIN B-----\nAAAA\n-----END B-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if blocks, err := pemfile.Blocks(data); err == nil && len(blocks) != len(Blocks(data)) {
			t.Fatalf("%d blocks, %d told of", len(blocks), len(Blocks(data)))
		}
	})
}
