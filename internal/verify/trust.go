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

	"github.com/ingot-os/ingot/internal/dsse"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/pemfile"
)

// Trust is what the verifier believes before it reads anything.
type Trust struct {
	Image []crypto.PublicKey  // may sign manifests
	DB    []*x509.Certificate // may sign boot files
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
		return t.loadFile(path)
	}
	if _, err := os.Stat(filepath.Join(path, "keys.json")); err == nil {
		return t.loadSet(path)
	}
	if err := t.loadFile(filepath.Join(path, "image.pem")); err != nil {
		return err
	}
	err = t.LoadDB(filepath.Join(path, "db.pem"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
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
	if err := t.addImage(k); err != nil {
		return err
	}
	if c := s.Certificate(keys.DB); c != nil {
		t.DB = append(t.DB, c)
	}
	return nil
}

// loadFile reads image keys. Each must be of a kind that signs envelopes.
func (t *Trust) loadFile(path string) error {
	return eachBlock(path, func(b *pem.Block) error {
		key, err := publicKey(b)
		if err != nil {
			return err
		}
		return t.addImage(key)
	})
}

// addImage adds a key that may sign manifests, once however often it is named:
// a threshold counts keys, not files.
func (t *Trust) addImage(key crypto.PublicKey) error {
	id, err := dsse.KeyID(key)
	if err != nil {
		return err
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
	return eachBlock(path, func(b *pem.Block) error {
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

func publicKey(b *pem.Block) (crypto.PublicKey, error) {
	switch b.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(b.Bytes)
	case "CERTIFICATE":
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, err
		}
		return c.PublicKey, nil
	}
	return nil, fmt.Errorf("holds a %s, want a PUBLIC KEY or CERTIFICATE", b.Type)
}

func eachBlock(path string, do func(*pem.Block) error) error {
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
	for _, b := range blocks {
		if err := do(b); err != nil {
			return err
		}
	}
	return nil
}
