package main

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/attestd"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/verifier"
)

// TestFirmwareKeys: keys for firmware that cannot be read are an error, and not
// a check less; a directory without any has none.
func TestFirmwareKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if _, err := keys.Init(context.Background(), dir, keys.Options{Name: "acme", Now: time.Now(), Rand: rand.Reader}); err != nil {
		t.Fatal(err)
	}
	load := func(path string) (int, error) {
		var p attest.Policy
		err := (&judgeFlags{Keys: []string{path}}).firmwareKeys(&p)
		return len(p.Keys), err
	}
	if n, err := load(dir); n != 1 || err != nil {
		t.Errorf("whole: %d, %v", n, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "keys.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := load(dir); err == nil {
		t.Error("a broken set: no error")
	}
	public := t.TempDir()
	if err := os.WriteFile(filepath.Join(public, "image.pem"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{public, filepath.Join(public, "image.pem")} {
		if n, err := load(path); n != 0 || err != nil {
			t.Errorf("%s: %d, %v", path, n, err)
		}
	}
	if err := os.WriteFile(filepath.Join(public, "db.esl"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := load(public); err == nil {
		t.Error("a broken db.esl: no error")
	}
}

// TestSignersAgain: who may sign is looked at again, with the releases.
func TestSignersAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "image.pem")
	if err := os.WriteFile(file, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, filepath.Dir(file)} {
		before := verifier.Fingerprint(nil, path)
		if err := os.Chtimes(file, time.Time{}, time.Now().Add(time.Duration(len(path))*time.Minute)); err != nil {
			t.Fatal(err)
		}
		if verifier.Fingerprint(nil, path) == before {
			t.Errorf("%s: not seen", path)
		}
	}
	r := &attestd.Releases{Trust: []string{file}}
	if _, err := r.Load(); err == nil || !strings.Contains(err.Error(), "load keys") {
		t.Errorf("got %v", err)
	}
}
