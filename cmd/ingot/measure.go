package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/predict"
	"github.com/ingot-os/ingot/boot/pe"
	"github.com/ingot-os/ingot/internal/measure"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/rig"
	"github.com/ingot-os/ingot/internal/trust"
	"github.com/ingot-os/ingot/internal/ui"
)

type measureCmd struct {
	Path        string   `arg:"" help:"Image set (OUT/NAME-VERSION) or any UKI." type:"path"`
	Boot        string   `default:"disk" enum:"disk,pxe,http,ipxe,kernel" help:"How the machine comes to the image: ${enum} (default ${default})."`
	SecureBoot  string   `name:"secure-boot" default:"off" enum:"on,off" help:"on or off (default ${default})."`
	Bank        []string `default:"sha256" enum:"sha256,sha384,sha512,sha1" help:"PCR bank: ${enum} (default ${default}); several are separated by commas."`
	Failed      int      `placeholder:"N" help:"Boot options that fail before the one that works."`
	Keys        string   `placeholder:"DIR" help:"Keys that the firmware has enrolled, for PCR 7: a key set or what ingot keys export wrote (default: those the image carries)." type:"path"`
	Disk        string   `placeholder:"IMAGE" help:"Disk whose partition table is measured (default: the image of the set)." type:"path"`
	IPXE        string   `name:"ipxe" placeholder:"FILE" help:"With --boot ipxe: the iPXE program that firmware starts (default: an option ROM)." type:"path"`
	PCRLock     bool     `name:"pcrlock" help:"Print the events as a .pcrlock file for systemd-pcrlock."`
	LoadOptions *string  `name:"load-options" placeholder:"TEXT" help:"Command line that iPXE or QEMU -append gives to the image (default with iPXE: the name of the file)."`
}

// Run prints the expected events and final PCR values.
func (c *measureCmd) Run(v *verb) error {
	o, err := c.options()
	if err != nil {
		return err
	}
	p, err := measure.Of(c.Path, o)
	if err != nil {
		return noMeasurement(err)
	}
	c.warn(v, p)
	switch {
	case c.PCRLock:
		return v.ui.PrintJSON(measure.NewPCRLock(p, o.Banks))
	case v.ui.JSON:
		return v.ui.PrintJSON(p)
	}
	return printPrediction(v, p, o.Banks)
}

func (c *measureCmd) options() (o measure.Options, err error) {
	o = measure.Options{Boot: predict.Boot(c.Boot), SecureBoot: c.SecureBoot == "on", Failed: c.Failed, Disk: c.Disk, IPXE: c.IPXE}
	if c.IPXE != "" && o.Boot != predict.IPXE {
		return o, &ui.Error{Code: ui.CodeUsage, Err: errors.New("--ipxe without --boot ipxe"), Hint: "add --boot ipxe"}
	}
	if c.Failed < 0 {
		return o, &ui.Error{Code: ui.CodeUsage, Err: fmt.Errorf("--failed=%d: less than nothing", c.Failed), Hint: "ingot measure --help"}
	}
	for _, text := range c.Bank {
		bank, err := pcr.ParseBank(text)
		if err != nil {
			return o, &ui.Error{Code: ui.CodeUsage, Err: err}
		}
		if !slices.Contains(o.Banks, bank) {
			o.Banks = append(o.Banks, bank)
		}
	}
	if o.Keys, err = c.keys(); err != nil {
		return o, err
	}
	o.LoadOptions, err = c.loadOptions(o.Boot)
	return o, err
}

// loadOptions are what iPXE gives to every image, unless told otherwise: its
// file name.
func (c *measureCmd) loadOptions(boot predict.Boot) (string, error) {
	if c.LoadOptions != nil {
		if boot != predict.IPXE && boot != predict.Kernel {
			return "", &ui.Error{Code: ui.CodeUsage, Err: fmt.Errorf("--load-options with --boot %s: only iPXE and QEMU give any", boot), Hint: "add --boot ipxe or --boot kernel"}
		}
		return *c.LoadOptions, nil
	}
	if boot != predict.IPXE {
		return "", nil
	}
	if set, err := release.Open(c.Path); err == nil {
		return filepath.Base(set.UKI()), nil
	}
	return filepath.Base(c.Path), nil
}

