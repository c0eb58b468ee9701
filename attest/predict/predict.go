// Package predict computes what a boot of a unified kernel image (UKI) extends
// into a TPM, from the image alone: each event's digest in PCR 4, 5, 7, 9, 11
// and 12, and the values that the registers end with.
//
// The rules are those of the TCG PC Client Platform Firmware Profile as EDK2
// keeps them, of systemd-stub and of Linux's EFI stub. Each was compared with
// the log and the registers of booted machines (docs/measure.md names them).
// Where a rule depends on the version of the stub, the version comes from the
// image; one without rules is an error, never a guess.
//
// Limits: the UKI is started by the firmware, by systemd-boot, by iPXE or by
// QEMU's -kernel, not by shim or another boot menu. Images whose measurement depends on the machine
// (profiles, .dtbauto, .hwids, .efifw) are refused. Nothing is predicted of
// PCR 0 to 3, 6 and 8, which are about the machine, and what the system extends
// after the kernel has started is not part of a boot.
//
// Shape of use:
//
//	p, err := predict.UKI(file, size, predict.Options{Boot: predict.Disk, Banks: []pcr.Bank{pcr.SHA256}})
//	value := p.PCRs[pcr.SHA256][11]
package predict

import (
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/attest/pcr"
)

// Boot is the way by which a machine comes to its image.
type Boot string

// The ways to boot.
const (
	Disk   Boot = "disk"   // the firmware's boot manager, from a GPT partition
	PXE    Boot = "pxe"    // the firmware, by TFTP
	HTTP   Boot = "http"   // the firmware, by HTTP Boot
	IPXE   Boot = "ipxe"   // iPXE as the network card's option ROM or as a program
	Kernel Boot = "kernel" // QEMU -kernel
)

// Boots are all ways to boot.
var Boots = []Boot{Disk, PXE, HTTP, IPXE, Kernel}

// Options are what decides measurements beside the image.
type Options struct {
	Boot       Boot
	SecureBoot bool
	Banks      []pcr.Bank // at least one; Image.Boot has those of Open

	// Failed is the number of boot options that failed before the one that
	// worked. Each adds two events to PCR 4.
	Failed int
	// Table is the partition table of the disk. Without it PCR 5 is not
	// predicted for Disk.
	Table *Table
	// Keys are those that the firmware has enrolled. Without them PCR 7 is not
	// predicted for a boot with Secure Boot on; without Secure Boot they may be
	// empty, as on a machine that has none.
	Keys *Keys
	// Loader is the program that the firmware starts and that loads the image:
	// for IPXE the iPXE program, nil for an option ROM, which is measured into
	// PCR 2; for Disk systemd-boot, nil for none.
	Loader *Program
	// LoaderConf is the content of systemd-boot's loader.conf, nil for none.
	LoaderConf []byte
	// LoadOptions is the command line that is given to the image: iPXE gives the
	// name of the file and what follows it, QEMU -kernel what -append says.
	LoadOptions string
}

// Program is an EFI program.
type Program struct {
	Image io.ReaderAt
	Size  int64 // bytes
}

// Digests are an event's digests by bank.
type Digests map[pcr.Bank]pcr.Digest

// Event is one measurement to come.
type Event struct {
	PCR     int           `json:"pcr"`
	Type    eventlog.Type `json:"type"`
	Name    string        `json:"name"` // what is measured: ".linux", "Linux initrd"
	Digests Digests       `json:"digests"`
}

// Prediction is what a boot extends.
type Prediction struct {
	Stub       string `json:"stub"` // as .sdmagic says: "systemd-stub 257.13-1~deb13u1"
	Boot       Boot   `json:"boot"`
	SecureBoot bool   `json:"secureBoot"`
	Failed     int    `json:"failedBootOptions"`
	// Cmdline is what the kernel gets. It is the image's own unless Replaced.
	Cmdline  string `json:"cmdline"`
	Replaced bool   `json:"cmdlineReplaced,omitempty"`
	// Events are in the order of the log; only their order within a PCR counts.
	Events []Event `json:"events"`
	// PCRs are the final values of the registers that are predicted.
	PCRs map[pcr.Bank]map[int]pcr.Digest `json:"pcrs"`
	// Open says of each register that Options left open why it is.
	Open map[int]string `json:"notPredicted,omitempty"`
}

// registers are those that can be predicted.
var registers = []int{4, 5, 7, 9, 11, 12}

// Image is a UKI of which several boots are predicted: what its digests are is
// computed once.
type Image struct {
	uki   *uki
	banks []pcr.Bank
	known map[string]Digests
	// afterInitrd are the hashes of the section .initrd, with which that of the
	// whole initrd begins unless it has microcode: it is the largest part.
	afterInitrd []hash.Hash
}

// Open reads the headers of the image that is the first size bytes of r, which
// must stay readable.
func Open(r io.ReaderAt, size int64, banks ...pcr.Bank) (*Image, error) {
	u, err := openUKI(r, size)
	if err != nil {
		return nil, fmt.Errorf("predict boot: %w", err)
	}
	return &Image{uki: u, banks: banks, known: map[string]Digests{}}, nil
}

// UKI predicts one boot of the image that is the first size bytes of r.
func UKI(r io.ReaderAt, size int64, o Options) (*Prediction, error) {
	if err := o.check(); err != nil { // before reading anything
		return nil, fmt.Errorf("predict boot: %w", err)
	}
	m, err := Open(r, size, o.Banks...)
	if err != nil {
		return nil, err
	}
	return m.Boot(o)
}

