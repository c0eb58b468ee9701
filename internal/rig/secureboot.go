package rig

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/boot/varstore"
)

// Enrol returns the hook that puts keys into an empty variable store, so that
// the first boot is enforced already, and then calls next when it is not nil.
func Enrol(keys varstore.SecureBootKeys, next func([]byte) ([]byte, error)) func([]byte) ([]byte, error) {
	return func(flash []byte) ([]byte, error) {
		s, err := varstore.Open(flash)
		if err != nil {
			return nil, err
		}
		if err := s.EnrollSecureBoot(keys); err != nil {
			return nil, err
		}
		if next == nil {
			return s.Bytes(), nil
		}
		return next(s.Bytes())
	}
}

// Errors of Enrolled.
var (
	ErrNotEnrolled = errors.New("its variable store has no Secure Boot keys")
	ErrOtherKeys   = errors.New("its variable store has other Secure Boot keys")
)

// Enrolled returns the hook that compares the store of a kept machine with the
// keys it should have. dbx may have grown.
func Enrolled(keys varstore.SecureBootKeys) func([]byte) error {
	return func(flash []byte) error {
		s, err := varstore.Open(flash)
		if err != nil {
			return err
		}
		for _, v := range []varstore.Variable{
			{Name: "PK", GUID: efivar.Global, Data: keys.PK}, {Name: "KEK", GUID: efivar.Global, Data: keys.KEK}, {Name: "db", GUID: efivar.ImageSecurity, Data: keys.DB},
		} {
			got, ok := s.Get(v.Name, v.GUID)
			switch {
			case !ok:
				return fmt.Errorf("%w: no %s", ErrNotEnrolled, v.Name)
			case !bytes.Equal(got.Data, v.Data):
				return fmt.Errorf("%w: %s differs", ErrOtherKeys, v.Name)
			}
		}
		return nil
	}
}
