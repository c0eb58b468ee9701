package attest

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/attest/pcr"
)

// foreignLogs names a folder of event logs of other machines (NAME.bin), with
// their registers where they are known (NAME.pcrs.json: by bank, then by index).
const foreignLogs = "INGOT_EVENTLOGS"

// TestForeignLogs reads logs that are not the project's: each is read or refused
// with a place, a known register is explained or named, and what the verifier
// would say about the firmware is printed.
//
//	INGOT_EVENTLOGS=DIR go test -v -run TestForeignLogs ./attest
func TestForeignLogs(t *testing.T) {
	dir := os.Getenv(foreignLogs)
	if dir == "" {
		t.Skip("no folder of logs: set " + foreignLogs)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.bin"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no *.bin in %s: %v", dir, err)
	}
	read, pairs, explained := 0, 0, 0
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(file, ".bin")
		log, err := eventlog.Parse(b)
		if err != nil {
			t.Logf("%s: refused: %v", filepath.Base(name), err)
			continue
		}
		read++
		t.Logf("%s: %d bytes, %d events, banks %v, locality %d, padding %d", filepath.Base(name), len(b), len(log.Events), log.Banks, log.Locality, log.Padding)
		if known, unexplained := compareForeign(t, log, name+".pcrs.json"); known > 0 {
			if pairs++; unexplained == 0 {
				explained++
			}
		}
		for _, f := range foreignFindings(log) {
			t.Logf("  firmware: %s (offset %#x)", f, f.Offset)
		}
	}
	t.Logf("%d of %d logs were read; of %d with registers %d are explained", read, len(files), pairs, explained)
}

// compareForeign replays a log to the registers that are known of its machine
// and counts them; PCR 10 is not the boot's.
func compareForeign(t *testing.T, log *eventlog.Log, path string) (known, unexplained int) {
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return 0, 0
	}
	var registers map[pcr.Bank]map[int]pcr.Digest
	if err == nil {
		err = json.Unmarshal(b, &registers)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, bank := range slices.Sorted(maps.Keys(registers)) {
		s, err := log.Replay(bank)
		if err != nil {
			t.Logf("  %s: %v", bank, err)
			unexplained++
			continue
		}
		said := map[pcr.Verdict][]int{}
		for _, i := range slices.Sorted(maps.Keys(registers[bank])) {
			v := s.Compare(i, registers[bank][i])
			said[v] = append(said[v], i)
			if i == imaPCR {
				continue
			}
			if known++; !v.Explained() {
				unexplained++
			}
		}
		t.Logf("  %s: %s", bank, verdicts(said))
	}
	return known, unexplained
}

func verdicts(said map[pcr.Verdict][]int) string {
	var out []string
	for _, v := range []pcr.Verdict{pcr.Match, pcr.Unexpected, pcr.Unlogged, pcr.Unmeasured} {
		if len(said[v]) > 0 {
			out = append(out, fmt.Sprint(v, " ", said[v]))
		}
	}
	return strings.Join(out, ", ")
}

// foreignFindings is what Verify would find in the firmware's part of a log, and
// in PCR 4 and 5 of a boot whose images were the expected ones.
func foreignFindings(log *eventlog.Log) []Finding {
	k := &check{c: Case{Record: &Record{}}}
	for _, bank := range []pcr.Bank{pcr.SHA256, pcr.SHA384, pcr.SHA1} {
		if k.bank == 0 && slices.Contains(log.Banks, bank) {
			k.bank = bank
		}
	}
	k.quoted.Mask = 1<<pcr.Count - 1
	k.sort(log)
	k.grammar()
	w := &walk{check: k, ref: &Reference{}, path: k.foreignPath(), limit: math.MaxInt}
	w.group()
	w.run()
	return slices.Concat(k.v.Findings, k.v.Notes, w.findings)
}

// foreignPath is what the log's images would be predicted to measure on the
// firmware that this project knows best.
func (k *check) foreignPath() *Path {
	var p Path
	add := func(register int, typ eventlog.Type, name string, digest pcr.Digest) {
		p.Events = append(p.Events, Expected{register, typ, name, map[pcr.Bank]pcr.Digest{k.bank: digest}})
	}
	zero := k.bank.Sum(make([]byte, 4))
	add(4, eventlog.EFIAction, calling, k.bank.Sum([]byte(calling)))
	add(4, eventlog.Separator, "separator", zero)
	for i, e := range k.events[4] {
		if e.Type == eventlog.BootServicesApp && slices.ContainsFunc(k.events[4][:i], func(e *eventlog.Event) bool { return e.Type == eventlog.Separator }) {
			add(4, e.Type, "an image", e.Digest(k.bank))
		}
	}
	add(5, eventlog.Separator, "separator", zero)
	for _, e := range k.events[5] {
		if e.Type == eventlog.GPT {
			add(5, e.Type, "GPT", e.Digest(k.bank))
		}
	}
	for _, text := range []string{"Exit Boot Services Invocation", "Exit Boot Services Returned with Success"} {
		add(5, eventlog.EFIAction, text, k.bank.Sum([]byte(text)))
	}
	return &p
}
