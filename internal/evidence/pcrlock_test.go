package evidence_test

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/predict"
	"github.com/ingot-os/ingot/internal/measure"
	"github.com/ingot-os/ingot/internal/oracle"
)

// TestPCRLock has systemd-pcrlock compare the events of a recorded boot with what
// ingot exports for that image: every event of the registers that are predicted
// must be found.
func TestPCRLock(t *testing.T) {
	program, err := exec.LookPath("systemd-pcrlock")
	if err != nil {
		if program, err = exec.LookPath("/usr/lib/systemd/systemd-pcrlock"); err != nil {
			t.Skip("systemd-pcrlock is in systemd 255 and later: Debian 13, packages systemd and libtss2-tcti-swtpm0t64")
		}
	}
	m, s := booted(t, "boot-257")
	path := references(t)[0].Paths[1]
	if path.Boot != "disk" || path.SecureBoot {
		t.Fatalf("path %s, Secure Boot %v", path.Boot, path.SecureBoot)
	}
	p := &predict.Prediction{}
	for _, e := range path.Events {
		p.Events = append(p.Events, predict.Event{PCR: e.PCR, Type: e.Type, Name: e.Name, Digests: e.Digests})
	}
	lock, err := json.Marshal(measure.NewPCRLock(p, []pcr.Bank{pcr.SHA256, pcr.SHA384}))
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	put(t, root, "lock/680-ingot.pcrlock", lock)
	cmd := oracle.Command(program, "--components="+filepath.Join(root, "lock"), "log", "--json=short")
	cmd.Env = append(cmd.Env, "SYSTEMD_TPM2_DEVICE=swtpm:path="+m.Socket, "SYSTEMD_MEASURE_LOG_USERSPACE=/nonexistent",
		"SYSTEMD_MEASURE_LOG_FIRMWARE="+filepath.Join(s.Root, "sys/kernel/security/tpm0/binary_bios_measurements"))
	var words strings.Builder
	cmd.Stderr = &words
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, words.String())
	}
	found := map[float64][2]int{} // events with and without a component
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var rows any
		if err := d.Decode(&rows); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		count(rows, found)
	}
	for register, want := range map[float64]int{4: 4, 5: 4, 9: 2, 11: 12} {
		if got := found[register]; got != [2]int{want, 0} {
			t.Errorf("PCR %v: %d events with a component, %d without, want %d and 0\n%s%s", register, got[0], got[1], want, words.String(), out)
		}
	}
}

// count reads the rows of events, wherever in the document they are.
func count(v any, found map[float64][2]int) {
	switch v := v.(type) {
	case []any:
		for _, x := range v {
			count(x, found)
		}
	case map[string]any:
		if register, ok := v["pcr"].(float64); ok && v["event"] != nil {
			n := found[register]
			if component, ok := v["component"].(string); ok && component == "680-ingot" {
				n[0]++
			} else {
				n[1]++
			}
			found[register] = n
			return
		}
		for _, x := range v {
			count(x, found)
		}
	}
}
