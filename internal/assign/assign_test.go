package assign

import (
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/updateapi"
)

func digest(c string) string { return strings.Repeat(c, 64) }

var catalog = []Release{
	{Digest: digest("a"), Name: "hello", Version: "1.0.0", Arch: "amd64", Layout: "l1", Epoch: 1, Slot: digest("1")},
	{Digest: digest("b"), Name: "hello", Version: "1.1.0", Arch: "amd64", Layout: "l1", Epoch: 2, Slot: digest("2")},
	{Digest: digest("c"), Name: "hello", Version: "1.1.0", Arch: "arm64", Layout: "l1", Epoch: 2, Slot: digest("3")},
	{Digest: digest("d"), Name: "other", Version: "2.0.0", Arch: "amd64", Layout: "l1", Epoch: 9, Slot: digest("4")},
	{Digest: digest("e"), Name: "hello", Version: "2.0.0", Arch: "amd64", Layout: "l2", Epoch: 2, Slot: digest("5")},
}

func host(change func(*Host)) Host {
	h := Host{Name: "edge-1", Trusted: true, Appliance: "hello", Arch: "amd64", Layout: "l1", Floor: 1,
		Report: &updateapi.Slots{Good: "a", Phase: "IDLE"}}
	if change != nil {
		change(&h)
	}
	return h
}

func rejected(h *Host) {
	h.Report.Rejected = []updateapi.Rejected{{Version: "0.9.0", Cause: "hang"}, {Version: "1.1.0", Cause: "unhealthy"}}
}

// TestDecide: what is offered, and each reason why nothing is.
func TestDecide(t *testing.T) {
	next := &Assignment{Release: digest("b"), Version: "1.1.0"}
	for _, x := range []struct {
		name string
		h    Host
		a    *Assignment
		want string // digest's first letter, or a code
	}{
		{"assigned", host(nil), next, "b"},
		{"what it runs", host(nil), &Assignment{Release: digest("a")}, "a"},
		{"nothing is", host(nil), nil, Nothing},
		{"refused host", host(func(h *Host) { h.Trusted = false }), next, Untrusted},
		{"not there any more", host(nil), &Assignment{Release: digest("f"), Version: "3"}, Missing},
		{"another appliance", host(nil), &Assignment{Release: digest("d")}, updateapi.Mismatched},
		{"another architecture", host(nil), &Assignment{Release: digest("c")}, updateapi.Mismatched},
		{"another layout", host(nil), &Assignment{Release: digest("e")}, updateapi.Mismatched},
		{"nothing known of what it runs", host(func(h *Host) { h.Appliance, h.Arch, h.Layout = "", "", "" }), &Assignment{Release: digest("d")}, "d"},
		{"at the floor", host(func(h *Host) { h.Floor = 2 }), next, "b"},
		{"below the floor", host(func(h *Host) { h.Floor = 3 }), next, updateapi.BelowFloor},
		{"below the floor, overridden", host(func(h *Host) { h.Floor = 3 }), &Assignment{Release: digest("b"), Override: true}, updateapi.BelowFloor},
		{"below the floor that it reports", host(func(h *Host) { h.Report.Floor = 3 }), next, updateapi.BelowFloor},
		{"reports less than is registered", host(func(h *Host) { h.Floor, h.Report.Floor = 3, 1 }), next, updateapi.BelowFloor},
		{"the counter says less than the report", host(func(h *Host) { h.Counted, h.Report.Floor = true, 3 }), next, "b"},
		{"the counter says more than the report", host(func(h *Host) { h.Counted, h.Floor, h.Report.Floor = true, 3, 1 }), next, updateapi.BelowFloor},
		{"rejected", host(rejected), next, updateapi.IsRejected},
		{"another one is rejected", host(rejected), &Assignment{Release: digest("a"), Version: "1.0.0"}, "a"},
		{"rejected, overridden", host(rejected), &Assignment{Release: digest("b"), Override: true}, "b"},
		{"overridden, of another appliance", host(rejected), &Assignment{Release: digest("d"), Override: true}, updateapi.Mismatched},
		{"no report yet", host(func(h *Host) { h.Report = nil }), next, "b"},
	} {
		r, refusal := Decide(x.h, x.a, catalog)
		switch {
		case refusal == nil && (len(x.want) != 1 || r.Digest != digest(x.want)):
			t.Errorf("%s: offers %+v, want %s", x.name, r, x.want)
		case refusal != nil && (refusal.Code != x.want || refusal.Detail == "" || refusal.Hint == "" || r != Release{}):
			t.Errorf("%s: %+v, %+v, want %s", x.name, refusal, r, x.want)
		}
	}
}

// TestFind: how an operator may name a release.
func TestFind(t *testing.T) {
	nowhere := Host{Name: "edge-1"}
	for _, x := range []struct {
		name string
		h    Host
		want string // digest's first letter, or part of the detail and hint
	}{
		{"1.1.0", host(nil), "b"},
		{"1.1.0", host(func(h *Host) { h.Arch = "arm64" }), "c"},
		{"1.1.0", nowhere, "2 releases have the name"},
		{"2.0.0", host(nil), "e"},
		{digest("d"), host(nil), "d"}, // and Fits refuses it
		{strings.ToUpper(digest("d")[:8]), host(nil), "d"},
		{digest("d")[:7], host(nil), "no release"},
		{"", host(nil), "no release"},
		{"9", host(nil), "there are: 1.0.0, 1.1.0"},
		{"9", host(func(h *Host) { h.Appliance = "third" }), "--release DIR"},
	} {
		r, refusal := Find(x.h, x.name, catalog)
		switch {
		case refusal == nil && (len(x.want) != 1 || r.Digest != digest(x.want)):
			t.Errorf("%q: %+v, want %s", x.name, r, x.want)
		case refusal != nil && !strings.Contains(refusal.Detail+"; "+refusal.Hint, x.want):
			t.Errorf("%q: %+v, want %s", x.name, refusal, x.want)
		}
	}
}

// TestTaken: an override ends when the host has taken the release, and not
// before.
func TestTaken(t *testing.T) {
	a := Assignment{Release: digest("b"), Override: true}
	slots := []updateapi.Slot{{Name: "a", Image: digest("1")}, {Name: "b", Image: digest("2")}}
	for _, x := range []struct {
		name string
		a    Assignment
		s    updateapi.Slots
		want bool
	}{
		{"staged", a, updateapi.Slots{Good: "a", Candidate: "b", Slots: slots}, true},
		{"blessed", a, updateapi.Slots{Good: "b", Slots: slots}, true},
		{"not overridden", Assignment{Release: digest("b")}, updateapi.Slots{Good: "a", Candidate: "b", Slots: slots}, false},
		{"in the other slot since it failed", a, updateapi.Slots{Good: "a", Slots: slots}, false},
		{"rejected still", a, updateapi.Slots{Good: "a", Candidate: "b", Slots: slots, Rejected: []updateapi.Rejected{{Version: "1.1.0"}}}, false},
		{"another candidate", a, updateapi.Slots{Good: "a", Candidate: "b", Slots: []updateapi.Slot{{Name: "b", Image: digest("9")}}}, false},
		{"nothing known", a, updateapi.Slots{Slots: []updateapi.Slot{{Image: digest("2")}}}, false},
	} {
		if got := Taken(x.a, catalog[1], &x.s); got != x.want {
			t.Errorf("%s: %v", x.name, got)
		}
	}
}
