package predict

import (
	"errors"
	"fmt"
	"io"

	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/boot/authenticode"
	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/boot/esl"
	"github.com/ingot-os/ingot/partition/gpt"
)

// Keys are the Secure Boot variables, each as firmware keeps it: EFI signature
// lists (package esl), nil for none.
type Keys struct {
	PK, KEK, DB, DBX []byte
}

// ErrNotSigned is wrapped by the error of a boot that firmware would refuse.
var ErrNotSigned = errors.New("with Secure Boot on this image does not start: no certificate in db has signed it")

// secureBoot is PCR 7: the variables, a separator, and the entry of db that let
// the image in. A second image of the same key is not measured again.
func (b *boot) secureBoot() error {
	k := b.o.Keys
	if k == nil {
		b.p.Open[7] = "the enrolled keys are not given"
		return nil
	}
	on := byte(0)
	if b.o.SecureBoot {
		on = 1
	}
	for _, v := range []struct {
		name string
		guid gpt.GUID
		data []byte
	}{
		{"SecureBoot", efivar.Global, []byte{on}}, {"PK", efivar.Global, k.PK}, {"KEK", efivar.Global, k.KEK},
		{"db", efivar.ImageSecurity, k.DB}, {"dbx", efivar.ImageSecurity, k.DBX},
	} {
		b.addBytes(7, eventlog.VariableDriver, v.name, variable(v.guid, v.name, v.data))
	}
	b.addBytes(7, eventlog.Separator, "separator", zeros[:4])
	if !b.o.SecureBoot {
		return nil
	}
	programs := []Program{{b.uki.r, b.uki.size}}
	if b.o.Loader != nil {
		programs = []Program{*b.o.Loader, programs[0]}
	}
	return b.authorities(programs)
}

func (b *boot) authorities(programs []Program) error {
	seen := map[string]bool{}
	for _, p := range programs {
		entry, err := authority(p.Image, p.Size, b.o.Keys.DB)
		if err != nil {
			return err
		}
		if !seen[string(entry)] {
			b.addBytes(7, eventlog.VariableAuthority, "db", variable(efivar.ImageSecurity, "db", entry))
		}
		seen[string(entry)] = true
	}
	return nil
}

// authority is the EFI_SIGNATURE_DATA of the certificate in db that the image
// is signed by. An image that is not signed yet will be by the only one.
func authority(r io.ReaderAt, size int64, db []byte) ([]byte, error) {
	lists, err := esl.Parse(db)
	if err != nil {
		return nil, fmt.Errorf("db: %w", err)
	}
	var all [][]byte
	for _, l := range lists {
		if l.Type != esl.TypeX509 {
			continue
		}
		for _, s := range l.Signatures {
			certs, err := esl.Certificates([]esl.List{{Type: l.Type, Signatures: []esl.Signature{s}}})
			if err != nil {
				return nil, fmt.Errorf("db: %w", err)
			}
			entry := append(s.Owner[:len(s.Owner):len(s.Owner)], s.Data...)
			_, err = authenticode.Verify(r, size, authenticode.Trust{Certificates: certs})
			if err == nil {
				return entry, nil
			}
			if errors.Is(err, authenticode.ErrUnsigned) {
				all = append(all, entry)
			}
		}
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return nil, ErrNotSigned
}

// variable is a UEFI_VARIABLE_DATA (PFP section 10.2.6).
func variable(guid gpt.GUID, name string, data []byte) []byte {
	text := text16(name)
	text = text[:len(text)-2] // the name is measured without its NUL
	b := append([]byte(nil), guid[:]...)
	b = le.AppendUint64(b, uint64(len(text)/2))
	b = le.AppendUint64(b, uint64(len(data)))
	return append(append(b, text...), data...)
}
