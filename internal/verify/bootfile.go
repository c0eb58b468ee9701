package verify

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/boot/authenticode"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/partition"
)

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// ukiFacts is the boot file as it was found.
type ukiFacts struct {
	r     io.ReaderAt
	size  int64
	place Place
	info  boot.Info
}

// part is a place inside the boot file.
func (u *ukiFacts) part(path ...string) Place {
	return at(u.place.File, append(slices.Clone(u.place.Path), path...)...)
}

// checkBoot compares the sections of the boot file with the manifest, and looks
// for its copies on ESP and slots.
func (v *verifier) checkBoot(c *Check) error {
	want, _ := v.fileEntry(".efi")
	u, err := v.findUKI(want)
	switch {
	case err != nil:
		return err
	case u == nil && len(v.found) == 0:
		c.skip(v.nothing())
		return nil
	case u == nil:
		c.refuse(BootMissing, at(v.imageName(), partition.ESP), "sha256 "+want.SHA256, "")
		return nil
	}
	if u.info, err = boot.Inspect(u.r, u.size); err != nil {
		c.malformed(BootMalformed, u.place, err)
		return nil
	}
	v.uki = u
	if u.info.Problem != "" {
		c.malformed(BootMalformed, u.place, errors.New(u.info.Problem))
	}
	c.differ(BootMalformed, u.part("machine"), v.m.Arch, u.info.Arch)
	c.differ(BootCmdline, u.part("section .cmdline"), v.m.Cmdline, u.info.Cmdline)
	c.Count = len(v.m.Sections)
	v.judgeSections(c, u)
	v.judgeCopies(c, want)
	return nil
}

func (v *verifier) imageName() string {
	if v.image != nil {
		return v.image.name
	}
	return v.m.Stem() + ".img"
}

// findUKI takes the file of the set, else the first copy on an intact partition.
func (v *verifier) findUKI(want release.File) (*ukiFacts, error) {
	if f := v.files[want.Name]; f != nil && f.intact {
		return &ukiFacts{r: f.f, size: f.size, place: at(want.Name)}, nil
	}
	for _, p := range v.parts {
		if p.tree == nil {
			continue
		}
		for _, path := range sorted(v.found[p.Role]) {
			if f := v.found[p.Role][path]; f.sha256 != want.SHA256 || f.size != want.Size {
				continue
			}
			r, err := sectionOf(p.tree.Get(path))
			return &ukiFacts{r: r, size: want.Size, place: at(v.image.name, p.Role, path)}, err
		}
	}
	return nil, nil
}

func (v *verifier) judgeSections(c *Check, u *ukiFacts) {
	files := map[string]content{}
	for i, s := range u.info.Sections {
		files[s.Name] = content{size: s.Size, sha256: s.SHA256, leader: s.Name}
		place := u.part("section " + s.Name).byte(s.Offset)
		if i >= len(v.m.Sections) {
			c.refuse(BootSection, place, "", s.Name)
			continue
		}
		got := release.Part{Name: s.Name, Offset: s.Offset, Size: s.Size, SHA256: s.SHA256}
		if want := v.m.Sections[i]; got != want {
			c.refuse(BootSection, place, fmt.Sprint(want), fmt.Sprint(got))
		}
	}
	for _, s := range v.m.Sections[min(len(u.info.Sections), len(v.m.Sections)):] {
		c.refuse(BootSection, u.part("section "+s.Name), s.SHA256, "no such section")
	}
	v.found["uki"] = files
}

// judgeCopies demands the boot file where firmware and loader look for it.
func (v *verifier) judgeCopies(c *Check, want release.File) {
	fallback := boot.FallbackPath(v.m.Arch)
	for _, role := range []string{partition.SlotA, partition.SlotB} {
		if p := v.part(role); p != nil && p.tree != nil {
			c.differ(BootMissing, at(v.image.name, role, fallback), want.SHA256, v.found[role][fallback].sha256)
		}
	}
	p := v.part(partition.ESP)
	if p == nil || p.tree == nil {
		return
	}
	if v.found[partition.ESP][fallback].sha256 == "" {
		c.refuse(BootMissing, at(v.image.name, partition.ESP, fallback), "a boot file", "none")
	}
	for _, f := range v.found[partition.ESP] {
		if f.sha256 == want.SHA256 {
			return
		}
	}
	c.refuse(BootMissing, at(v.image.name, partition.ESP), want.SHA256, "none")
}

// program is an EFI program that firmware asks for a signature.
type program struct {
	r     io.ReaderAt
	size  int64
	place Place
	other bool // of another release: the manifest does not vouch for it
}

