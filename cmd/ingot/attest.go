package main

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/predict"
	"github.com/ingot-os/ingot/internal/evidence"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/ui"
	"github.com/ingot-os/ingot/internal/verify"
)

// attestCmd is the parent of what is done with evidence of a boot.
type attestCmd struct {
	Collect attestCollectCmd `cmd:"" help:"Have the TPM of this machine prove what it has booted."`
	Accept  attestAcceptCmd  `cmd:"" help:"Make the record of a machine from its evidence, on your word."`
	Verify  attestVerifyCmd  `cmd:"" help:"Judge evidence against releases, without a server."`
	Replay  attestReplayCmd  `cmd:"" help:"Judge again what a server has judged, from its record."`
	Serve   attestServeCmd   `cmd:"" help:"Serve attestation: enrol hosts, judge their evidence, hand out certificates and secrets."`
}

// judgeFlags are what a judgement is made with.
type judgeFlags struct {
	Evidence  string   `required:"" placeholder:"FILE" help:"Evidence that ingot attest collect wrote." type:"path"`
	Reference []string `placeholder:"DIR|FILE" help:"Release that the machine may run: an image set or its reference.json. Can be given several times." type:"path" sep:"none"`
	Keys      []string `placeholder:"DIR|PEM" help:"Who may sign releases, and whose Secure Boot keys machines have: a key set, what ingot keys export wrote, or a PEM file with public keys." env:"INGOT_KEYS" type:"path"`
	Policy    string   `placeholder:"FILE" help:"What else you demand (docs/attest-policy.md)." type:"path"`
	Nonce     string   `placeholder:"HEX" help:"What you gave to ingot attest collect. Without it nothing tells how old the evidence is."`
}

// judged is what the flags name.
type judged struct {
	evidence   *attest.Evidence
	references []evidence.Reference
	policy     attest.Policy
	nonce      []byte
	now        time.Time
}

func (f *judgeFlags) load() (j judged, err error) {
	j.now = time.Now()
	if f.Nonce != "" {
		if j.nonce, err = parseNonce(f.Nonce); err != nil {
			return j, err
		}
	}
	if j.evidence, err = evidence.Read(f.Evidence); err != nil {
		return j, err
	}
	trust, err := verify.LoadTrust(f.Keys...)
	if err != nil {
		return j, &ui.Error{Err: err, Hint: "--keys takes a directory from ingot keys init or ingot keys export, or a PEM file with public keys"}
	}
	if j.references, err = evidence.References(f.Reference, trust); err != nil {
		return j, refusedReference(err)
	}
	if f.Policy != "" {
		if j.policy, err = evidence.ReadPolicy(f.Policy); err != nil {
			return j, err
		}
	}
	return j, f.firmwareKeys(&j.policy)
}

func refusedReference(err error) error {
	var refused *evidence.RefusedError
	if !errors.As(err, &refused) {
		return err
	}
	return &ui.Error{Code: ui.CodeRefused, Err: err, Hint: "ingot verify DIR --keys KEYS tells more; without --keys the verdict says that no signature was checked"}
}

// firmwareKeys takes the Secure Boot keys of key sets into a policy that names
// none. What has only public keys of releases tells nothing about firmware.
func (f *judgeFlags) firmwareKeys(p *attest.Policy) error {
	if p.Keys != nil {
		return nil
	}
	for _, path := range f.Keys {
		some, err := forFirmware(path)
		if err != nil {
			return err
		}
		if !some {
			continue
		}
		k, err := keysIn(path)
		if err != nil {
			return err
		}
		enrolled, err := evidence.SecureBootKeys(predict.Keys(k))
		if err != nil {
			return err
		}
		p.Keys = append(p.Keys, enrolled)
	}
	return nil
}

// forFirmware reports whether a key set, or a directory of exported keys, has
// any for firmware. If it has, all of them must be readable: without them no
// verdict would look at them.
func forFirmware(path string) (bool, error) {
	if _, err := os.Stat(filepath.Join(path, "keys.json")); err == nil {
		set, err := keys.Open(path)
		if err != nil {
			return false, keysError(err)
		}
		return set.Certificate(keys.DB) != nil, nil
	}
	for _, name := range []string{"PK", "KEK", "db"} {
		if _, err := os.Stat(filepath.Join(path, name+".esl")); err == nil {
			return true, nil
		}
	}
	return false, nil
}
