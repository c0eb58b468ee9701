package verifier

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/regular"
)

// maxRoots bounds a file of certificates in bytes.
const maxRoots = 4 << 20

// LoadRoots reads certificates of makers of TPMs: files in PEM or DER, or
// directories of such. Those that have issued themselves are roots, the others
// lead to them. In a directory files whose names do not end in .pem, .crt, .cer
// or .der are left alone.
func LoadRoots(paths []string) (attest.Roots, error) {
	var r attest.Roots
	for _, path := range paths {
		files, err := rootFiles(path)
		if err != nil {
			return r, fmt.Errorf("read roots of TPM makers: %w", err)
		}
		for _, f := range files {
			if err := addRoots(&r, f); err != nil {
				return r, fmt.Errorf("read roots of TPM makers: %s: %w", f, err)
			}
		}
	}
	return r, nil
}

func rootFiles(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return []string{path}, err
	}
	list, err := os.ReadDir(path)
	var out []string
	for _, e := range list {
		switch strings.ToLower(filepath.Ext(e.Name())) {
		case ".pem", ".crt", ".cer", ".der":
			out = append(out, filepath.Join(path, e.Name()))
		}
	}
	if err == nil && len(out) == 0 {
		err = fmt.Errorf("%s: no .pem, .crt, .cer or .der file in it", path)
	}
	return out, err
}

func addRoots(r *attest.Roots, path string) error {
	b, err := regular.Read(path, maxRoots)
	if err != nil {
		return err
	}
	ders := [][]byte{b}
	if block, rest := pem.Decode(b); block != nil {
		ders = nil
		for ; block != nil; block, rest = pem.Decode(rest) {
			if block.Type != "CERTIFICATE" {
				return fmt.Errorf("holds a %s, want a CERTIFICATE", block.Type)
			}
			ders = append(ders, block.Bytes)
		}
	}
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		if !c.IsCA {
			return errors.New("is the certificate of " + c.Subject.String() + " itself, not of an authority")
		}
		if bytes.Equal(c.RawIssuer, c.RawSubject) {
			r.Roots = append(r.Roots, c)
		} else {
			r.Intermediates = append(r.Intermediates, c)
		}
	}
	return nil
}
