package attest

import (
	"bytes"

	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/partition/gpt"
)

// ReferenceFormat is what a reference calls itself.
const ReferenceFormat = "ingot-reference/1"

// Reference is what the boots of one release measure.
type Reference struct {
	Format  string `json:"format"` // ReferenceFormat
	Name    string `json:"name"`
	Version string `json:"version"`
	Epoch   int64  `json:"securityEpoch"` // of the release, 0 to 63; what a floor is compared with
	Paths   []Path `json:"paths"`
	// Phases are words that ingot-init may extend into PCR 11, in this order.
	Phases []string `json:"phases,omitempty"`
}

// Path is one way to boot the release, with Secure Boot on or off.
type Path struct {
	Boot       string `json:"boot"` // disk, pxe, http, ipxe, kernel
	SecureBoot bool   `json:"secureBoot"`
	// Replaced says that the loader gives the kernel its own command line.
	Replaced bool `json:"cmdlineReplaced,omitempty"`
	// Events are the measurements of a boot without failed boot options, in
	// order. Registers without events are not compared, but those of Empty.
	Events []Expected `json:"events"`
	// Empty are registers into which nothing may be measured.
	Empty []int `json:"empty,omitempty"`
	// Layout judges a partition table that is not byte for byte the expected
	// one: a larger disk, other sectors.
	Layout *Layout `json:"layout,omitempty"`
}

// Expected is one measurement to come.
type Expected struct {
	PCR     int                     `json:"pcr"`
	Type    eventlog.Type           `json:"type"`
	Name    string                  `json:"name"` // ".linux", "Linux initrd"
	Digests map[pcr.Bank]pcr.Digest `json:"digests"`
}

// is reports whether an event of the log is the expected one.
func (x *Expected) is(e *eventlog.Event, bank pcr.Bank) bool {
	d := x.Digests[bank]
	return x.Type == e.Type && len(d) > 0 && bytes.Equal(d, e.Digest(bank))
}

// Layout is the partition table of the release; positions in bytes.
type Layout struct {
	Disk       gpt.GUID          `json:"disk"`
	Partitions []LayoutPartition `json:"partitions"`
}

// LayoutPartition is one partition. The last one of a table may end anywhere.
type LayoutPartition struct {
	Type  gpt.GUID `json:"type"`
	GUID  gpt.GUID `json:"guid"`
	Start uint64   `json:"start"`
	Size  uint64   `json:"size"`
}

// matches compares with a table as firmware logged it. Identifiers are not
// compared on a disk that was given its own (disk is then the host's).
func (l *Layout) matches(t eventlog.Table, disk gpt.GUID) bool {
	own := !disk.IsZero()
	if own && t.Disk != disk || !own && t.Disk != l.Disk || len(t.Partitions) != len(l.Partitions) {
		return false
	}
	for _, sector := range []uint64{512, 4096} { // the table does not say which
		if l.at(t, sector, own) {
			return true
		}
	}
	return false
}

func (l *Layout) at(t eventlog.Table, sector uint64, own bool) bool {
	for i, want := range l.Partitions {
		got, last := t.Partitions[i], i == len(l.Partitions)-1
		switch {
		case got.Type != want.Type, !own && got.GUID != want.GUID, got.First != want.Start/sector:
			return false
		case !last && got.Last != (want.Start+want.Size)/sector-1:
			return false
		}
	}
	return true
}
