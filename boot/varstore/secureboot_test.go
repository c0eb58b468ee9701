package varstore

import (
	"bytes"
	"errors"
	"testing"

	"github.com/ingot-os/ingot/boot/efivar"
)

func TestEnrollSecureBoot(t *testing.T) {
	s := mustOpen(t, small(4096, raw(stateAdded, "PK", "factory key"), raw(stateAdded, "Lang", "en")))
	keys := SecureBootKeys{PK: []byte("pk"), KEK: []byte("kek"), DB: []byte("db"), DBX: []byte("dbx")}
	if err := s.EnrollSecureBoot(keys); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, s.Bytes())
	for _, want := range []Variable{
		{"PK", efivar.Global, 0x27, []byte("pk")}, {"KEK", efivar.Global, 0x27, []byte("kek")},
		{"db", efivar.ImageSecurity, 0x27, []byte("db")}, {"dbx", efivar.ImageSecurity, 0x27, []byte("dbx")},
		{"SecureBootEnable", secureBootEnable, 3, []byte{1}},
	} {
		if v, ok := again.Get(want.Name, want.GUID); !ok || v.Attributes != want.Attributes || !bytes.Equal(v.Data, want.Data) {
			t.Errorf("%s is %+v, %v", want.Name, v, ok)
		}
	}
	keys.DBX = nil
	if err := s.EnrollSecureBoot(keys); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Get("dbx", efivar.ImageSecurity); ok || len(s.List()) != 5 {
		t.Errorf("after enrolling without dbx: %v", s.List())
	}
}

func TestEnrollSecureBootRefuses(t *testing.T) {
	s := mustOpen(t, small(400, raw(stateAdded, "PK", "factory key")))
	before := s.Bytes()
	if err := s.EnrollSecureBoot(SecureBootKeys{PK: []byte("pk"), KEK: []byte("kek"), DB: bytes.Repeat([]byte{1}, 400)}); !errors.Is(err, ErrNoSpace) {
		t.Errorf("%v, want ErrNoSpace", err)
	}
	if err := s.EnrollSecureBoot(SecureBootKeys{PK: []byte("pk")}); err == nil {
		t.Error("no KEK: no error")
	}
	if !bytes.Equal(s.Bytes(), before) {
		t.Error("a refused enrolment changed the store")
	}
}
