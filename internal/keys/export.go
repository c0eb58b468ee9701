package keys

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/boot/esl"
	"github.com/ingot-os/ingot/boot/varstore"
	"github.com/ingot-os/ingot/internal/testmark"
	"github.com/ingot-os/ingot/partition/gpt"
)

// variables are the key variables in the order of enrolment from setup mode:
// PK comes last, it ends that mode.
var variables = []struct {
	name    string
	guid    gpt.GUID
	purpose Purpose // whose certificate it holds
	by      Purpose // who signs its updates
}{
	{"db", efivar.ImageSecurity, DB, KEK},
	{"KEK", efivar.Global, KEK, PK},
	{"PK", efivar.Global, PK, PK},
}

// list returns the signature list of one certificate of the set.
func (s *Set) list(p Purpose) ([]byte, error) {
	cert := s.Certificate(p)
	if cert == nil {
		return nil, fmt.Errorf("list %s certificate: the set has none", p)
	}
	return esl.Marshal([]esl.List{esl.Certificate(s.Owner, cert)}), nil
}

// SecureBootKeys returns what a variable store is enrolled with. It needs no
// private key.
func (s *Set) SecureBootKeys() (k varstore.SecureBootKeys, err error) {
	for p, to := range map[Purpose]*[]byte{PK: &k.PK, KEK: &k.KEK, DB: &k.DB} {
		if *to, err = s.list(p); err != nil {
			return k, err
		}
	}
	return k, nil
}

// Export writes everything public into dir, which must not exist and which all
// may read then: for each of PK, KEK and db a certificate (.der for firmware
// menus, .pem), a signature list (.esl) and a signed update (.auth, as
// systemd-boot and firmware enrol it); for the authority of HTTPS Boot the first
// three as boot-ca, with which firmware trusts the boot server; and the other
// certificates and public keys as PEM. PK and KEK sign the updates, dated when
// the set was made, so a second export has the same bytes. It returns the names
// of the files.
func (s *Set) Export(ctx context.Context, dir string) ([]string, error) {
	files, err := s.firmwareFiles(ctx)
	if err != nil {
		return nil, fmt.Errorf("export keys: %w", err)
	}
	if cert := s.Certificate(Boot); cert != nil { // a set of an earlier ingot has none
		list, err := s.list(Boot)
		if err != nil {
			return nil, fmt.Errorf("export keys: %w", err)
		}
		files = append(files, file{bootCA + ".der", cert.Raw, 0o644}, file{bootCA + ".esl", list, 0o644})
	}
	for _, k := range s.Keys {
		block := &pem.Block{Type: "PUBLIC KEY"}
		if cert := s.Certificate(k.Purpose); cert != nil {
			block = &pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}
		} else if block.Bytes, err = x509.MarshalPKIXPublicKey(s.Public(k.Purpose)); err != nil {
			return nil, fmt.Errorf("export keys: %w", err)
		}
		files = append(files, file{exportName(k.Purpose) + ".pem", publicPEM(block, s.Test), 0o644})
	}
	if err := writeDir(dir, 0o755, files); err != nil {
		return nil, fmt.Errorf("export keys: %w", err)
	}
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = f.name
	}
	return names, nil
}

// publicPEM writes what all may read. A key without a certificate says in text that it is
// a TEST key; a certificate says it by its name.
func publicPEM(b *pem.Block, test bool) []byte {
	if test && b.Type == "PUBLIC KEY" {
		return testmark.PEM(b)
	}
	return pem.EncodeToMemory(b)
}

// bootCA is the name by which people look for what their firmware must trust.
const bootCA = "boot-ca"

// exportName is the variable's name for the keys of firmware, which
// systemd-boot expects in this case.
func exportName(p Purpose) string {
	for _, v := range variables {
		if v.purpose == p {
			return v.name
		}
	}
	if p == Boot {
		return bootCA
	}
	return string(p)
}

func (s *Set) firmwareFiles(ctx context.Context) ([]file, error) {
	var files []file
	for _, v := range variables {
		data, err := s.list(v.purpose)
		if err != nil {
			return nil, err
		}
		if s.Certificate(v.by) == nil {
			return nil, fmt.Errorf("sign %s: the set has no %s certificate", v.name, v.by)
		}
		key, err := s.signer(ctx, v.by)
		if err != nil {
			return nil, err
		}
		u := esl.Update{Name: v.name, GUID: v.guid, Attributes: esl.Attributes, Time: s.Created, Data: data}
		auth, err := u.Sign(key, s.Certificate(v.by))
		if err != nil {
			return nil, err
		}
		files = append(files,
			file{v.name + ".der", s.Certificate(v.purpose).Raw, 0o644},
			file{v.name + ".esl", data, 0o644},
			file{v.name + ".auth", auth, 0o644})
	}
	return files, nil
}
