package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/boot/varstore"
	"github.com/ingot-os/ingot/internal/agent/traces"
	"github.com/ingot-os/ingot/internal/rig"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/state"
)

// scriptDisk is a disk image that a script writes to.
type scriptDisk struct {
	f *os.File
	l partition.Layout
}

func openScriptDisk(ts *testscript.TestScript, name string) scriptDisk {
	f, err := os.OpenFile(ts.MkAbs(name), os.O_RDWR, 0)
	ts.Check(err)
	info, err := f.Stat()
	ts.Check(err)
	l, err := partition.Read(f, info.Size())
	ts.Check(err)
	return scriptDisk{f, l}
}

func (d scriptDisk) part(ts *testscript.TestScript, role string) partition.Part {
	p, ok := d.l.Part(role)
	if !ok {
		ts.Fatalf("no partition %s", role)
	}
	return p
}

// scriptState is the state partition as package state writes it.
type scriptState struct {
	io.ReaderAt
	io.WriterAt
}

func (d scriptDisk) state(ts *testscript.TestScript) scriptState {
	p := d.part(ts, partition.State)
	return scriptState{p.Section(d.f), p.Window(d.f)}
}

func (d scriptDisk) sum(ts *testscript.TestScript, role string) slot.Digest {
	h := sha256.New()
	_, err := io.Copy(h, d.part(ts, role).Section(d.f))
	ts.Check(err)
	return slot.Digest(h.Sum(nil))
}

// journal DISK PHASE writes a slot journal: version 1.0.0 is good on a, and an
// update to 1.1.0 on b is in that phase (staged, armed, failed). Further phases damage
// it: torn (its newest copy), lost (both), zeroed (slot b is not there).
func journal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: journal DISK PHASE")
	}
	d := openScriptDisk(ts, args[0])
	defer d.f.Close()
	phase := map[string]slot.Phase{"staged": slot.Staged, "armed": slot.Armed, "failed": slot.Failed}[args[1]]
	switch args[1] {
	case "torn", "lost":
		d.tear(ts, args[1] == "lost")
		return
	case "zeroed":
		_, err := d.part(ts, partition.SlotB).Window(d.f).WriteAt(make([]byte, slot.HeaderSize), 0)
		ts.Check(err)
		return
	}
	good := slot.Content{Version: "1.0.0", Image: d.sum(ts, partition.SlotA), Condition: slot.Good}
	next := good
	next.Version, next.Condition = "1.1.0", slot.Ready
	r := slot.Record{Good: slot.A, Candidate: slot.B, Phase: phase, TriesLeft: 3, Arms: 1, Generation: 7, Floor: 2, Slots: [2]slot.Content{good, next}}
	if phase == slot.Failed {
		r.Cause, r.Culprit, r.Detail, r.TriesLeft = slot.Unhealthy, slot.B, "service hello did not answer", 2
	}
	b, err := r.AppendBinary(nil)
	ts.Check(err)
	s := d.state(ts)
	if phase == slot.Failed {
		head := traces.Record{Cause: r.Cause, Slot: r.Culprit, Image: "hello 1.1.0 build b1", Text: r.Detail}.Head()
		ts.Check(state.Store(s, state.Evidence, traces.Fill(head, "[    1.000000] hello: no \x1b[2Jdatabase\n", 1<<10)))
	}
	ts.Check(errors.Join(state.Store(s, state.Journal, b), state.Store(s, state.Journal, b)))
	list, err := slot.EncodeRejections([]slot.Rejection{{Version: "1.0.1", Cause: slot.Panic}})
	ts.Check(err)
	ts.Check(state.Store(s, state.Rejected, list))
}

// tear damages the newest copy of the journal, or both.
func (d scriptDisk) tear(ts *testscript.TestScript, both bool) {
	s := d.state(ts)
	for _, c := range state.Scan(s) {
		if c.Region == state.Journal && (c.Current || both) {
			_, err := s.WriteAt([]byte("torn"), c.Offset+100)
			ts.Check(err)
		}
	}
}

// variables FILE DISK FIRST [NEXT] writes a variable store whose BootOrder has
// slot FIRST (a or b) first and whose BootNext is NEXT.
func variables(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: variables FILE DISK FIRST [NEXT]")
	}
	d := openScriptDisk(ts, args[1])
	defer d.f.Close()
	s, err := varstore.Open(make([]byte, 64<<20))
	ts.Check(err)
	set := func(name string, data []byte) {
		ts.Check(s.Set(varstore.Variable{Name: name, GUID: efivar.Global, Attributes: efivar.BootAttributes, Data: data}))
	}
	number := map[string]uint16{"a": 0x10, "b": 0x11}
	for x, n := range number {
		role := "slot-" + x
		b, err := boot.SlotOption(boot.AMD64, "hello", role, rig.HD(d.part(ts, role), d.l.SectorSize)).MarshalBinary()
		ts.Check(err)
		set(efivar.BootName(n), b)
	}
	first := number[args[2]]
	set(efivar.BootOrder, efivar.MarshalOrder(first, 0x21-first))
	if len(args) > 3 {
		set(efivar.BootNext, efivar.MarshalOrder(number[args[3]]))
	}
	ts.Check(os.MkdirAll(ts.MkAbs(args[0]+"/.."), 0o755))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), s.Bytes(), 0o644))
}

// atmost N wants at most so many lines on standard output.
func atMost(ts *testscript.TestScript, neg bool, args []string) {
	var want, got int
	if _, err := fmt.Sscan(args[0], &want); err != nil {
		ts.Fatalf("%v", err)
	}
	for _, c := range ts.ReadFile("stdout") {
		if c == '\n' {
			got++
		}
	}
	if got > want || got == 0 {
		ts.Fatalf("%d lines, want 1 to %d", got, want)
	}
}

// flip DISK ROLE changes one bit at the end of a partition, where no file is.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	d := openScriptDisk(ts, args[0])
	defer d.f.Close()
	p := d.part(ts, args[1])
	b := make([]byte, 1)
	at := p.Start + p.Size - 5
	_, err := d.f.ReadAt(b, at)
	ts.Check(err)
	b[0] ^= 1
	_, err = d.f.WriteAt(b, at)
	ts.Check(err)
}
