package partition

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/partition/gpt"
)

// small is a complete disk of few bytes.
func small() Spec {
	return Spec{Name: "hello", ESP: 2 * mib, Slot: 3 * mib, Data: 4 * mib}
}

func plan(t *testing.T, s Spec) Layout {
	t.Helper()
	l, err := Plan(s)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestPlan(t *testing.T) {
	tests := []struct {
		name string
		spec Spec
		id   string
		want string // index role start+size in MiB
		size int64
	}{
		{"without root", Spec{Name: "a", ESP: 128 * mib, Slot: 256 * mib, Data: 64 * mib}, "esp128-slot256-state16",
			"1 esp 1+128, 2 slot-a 129+256, 3 slot-b 385+256, 6 state 641+16, 7 data 657+64", 722},
		{"with root", Spec{Name: "a", ESP: 128 * mib, Slot: 256 * mib, Root: 1024 * mib, Data: 64 * mib}, "esp128-slot256-root1024-state16",
			"1 esp 1+128, 2 slot-a 129+256, 3 slot-b 385+256, 4 root-a 641+1024, 5 root-b 1665+1024, 6 state 2689+16, 7 data 2705+64", 2770},
		{"without data", Spec{Name: "a", ESP: 64 * mib, Slot: 64 * mib}, "esp64-slot64-state16",
			"1 esp 1+64, 2 slot-a 65+64, 3 slot-b 129+64, 6 state 193+16", 210},
		{"large state", Spec{Name: "a", ESP: 64 * mib, Slot: 64 * mib, State: 32 * mib, Data: mib}, "esp64-slot64-state32",
			"1 esp 1+64, 2 slot-a 65+64, 3 slot-b 129+64, 6 state 193+32, 7 data 225+1", 227},
	}
	for _, tt := range tests {
		var layouts [2]Layout
		for i, ss := range []int{512, 4096} {
			tt.spec.SectorSize = ss
			l := plan(t, tt.spec)
			layouts[i] = l
			var got []string
			for _, p := range l.Parts {
				got = append(got, fmt.Sprintf("%d %s %d+%d", p.Index, p.Role, p.Start/mib, p.Size/mib))
			}
			if s := strings.Join(got, ", "); s != tt.want || l.ID != tt.id || l.Size != tt.size*mib || l.SectorSize != ss {
				t.Errorf("%s: %s %d %s\nwant %s %d %s", tt.name, l.ID, l.Size/mib, s, tt.id, tt.size, tt.want)
			}
		}
		if d := cmp.Diff(layouts[0].Parts, layouts[1].Parts); d != "" || layouts[0].Size != layouts[1].Size {
			t.Errorf("%s: partitions depend on the sector size:\n%s", tt.name, d)
		}
	}
}

func TestPlanRefuses(t *testing.T) {
	tests := []struct {
		change func(*Spec)
		want   []string
	}{
		{func(s *Spec) { s.Name = "" }, []string{"name is empty"}},
		{func(s *Spec) { s.SectorSize = 2048 }, []string{"sector size 2048"}},
		{func(s *Spec) { s.ESP = 0 }, []string{"size of esp is missing"}},
		{func(s *Spec) { s.Slot = mib + 1 }, []string{"size of slot-a is 1048577", "size of slot-b"}},
		{func(s *Spec) { s.Root = -mib }, []string{"size of root-a is -1048576"}},
		{func(s *Spec) { s.State = mib }, []string{"region map needs 16777216"}},
		{func(s *Spec) { s.Data = 1 << 62 }, []string{"size of data"}},
		{func(s *Spec) { s.Name, s.ESP = "", 5 }, []string{"name is empty", "size of esp"}},
	}
	for _, tt := range tests {
		s := small()
		tt.change(&s)
		_, err := Plan(s)
		for _, w := range tt.want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("Plan(%+v) = %v, want %q", s, err, w)
			}
		}
	}
}

func TestTypesAreTheDocumentedHashes(t *testing.T) {
	for word, got := range map[string]gpt.GUID{"slot": TypeSlot, "root": TypeRoot, "state": TypeState} {
		if want := uuid8(sha256.Sum256([]byte("ingot partition type " + word))); got != want {
			t.Errorf("type of %s = %s, want %s", word, got, want)
		}
	}
}

// B15: ids of 10,000 appliances, each with 8 ids, and no two alike.
func TestGUIDsDoNotCollide(t *testing.T) {
	seen := map[gpt.GUID]string{}
	add := func(g gpt.GUID, what string) {
		if old, ok := seen[g]; ok {
			t.Fatalf("%s and %s have guid %s", old, what, g)
		}
		seen[g] = what
	}
	for i := range 10_000 {
		s := Spec{Name: fmt.Sprintf("app%d", i/10), ESP: 64 * mib, Slot: int64(i%10+1) * mib, Root: int64(i%3) * mib}
		id := LayoutID(s)
		for _, role := range []string{"disk", ESP, SlotA, SlotB, RootA, RootB, State, Data} {
			g := GUID(s.Name, id, role)
			if u := g.UUID(); u[6]>>4 != 8 || u[8]>>6 != 2 {
				t.Fatalf("%s is not a version 8 UUID", g)
			}
			add(g, s.Name+" "+id+" "+role)
			if i < 1000 {
				add(rekey(g, role, "host 1"), s.Name+" "+id+" "+role+" on host 1")
				add(rekey(g, role, "host 2"), s.Name+" "+id+" "+role+" on host 2")
			}
		}
	}
}

// Moving a character from one field to the next must give another id.
func TestIDEncodingIsUnambiguous(t *testing.T) {
	if GUID("ab", "c", "d") == GUID("a", "bc", "d") || GUID("a", "bc", "d") == GUID("a", "b", "cd") || GUID("a", "", "") == GUID("", "a", "") {
		t.Error("two different lists of fields have one guid")
	}
	if FATSerial("ab", "c", "d") == FATSerial("a", "bc", "d") {
		t.Error("two different lists of fields have one serial")
	}
}

// The ids are part of the on-disk format: installed machines depend on them.
func TestIDsStay(t *testing.T) {
	if got, want := GUID("hello", "esp128-slot256-state16", SlotA).String(), "5275d4b3-dd6b-8423-8675-9fad8241f15c"; got != want {
		t.Errorf("GUID = %s, want %s", got, want)
	}
	if got, want := fmt.Sprintf("%08x", FATSerial("hello", "esp128-slot256-state16", SlotA)), "87112304"; got != want {
		t.Errorf("FATSerial = %s, want %s", got, want)
	}
}

func TestRekey(t *testing.T) {
	l := plan(t, small())
	a, b, again := Rekey(l, "host-a"), Rekey(l, "host-b"), Rekey(l, "host-a")
	if d := cmp.Diff(a, again); d != "" {
		t.Errorf("Rekey is not a function of its arguments:\n%s", d)
	}
	if a.Disk == l.Disk || a.Disk == b.Disk {
		t.Error("Rekey leaves hosts with one disk guid")
	}
	for i := range l.Parts {
		if a.Parts[i].GUID == l.Parts[i].GUID || a.Parts[i].GUID == b.Parts[i].GUID {
			t.Errorf("%s keeps its guid", l.Parts[i].Role)
		}
		a.Parts[i].GUID = l.Parts[i].GUID
	}
	a.Disk = l.Disk
	if d := cmp.Diff(l, a); d != "" {
		t.Errorf("Rekey changes more than guids:\n%s", d)
	}
}
