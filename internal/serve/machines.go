package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/attestapi"
	"github.com/ingot-os/ingot/internal/machine"
	"github.com/ingot-os/ingot/internal/regular"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// Machines is a directory of machine.yaml files, for machines that keep none
// themselves (S13): HOST.yaml by the name of a host, or MAC.yaml with hyphens
// (52-54-00-12-34-56.yaml), in lower case.
//
// Who asks has proven nothing, so any client can read the file of any machine
// whose MAC address it knows: there are no secrets in them. That a machine got
// the right one is seen at its attestation, which has the digest of the file.
type machines struct {
	dir string // empty: there are none
	// host gives the name of the host that has a MAC address; "" for none.
	host  func(netboot.MAC) string
	count int // of files at the start
}

// Machine gives the file of the first MAC address that has one: by the address,
// else by the name of its host.
func (m *machines) Machine(_ context.Context, r attestapi.MachineRequest) (attestapi.MachineFile, error) {
	if m.dir == "" {
		return attestapi.MachineFile{}, nil
	}
	for _, text := range r.MACs[:min(len(r.MACs), maxAsked)] {
		mac, err := netboot.ParseMAC(text)
		if err != nil || mac.IsZero() {
			continue
		}
		names := []string{strings.ReplaceAll(mac.String(), ":", "-")}
		if h := m.host(mac); attest.ValidName(h) {
			names = append(names, h)
		}
		for _, name := range names {
			f, err := m.read(name + ".yaml")
			if err != nil || f.Data != nil {
				return f, err
			}
		}
	}
	return attestapi.MachineFile{}, nil
}

// maxAsked bounds the addresses of one question.
const maxAsked = 64

// read gives a file that exists and is a machine.yaml; nothing when there is
// none. A broken one is an error: the machine is to come up without it and say
// so, and not with half of it.
func (m *machines) read(name string) (attestapi.MachineFile, error) {
	data, err := regular.Read(filepath.Join(m.dir, name), attestapi.MaxMachine)
	if errors.Is(err, fs.ErrNotExist) {
		return attestapi.MachineFile{}, nil
	}
	if err != nil {
		return attestapi.MachineFile{}, err
	}
	if _, err := machine.Parse(name, data); err != nil {
		return attestapi.MachineFile{}, err
	}
	return attestapi.MachineFile{Data: data, From: name}, nil
}

// check reads all files, and gives how many there are.
func (m *machines) check() (n int, err error) {
	if m.dir == "" {
		return 0, nil
	}
	list, err := os.ReadDir(m.dir)
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, e := range list {
		if !strings.HasSuffix(e.Name(), ".yaml") || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		stem := strings.TrimSuffix(e.Name(), ".yaml")
		mac, err := netboot.ParseMAC(stem)
		switch {
		case err == nil && stem != strings.ReplaceAll(mac.String(), ":", "-"):
			errs = append(errs, fmt.Errorf("%s: rename it to %s.yaml", filepath.Join(m.dir, e.Name()), strings.ReplaceAll(mac.String(), ":", "-")))
			continue
		case err != nil && !attest.ValidName(stem):
			errs = append(errs, fmt.Errorf("%s: neither the name of a host nor a MAC address as 52-54-00-12-34-56", filepath.Join(m.dir, e.Name())))
			continue
		}
		if _, err := m.read(e.Name()); err != nil {
			errs = append(errs, err)
			continue
		}
		n++
	}
	return n, errors.Join(errs...)
}