// isProgram looks for the two letters that all EFI programs begin with.
func isProgram(r io.ReaderAt) bool {
	head := make([]byte, 2)
	n, _ := r.ReadAt(head, 0)
	return n == 2 && string(head) == "MZ"
}

// programs lists the boot file, the other EFI programs of the ESP, and those
// of other releases on a machine's disk.
func (v *verifier) programs() ([]program, error) {
	var list []program
	uki := ""
	if v.uki != nil {
		list = append(list, program{r: v.uki.r, size: v.uki.size, place: v.uki.place})
		f, _ := v.fileEntry(".efi")
		uki = f.SHA256
	}
	for _, p := range v.parts {
		list = append(list, p.programs...)
	}
	p := v.part(partition.ESP)
	if p == nil || p.tree == nil {
		return list, nil
	}
	for _, path := range sorted(v.found[p.Role]) {
		if v.found[p.Role][path].sha256 == uki {
			continue
		}
		r, err := sectionOf(p.tree.Get(path))
		if err != nil {
			return nil, err
		}
		if isProgram(r) {
			list = append(list, program{r: r, size: r.Size(), place: at(v.image.name, p.Role, path)})
		}
	}
	return list, nil
}

// errUnjudged: nothing that the caller trusts vouches for a program.
var errUnjudged = fmt.Errorf("%w: it is of another release, and without a db certificate nothing vouches for it", authenticode.ErrUnknownKey)

// checkSecureBoot judges signatures as firmware would with these db
// certificates. Without any it looks whether the signatures are of these
// programs, and those of one program all by one key; programs of another
// release, which no digest of the manifest covers, are refused then.
func (v *verifier) checkSecureBoot(c *Check) error {
	list, err := v.programs()
	if err != nil {
		return err
	}
	if len(list) == 0 {
		c.skip(v.nothing())
		return nil
	}
	signed := 0
	for _, p := range list {
		if len(v.o.Trust.DB) > 0 {
			_, err := authenticode.Verify(p.r, p.size, authenticode.Trust{Certificates: v.o.Trust.DB})
			judgeProgram(c, p, err)
			continue
		}
		if p.other && !v.o.Unsigned {
			judgeProgram(c, p, errUnjudged)
			signed++
			continue
		}
		signer, err := consistent(p)
		switch {
		case err != nil:
			judgeProgram(c, p, err)
		case signer == nil:
			c.note(p.place.name(), WhyUnsigned, "")
			continue
		default:
			c.Count++
			c.note(p.place.name(), WhyNoCert, signer.Subject.CommonName)
		}
		signed++
	}
	if len(v.o.Trust.DB) == 0 && signed == 0 {
		c.skip(WhyUnsigned)
		c.notes = nil
	}
	return nil
}

// name is a place as one word.
func (p Place) name() string {
	if len(p.Path) > 0 {
		return p.Path[len(p.Path)-1]
	}
	return p.File
}

// consistent returns who signed a program, nil when nobody did. Every signature
// must be of the program, and by the one key.
func consistent(p program) (*x509.Certificate, error) {
	list, err := authenticode.Signatures(p.r, p.size)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	signer := list[0].Signer
	for _, s := range list {
		switch {
		case s.Signer == nil:
			return nil, fmt.Errorf("%w: it does not include its certificate", authenticode.ErrMalformed)
		case !s.Signer.Equal(signer):
			return nil, fmt.Errorf("%w: %q signed, too", authenticode.ErrUnknownKey, s.Signer.Subject.CommonName)
		}
	}
	_, err = authenticode.Verify(p.r, p.size, authenticode.Trust{Certificates: []*x509.Certificate{signer}})
	return signer, err
}

func judgeProgram(c *Check, p program, err error) {
	c.Count++
	if err == nil {
		return
	}
	code := SignatureMalformed
	for _, k := range []struct {
		is   error
		code Code
	}{
		{authenticode.ErrUnsigned, SignatureMissing}, {authenticode.ErrDigest, SignatureDigest},
		{authenticode.ErrSignature, SignatureInvalid}, {authenticode.ErrUnknownKey, SignatureKey},
	} {
		if errors.Is(err, k.is) {
			code = k.code
			break
		}
	}
	c.malformed(code, p.place, err)
}

// section returns a section of the boot file; nil when it has none of the name.
func (u *ukiFacts) section(name string) *io.SectionReader {
	for _, s := range u.info.Sections {
		if s.Name == name {
			return io.NewSectionReader(u.r, s.Offset, s.Size)
		}
	}
	return nil
}
