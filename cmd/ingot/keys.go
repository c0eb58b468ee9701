package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/signing"
	"github.com/ingot-os/ingot/internal/ui"
)

type keysCmd struct {
	Init   keysInitCmd   `cmd:"" help:"Make a key set: Secure Boot, manifests, TPM policies, management, HTTPS Boot."`
	Add    keysAddCmd    `cmd:"" help:"Add a key that a set of an earlier ingot lacks."`
	List   keysListCmd   `cmd:"" help:"Print the keys of a set; reads no private key."`
	Export keysExportCmd `cmd:"" help:"Write certificates, signature lists and .auth files for firmware, boot-ca for HTTPS Boot."`
}

type keysInitCmd struct {
	Dir      string   `arg:"" help:"Directory to make; it must not exist." type:"path"`
	Name     string   `default:"ingot" help:"Name of the fleet, in every certificate (default ${default})."`
	Test     bool     `help:"Mark all keys TEST: they sign for the environments dev and test only."`
	ImageKey string   `enum:"p256,ed25519" default:"p256" help:"Kind of the key that signs manifests: ${enum}."`
	PKCS11   []string `name:"pkcs11" sep:"none" placeholder:"PURPOSE=URI" help:"Use a key that is elsewhere, by its pkcs11: or exec: URI, as pk, kek, db, image, policy, fleet, operator, server, hosts or boot key."`
}

// Run makes the keys and says which.
func (c *keysInitCmd) Run(v *verb) error {
	o := keys.Options{Name: c.Name, Test: c.Test, Now: time.Now(), Rand: rand.Reader, URIs: map[keys.Purpose]string{}}
	if c.ImageKey == "ed25519" {
		o.Algorithms = map[keys.Purpose]keys.Algorithm{keys.Image: keys.Ed25519}
	}
	for _, s := range c.PKCS11 {
		purpose, uri, ok := strings.Cut(s, "=")
		if _, twice := o.URIs[keys.Purpose(purpose)]; !ok || twice {
			return &ui.Error{
				Code: ui.CodeUsage, Err: fmt.Errorf("--pkcs11 %q: want PURPOSE=URI, each purpose once", s),
				Hint: "--pkcs11 'db=pkcs11:token=fleet;id=%01?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=/run/pin'",
			}
		}
		o.URIs[keys.Purpose(purpose)] = uri
	}
	set, err := keys.Init(v.ctx, c.Dir, o)
	if err != nil {
		return keysError(err)
	}
	if err := printKeys(v, c.Dir, set); err != nil {
		return err
	}
	next(v, "ingot build --keys %s", c.Dir)
	next(v, "ingot keys export %s OUT   writes what firmware enrols", c.Dir)
	return nil
}

type keysAddCmd struct {
	Dir     string `arg:"" help:"Key set." type:"path"`
	Purpose string `arg:"" help:"Purpose of the key: hosts or boot."`
	URI     string `name:"pkcs11" placeholder:"URI" help:"Use a key that is elsewhere, by its pkcs11: or exec: URI."`
}

// Run adds the key and prints the set.
func (c *keysAddCmd) Run(v *verb) error {
	o := keys.Options{Now: time.Now(), Rand: rand.Reader}
	if c.URI != "" {
		o.URIs = map[keys.Purpose]string{keys.Purpose(c.Purpose): c.URI}
	}
	set, err := keys.Add(v.ctx, c.Dir, keys.Purpose(c.Purpose), o)
	if errors.Is(err, keys.ErrExists) {
		return c.has(v, err)
	}
	if err != nil {
		return keysError(err)
	}
	return printKeys(v, c.Dir, set)
}

// has ends well when the set has the key already, and nobody has named another one.
func (c *keysAddCmd) has(v *verb, err error) error {
	if c.URI != "" {
		return &ui.Error{Err: err, Hint: "its key stays: keys are never overwritten; ingot keys list " + c.Dir + " says where it is"}
	}
	v.ui.Say("nothing to do: the key set has it")
	set, err := keys.Open(c.Dir)
	if err != nil {
		return keysError(err)
	}
	return printKeys(v, c.Dir, set)
}

type keysListCmd struct {
	Dir string `arg:"" help:"Key set." type:"path"`
}

// Run prints the index of a set, compared with its certificates.
func (c *keysListCmd) Run(v *verb) error {
	set, err := keys.Open(c.Dir)
	if err != nil {
		return keysError(err)
	}
	return printKeys(v, c.Dir, set)
}

