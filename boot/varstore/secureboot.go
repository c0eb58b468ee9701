package varstore

import (
	"fmt"

	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/partition/gpt"
)

// SecureBootKeys are the contents of the key variables, each EFI signature
// lists as package esl encodes them.
type SecureBootKeys struct {
	PK, KEK, DB []byte
	DBX         []byte // may be empty
}

// secureBootEnable is gEfiSecureBootEnableDisableGuid, the vendor of EDK2's
// switch. Its variable lives without authentication and runtime access.
var secureBootEnable = gpt.MustGUID("f0a30bc7-af08-4556-99c4-001009c93a44")

// keyAttributes are those of UEFI 2.10 section 32.3.
const keyAttributes = efivar.NonVolatile | efivar.BootServiceAccess | efivar.RuntimeAccess | efivar.TimeAuthentication

// EnrollSecureBoot writes the keys, so that EDK2 built with Secure Boot
// enforces it from the first boot; keys that are there are replaced, and so is
// a dbx by none. The time stamps of the variables stay zero: any signed update
// is later. The firmware derives SecureBoot and SetupMode from PK itself.
// The error wraps ErrNoSpace when the keys do not fit; the store is then as it was.
func (s *Store) EnrollSecureBoot(k SecureBootKeys) error {
	before := s.records
	for _, v := range []Variable{
		{"PK", efivar.Global, keyAttributes, k.PK},
		{"KEK", efivar.Global, keyAttributes, k.KEK},
		{"db", efivar.ImageSecurity, keyAttributes, k.DB},
		{"dbx", efivar.ImageSecurity, keyAttributes, k.DBX},
		{"SecureBootEnable", secureBootEnable, efivar.NonVolatile | efivar.BootServiceAccess, []byte{1}},
	} {
		s.Delete(v.Name, v.GUID) // with the time stamp of its last update
		if v.Name == "dbx" && len(v.Data) == 0 {
			continue
		}
		if err := s.Set(v); err != nil {
			s.records = before
			return fmt.Errorf("enroll keys: %w", err)
		}
	}
	return nil
}