// keys are those named, else those that the set carries; nil for neither.
func (c *measureCmd) keys() (*predict.Keys, error) {
	if c.Keys != "" {
		k, err := keysIn(c.Keys)
		return (*predict.Keys)(&k), err
	}
	if c.SecureBoot != "on" {
		return nil, nil
	}
	set, err := release.Open(c.Path)
	if err != nil {
		return nil, nil // a UKI carries none; what else is wrong is said later
	}
	spec, err := rig.Spec(set)
	if err != nil || spec.Trust == nil {
		return nil, err
	}
	a, err := trust.Parse(spec.Trust)
	if err != nil {
		return nil, err
	}
	if k, ok := a.SecureBootKeys(); ok {
		return (*predict.Keys)(&k), nil
	}
	return nil, nil
}

// noMeasurement tells what to name or do instead.
func noMeasurement(err error) error {
	var version *predict.VersionError
	var format *pe.FormatError
	switch {
	case errors.As(err, &version):
		return &ui.Error{Err: err, Hint: "build with a stub that has rules (ingot lock --update stub), or update ingot"}
	case errors.As(err, &format), errors.Is(err, predict.ErrNoUKI), errors.Is(err, fs.ErrNotExist):
		return &ui.Error{Err: err, Hint: "name an image set (OUT/NAME-VERSION as ingot build prints it) or a UKI (.efi)"}
	case errors.Is(err, predict.ErrNotSigned):
		return &ui.Error{Err: err, Hint: "name the enrolled keys with --keys, or sign the image with the key in db (ingot build --keys DIR)"}
	}
	return err
}

// warn says what the numbers are not good for.
func (c *measureCmd) warn(v *verb, p *predict.Prediction) {
	if p.Replaced {
		v.ui.Warn("without Secure Boot the load options %q replace the image's command line; a verifier refuses such a boot", p.Cmdline)
	}
	for _, bank := range c.Bank {
		if bank == "sha1" {
			v.ui.Warn("SHA-1 is weak: a verifier refuses evidence of this bank alone")
		}
	}
}

func printPrediction(v *verb, p *predict.Prediction, banks []pcr.Bank) error {
	secure := map[bool]string{true: "on", false: "off"}[p.SecureBoot]
	if err := v.ui.Print("%s, boot path %s, Secure Boot %s, %s\ncommand line: %s\n", p.Stub, p.Boot, secure,
		ui.Plural(p.Failed, "failed boot option"), p.Cmdline); err != nil {
		return err
	}
	for _, bank := range banks {
		var rows [][]string
		for _, e := range p.Events {
			rows = append(rows, []string{strconv.Itoa(e.PCR), e.Type.String(), e.Name, e.Digests[bank].String()})
		}
		slices.SortStableFunc(rows, func(a, b []string) int { return number(a[0]) - number(b[0]) })
		if err := v.ui.Table([]string{"PCR", "event", "of", bank.String()}, rows); err != nil {
			return err
		}
		if err := v.ui.Print(""); err != nil {
			return err
		}
	}
	return printValues(v, p, banks)
}

func number(text string) int {
	n, _ := strconv.Atoi(text) // made by Itoa
	return n
}

func printValues(v *verb, p *predict.Prediction, banks []pcr.Bank) error {
	var rows [][]string
	for _, bank := range banks {
		for i := range pcr.Count {
			if value, ok := p.PCRs[bank][i]; ok {
				rows = append(rows, []string{strconv.Itoa(i), bank.String(), value.String()})
			}
		}
	}
	flags := map[int]string{5: " (--disk IMAGE)", 7: " (--keys DIR)"}
	for i := range pcr.Count {
		if why := p.Open[i]; why != "" {
			rows = append(rows, []string{strconv.Itoa(i), "-", "not predicted: " + why + flags[i]})
		}
	}
	return v.ui.Table([]string{"PCR", "bank", "final value"}, rows)
}
