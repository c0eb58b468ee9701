package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/rig"
	"github.com/ingot-os/ingot/internal/ui"
)

// vmFlags describe the machine that run and test boot.
type vmFlags struct {
	Path     string   `arg:"" help:"Image set (OUT/NAME-VERSION)." type:"path"`
	Boot     string   `default:"disk" enum:"disk,iso" help:"How the firmware finds the image: ${enum} (the CD of outputs: [iso]; with --bus usb, the same file on a stick)."`
	Machine  string   `help:"machine.yaml for this machine." type:"existingfile"`
	Forward  []string `placeholder:"[HOST:]GUEST" help:"Forward a TCP port of the machine to 127.0.0.1; the appliance's own ports are forwarded anyway."`
	Memory   int      `default:"1024" help:"MiB (default ${default})."`
	CPUs     *int     `name:"cpus" help:"Processors (default 2; 1 where amd64 is emulated)."`
	Disk     string   `help:"Keep the disk in this file from run to run." type:"path"`
	DiskSize int64    `placeholder:"MIB" help:"Size of the machine's disk in MiB, when larger than the image."`
	Bus      string   `default:"virtio" enum:"virtio,nvme,sata,scsi,usb" help:"How the disk is attached: ${enum}."`
	NoTPM    bool     `name:"no-tpm" help:"Leave out the TPM."`
	Accel    string   `enum:",kvm,tcg" default:"" help:"kvm or tcg (default: kvm when a guest really starts)."`
	secureBootFlags
	Selector bool `help:"Start with an empty variable store: the first boot goes through the selector."`
}

// machine prepares the virtual machine for the image set of the command line,
// whose appliance it returns as well.
func (f *vmFlags) machine() (qemu.Machine, *appliance.Spec, error) {
	set, err := openSet(f.Path)
	if err != nil {
		return qemu.Machine{}, nil, err
	}
	spec, err := rig.Spec(set)
	if err != nil {
		return qemu.Machine{}, nil, err
	}
	m, err := f.prepare(set, spec)
	return m, spec, err
}

func (f *vmFlags) prepare(set *release.Set, spec *appliance.Spec) (qemu.Machine, error) {
	if err := f.validate(); err != nil {
		return qemu.Machine{}, err
	}
	m := qemu.Machine{
		Arch: set.Manifest.Arch, Image: set.Image(), SectorSize: set.Manifest.Disk.SectorSize,
		DiskBus: f.Bus, DiskSize: f.DiskSize << 20, Disk: f.Disk,
		Memory: f.Memory, TPM: !f.NoTPM, Accel: f.Accel,
	}
	if f.CPUs != nil {
		m.CPUs = *f.CPUs
	}
	var err error
	if f.Boot == "iso" {
		err = f.fromCD(&m, set)
	} else {
		err = f.fromDisk(&m, set, spec)
	}
	if err != nil {
		return m, err
	}
	if err := f.secure(&m, spec); err != nil {
		return m, err
	}
	m.Forwards, err = f.forwards(spec)
	return m, err
}

// fromDisk puts machine.yaml on the disk and the slots into the boot order.
func (f *vmFlags) fromDisk(m *qemu.Machine, set *release.Set, spec *appliance.Spec) error {
	yaml, err := readMachine(f.Machine)
	if err != nil {
		return err
	}
	m.State = rig.State(yaml)
	if !f.Selector {
		m.Vars = rig.Vars(set, spec)
	}
	return nil
}

// fromCD boots the set's ISO in a machine without a disk. What belongs on one
// has no place there.
func (f *vmFlags) fromCD(m *qemu.Machine, set *release.Set) error {
	for _, flag := range []struct {
		name string
		set  bool
	}{{"--machine", f.Machine != ""}, {"--disk", f.Disk != ""}, {"--disk-size", f.DiskSize != 0}, {"--selector", f.Selector}} {
		if flag.set {
			return &ui.Error{Code: ui.CodeUsage, Err: fmt.Errorf("%s with --boot iso: a CD is read-only, and the machine has no disk", flag.name), Hint: "leave one of the two out"}
		}
	}
	m.Image, m.SectorSize, m.DiskBus = filepath.Join(set.Dir, set.Manifest.Stem()+".iso"), 0, qemu.BusCD
	if f.Bus == qemu.BusUSB {
		m.DiskBus = qemu.BusUSB
	}
	if _, err := os.Stat(m.Image); err != nil {
		return &ui.Error{Err: err, Hint: "the recipe has no outputs: [iso]; add it, then ingot lock and ingot build"}
	}
	return nil
}