func printKeys(v *verb, dir string, set *keys.Set) error {
	if v.ui.JSON {
		return v.ui.PrintJSON(struct {
			Dir string `json:"dir"`
			keys.Index
		}{dir, set.Index})
	}
	var rows [][]string
	for _, k := range set.Keys {
		until := "-"
		if cert := set.Certificate(k.Purpose); cert != nil {
			until = cert.NotAfter.Format(time.DateOnly)
		}
		rows = append(rows, []string{string(k.Purpose), keyUses[k.Purpose], string(k.Algorithm), ui.Short(k.Fingerprint), until, k.URI})
	}
	kind := "keys"
	if set.Test {
		kind = "TEST keys, for dev and test only"
	}
	if err := v.ui.Print("%s: %s of %q", dir, kind, set.Name); err != nil {
		return err
	}
	return v.ui.Table([]string{"key", "signs", "algorithm", "fingerprint", "valid until", "private key"}, rows)
}

// keyUses says in two or three words what each key is for.
var keyUses = map[keys.Purpose]string{
	keys.PK: "updates of PK and KEK", keys.KEK: "updates of db and dbx", keys.DB: "boot files", keys.Image: "manifests",
	keys.Policy: "TPM policies", keys.Fleet: "authorities", keys.Operator: "operators", keys.Server: "servers", keys.Hosts: "attested hosts",
	keys.Boot: "servers of HTTPS Boot",
}

type keysExportCmd struct {
	Dir string `arg:"" help:"Key set." type:"path"`
	Out string `arg:"" help:"Directory to make; it must not exist." type:"path"`
}

// Run writes everything public of a set. PK and KEK sign it.
func (c *keysExportCmd) Run(v *verb) error {
	set, err := keys.Open(c.Dir)
	if err != nil {
		return keysError(err)
	}
	files, err := set.Export(v.ctx, c.Out)
	if err != nil {
		return keysError(err)
	}
	if v.ui.JSON {
		return v.ui.PrintJSON(struct {
			Dir   string   `json:"dir"`
			Files []string `json:"files"`
		}{c.Out, files})
	}
	for _, f := range files {
		if err := v.ui.Print("%s", filepath.Join(c.Out, f)); err != nil {
			return err
		}
	}
	next(v, "boot-ca.esl, or boot-ca.der in a firmware menu, makes firmware trust your HTTPS Boot server; docs/netboot-http.md")
	next(v, "enrol db, then KEK, then PK: .auth files by a program, .der files in a firmware menu; docs/signing.md")
	return nil
}

// next says on a terminal what to type next; a pipe sees nothing.
func next(v *verb, format string, args ...any) {
	if v.ui.Terminal && !v.ui.JSON {
		v.ui.Hint(format, args...)
	}
}

// keysFlags name the keys that sign a set.
type keysFlags struct {
	Keys        string `help:"Key set that signs (ingot keys init makes one)." env:"INGOT_KEYS" placeholder:"DIR"`
	Environment string `default:"dev" help:"What the set is for, such as dev, test or prod (default ${default}); TEST keys sign for dev and test only."`
}

func (f keysFlags) options() signing.Options {
	return signing.Options{Environment: f.Environment, Now: time.Now()}
}

// authority is that of the key set; nil without one.
func (f keysFlags) authority(ctx context.Context) (*signing.Authority, error) {
	if f.Keys == "" {
		return nil, nil
	}
	set, err := keys.Open(f.Keys)
	if err != nil {
		return nil, keysError(err)
	}
	a, err := signing.New(ctx, set, f.options())
	return a, keysError(err)
}

// keysError adds what to do about keys that cannot be used.
func keysError(err error) error {
	var missing *fs.PathError
	var file *keys.FileError
	var said *ui.Error
	switch {
	case err == nil, errors.As(err, &said), errors.As(err, &file): // they bring their hints along
		return err
	case errors.Is(err, keys.ErrExists):
		return &ui.Error{Err: err, Hint: "name a directory that does not exist yet; keys are never overwritten"}
	case errors.Is(err, keys.ErrTestKey):
		return &ui.Error{Code: ui.CodeRefused, Err: err, Hint: "ingot keys init DIR makes keys without --test; or --environment dev"}
	case errors.Is(err, signing.ErrDates):
		return &ui.Error{Err: err, Hint: "check the clock; else make new keys with ingot keys init DIR, and an image that trusts both"}
	case errors.As(err, &missing) && errors.Is(err, fs.ErrNotExist) && filepath.Base(missing.Path) == "keys.json" && isExport(filepath.Dir(missing.Path)):
		return &ui.Error{Err: err, Hint: filepath.Dir(missing.Path) + " holds public keys that ingot keys export has written; name the folder that ingot keys init has made"}
	case errors.As(err, &missing) && errors.Is(err, fs.ErrNotExist) && filepath.Base(missing.Path) == "keys.json":
		return &ui.Error{Err: err, Hint: "ingot keys init DIR makes a key set"}
	case errors.As(err, &missing) && errors.Is(err, fs.ErrPermission) && filepath.Base(missing.Path) == "keys.json":
		return &ui.Error{Err: err, Hint: "the key set is another user's: run this as that user, or give this one a copy of what it needs"}
	}
	return err
}

// isExport tells the public half of a key set from something else.
func isExport(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "image.pem"))
	return err == nil
}
