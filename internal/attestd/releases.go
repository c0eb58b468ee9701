package attestd

import (
	"github.com/ingot-os/ingot/internal/ui"
	"github.com/ingot-os/ingot/internal/verifier"
	"github.com/ingot-os/ingot/internal/verify"
)

// Releases are directories of image sets, and who may sign them.
type Releases struct {
	Release  []string // image sets, or directories of such
	Keys     string   // key set: who signs without Trust
	Trust    []string
	Insecure bool // nobody's signature is asked for
	// Setting names a setting as the operator has written it, by the flag of
	// ingot attest serve; nil: as that flag.
	Setting func(flag string) string

	seen string // fingerprint of the releases and their signers, at the last Load
}

func (r *Releases) setting(flag string) string {
	if r.Setting != nil {
		return r.Setting(flag)
	}
	return "--" + flag
}

// signers are where the keys are that may sign releases.
func (r *Releases) signers() []string {
	if len(r.Trust) == 0 && r.Keys != "" {
		return []string{r.Keys}
	}
	return r.Trust
}

// Changed reports whether Load would find something else than it last did.
func (r *Releases) Changed() bool { return verifier.Fingerprint(r.Release, r.signers()...) != r.seen }

// Load reads who may sign releases, and the releases. After an error Changed
// says no until something changes again.
func (r *Releases) Load() (*verifier.Catalog, error) {
	r.seen = verifier.Fingerprint(r.Release, r.signers()...)
	trust, err := verify.LoadTrust(r.signers()...)
	if err != nil {
		return nil, &ui.Error{Err: err, Hint: r.setting("trust") + " takes a directory from ingot keys init or ingot keys export, or a PEM file with public keys"}
	}
	catalog, err := verifier.LoadCatalog(r.Release, trust, r.Insecure)
	if err != nil {
		return nil, &ui.Error{Err: err, Hint: r.setting("release") + " names an image set (OUT/NAME-VERSION as ingot build prints it), or a directory of such"}
	}
	return catalog, nil
}
