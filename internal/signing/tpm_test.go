package signing_test

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/phase"
	"github.com/ingot-os/ingot/attest/policy"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/reference"
)

// tpm is an emulator that tpm2-tools speak to, in a directory of its own.
type tpm struct {
	t    *testing.T
	dir  string
	tcti string
}

func emulator(t *testing.T) *tpm {
	t.Helper()
	oracle.Need(t, "swtpm", "swtpm")
	oracle.Need(t, "tpm2-tools", "tpm2_policyauthorize")
	for range 5 { // somebody else may take a port that was free
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		l.Close()
		e := &tpm{t, t.TempDir(), fmt.Sprintf("swtpm:host=127.0.0.1,port=%d", port)}
		cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+e.dir, "--flags", "not-need-init,startup-clear",
			"--server", fmt.Sprintf("type=tcp,port=%d", port), "--ctrl", fmt.Sprintf("type=tcp,port=%d", port+1))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		for range 100 {
			if e.try("tpm2_pcrread", "sha256:0") == nil {
				return e
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	t.Fatal("swtpm does not listen")
	return nil
}

func (e *tpm) try(program string, args ...string) error {
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env = e.dir, append(os.Environ(), "TPM2TOOLS_TCTI="+e.tcti)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %q: %w\n%s", program, args, err, out)
	}
	return nil
}

func (e *tpm) run(program string, args ...string) {
	e.t.Helper()
	if err := e.try(program, args...); err != nil {
		e.t.Fatal(err)
	}
}

func (e *tpm) write(name string, b []byte) {
	e.t.Helper()
	if err := os.WriteFile(filepath.Join(e.dir, name), b, 0o600); err != nil {
		e.t.Fatal(err)
	}
}

// authorize opens a session, and lets the policy key's signature stand for the
// value of PCR 11 in it.
func (e *tpm) authorize(p policy.Signed) error {
	e.t.Helper()
	digest, err := hex.DecodeString(p.Digest)
	if err != nil {
		e.t.Fatal(err)
	}
	e.write("policy", digest)
	e.write("ref", []byte(p.Ref))
	e.write("message", append(digest, p.Ref...))
	e.write("signature", p.Signature)
	e.run("tpm2_flushcontext", "-t") // what earlier commands have loaded
	e.run("tpm2_startauthsession", "--policy-session", "-S", "session", "-g", "sha256")
	defer e.run("tpm2_flushcontext", "session")
	e.run("tpm2_policypcr", "-S", "session", "-l", "sha256:11")
	if err := e.try("tpm2_verifysignature", "-c", "key.ctx", "-g", "sha256", "-f", "rsassa", "-m", "message", "-s", "signature", "-t", "ticket"); err != nil {
		return err
	}
	return e.try("tpm2_policyauthorize", "-S", "session", "-i", "policy", "-n", "name", "-q", "ref", "-t", "ticket")
}

// TestTPMTakesPolicies boots a release into a TPM, by the events of its
// reference: the TPM takes the signatures of its .pcrsig, for each floor, and
// none after ingot-init has said that the time for it is over.
func TestTPMTakesPolicies(t *testing.T) {
	app, dir := sealing(t, "1")
	e := emulator(t)
	set := makeSet(t, app, t.TempDir(), authority(t, dir))
	key, err := policy.ParseKey(set.Manifest.PolicyKey)
	if err != nil {
		t.Fatal(err)
	}
	e.write("key", append(binary.BigEndian.AppendUint16(nil, uint16(len(key.Public))), key.Public...)) // TPM2B_PUBLIC
	e.run("tpm2_loadexternal", "-C", "o", "-u", "key", "-c", "key.ctx", "-n", "name")

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
			e.run("tpm2_pcrextend", "11:sha256="+x.Digests[pcr.SHA256].String())
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
		e.run("tpm2_pcrextend", "11:sha256="+pcr.SHA256.Sum([]byte(word)).String())
	}
	if err := e.authorize(f.Policies[0]); err == nil {
		t.Error("the TPM takes the policy after services have started")
	}
}
