package boot

import (
	"bytes"
	"fmt"
	"io"

	"github.com/ingot-os/ingot/boot/cmdline"
	"github.com/ingot-os/ingot/boot/pe"
	"github.com/ingot-os/ingot/partition/tree"
)

// maxStub bounds what is read into memory; the largest stub known is 100 KiB.
const maxStub = 16 << 20

// ucodeSince is the first systemd whose stub loads the section .ucode. An
// older one ignores it in silence.
const ucodeSince = 256

// assembly carries the work of Assemble from step to step.
type assembly struct {
	uki  UKI
	stub []byte
	info stubInfo
	plan *Plan
}

// Assemble checks the parts and plans the UKI. An error names the step.
//
// The command line must name a console: the stub of systemd 258 and later adds
// one of its own choice when there is none, and then the measured command line
// depends on the machine. Texts are stored without a trailing NUL, as ukify
// does, because the stub measures a section's bytes as they are.
func Assemble(u UKI) (*Plan, error) {
	a := &assembly{uki: u}
	steps := []struct {
		name string
		do   func() error
	}{
		{"check architecture", a.checkArch},
		{"read stub", a.readStub},
		{"check kernel", func() error { return checkKernel(u.Kernel, u.Arch, u.Uname) }},
		{"check initrd", func() error { return checkInitrd(u.Initrd) }},
		{"check microcode", a.checkMicrocode},
		{"check splash", func() error { return checkSplash(u.Splash) }},
		{"check command line", func() error { return checkCmdline(u.Cmdline) }},
		{"check os-release", func() error { return checkOSRelease(u.OSRelease) }},
		{"place sections", a.place},
		{"check size", a.checkSize},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			return nil, fmt.Errorf("assemble uki: %s: %w", s.name, err)
		}
	}
	return a.plan, nil
}

func (a *assembly) checkArch() error {
	if !KnownArch(a.uki.Arch) {
		return fmt.Errorf("%q is neither amd64 nor arm64", a.uki.Arch)
	}
	return nil
}

func (a *assembly) readStub() (err error) {
	if a.uki.Stub == nil {
		return fmt.Errorf("no stub given")
	}
	if n := a.uki.Stub.Size(); n > maxStub {
		return fmt.Errorf("%d bytes are more than %d", n, maxStub)
	}
	if a.stub, err = readHead(a.uki.Stub, maxStub); err != nil {
		return err
	}
	a.info, err = parseStub(a.stub, a.uki.Arch)
	return err
}

func (a *assembly) checkMicrocode() error {
	if a.uki.Microcode == nil {
		return nil
	}
	if a.info.major < ucodeSince {
		return fmt.Errorf("%s does not load microcode: take the stub of systemd %d or later, or put the archive in front of the initrd", a.info.name, ucodeSince)
	}
	return checkInitrd(a.uki.Microcode)
}

// place lists the sections. The kernel is last: a kernel that unpacks itself
// in place may write behind its end.
func (a *assembly) place() error {
	u := a.uki
	list := []pe.Section{
		{Name: ".osrel", Data: tree.Bytes(u.OSRelease)},
		{Name: ".cmdline", Data: tree.Bytes(u.Cmdline)},
		{Name: ".uname", Data: text(u.Uname)},
		{Name: ".splash", Data: u.Splash},
		{Name: ".ucode", Data: u.Microcode},
		{Name: ".initrd", Data: u.Initrd},
		{Name: ".linux", Data: u.Kernel},
	}
	var present []pe.Section
	for _, s := range list {
		if s.Data != nil {
			present = append(present, s)
		}
	}
	p, err := pe.AppendSections(a.stub, present)
	if err != nil {
		return err
	}
	a.plan = &Plan{Plan: p, Stub: a.info.name}
	return nil
}

// text returns the bytes of s, and no blob at all for an empty one.
func text(s string) tree.Blob {
	if s == "" {
		return nil
	}
	return tree.Bytes(s)
}

func (a *assembly) checkSize() error {
	if b := a.uki.Budget; b > 0 && a.plan.Size() > b {
		return fmt.Errorf("%d bytes are %d more than the budget of %d", a.plan.Size(), a.plan.Size()-b, b)
	}
	return nil
}

// readHead returns the first n bytes of a blob, or all of it when it is shorter.
func readHead(b tree.Blob, n int64) ([]byte, error) {
	r, err := b.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var buf bytes.Buffer
	if _, err := io.Copy(&buf, io.LimitReader(r, n)); err != nil {
		return nil, err
	}
	if want := min(n, b.Size()); int64(buf.Len()) < want {
		return nil, fmt.Errorf("content ends after %d of %d bytes", buf.Len(), b.Size())
	}
	return buf.Bytes(), nil
}

func checkCmdline(s string) error {
	line := cmdline.Parse(s)
	switch {
	case len(s) > cmdline.MaxLen:
		return fmt.Errorf("%d bytes are more than the kernel's %d", len(s), cmdline.MaxLen)
	case line.String() != s:
		return fmt.Errorf("%q is not words with one space between them", s)
	case len(line.All("console")) == 0:
		return fmt.Errorf("no console= in %q", s)
	}
	return new(cmdline.Line).Append(s)
}
