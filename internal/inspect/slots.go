package inspect

import (
	"encoding/hex"
	"io"
	"strconv"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/delta"
)

// addJournal shows the record of two slots (docs/slots.md).
func addJournal(n *Node, payload []byte) error {
	r, err := slot.Parse(payload)
	if err != nil {
		return err
	}
	n.add("good", r.Good)
	n.add("candidate", r.Candidate)
	n.add("phase", r.Phase)
	n.add("means", r.Means)
	n.add("floor", r.Floor)
	n.add("data schema", r.Schema)
	n.add("updates", r.Generation)
	n.add("tries left", r.TriesLeft)
	for _, c := range []struct {
		key   string
		value uint64
	}{
		{"trials started", uint64(r.Arms)}, {"trials that ran", uint64(r.Attempt)}, {"trials lost", uint64(r.Lost)},
		{"failures of the good slot", uint64(r.Failures)}, {"boots of another slot", uint64(r.Bounces)},
		{"repairs of variables", uint64(r.Heals)},
	} {
		if c.value > 0 {
			n.add(c.key, c.value)
		}
	}
	if r.Seen != 0 {
		n.add("newest evidence", strconv.FormatUint(r.Seen, 16))
	}
	if r.Launched {
		n.add("launched", true)
	}
	if r.Guarded {
		n.add("reset for a polluted boot", true)
	}
	if r.Deaf {
		n.add("BootNext is not used", true)
	}
	if r.Cause != slot.NoCause {
		n.add("last failure", r.Cause)
		n.add("failed slot", r.Culprit)
		n.add("detail", r.Detail)
	}
	addSlot(n.child("slot", "a"), r.Of(slot.A))
	addSlot(n.child("slot", "b"), r.Of(slot.B))
	return nil
}

func addSlot(n *Node, c slot.Content) {
	n.add("condition", c.Condition)
	if c == (slot.Content{Condition: c.Condition}) {
		return
	}
	n.add("version", c.Version)
	n.add("security epoch", c.Epoch)
	n.add("image", hex.EncodeToString(c.Image[:]))
	if c.Root != (slot.Digest{}) {
		n.add("root", hex.EncodeToString(c.Root[:]))
	}
	n.add("data schema", c.Schema)
	n.add("accepts schema", c.Accepts)
}

// addRejections lists versions that may not be tried again.
func addRejections(n *Node, payload []byte) error {
	list, err := slot.ParseRejections(payload)
	if err != nil {
		return err
	}
	for _, r := range list {
		c := n.child("rejected", r.Version)
		c.add("cause", r.Cause)
		c.add("image", hex.EncodeToString(r.Image[:]))
	}
	return nil
}

// readDelta shows what a patch of a slot is for. Whether it holds is known only
// with the old image.
func readDelta(n *Node, r io.ReaderAt, size int64) error {
	head := make([]byte, min(size, delta.HeaderSize))
	if _, err := io.ReadFull(io.NewSectionReader(r, 0, size), head); err != nil {
		return err
	}
	i, err := delta.ParseHeader(head)
	if err != nil {
		return err
	}
	for _, image := range []struct {
		name       string
		size, used int64
		sum        delta.Digest
	}{{"old", i.OldSize, i.OldUsed, i.Old}, {"new", i.NewSize, i.NewUsed, i.New}} {
		c := n.child("image", image.name)
		c.add("size", image.size)
		c.add("bytes used", image.used)
		c.add("sha256", hex.EncodeToString(image.sum[:]))
		if image.name == "old" {
			c.add("sha256 of bytes used", hex.EncodeToString(i.OldPrefix[:]))
		}
	}
	n.region(0, delta.HeaderSize, "header")
	n.region(delta.HeaderSize, size, "compressed difference")
	return nil
}
