package eventlog

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/ingot-os/ingot/attest/pcr"
)

// TestRecordedBoots replays the logs of two boots to the registers that were
// read on the machine, in three banks, and decodes every event.
func TestRecordedBoots(t *testing.T) {
	for _, name := range []string{"boot-252", "boot-257"} {
		boot := recorded(t, name)
		l := mustParse(t, boot.Log)
		if len(l.Banks) != 3 || len(boot.PCRs) != 3 {
			t.Fatalf("%s: banks %v, registers of %d", name, l.Banks, len(boot.PCRs))
		}
		replayed(t, name, l, boot.PCRs)
		decoded(t, name, l)
	}
}

// recording is the log of a boot and the registers that were read after it.
type recording struct {
	Log  []byte
	PCRs map[string]map[int]string
}

func recorded(t testing.TB, name string) (r recording) {
	t.Helper()
	b, err := os.ReadFile("../testdata/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func replayed(t *testing.T, name string, l *Log, registers map[string]map[int]string) {
	t.Helper()
	got := map[pcr.Verdict]int{}
	for _, bank := range l.Banks {
		s, err := l.Replay(bank)
		if err != nil {
			t.Fatal(err)
		}
		for i, text := range registers[bank.String()] {
			value, err := hex.DecodeString(text)
			if err != nil {
				t.Fatal(err)
			}
			v := s.Compare(i, value)
			if got[v]++; !v.Explained() && i != 10 {
				t.Errorf("%s: %s PCR %d is %s", name, bank, i, v)
			}
		}
	}
	if got[pcr.Match] < 3*9 || got[pcr.Unmeasured] == 0 {
		t.Errorf("%s: %v", name, got)
	}
}

func decoded(t *testing.T, name string, l *Log) {
	t.Helper()
	images, files := 0, 0
	for i := range l.Events {
		e := &l.Events[i]
		var err error
		switch e.Type {
		case VariableDriver, VariableBoot:
			_, err = e.Variable()
		case BootServicesApp:
			var m Image
			m, err = e.Image()
			if images++; m.Path.File() == `\EFI\BOOT\BOOTX64.EFI` {
				files++
			}
		case GPT:
			var table Table
			if table, err = e.Table(); len(table.Partitions) != 5 || table.Partitions[1].Name != "slot-a" {
				t.Errorf("%s: partitions %+v", name, table.Partitions)
			}
		case EventTag:
			_, err = e.Tag()
		case Separator:
			_, err = e.Separator()
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if e.Covered(pcr.SHA384) == Altered {
			t.Errorf("%s: offset %#x, %s: the digest is not of its data", name, e.Off, e.Type)
		}
	}
	if images != 2 || files != 1 { // the UKI, then the kernel from memory
		t.Errorf("%s: %d images, %d from the slot", name, images, files)
	}
}
