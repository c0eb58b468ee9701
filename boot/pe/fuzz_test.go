package pe_test

import (
	"bytes"
	"crypto"
	"io"
	"testing"

	"github.com/ingot-os/ingot/boot/pe"
	"github.com/ingot-os/ingot/partition/tree"
)

func seeds(f *testing.F) {
	for _, s := range []stubSpec{{}, {pe32: true}, {headers: 0x200, fileAlign: 0x20}, {trailer: 9}, {sections: []string{".a", ".b", ".c"}}} {
		f.Add(buildStub(s))
	}
	f.Add(gapImage())
}

// FuzzParse: what Parse accepts can be read and hashed without leaving the file.
func FuzzParse(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		file, err := pe.Parse(r, int64(len(b)))
		if err != nil {
			return
		}
		for _, s := range file.Sections {
			if n, err := io.Copy(io.Discard, s.Data(r)); err != nil || n != s.DataSize() {
				t.Errorf("section %q: read %d of %d bytes, %v", s.Name, n, s.DataSize(), err)
			}
		}
		file.CheckUKI()
		pe.Authenticode(r, int64(len(b)), crypto.SHA256)
	})
}

// FuzzAppend: any stub that is accepted gives an image that is accepted, with
// the content where the plan says.
func FuzzAppend(f *testing.F) {
	seeds(f)
	content := []byte("content of one section")
	f.Fuzz(func(t *testing.T, stub []byte) {
		p, err := pe.AppendSections(stub, []pe.Section{{Name: ".linux", Data: tree.Bytes(content)}, {Name: ".x", Data: tree.Bytes("x")}})
		if err != nil {
			return
		}
		if p.Size() > int64(len(stub))+1<<19 {
			t.Fatalf("%d bytes from a stub of %d", p.Size(), len(stub))
		}
		var out bytes.Buffer
		if _, err := p.WriteTo(&out); err != nil {
			t.Fatal(err)
		}
		file, err := pe.Parse(bytes.NewReader(out.Bytes()), p.Size())
		if err != nil {
			t.Fatal(err)
		}
		s := file.Sections[len(file.Sections)-2]
		got, _ := io.ReadAll(s.Data(bytes.NewReader(out.Bytes())))
		if s.Name != ".linux" || !bytes.Equal(got, content) {
			t.Errorf("section %q holds %q", s.Name, got)
		}
		if _, err := pe.Authenticode(bytes.NewReader(out.Bytes()), p.Size(), crypto.SHA256); err != nil {
			t.Error(err)
		}
	})
}
