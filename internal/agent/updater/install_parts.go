package updater

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/agent/install"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/partition/gpt"
	"github.com/ingot-os/ingot/partition/state"
)

// writer writes the partitions of one install.
type writer struct {
	i      *installer
	link   *link
	digest string // of the release
	node   string
	plan   *install.Plan
}

// partitions writes them all and reads them back. What is in both slots is fetched
// once.
func (w *writer) partitions(ctx context.Context, m *release.Manifest) error {
	for _, x := range m.Disk.Partitions {
		p, ok := w.plan.Partition(x.Role)
		if !ok {
			return fmt.Errorf("partition %s has no place", x.Role)
		}
		w.i.set(func(s *updateapi.Installing) { s.Detail = x.Role })
		if err := w.partition(ctx, x, p); err != nil {
			return fmt.Errorf("%s: %w", x.Role, err)
		}
	}
	return nil
}

func (w *writer) partition(ctx context.Context, x release.Partition, p gpt.Partition) error {
	sum, err := hex.DecodeString(x.SHA256)
	if err != nil || len(sum) != sha256.Size {
		return fmt.Errorf("the manifest names no digest of it")
	}
	part := map[string]string{"esp": updateapi.PartESP, "slot-a": updateapi.PartSlot, "root-a": updateapi.PartRoot}[x.Role]
	source := install.CopyOf(x.Role)
	switch {
	case part != "":
		return w.fetch(ctx, part, p, slot.Digest(sum))
	case source != "":
		from, _ := w.plan.Partition(source)
		return w.copy(from, p, slot.Digest(sum))
	case x.Role == "state":
		return w.state(p)
	case x.Role == "data":
		p.Size = min(p.Size, install.DataEdge)
		zeros := sha256.New()
		io.CopyN(zeros, &padded{r: bytes.NewReader(nil), left: p.Size}, p.Size)
		return w.put(p, slot.Digest(zeros.Sum(nil)), bytes.NewReader(nil))
	}
	return errors.New("this program knows no such partition")
}

// fetch gets a part from the server, from the beginning when it was cut.
func (w *writer) fetch(ctx context.Context, part string, p gpt.Partition, sum slot.Digest) error {
	for try := 0; ; try++ {
		err := w.fetchOnce(ctx, part, p, sum)
		var no *refused
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case errors.As(err, &no) && no.status != 429 && no.status != 503, try >= maxCuts:
			return err
		}
		w.i.u.m.Logf("install: %s: %v", part, err)
		sleep(ctx, w.i.u.again<<min(try, 5))
	}
}

func (w *writer) fetchOnce(ctx context.Context, part string, p gpt.Partition, sum slot.Digest) error {
	a, err := w.link.get(ctx, updateapi.ReleasesPath+"/"+w.digest+"/"+part+"?from=0&coding="+updateapi.CodingZstd)
	if err != nil {
		return err
	}
	defer a.Close()
	z, err := zstd.NewReader(a.Body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return err
	}
	defer z.Close()
	return w.put(p, sum, z)
}

// copy takes what was just written and read back.
func (w *writer) copy(from, to gpt.Partition, sum slot.Digest) error {
	f, err := os.Open(w.node)
	if err != nil {
		return err
	}
	defer f.Close()
	return w.put(to, sum, io.NewSectionReader(f, from.Start, from.Size))
}

// state is empty but for the machine.yaml that this boot runs with.
func (w *writer) state(p gpt.Partition) error {
	region := make(memoryDisk, p.Size)
	if data := w.i.m.MachineYAML(); data != nil {
		if err := state.Store(region, state.Machine, data); err != nil {
			return err
		}
	}
	return w.put(p, sha256.Sum256(region), bytes.NewReader(region))
}

// put writes a partition and compares what the disk then holds.
func (w *writer) put(p gpt.Partition, sum slot.Digest, image io.Reader) error {
	d, err := openSection(w.node, p.Start, p.Size)
	if err != nil {
		return err
	}
	defer d.close()
	if see := w.i.tap; see != nil {
		d.tap = func(off int64, b []byte) { see(p.Start+off, b) }
	}
	m := newMedium(d, nil)
	defer m.close()
	return slot.Writing{Size: p.Size, Digest: sum}.Write(m, &padded{r: image, left: p.Size})
}

// memoryDisk is a partition in memory.
type memoryDisk []byte

// ReadAt implements io.ReaderAt.
func (m memoryDisk) ReadAt(b []byte, off int64) (int, error) {
	return bytes.NewReader(m).ReadAt(b, off)
}

// WriteAt implements io.WriterAt.
func (m memoryDisk) WriteAt(b []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(b)) > int64(len(m)) {
		return 0, io.ErrShortWrite
	}
	return copy(m[off:], b), nil
}
