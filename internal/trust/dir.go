package trust

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// maxFiles bounds a directory; an export has 17.
const maxFiles = 1000

// keyFiles are names that only private keys have, also where their content
// cannot be read without a password.
var keyFiles = []string{".key", ".p12", ".pfx", ".jks"}

// Private tells whether a file holds a private key: PEM of any kind, PKCS #8,
// PKCS #1 and SEC 1 in DER, or a name that says so.
func Private(name string, data []byte) bool {
	if slices.Contains(keyFiles, strings.ToLower(path.Ext(name))) || bytes.Contains(data, []byte("PRIVATE KEY-----")) {
		return true
	}
	_, err8 := x509.ParsePKCS8PrivateKey(data)
	_, err1 := x509.ParsePKCS1PrivateKey(data)
	_, errEC := x509.ParseECPrivateKey(data)
	return err8 == nil || err1 == nil || errEC == nil
}

// ReadDir reads a directory that ingot keys export has written. Every file in
// it is looked at, so that no private key slips into what people copy around.
func ReadDir(dir fs.FS, threshold int) (*Anchors, Problems) {
	if problems := secrets(dir); len(problems) > 0 {
		return nil, problems
	}
	files := Exported()
	files.Threshold = threshold
	return Read(files, func(name string) ([]byte, error) { return fs.ReadFile(dir, name) })
}

// Open is ReadDir for a directory of the host, with its path in the errors.
func Open(dir string) (*Anchors, error) {
	a, problems := ReadDir(os.DirFS(dir), 0)
	if err := problems.Err(); err != nil {
		return nil, fmt.Errorf("read keys in %s: %w", dir, err)
	}
	return a, nil
}

func secrets(dir fs.FS) (problems Problems) {
	count, found := 0, []string{}
	err := fs.WalkDir(dir, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if count++; count > maxFiles {
			return fmt.Errorf("more than %d files", maxFiles)
		}
		info, err := fs.Stat(dir, name)
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() || info.Size() > MaxFile {
			return fmt.Errorf("%s is no key file", name)
		}
		data, err := fs.ReadFile(dir, name)
		if err == nil && Private(name, data) {
			found = append(found, name)
		}
		return err
	})
	if len(found) > 0 {
		msg := "holds a private key, which no image may carry"
		if len(found) > 1 {
			msg = fmt.Sprintf("and %d more files hold private keys, which no image may carry", len(found)-1)
		}
		problems = append(problems, Problem{Field: "keys", File: found[0], Msg: msg, Hint: exportHint})
	}
	if err != nil {
		hint := exportHint
		if errors.Is(err, fs.ErrNotExist) {
			hint = "paths are relative to the recipe"
		}
		problems = append(problems, Problem{Field: "keys", Msg: err.Error(), Hint: hint})
	}
	return problems
}
