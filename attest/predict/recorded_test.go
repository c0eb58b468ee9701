package predict

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/attest/pcr"
)

// recording is a machine's boot: the firmware's log, that of ingot-init, and
// the registers after both.
type recording struct {
	Log, InitLog []byte
	Cmdline      string
	PCRs         map[string]map[int]string
}

// TestRecordedBoots holds boots of images that were put together around the
// stubs of Debian's systemd 254.26 and 262.1 against predictions of an image with
// the same small sections. The large ones are in the live tests.
func TestRecordedBoots(t *testing.T) {
	for name, version := range map[string]string{"boot-254": "254.26-1~bpo12+1", "boot-262": "262.1-1"} {
		r, log := recorded(t, name)
		p := mustPredict(t, sha, stubOf(version), sec{name: ".sbat", data: "x"}, sec{name: ".pcrsig", data: "{}"}, sec{name: ".pcrpkey", data: "a key"},
			sec{name: ".uname", data: "6.12"}, sec{name: ".foo", data: "x"}, sec{name: ".osrel", data: "ID=x"}, linux, sec{name: ".initrd", data: "x"},
			sec{name: ".cmdline", data: " a\tb  " + r.Cmdline[len("a b  "):] + " \n"})
		for _, register := range []int{4, 9, 11, 12} {
			if diff := cmp.Diff(shape(p, register), loggedShape(log, register)); diff != "" {
				t.Errorf("%s PCR %d (-predicted +logged):\n%s", name, register, diff)
			}
		}
		var events []*eventlog.Event
		for i := range log.Events {
			if e := &log.Events[i]; e.Extends() && (e.PCR == 11 || e.PCR == 9) {
				events = append(events, e)
			}
		}
		n := 0
		for i, x := range append(ofRegister(p, 11), ofRegister(p, 9)...) {
			switch x.Name {
			case ".sbat", ".linux", ".initrd", ".osrel", "Linux initrd":
				continue // not those of the recorded image
			}
			if got := events[i].Digest(pcr.SHA256); !bytes.Equal(got, x.Digests[pcr.SHA256]) {
				t.Errorf("%s %s: predicted %s, logged %s", name, x.Name, x.Digests[pcr.SHA256], got)
			}
			n++
		}
		if n != 11 {
			t.Errorf("%s: %d digests were compared", name, n)
		}
	}
}

// ofRegister are the events of one register.
func ofRegister(p *Prediction, register int) (out []Event) {
	for _, e := range p.Events {
		if e.PCR == register {
			out = append(out, e)
		}
	}
	return out
}

// shape are their types.
func shape(p *Prediction, register int) (out []string) {
	for _, e := range ofRegister(p, register) {
		out = append(out, e.Type.String())
	}
	return out
}

func loggedShape(l *eventlog.Log, register int) (out []string) {
	for i := range l.Events {
		if e := &l.Events[i]; e.Extends() && int(e.PCR) == register {
			out = append(out, e.Type.String())
		}
	}
	return out
}

// recorded reads a recording, whose registers are those of its logs.
func recorded(t *testing.T, name string) (r recording, l *eventlog.Log) {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	l, since := parsed(t, r.Log), parsed(t, r.InitLog)
	for _, bank := range l.Banks {
		s, err := l.Replay(bank)
		if err != nil {
			t.Fatal(err)
		}
		for i := range since.Events {
			if e := &since.Events[i]; e.Extends() {
				if err := s.Extend(int(e.PCR), e.Digest(bank)); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, i := range registers {
			value, err := hex.DecodeString(r.PCRs[bank.String()][i])
			if err != nil || !s.Compare(i, value).Explained() {
				t.Errorf("%s: %s PCR %d is not what the log says: %v", name, bank, i, err)
			}
		}
	}
	return r, l
}

func parsed(t *testing.T, b []byte) *eventlog.Log {
	t.Helper()
	l, err := eventlog.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return l
}