// validate refuses sizes with which no machine starts: QEMU's own words for
// them name neither the flag nor the unit.
func (f *vmFlags) validate() error {
	switch {
	case f.Memory < minMemory:
		return &ui.Error{Code: ui.CodeUsage, Err: fmt.Errorf("--memory=%d: want at least %d (MiB)", f.Memory, minMemory)}
	case f.CPUs != nil && *f.CPUs < 1:
		return &ui.Error{Code: ui.CodeUsage, Err: fmt.Errorf("--cpus=%d: want at least 1", *f.CPUs)}
	case f.DiskSize < 0 || f.DiskSize > maxDisk:
		return &ui.Error{Code: ui.CodeUsage, Err: fmt.Errorf("--disk-size=%d: want 0 to %d (MiB)", f.DiskSize, maxDisk)}
	}
	return nil
}

const (
	minMemory = 128     // MiB; OVMF alone does not start in less than 64
	maxDisk   = 1 << 24 // MiB: 16 TiB, the largest file of ext4
)

// forwards are the operator's and, on free host ports, those of the appliance.
func (f *vmFlags) forwards(spec *appliance.Spec) ([]qemu.Forward, error) {
	var out []qemu.Forward
	for _, text := range f.Forward {
		fw, err := parseForward(text)
		if err != nil {
			return nil, &ui.Error{Code: ui.CodeUsage, Err: err, Hint: "--forward 8080:80 or --forward 80"}
		}
		out = append(out, fw)
	}
	for _, port := range rig.Ports(spec) {
		if !slices.ContainsFunc(out, func(fw qemu.Forward) bool { return fw.Guest == port }) {
			out = append(out, qemu.Forward{Guest: port})
		}
	}
	return out, nil
}

func parseForward(text string) (qemu.Forward, error) {
	host, guest, both := strings.Cut(text, ":")
	if !both {
		host, guest = "0", text
	}
	h, err1 := strconv.ParseUint(host, 10, 16)
	g, err2 := strconv.ParseUint(guest, 10, 16)
	if err1 != nil || err2 != nil || g == 0 {
		return qemu.Forward{}, fmt.Errorf("forward %q: not a port or a pair of ports", text)
	}
	return qemu.Forward{Host: int(h), Guest: int(g)}, nil
}

// openSet reads the manifest of an image set.
func openSet(dir string) (*release.Set, error) {
	set, err := release.Open(dir)
	if err != nil {
		return nil, &ui.Error{Err: err, Hint: "name an image set: OUT/NAME-VERSION as ingot build prints it"}
	}
	return set, nil
}

type runCmd struct {
	vmFlags
	Timeout appliance.Duration `help:"Power the machine off after this time (default: when it powers off or on Ctrl-C)." placeholder:"D"`
}

// Run boots the image set with the console on standard output until the
// machine powers off, the time is over, or the operator interrupts: then the
// power button is pressed.
func (c *runCmd) Run(v *verb) error {
	m, spec, err := c.machine()
	if err != nil {
		return err
	}
	m.Serial = v.ui.Out
	vm, err := qemu.Start(context.WithoutCancel(v.ctx), m)
	if err != nil {
		return err
	}
	defer vm.Close()
	sayForwards(v, vm)
	if spec.Update != nil && spec.Trust != nil && len(spec.Trust.Operator) > 0 {
		next(v, "ingot update %s --image OUT/NAME-NEXT --keys DIR --host-key KEY   (its console says the key)", vm.Forward(rig.ManagementPort(spec)))
	}
	ctx := v.ctx
	if c.Timeout != 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.Timeout.Or(0))
		defer cancel()
	}
	watch := c.watchRefusal(ctx, vm)
	_, err = vm.Wait(ctx)
	if refused := refusal(watch); refused != nil {
		return refused
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		v.ui.Say("pressing the power button")
		return vm.PowerDown(context.Background())
	}
	return err
}

func sayForwards(v *verb, vm *qemu.VM) {
	for _, f := range vm.Machine.Forwards {
		v.ui.Say("port %d is at http://%s", f.Guest, vm.Forward(f.Guest))
	}
}
