package inspect

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/ingot-os/ingot/internal/fleet"
)

// inDirectory gives the state file of a server for the directory that has it,
// and other paths as they are.
func inDirectory(path string) string {
	file := filepath.Join(path, fleet.FileName)
	if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
		return file
	}
	return path
}

// readFleet shows what a server knows about hosts, one line for each. Records
// are counted, not read: ingot attest replay judges them.
func readFleet(n *Node, r io.ReaderAt, _ int64) error {
	f, ok := r.(*os.File)
	if !ok {
		return errors.New("a database is read from a file only")
	}
	s, err := fleet.Summarize(context.Background(), f.Name())
	if err != nil {
		return err
	}
	n.add("schema version", s.Schema)
	n.add("hosts", len(s.Hosts))
	n.add("records", s.Records)
	n.add("blobs", s.Blobs)
	for _, h := range s.Hosts {
		addHost(n.child("host", h.Record.Name), h)
	}
	return nil
}

func addHost(n *Node, h *fleet.Host) {
	n.add("state", h.Record.State)
	if !h.At.IsZero() {
		n.add("trusted", h.Trusted)
		n.add("judged", h.At.UTC().Format(time.RFC3339))
	}
	if l := h.Last; l != nil {
		n.add("reason", l.Code)
		n.add("release", l.Release)
		n.add("version", l.Version)
		n.add("slot", l.Slot)
	}
	if h.Silent {
		n.add("silent", true)
	}
	if h.Reenrol {
		n.add("re-enrol", true)
	}
	if h.Record.Floor > 0 {
		n.add("floor", h.Record.Floor)
	}
	head := h.Head()
	n.add("records", head.Seq)
	n.add("newest", head.Sum)
}
