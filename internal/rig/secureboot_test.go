package rig

import (
	"bytes"
	"errors"
	"testing"

	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/boot/varstore"
)

// TestEnrol writes keys before boot entries, and Enrolled knows them again.
func TestEnrol(t *testing.T) {
	keys := varstore.SecureBootKeys{PK: []byte("pk"), KEK: []byte("kek"), DB: []byte("db")}
	blank := make([]byte, 64<<20) // an empty store of ArmVirt's geometry
	flash, err := Enrol(keys, func(b []byte) ([]byte, error) {
		s, err := varstore.Open(b)
		if err != nil {
			return nil, err
		}
		err = s.Set(variable(efivar.BootOrder, []byte{0x10, 0}))
		return s.Bytes(), err
	})(blank)
	if err != nil {
		t.Fatal(err)
	}
	s, err := varstore.Open(flash)
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := s.Get("PK", efivar.Global); !ok || !bytes.Equal(v.Data, keys.PK) || v.Attributes&efivar.TimeAuthentication == 0 {
		t.Errorf("PK is %+v", v)
	}
	if _, ok := s.Get(efivar.BootOrder, efivar.Global); !ok {
		t.Error("the boot order is lost")
	}
	if err := Enrolled(keys)(flash); err != nil {
		t.Errorf("its own keys: %v", err)
	}
	other := keys
	other.DB = []byte("other")
	if err := Enrolled(other)(flash); !errors.Is(err, ErrOtherKeys) {
		t.Errorf("another db: %v", err)
	}
	if err := Enrolled(keys)(blank); !errors.Is(err, ErrNotEnrolled) {
		t.Errorf("an empty store: %v", err)
	}
	if err := Enrolled(keys)([]byte("text")); err == nil {
		t.Error("no store: no error")
	}
	if _, err := Enrol(keys, nil)([]byte("text")); err == nil {
		t.Error("enrolled into no store")
	}
	if b, err := Enrol(keys, nil)(blank); err != nil || Enrolled(keys)(b) != nil {
		t.Errorf("keys alone: %v", err)
	}
}
