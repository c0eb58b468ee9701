package main

import (
	"database/sql"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ingot-os/ingot/internal/evidence/evidencetest"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/replay/replaytest"
)

// recordings are those that package attest judges.
const recordings = "../../attest/testdata/"

// TestAttestScript is TestScript for the verbs that need a TPM: swtpm, which
// has measured what a recorded boot did. Beside the commands of TestScript there
// are: booted RECORDING LOG (starts one; its socket is $TPM, the event log the
// file LOG), off (a power cut ends it), made DIR (a TPM with certificates by an
// authority of its own, in DIR) and booted RECORDING LOG DIR (starts that),
// state DIR (of a server that has judged six times, package replaytest), forged
// DIR SQL (what somebody with the whole database can do).
func TestAttestScript(t *testing.T) {
	oracle.Need(t, evidencetest.Package, "swtpm")
	oracle.Need(t, "swtpm-tools", "swtpm_setup")
	f := warm(t)
	reference, err := filepath.Abs(recordings + "reference-257.json")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/attest", RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("REFERENCE", reference)
			e.Setenv("INGOT_OFFLINE", "1")
			e.Setenv("INGOT_CACHE", f.clone(t))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "json": jsonHas, "replace": replaceText,
			"booted": booted, "off": off, "made": made,
			"state": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(replaytest.State(ts.MkAbs(args[0]), recordings))
			},
			"forged": forged,
			"hello": func(ts *testscript.TestScript, _ bool, args []string) {
				recipe, _ := f.built(t, "plain")
				ts.Check(os.CopyFS(ts.MkAbs(args[0]), os.DirFS(recipe)))
			},
		},
	})
}

// running are the TPMs of the scripts, which run at the same time.
var running sync.Map

func booted(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: booted RECORDING LOG [DIR]")
	}
	state := ""
	if len(args) > 2 {
		state = ts.MkAbs(args[2])
	}
	log, err := evidencetest.Log(recordings + args[0] + ".json")
	ts.Check(err)
	m, err := evidencetest.Start(state)
	ts.Check(err)
	ts.Defer(m.Stop)
	ts.Check(m.Extend(log))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), log, 0o644))
	ts.Setenv("TPM", m.Socket)
	running.Store(ts, m)
}

func off(ts *testscript.TestScript, _ bool, _ []string) {
	m, ok := running.LoadAndDelete(ts)
	if !ok {
		ts.Fatalf("no TPM runs")
	}
	m.(*evidencetest.Machine).Stop()
}

// made is what swtpm_setup makes; the authority's certificates are root.pem and
// issuer.pem in the directory.
func made(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	ca, err := exec.LookPath("swtpm_localca")
	ts.Check(err)
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		ts.Check(os.WriteFile(path, []byte(text), 0o644))
		return path
	}
	local := write("localca.conf", "statedir = "+dir+"\nsigningkey = "+dir+"/sign.pem\nissuercert = "+dir+"/issuer.pem\ncertserial = "+dir+"/serial\n")
	options := write("localca.options", "--platform-manufacturer test\n--platform-version 1\n--platform-model test\n")
	config := write("setup.conf", "create_certs_tool = "+ca+"\ncreate_certs_tool_config = "+local+"\ncreate_certs_tool_options = "+options+"\n")
	out, err := exec.Command("swtpm_setup", "--tpm2", "--tpmstate", dir, "--create-ek-cert", "--config", config, "--pcr-banks", "sha1,sha256,sha384").CombinedOutput()
	if err != nil {
		ts.Fatalf("swtpm_setup: %v\n%s", err, out)
	}
	ts.Check(os.Rename(filepath.Join(dir, "swtpm-localca-rootca-cert.pem"), filepath.Join(dir, "root.pem")))
}

func forged(ts *testscript.TestScript, _ bool, args []string) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(ts.MkAbs(args[0]), fleet.FileName))
	ts.Check(err)
	defer db.Close()
	for _, s := range append([]string{"DROP TRIGGER audit_keep", "DROP TRIGGER audit_same"}, args[1:]...) {
		_, err := db.Exec(s)
		ts.Check(err)
	}
}
