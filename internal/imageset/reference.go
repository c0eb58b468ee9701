package imageset

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/ingot-os/ingot/attest/predict"
	"github.com/ingot-os/ingot/internal/reference"
)

// WriteReference writes what each way to boot the set will measure, and lists
// it. No signature is in it, so a set has the same reference before and after
// it is signed.
func (d *Draft) WriteReference() error {
	if d.reference == nil { // WriteImage has done it beside
		if err := d.predict(); err != nil {
			return err
		}
	}
	return d.writeFile(reference.FileName, d.reference)
}

// predict makes the reference out of the UKI, the layout and the ESP as they
// are planned, which takes as long as hashing the UKI six times.
func (d *Draft) predict() error {
	f, err := os.Open(d.path(".efi"))
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := reference.New(reference.Options{
		Name: d.Manifest.Name, Version: d.Manifest.Version, Epoch: d.Manifest.SecurityEpoch,
		UKI: f, UKISize: d.UKI.Size(), Layout: &d.Layout, ESP: d.ESP,
	})
	if err != nil {
		return measurable(err)
	}
	d.reference, err = reference.Marshal(r)
	return err
}

// CheckMeasurable refuses a UKI whose measurements nobody can tell, before
// anything is made of it: a machine that runs it could never be attested.
func (d *Draft) CheckMeasurable() error {
	f, err := os.Open(d.path(".efi"))
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = predict.Open(f, d.UKI.Size())
	return measurable(err)
}

// CheckStub is CheckMeasurable for a stub alone, by what it calls itself.
func CheckStub(name string) error { return measurable(predict.CheckStub(name)) }

// UnmeasurableError says that a set cannot have a reference.
type UnmeasurableError struct{ Err error }

// measurable gives errors of package predict their hint.
func measurable(err error) error {
	var version *predict.VersionError
	if errors.As(err, &version) || errors.Is(err, predict.ErrNoUKI) {
		return &UnmeasurableError{err}
	}
	return err
}

// Error implements error.
func (e *UnmeasurableError) Error() string {
	return fmt.Sprintf("what a boot would measure is not known: %v", e.Err)
}

// Unwrap gives the cause.
func (e *UnmeasurableError) Unwrap() error { return e.Err }

// Hint says what to do about it.
func (e *UnmeasurableError) Hint() string {
	return fmt.Sprintf("take a stub of systemd %s (systemd-boot only of 257), as Debian's package systemd-boot-efi has it: key stub in the recipe, then ingot lock --update stub",
		strings.Join(predict.Versions(), ", "))
}