// Boot predicts one boot, in the banks of Open; it must not be called
// concurrently.
func (m *Image) Boot(o Options) (*Prediction, error) {
	o.Banks = m.banks
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("predict boot: %w", err)
	}
	b := &boot{Image: m, o: o, p: &Prediction{Stub: m.uki.stub, Boot: o.Boot, SecureBoot: o.SecureBoot, Failed: o.Failed, Open: map[int]string{}}}
	for _, step := range []func() error{b.secureBoot, b.bootOption, b.disk, b.image, b.stub, b.kernel, b.exitBootServices} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("predict boot: %w", err)
		}
	}
	return b.p, b.replay()
}

// PCR11 is the value that the stub leaves in PCR 11, by bank. It is the same
// for every way to boot, and what a data key is sealed to.
func (m *Image) PCR11() (Digests, error) {
	b := &boot{Image: m, p: &Prediction{Open: map[int]string{}}}
	if err := b.sections(); err != nil {
		return nil, fmt.Errorf("predict PCR 11: %w", err)
	}
	if err := b.replay(); err != nil {
		return nil, fmt.Errorf("predict PCR 11: %w", err)
	}
	out := Digests{}
	for _, bank := range m.banks {
		out[bank] = b.p.PCRs[bank][11]
	}
	return out, nil
}

// maxFailed bounds failed boot options; firmware has no more entries than that.
const maxFailed = 1 << 16

func (o Options) check() error {
	if !slices.Contains(Boots, o.Boot) {
		return fmt.Errorf("%q is no way to boot", o.Boot)
	}
	if len(o.Banks) == 0 {
		return fmt.Errorf("no PCR bank")
	}
	for _, bank := range o.Banks {
		if !bank.Known() {
			return fmt.Errorf("bank %s cannot be computed", bank)
		}
	}
	if o.Failed < 0 || o.Failed > maxFailed {
		return fmt.Errorf("%d failed boot options are not within 0..%d", o.Failed, maxFailed)
	}
	if o.LoadOptions != "" && o.Boot != IPXE && o.Boot != Kernel {
		return fmt.Errorf("a boot from %s gives no load options", o.Boot)
	}
	if o.Loader != nil && o.Boot != IPXE && o.Boot != Disk {
		return fmt.Errorf("a boot from %s has no loader", o.Boot)
	}
	if o.LoaderConf != nil && (o.Loader == nil || o.Boot != Disk) {
		return fmt.Errorf("loader.conf without systemd-boot")
	}
	return o.checkLoadOptions()
}

// checkLoadOptions wants text that the stub passes on as it is.
func (o Options) checkLoadOptions() error {
	for i, c := range []byte(o.LoadOptions) {
		if c < ' ' || c >= 0x7f {
			return fmt.Errorf("load options %q: byte %#x at %d is not printable ASCII", o.LoadOptions, c, i)
		}
	}
	if strings.TrimSpace(o.LoadOptions) != o.LoadOptions {
		return fmt.Errorf("load options %q: white space at an end", o.LoadOptions)
	}
	return nil
}

// boot collects the events.
type boot struct {
	*Image
	o Options
	p *Prediction
}

// add measures what write writes, a part of the image that is the same in any
// boot.
func (b *boot) add(register int, typ eventlog.Type, name string, write func(io.Writer) error) error {
	key := fmt.Sprint(register, name)
	d := b.known[key]
	if d == nil {
		hashes := newHashes(b.banks)
		if err := hashAll(hashes, write); err != nil {
			return fmt.Errorf("PCR %d, %s: %w", register, name, err)
		}
		d = sums(b.banks, hashes)
		b.known[key] = d
		if register == 11 && name == ".initrd" {
			b.afterInitrd = hashes
		}
	}
	b.p.Events = append(b.p.Events, Event{register, typ, name, d})
	return nil
}

// addBytes measures data that is at hand.
func (b *boot) addBytes(register int, typ eventlog.Type, name string, data []byte) {
	hashes := newHashes(b.banks)
	hashAll(hashes, func(w io.Writer) error { _, err := w.Write(data); return err }) // hashes never fail
	b.p.Events = append(b.p.Events, Event{register, typ, name, sums(b.banks, hashes)})
}

func newHashes(banks []pcr.Bank) []hash.Hash {
	list := make([]hash.Hash, len(banks))
	for i, bank := range banks {
		list[i] = bank.New()
	}
	return list
}

// hashAll computes all banks in one pass over the data.
func hashAll(hashes []hash.Hash, write func(io.Writer) error) error {
	writers := make([]io.Writer, len(hashes))
	for i, h := range hashes {
		writers[i] = h
	}
	return write(io.MultiWriter(writers...))
}

// sums leaves the hashes as they are.
func sums(banks []pcr.Bank, hashes []hash.Hash) Digests {
	out := Digests{}
	for i, bank := range banks {
		out[bank] = hashes[i].Sum(nil)
	}
	return out
}

// replay fills the final values.
func (b *boot) replay() error {
	b.p.PCRs = map[pcr.Bank]map[int]pcr.Digest{}
	for _, bank := range b.banks {
		s := pcr.Start(bank, 0)
		for _, e := range b.p.Events {
			if err := s.Extend(e.PCR, e.Digests[bank]); err != nil {
				return err
			}
		}
		values := map[int]pcr.Digest{}
		for _, i := range registers {
			if b.p.Open[i] == "" {
				values[i] = s.Value(i)
			}
		}
		b.p.PCRs[bank] = values
	}
	return nil
}
