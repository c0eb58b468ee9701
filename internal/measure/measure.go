// Package measure predicts what a boot of an image set, or of any UKI file,
// measures: it opens the files that package predict reads.
//
//	p, err := measure.Of("out/hello-1.0.0", measure.Options{Boot: predict.Disk, Banks: []pcr.Bank{pcr.SHA256}})
package measure

import (
	"errors"
	"fmt"
	"os"

	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/predict"
	"github.com/ingot-os/ingot/internal/release"
)

// Options are what decides measurements beside the image.
type Options struct {
	Boot        predict.Boot
	SecureBoot  bool
	Banks       []pcr.Bank
	Failed      int           // boot options that fail before the one that works
	LoadOptions string        // command line given to the image by iPXE or QEMU
	Keys        *predict.Keys // enrolled in the firmware; nil leaves PCR 7 out with Secure Boot on
	Disk        string        // disk whose partition table is measured; default: the .img of the set
	IPXE        string        // iPXE program; empty means an option ROM
}

// Of predicts a boot of the image set in the directory path, or of the UKI in
// the file path.
func Of(path string, o Options) (*predict.Prediction, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	uki := path
	if info.IsDir() {
		set, err := release.Open(path)
		if err != nil {
			return nil, err
		}
		uki = set.UKI()
		if o.Disk == "" {
			o.Disk = set.Image()
		}
	}
	po := predict.Options{Boot: o.Boot, SecureBoot: o.SecureBoot, Banks: o.Banks, Failed: o.Failed, LoadOptions: o.LoadOptions, Keys: o.Keys}
	if !o.SecureBoot && o.Keys == nil {
		po.Keys = &predict.Keys{} // a machine without keys
	}
	if err := o.disk(&po); err != nil {
		return nil, err
	}
	return o.predict(uki, po)
}

// disk reads the partition table and looks for a boot loader, when there is a
// disk to boot from.
func (o Options) disk(po *predict.Options) error {
	if o.Disk == "" || o.Boot != predict.Disk {
		return nil
	}
	return open(o.Disk, func(f *os.File, size int64) (err error) {
		if po.Table, err = predict.ReadTable(f, size); err == nil {
			po.Loader, po.LoaderConf, err = Loader(f, size)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", o.Disk, err)
		}
		return nil
	})
}

func (o Options) predict(uki string, po predict.Options) (p *predict.Prediction, err error) {
	with := func() error {
		return open(uki, func(f *os.File, size int64) (err error) {
			if p, err = predict.UKI(f, size, po); err != nil {
				return fmt.Errorf("%s: %w", uki, err)
			}
			return nil
		})
	}
	if o.IPXE == "" {
		err = with()
		return p, err
	}
	err = open(o.IPXE, func(f *os.File, size int64) error {
		po.Loader = &predict.Program{Image: f, Size: size}
		return with()
	})
	return p, err
}

// open reads a file with use.
func open(path string, use func(*os.File, int64) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		err = use(f, info.Size())
	}
	return errors.Join(err, f.Close())
}
