package simhost

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/boot/efivar"
)

// Boot is a boot to speak about: its log, and the registers that it ended with.
type Boot struct {
	Log    []byte
	Values map[pcr.Bank]map[int]pcr.Digest

	banks  []pcr.Bank
	events []event
}

// event is one that can be changed; its digests are of all banks of the log.
type event struct {
	register uint32
	typ      eventlog.Type
	data     []byte
	digests  map[pcr.Bank]pcr.Digest
}

// ReadBoot reads the recording of a boot: a JSON object whose "log" is the
// firmware's log, in base64.
func ReadBoot(path string) (*Boot, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var recording struct {
		Log []byte `json:"log"`
	}
	if err := json.Unmarshal(b, &recording); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	log, err := eventlog.Parse(recording.Log)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	boot := &Boot{banks: log.Banks}
	for i := range log.Events[1:] {
		e := &log.Events[1+i]
		x := event{e.PCR, e.Type, e.Data, map[pcr.Bank]pcr.Digest{}}
		for _, bank := range log.Banks {
			x.digests[bank] = e.Digest(bank)
		}
		boot.events = append(boot.events, x)
	}
	return boot, boot.finish()
}

// finish writes the log and replays it.
func (b *Boot) finish() error {
	b.Log = eventlog.AppendHeader(nil, b.banks...)
	var err error
	for _, e := range b.events {
		if b.Log, err = eventlog.AppendEvent(b.Log, e.register, e.typ, e.data, b.banks, e.digests); err != nil {
			return err
		}
	}
	log, err := eventlog.Parse(b.Log)
	if err != nil {
		return err
	}
	b.Values = map[pcr.Bank]map[int]pcr.Digest{}
	for _, bank := range b.banks {
		s, err := log.Replay(bank)
		if err != nil {
			return err
		}
		b.Values[bank] = map[int]pcr.Digest{}
		for i := range pcr.Count {
			b.Values[bank][i] = s.Value(i)
		}
	}
	return nil
}

// Events is the number of events of the log, its header among them.
func (b *Boot) Events() int { return len(b.events) + 1 }

// Of is the same firmware, its Secure Boot too, that boots what a path of a
// reference expects. It must be a path over the network: a partition table is
// logged in full, and a reference has only its digest.
func (b *Boot) Of(p attest.Path) (*Boot, error) {
	s := &Boot{banks: []pcr.Bank{pcr.SHA256, pcr.SHA384}}
	for _, e := range b.events {
		switch e.register {
		case 4, 5, 9, 11, 12:
		default:
			s.events = append(s.events, e)
		}
	}
	for _, x := range p.Events {
		if x.PCR == 7 { // the keys are those of the recorded firmware
			continue
		}
		e := event{uint32(x.PCR), x.Type, []byte(x.Name), x.Digests}
		if x.Type == eventlog.Separator {
			e.data = make([]byte, 4)
		}
		s.events = append(s.events, e)
	}
	return s, s.finish()
}

// measured is an event whose digests are of its data.
func (b *Boot) measured(register uint32, typ eventlog.Type, data []byte) event {
	e := event{register, typ, data, map[pcr.Bank]pcr.Digest{}}
	for _, bank := range b.banks {
		e.digests[bank] = bank.Sum(data)
	}
	return e
}

// serverEvents are what servers log beside a virtual machine: more devices with
// option ROMs, more boot options, tables and settings. The sizes of the data
// are those that logs of servers have.
var serverEvents = []struct {
	register uint32
	typ      eventlog.Type
	size, n  int
}{
	{0, eventlog.PostCode, 16, 2},
	{0, eventlog.NonhostInfo, 32, 1},
	{1, eventlog.VariableBoot, 468, 6},
	{1, eventlog.HandoffTables, 32, 4},
	{1, eventlog.TableOfDevices, 96, 2},
	{1, eventlog.EventTag, 120, 3},
	{2, eventlog.BootServicesDrv, 84, 12},
	{2, eventlog.FirmwareBlob, 16, 4},
	{3, eventlog.VariableDriver, 57, 4},
	{6, eventlog.Action, 24, 2},
}

// Server is the same boot on the firmware of a server: 34 KB of log in 83
// events, most of the bytes in the Secure Boot variables.
func (b *Boot) Server() (*Boot, error) {
	s := &Boot{banks: b.banks}
	for _, e := range b.events {
		if e.typ == eventlog.EFIAction && e.register == 4 {
			s.devices()
		}
		s.events = append(s.events, s.grown(e))
	}
	return s, s.finish()
}

func (b *Boot) devices() {
	for k, x := range serverEvents {
		for i := range x.n {
			data := noise(x.size, byte(16*k+i))
			if x.typ == eventlog.VariableBoot || x.typ == eventlog.VariableDriver {
				data = variableData(efivar.Global, fmt.Sprintf("Boot01%02X", i), noise(x.size-48, byte(i)))
			}
			b.events = append(b.events, b.measured(x.register, x.typ, data))
		}
	}
}

// keySizes are what the key variables of servers have in bytes.
var keySizes = map[string]int{"KEK": 1560, "db": 3143, "dbx": 10_734}

// grown gives the key variables the sizes that they have where keys of several
// makers are enrolled and images are revoked.
func (b *Boot) grown(e event) event {
	if e.typ != eventlog.VariableDriver || e.register != 7 {
		return e
	}
	v, err := (&eventlog.Event{Data: e.data}).Variable()
	if missing := keySizes[v.Name] - len(v.Data); err == nil && missing > 0 {
		return b.measured(e.register, e.typ, variableData(v.GUID, v.Name, append(append([]byte(nil), v.Data...), noise(missing, 1)...)))
	}
	return e
}

// variableData is a UEFI_VARIABLE_DATA (PFP section 10.2.6).
func variableData(guid [16]byte, name string, value []byte) []byte {
	d := append([]byte(nil), guid[:]...)
	d = binary.LittleEndian.AppendUint64(d, uint64(len(name)))
	d = binary.LittleEndian.AppendUint64(d, uint64(len(value)))
	for _, c := range []byte(name) {
		d = append(d, c, 0)
	}
	return append(d, value...)
}

// noise is bytes without meaning, the same for the same arguments.
func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	x := uint32(seed) + 1
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

// Keys are the Secure Boot keys that the boot has measured.
func (b *Boot) Keys() (k attest.Keys) {
	for _, e := range b.events {
		if e.register != 7 || e.typ == eventlog.Separator {
			continue
		}
		v, err := (&eventlog.Event{Data: e.data}).Variable()
		if err != nil {
			continue
		}
		if a, ok := v.Authority(); ok && e.typ == eventlog.VariableAuthority {
			k.Authorities = append(k.Authorities, pcr.SHA256.Sum(a.Certificate))
			continue
		}
		switch sum := pcr.SHA256.Sum(v.Data); v.Name {
		case "PK":
			k.PK = sum
		case "KEK":
			k.KEK = sum
		case "db":
			k.DB = sum
		}
	}
	return k
}
