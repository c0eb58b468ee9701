package serve

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/bootfiles"
	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/chain"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// offering is a site with releases of files; of each the digest, and what its UKI holds,
// are its name, version, architecture and build.
func offering(t *testing.T, rules string, list ...bootrule.Release) *site {
	t.Helper()
	s := ruled(t, rules)
	var err error
	if s.files, err = bootfiles.New(bootfiles.Options{}); err != nil {
		t.Fatal(err)
	}
	o := &offer{sets: map[string]*bootable{}}
	for _, r := range list {
		content := "KERN" + "INIT" + r.Digest
		sum := sha256.Sum256([]byte(content))
		path := filepath.Join(t.TempDir(), r.Stem()+".efi")
		put(t, path, content)
		file := bootfiles.File{Path: path, Name: r.Stem() + ".efi", Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:])}
		o.sets[r.Digest] = &bootable{Set: bootfiles.Set{UKI: file}, stem: r.Stem(), arch: r.Arch, digest: r.Digest,
			parts: &chain.Parts{Dir: chain.Dir(r.Digest) + "/", UKI: file.Name, Cmdline: "quiet " + r.Digest, Kernel: chain.Part{Size: 4}, Initrd: chain.Part{Offset: 4, Size: 4}}}
		o.list = append(o.list, r)
	}
	s.offered.Store(o)
	t.Cleanup(func() { s.files.Retain(nil) })
	if err := s.loadRules(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// digestOf is a digest of a manifest.
func digestOf(of string) string {
	sum := sha256.Sum256([]byte(of))
	return hex.EncodeToString(sum[:])
}

// loaded is a file as a machine loads it: "" with an error.
func (t *site) loaded(x *testing.T, path string) (string, error) {
	c, err := t.Open(x.Context(), netboot.Request{Method: netboot.HTTP, Path: path})
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.Begin(); err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
	return string(b), err
}

// TestOpenIsWhatWasDecided: a file's name is that of several releases, for other processors
// and of other builds. Each machine gets what was decided for it, each time.
func TestOpenIsWhatWasDecided(t *testing.T) {
	one := bootrule.Release{Digest: digestOf("amd64"), Name: "hello", Version: "1.0.0", Arch: "amd64"}
	arm := bootrule.Release{Digest: digestOf("arm64"), Name: "hello", Version: "1.0.0", Arch: "arm64"}
	again := bootrule.Release{Digest: digestOf("another build"), Name: "hello", Version: "1.0.0", Arch: "amd64"}
	s := offering(t, "format: 1\nrules:\n  - mac: [\"52:54:00:12:34:56\"]\n    boot: \"sha256:"+again.Digest+"\"\n  - mac: [\"52:54:00:00:00:02\"]\n    boot: hello\ndefault: \"sha256:"+one.Digest+"\"\n", one, arm, again)
	for _, tt := range []struct {
		name string
		c    netboot.Client
	}{
		{"amd64", netboot.Client{MAC: other, Arch: netboot.EFIX64}},
		{"arm64", netboot.Client{MAC: netboot.MAC{0x52, 0x54, 0, 0, 0, 2}, Arch: netboot.EFIARM64}},
		{"a build", netboot.Client{MAC: known, Arch: netboot.EFIX64}},
	} {
		a := s.Decide(t.Context(), tt.c)
		d, err := s.boots.Decide(t.Context(), tt.c)
		if a.Verb != netboot.Boot || err != nil || tt.name == "a build" != (d.Release.Digest == again.Digest) {
			t.Fatalf("%s: %+v, %+v, %v", tt.name, a, d.Release, err)
		}
		for range 20 { // the order of a map is another each time
			got, err := s.loaded(t, a.Path)
			if err != nil || !strings.HasSuffix(got, d.Release.Digest) {
				t.Fatalf("%s: %q, %v, want %s", tt.name, got, err, d.Release.Digest)
			}
		}
	}
	// Firmware that kept its offer while the server was started anew was not heard to ask.
	if got, err := s.loaded(t, "boot/525400000099/hello-1.0.0.efi"); err != nil || strings.HasSuffix(got, arm.Digest) {
		t.Errorf("not heard: %q, %v", got, err)
	}
}

// TestOnlyDecidedIsOpened: what is decided for a machine has another name.
func TestOnlyDecidedIsOpened(t *testing.T) {
	one := bootrule.Release{Digest: digestOf("1"), Name: "hello", Version: "1.0.0", Arch: "amd64"}
	two := bootrule.Release{Digest: digestOf("2"), Name: "bye", Version: "1.0.0", Arch: "amd64"}
	s := offering(t, someRules, one, two)
	s.Decide(t.Context(), netboot.Client{MAC: known, Arch: netboot.EFIX64})
	if _, err := s.loaded(t, "boot/"+known.Plain()+"/hello-1.0.0.efi"); err != nil {
		t.Error(err)
	}
	for path, want := range map[string]string{
		known.Plain() + "/bye-1.0.0.efi":   "another release is decided by now",
		other.Plain() + "/hello-1.0.0.efi": "default: local boot",
		other.Plain() + "/" + chain.Script: "default: local boot",
	} {
		if _, err := s.loaded(t, "boot/"+path); !errors.Is(err, netboot.ErrDenied) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
}

// TestChainStaysOfOneRelease: when another release is decided while iPXE loads, the rest of
// the first is refused, and nothing of the other comes under its names.
func TestChainStaysOfOneRelease(t *testing.T) {
	one := bootrule.Release{Digest: digestOf("1"), Name: "hello", Version: "1.0.0", Arch: "amd64"}
	two := bootrule.Release{Digest: digestOf("2"), Name: "bye", Version: "1.0.0", Arch: "amd64"}
	again := bootrule.Release{Digest: digestOf("3"), Name: "hello", Version: "1.0.0", Arch: "amd64"}
	for arch, files := range map[netboot.Arch][]string{netboot.BIOS: {"kernel", "initrd"}, netboot.EFIX64: {"chain"}} {
		s := offering(t, "format: 1\ndefault: hello\n", one, two)
		c := netboot.Client{MAC: known, Arch: arch, IPXE: true}
		dir := "boot/" + known.Plain() + "/"
		names := func() (out []string) {
			if a := s.Decide(t.Context(), c); a.Path != dir+chain.Script {
				t.Fatalf("%s: %+v", arch, a)
			}
			text, err := s.loaded(t, dir+chain.Script)
			if err != nil {
				t.Fatal(err)
			}
			for _, command := range files {
				_, rest, ok := strings.Cut(text, "\n"+command+" ")
				if rest = strings.TrimPrefix(rest, "--name quiet "); !ok {
					t.Fatalf("%s: no %s\n%s", arch, command, text)
				}
				out = append(out, strings.Fields(rest)[0])
			}
			return out
		}
		first := names()
		for _, name := range first {
			if _, err := s.loaded(t, dir+name); err != nil {
				t.Errorf("%s: %s: %v", arch, name, err)
			}
		}
		for what, next := range map[string]bootrule.Release{"another appliance": two, "another build": again} {
			moved := offering(t, "format: 1\ndefault: "+next.Name+"\n", next)
			s.offered.Store(moved.offered.Load())
			s.ruled.Store(moved.ruled.Load())
			for _, name := range first {
				if got, err := s.loaded(t, dir+name); !errors.Is(err, netboot.ErrDenied) {
					t.Errorf("%s, %s: %s is %q, %v", arch, what, name, got, err)
				}
			}
			for _, name := range names() {
				if _, err := s.loaded(t, dir+name); err != nil {
					t.Errorf("%s, %s: %s: %v", arch, what, name, err)
				}
			}
		}
		for _, name := range []string{chain.Kernel, chain.Initrd} {
			if got, err := s.loaded(t, dir+name); err == nil {
				t.Errorf("%s: %s, of no release, is %q", arch, name, got)
			}
		}
	}
}

// TestChainAcrossRestart: a server that was started anew while iPXE loads has not heard the
// machine ask. Which firmware it has says the directory that its script named.
func TestChainAcrossRestart(t *testing.T) {
	x64 := bootrule.Release{Digest: digestOf("1"), Name: "hello", Version: "1.0.0", Arch: "amd64"}
	bios := bootrule.Release{Digest: digestOf("2"), Name: "bye", Version: "1.0.0", Arch: "amd64"}
	arm := bootrule.Release{Digest: digestOf("3"), Name: "hello", Version: "1.0.0", Arch: "arm64"}
	rules := "format: 1\nrules:\n  - {arch: [bios], boot: bye}\ndefault: hello\n"
	for arch, r := range map[netboot.Arch]bootrule.Release{netboot.BIOS: bios, netboot.EFIX64: x64, netboot.EFIARM64: arm} {
		name := r.Stem() + ".efi"
		if arch == netboot.BIOS {
			name = chain.Initrd
		}
		s := offering(t, rules, x64, bios, arm)
		if got, err := s.loaded(t, "boot/"+known.Plain()+"/"+chain.Dir(r.Digest)+"/"+name); err != nil || got == "" {
			t.Errorf("%s: %s is %q, %v", arch, name, got, err)
		}
		gone := digestOf("gone")
		if got, err := s.loaded(t, "boot/"+known.Plain()+"/"+chain.Dir(gone)+"/"+name); !errors.Is(err, netboot.ErrDenied) {
			t.Errorf("%s: %s of a release that nobody boots is %q, %v", arch, name, got, err)
		}
	}
}
