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
	t.Image = append(t.Image, k)
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
		if _, err := dsse.KeyID(key); err != nil {
			return err
		}
		t.Image = append(t.Image, key)
		return nil
	})
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
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return err
	}
	n := 0
	for ; ; n++ {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			break
		}
		if err := do(b); err != nil {
			return err
		}
	}
	if n == 0 {
		return fmt.Errorf("%s holds no PEM block", filepath.Base(path))
	}
	return nil
}
