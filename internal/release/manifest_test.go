package release

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/internal/regular"
)

func good() *Manifest {
	return &Manifest{
		Format: Format, Name: "hello", Version: "1.0.0", Arch: "amd64", Epoch: 1,
		Files: []File{{Name: "hello-1.0.0.efi", Size: 3, SHA256: "ab"}},
		Disk:  Disk{SectorSize: 512, Size: 10 << 20, Partitions: []Partition{{Index: 1, Role: "esp", Start: 1 << 20, Size: 8 << 20}}},
	}
}

func TestRoundTrip(t *testing.T) {
	want := good()
	b, err := want.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(b)
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("Parse: %v (-want +got)\n%s", err, d)
	}
}

// A set from elsewhere names only what lies in its own directory.
func TestParseRefuses(t *testing.T) {
	for want, change := range map[string]func(*Manifest){
		"format 2":              func(m *Manifest) { m.Format = 2 },
		"is missing":            func(m *Manifest) { m.Version = "" },
		`name "../x"`:           func(m *Manifest) { m.Name = "../x" },
		`version "1/../../etc"`: func(m *Manifest) { m.Version = "1/../../etc" },
		`file name "../a"`:      func(m *Manifest) { m.Files[0].Name = "../a" },
		`file name ""`:          func(m *Manifest) { m.Files[0].Name = "" },
		"partition 1 of":        func(m *Manifest) { m.Disk.Partitions[0].Size = 10 << 20 },
		"at -1 leaves":          func(m *Manifest) { m.Disk.Partitions[0].Start = -1 },
	} {
		m := good()
		change(m)
		b, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse = %v, want %q", err, want)
		}
	}
	for text, want := range map[string]string{
		"": "unexpected end",
		`{"format": 1, "name": "a", "version": "1", "dataSchema": 2, "dataAccepts": 1}`: "dataSchema 2, dataAccepts 1",
		`{"format": 1, "name": "a", "version": "1", "dataAccepts": 65536}`:              "<= 65535",
		`{"format": 1} x`:            "invalid character",
		`{"format": 1, "colour": 1}`: `unknown field "colour"`,
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q) = %v, want %q", text, err, want)
		}
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open without a manifest = %v", err)
	}
	b, err := good().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, ManifestName)
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	set, err := Open(dir)
	if err != nil || set.Image() != filepath.Join(dir, "hello-1.0.0.img") || set.UKI() != filepath.Join(dir, "hello-1.0.0.efi") {
		t.Errorf("Open = %+v, %v", set, err)
	}
	if err := os.Truncate(path, maxManifest+1); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil || !errors.Is(err, regular.ErrSize) {
		t.Errorf("Open of a huge manifest = %v", err)
	}
}

// FuzzParse: no manifest leads out of its set, and each has one encoding.
func FuzzParse(f *testing.F) {
	b, err := good().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"format":1,"name":"..","version":"..","files":[{"name":"a/b"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Parse(data)
		if err != nil {
			return
		}
		s := &Set{Dir: "/set", Manifest: m}
		for _, p := range []string{s.Image(), s.UKI()} {
			if filepath.Dir(p) != "/set" {
				t.Errorf("the manifest leads to %s", p)
			}
		}
		again, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if n, err := Parse(again); err != nil || cmp.Diff(m.Name, n.Name) != "" {
			t.Errorf("read again: %v", err)
		}
	})
}
