package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ingot-os/ingot/boot/varstore"
	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/recipe"
	"github.com/ingot-os/ingot/internal/rig"
	"github.com/ingot-os/ingot/internal/trust"
	"github.com/ingot-os/ingot/internal/ui"
)

// secureBootFlags let the machine's firmware refuse what the fleet has not signed.
type secureBootFlags struct {
	SecureBoot bool   `help:"Enrol the image's keys (trust: in its recipe) into fresh firmware and boot with Secure Boot enforced."`
	Keys       string `placeholder:"DIR" help:"With --secure-boot: these keys instead, a key set or what ingot keys export wrote." type:"path"`
}

// secure prepares a machine for Secure Boot; without the flag it does nothing.
func (f *secureBootFlags) secure(m *qemu.Machine, spec *appliance.Spec) error {
	if !f.SecureBoot {
		if f.Keys != "" {
			return &ui.Error{Code: ui.CodeUsage, Err: errors.New("--keys without --secure-boot"), Hint: "add --secure-boot"}
		}
		return nil
	}
	k, err := f.enrolled(spec)
	if err != nil {
		return err
	}
	fw, err := qemu.FindSecureFirmware(m.Arch)
	if err != nil {
		return err
	}
	disk := m.Disk
	m.Firmware, m.Vars = &fw, rig.Enrol(k, m.Vars)
	m.Kept = func(store []byte) error {
		if err := rig.Enrolled(k)(store); err != nil {
			return &ui.Error{Err: fmt.Errorf("use the machine kept with %s: %w", disk, err), Hint: fmt.Sprintf("name another --disk, or remove %s and %[1]s.machine", disk)}
		}
		return nil
	}
	return nil
}

// enrolled are the keys that the firmware gets: those named on the command
// line, else those that the image carries.
func (f *secureBootFlags) enrolled(spec *appliance.Spec) (k varstore.SecureBootKeys, err error) {
	if f.Keys != "" {
		return keysIn(f.Keys)
	}
	if spec.Trust != nil {
		a, err := trust.Parse(spec.Trust)
		if err != nil {
			return k, err
		}
		if k, ok := a.SecureBootKeys(); ok {
			return k, nil
		}
	}
	return k, &ui.Error{
		Err:  fmt.Errorf("boot %s with Secure Boot: the image carries no keys for the firmware", spec.Name),
		Hint: "name keys with --keys DIR, or add trust: {keys: DIR} to the recipe, lock and build (docs/secure-boot.md)",
	}
}

// keysIn reads the public half of a key set, or its export.
func keysIn(dir string) (k varstore.SecureBootKeys, err error) {
	if _, err := os.Stat(filepath.Join(dir, "keys.json")); err == nil {
		set, err := keys.Open(dir)
		if err != nil {
			return k, keysError(err)
		}
		return set.SecureBootKeys()
	}
	a, err := trust.Open(dir)
	if err != nil {
		return k, err
	}
	k, ok := a.SecureBootKeys()
	if !ok {
		return k, &ui.Error{Err: fmt.Errorf("read keys in %s: none for firmware: PK, KEK and db are missing", dir), Hint: "ingot keys export KEYS DIR writes them"}
	}
	return k, nil
}

// What EDK2's boot manager says of a file that it may not start, and when it
// has nothing left to start.
var (
	refusalLine = regexp.MustCompile(`failed to load (Boot[0-9A-F]{4}) "([^"]*)".*: (Access Denied|Security Violation)`)
	nothingLeft = regexp.MustCompile(`BdsDxe: No bootable option or device was found|>>Start PXE over|UEFI Interactive Shell`)
)

// refusedError is what firmware with Secure Boot would not start.
type refusedError struct{ entries []string }

func (e *refusedError) Error() string {
	return "the firmware refused to start the image: " + strings.Join(e.entries, "; ")
}

// Hint names the usual reasons.
func (e *refusedError) Hint() string {
	return "sign it with the db key that is enrolled (ingot build --keys DIR, the set that trust: was exported from); a changed, revoked or unsigned boot file is refused, too"
}

// watchRefusal ends a machine whose firmware has refused something and has
// nothing else to start; the channel then has the error.
func (f *secureBootFlags) watchRefusal(ctx context.Context, vm *qemu.VM) <-chan error {
	out := make(chan error, 1)
	if !f.SecureBoot {
		return out
	}
	go func() {
		var at qemu.Position
		e := &refusedError{}
		both := regexp.MustCompile(refusalLine.String() + "|" + nothingLeft.String())
		for {
			line, next, err := vm.WaitLineFrom(ctx, at, both)
			if err != nil {
				return
			}
			at = next
			if m := refusalLine.FindStringSubmatch(line); m != nil {
				e.entries = append(e.entries, fmt.Sprintf("%s %q: %s", m[1], m[2], m[3]))
			} else if len(e.entries) > 0 {
				out <- &ui.Error{Code: ui.CodeRefused, Err: e, Hint: e.Hint()}
				vm.Close()
				return
			}
		}
	}()
	return out
}

// refusal is the error of watchRefusal, when there is one shortly.
func refusal(c <-chan error) error {
	select {
	case err := <-c:
		return err
	case <-time.After(10 * time.Millisecond):
		return nil
	}
}

// warnForeign says when a build is signed by a key that its own recipe does not
// trust: legal while keys are replaced, otherwise a slip that only a machine
// would find.
func warnForeign(v *verb, r *recipe.Recipe, dir string) error {
	a, err := r.LocalTrust()
	if err != nil || a == nil || a.PK == nil {
		return err
	}
	set, err := keys.Open(dir)
	if err != nil {
		return keysError(err)
	}
	db := set.Certificate(keys.DB)
	if db == nil || slices.ContainsFunc(a.DB, db.Equal) {
		return nil
	}
	v.ui.Warn("%s signs with a db key that trust: in %s does not name: machines that enrolled those keys will refuse this image", dir, r.Path)
	v.ui.Hint("ingot keys export %s OUT, and name OUT under trust:", dir)
	return nil
}
