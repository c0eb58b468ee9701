package verify

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/ingot-os/ingot/internal/dsse"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/pemfile"
	"github.com/ingot-os/ingot/internal/testmark"
)

// Trust is what the verifier believes before it reads anything.
type Trust struct {
	Image []crypto.PublicKey  // may sign manifests
	DB    []*x509.Certificate // may sign boot files

	// Test has the ids (dsse.KeyID) of image keys that are known as TEST keys: a
	// key set says so itself, an export by its certificates, a public key by the
	// text before it (package testmark).
	Test map[string]bool
}

// maxKeyFile bounds a key file, in bytes.
const maxKeyFile = 1 << 20

// LoadTrust reads the image keys, and the db certificates where there are some,
// from each path: a key set (keys.json), a directory that keys.Export wrote, or
// a PEM file with public keys or certificates of image keys. Private keys are
// not read.
func LoadTrust(paths ...string) (Trust, error) {
	var t Trust
	for _, p := range paths {
		if err := t.load(p); err != nil {
			return Trust{}, fmt.Errorf("load keys %s: %w", p, err)
		}
	}
	return t, nil
}

func (t *Trust) load(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return t.loadImages(path, false)
	}
	if _, err := os.Stat(filepath.Join(path, "keys.json")); err == nil {
		return t.loadSet(path)
	}
	before := len(t.DB)
	if err := t.LoadDB(filepath.Join(path, "db.pem")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// All keys of a set are TEST keys, or none is; only certificates are marked.
	return t.loadImages(filepath.Join(path, "image.pem"), slices.ContainsFunc(t.DB[before:], keys.IsTest))
}

func (t *Trust) loadSet(dir string) error {
	s, err := keys.Open(dir)
	if err != nil {
		return err
	}
	k := s.Public(keys.Image)
	if k == nil {
		return errors.New("the set has no image key")
	}
	if err := t.addImage(k, s.Test); err != nil {
		return err
	}
	if c := s.Certificate(keys.DB); c != nil {
		t.DB = append(t.DB, c)
	}
	return nil
}

// loadImages reads image keys. Each must be of a kind that signs envelopes.
func (t *Trust) loadImages(path string, test bool) error {
	return eachBlock(path, func(b *pem.Block, marked bool) error {
		key, named, err := publicKey(b)
		if err != nil {
			return err
		}
		return t.addImage(key, test || marked || named)
	})
}

// addImage adds a key that may sign manifests, once however often it is named:
// a threshold counts keys, not files.
func (t *Trust) addImage(key crypto.PublicKey, test bool) error {
	id, err := dsse.KeyID(key)
	if err != nil {
		return err
	}
	if test {
		if t.Test == nil {
			t.Test = map[string]bool{}
		}
		t.Test[id] = true
	}
	for _, k := range t.Image {
		if known, err := dsse.KeyID(k); err == nil && known == id {
			return nil
		}
	}
	t.Image = append(t.Image, key)
	return nil
}

// LoadDB adds the db certificates of a PEM file.
func (t *Trust) LoadDB(path string) error {
	return eachBlock(path, func(b *pem.Block, _ bool) error {
		if b.Type != "CERTIFICATE" {
			return fmt.Errorf("holds a %s, want a CERTIFICATE", b.Type)
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return err
		}
		t.DB = append(t.DB, c)
		return nil
	})
}

// publicKey also says whether a certificate names the key a TEST key.
func publicKey(b *pem.Block) (key crypto.PublicKey, test bool, err error) {
	switch b.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(b.Bytes)
		return key, false, err
	case "CERTIFICATE":
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, false, err
		}
		return c.PublicKey, keys.IsTest(c), nil
	}
	return nil, false, fmt.Errorf("holds a %s, want a PUBLIC KEY or CERTIFICATE", b.Type)
}

// eachBlock reads a file of keys, and says of each whether text before it marks a TEST key.
func eachBlock(path string, do func(b *pem.Block, marked bool) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return err
	}
	if len(data) > maxKeyFile {
		return fmt.Errorf("%s has more than %d bytes", filepath.Base(path), maxKeyFile)
	}
	blocks, err := pemfile.Blocks(data)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", filepath.Base(path), err)
	case len(blocks) == 0:
		return fmt.Errorf("%s holds no PEM block", filepath.Base(path))
	}
	marked := testmark.Blocks(data)
	for i, b := range blocks {
		if err := do(b, marked[i]); err != nil {
			return err
		}
	}
	return nil
}
