package signing_test

import (
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/phase"
	"github.com/ingot-os/ingot/attest/policy"
	"github.com/ingot-os/ingot/internal/reference"
	"github.com/ingot-os/ingot/internal/tpmtest"
)

// tpm is an emulator that tpm2-tools speak to.
type tpm struct {
	*tpmtest.Tools
	t *testing.T
}

// authorize opens a session, and lets the policy key's signature stand for the
// value of PCR 11 in it.
func (e *tpm) authorize(p policy.Signed) error {
	e.t.Helper()
	digest, err := hex.DecodeString(p.Digest)
	if err != nil {
		e.t.Fatal(err)
	}
	e.Write("policy", digest)
	e.Write("ref", []byte(p.Ref))
	e.Write("message", append(digest, p.Ref...))
	e.Write("signature", p.Signature)
	e.Run("tpm2_flushcontext", "-t") // what earlier commands have loaded
	e.Run("tpm2_startauthsession", "--policy-session", "-S", "session", "-g", "sha256")
	defer e.Run("tpm2_flushcontext", "session")
	e.Run("tpm2_policypcr", "-S", "session", "-l", "sha256:11")
	if _, err := e.Try("tpm2_verifysignature", "-c", "key.ctx", "-g", "sha256", "-f", "rsassa", "-m", "message", "-s", "signature", "-t", "ticket"); err != nil {
		return err
	}
	_, err = e.Try("tpm2_policyauthorize", "-S", "session", "-i", "policy", "-n", "name", "-q", "ref", "-t", "ticket")
	return err
}

// TestTPMTakesPolicies boots a release into a TPM, by the events of its
// reference: the TPM takes the signatures of its .pcrsig, for each floor, and
// none after ingot-init has said that the time for it is over.
func TestTPMTakesPolicies(t *testing.T) {
	app, dir := sealing(t, "1")
	e := &tpm{tpmtest.NewTools(t), t}
	set := makeSet(t, app, t.TempDir(), authority(t, dir))
	key, err := policy.ParseKey(set.Manifest.PolicyKey)
	if err != nil {
		t.Fatal(err)
	}
	e.Write("key", append(binary.BigEndian.AppendUint16(nil, uint16(len(key.Public))), key.Public...)) // TPM2B_PUBLIC
	e.Run("tpm2_loadexternal", "-C", "o", "-u", "key", "-c", "key.ctx", "-n", "name")

	data, err := os.ReadFile(filepath.Join(set.Dir, reference.FileName))
	if err != nil {
		t.Fatal(err)
	}
	r, err := reference.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if r.Epoch != 1 || len(r.Phases) != 1 || r.Phases[0] != phase.Services {
		t.Errorf("reference of epoch %d with the words %v", r.Epoch, r.Phases)
	}
	f := signatures(t, set)
	if err := e.authorize(f.Policies[0]); err == nil {
		t.Error("a TPM that has booted nothing takes the policy")
	}
	for _, x := range r.Paths[0].Events {
		if x.PCR == 11 {
			e.Run("tpm2_pcrextend", "11:sha256="+x.Digests[pcr.SHA256].String())
		}
	}
	for _, p := range f.Policies {
		if err := e.authorize(p); err != nil {
			t.Errorf("floor %d: %v", p.Floor, err)
		}
	}
	other := f.Policies[0]
	other.Ref = policy.Ref(7)
	if err := e.authorize(other); err == nil {
		t.Error("a signature for floor 0 is taken for floor 7")
	}
	for _, word := range r.Phases {
		e.Run("tpm2_pcrextend", "11:sha256="+pcr.SHA256.Sum([]byte(word)).String())
	}
	if err := e.authorize(f.Policies[0]); err == nil {
		t.Error("the TPM takes the policy after services have started")
	}
}
