package main

import (
	"errors"
	"fmt"

	"github.com/ingot-os/ingot/internal/ui"
	"github.com/ingot-os/ingot/internal/verify"
)

type verifyCmd struct {
	Path      string   `arg:"" help:"Image set, .img file, or the disk of a machine." type:"path"`
	Keys      []string `help:"Who may sign: a key set, what ingot keys export wrote, or a PEM file with public keys." env:"INGOT_KEYS" placeholder:"DIR|PEM" type:"path"`
	Threshold int      `default:"1" help:"Number of different keys that must have signed (default ${default})." placeholder:"N"`
	Env       string   `name:"environment" help:"What the image is for, such as dev, test or prod: TEST keys count for dev and test only (default: they count, and are marked)." placeholder:"NAME"`
	DB        []string `name:"db" help:"Certificates that firmware trusts, beside those of --keys." placeholder:"PEM" type:"path"`
	Manifest  string   `help:"Manifest, or image set, that describes an image elsewhere (default: beside PATH)." placeholder:"FILE" type:"path"`
	Envelope  string   `help:"Signature of the manifest (default: beside it)." placeholder:"FILE" type:"path"`
	Disk      bool     `help:"PATH is the disk of a machine that has run: state and data hold what they hold."`
	HostID    string   `name:"host-id" help:"What ingot flash --rekey took the GUIDs of the disk from." placeholder:"ID"`
	Unsigned  bool     `help:"Check everything but signatures: this tells damage, not fraud."`
}

// Run verifies, and exits with 3 when anything is refused.
func (c *verifyCmd) Run(v *verb) error {
	o, err := c.options()
	if err != nil {
		return err
	}
	if c.Unsigned {
		v.ui.Warn("signatures are not checked: whoever made this can have changed it")
	}
	r, err := verify.Run(v.ctx, o)
	if errors.Is(err, verify.ErrNoKeys) {
		return &ui.Error{
			Code: ui.CodeRefused, Err: fmt.Errorf("verify %s: %w", c.Path, err),
			Hint: "--keys DIR names the key set that signed (or what ingot keys export wrote of it); --unsigned checks everything but signatures",
		}
	}
	if err != nil {
		return err
	}
	return v.ui.Report(r)
}

func (c *verifyCmd) options() (verify.Options, error) {
	o := verify.Options{
		Path: c.Path, Manifest: c.Manifest, Envelope: c.Envelope, Threshold: c.Threshold, Environment: c.Env, Unsigned: c.Unsigned, Disk: c.Disk, HostID: c.HostID,
	}
	if c.Unsigned {
		c.Keys = nil
	}
	var err error
	if o.Trust, err = verify.LoadTrust(c.Keys...); err != nil {
		return o, &ui.Error{Err: err, Hint: "--keys takes a directory from ingot keys init or ingot keys export, or a PEM file with public keys"}
	}
	for _, path := range c.DB {
		if err := o.Trust.LoadDB(path); err != nil {
			return o, &ui.Error{Err: fmt.Errorf("load db certificates: %w", err), Hint: "ingot keys export DIR OUT writes OUT/db.pem"}
		}
	}
	if !c.Unsigned && len(o.Trust.Image) > 0 && (c.Threshold < 1 || c.Threshold > len(o.Trust.Image)) {
		return o, &ui.Error{
			Code: ui.CodeUsage, Err: fmt.Errorf("--threshold %d: --keys names %s", c.Threshold, ui.Plural(len(o.Trust.Image), "different key")),
			Hint: "a key counts once, however often it is named or has signed",
		}
	}
	return o, nil
}
