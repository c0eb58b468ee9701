package rig

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"

	"github.com/ingot-os/ingot/initramfs"
	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/release"
)

// Spec reads the appliance's own configuration out of the UKI of an image set:
// what the machine will act on, not what a recipe beside it says now.
func Spec(set *release.Set) (*appliance.Spec, error) {
	f, err := os.Open(set.UKI())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for _, s := range set.Manifest.Sections {
		if s.Name == ".initrd" {
			return SpecIn(io.NewSectionReader(f, s.Offset, s.Size))
		}
	}
	return nil, fmt.Errorf("read %s: no .initrd section", set.UKI())
}

// SpecIn reads what the machine acts on out of an initramfs.
func SpecIn(r *io.SectionReader) (*appliance.Spec, error) {
	t, _, err := initramfs.Open(r, r.Size())
	if err != nil {
		return nil, err
	}
	n := t.Get(appliance.Path)
	if n == nil {
		return nil, fmt.Errorf("read initramfs: no %s", appliance.Path)
	}
	in, err := n.Open()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	spec := new(appliance.Spec)
	if err := json.NewDecoder(in).Decode(spec); err != nil {
		return nil, fmt.Errorf("read %s: %w", appliance.Path, err)
	}
	return spec, nil
}

// Ports are the TCP ports of an appliance that a person or a smoke test wants
// to reach: those of HTTP smoke tests, of health checks and of the machine's
// own listener; sorted.
func Ports(spec *appliance.Spec) []int {
	var ports []int
	for _, s := range spec.Smoke {
		if s.HTTP != nil {
			ports = append(ports, s.HTTP.Port)
		}
	}
	for _, s := range spec.Services {
		switch {
		case s.Health == nil:
		case s.Health.HTTP != nil:
			ports = append(ports, s.Health.HTTP.Port)
		case s.Health.TCP != 0:
			ports = append(ports, s.Health.TCP)
		}
	}
	if p := ManagementPort(spec); p != 0 {
		ports = append(ports, p)
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// ManagementPort is the port of the machine's own listener, 0 when it has none.
func ManagementPort(spec *appliance.Spec) int {
	_, port, err := net.SplitHostPort(spec.Management.Listen)
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(port)
	return n
}
