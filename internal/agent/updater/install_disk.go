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
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/accept"
	"github.com/ingot-os/ingot/internal/agent/install"
	"github.com/ingot-os/ingot/internal/agent/updates"
	"github.com/ingot-os/ingot/internal/dsse"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/partition/gpt"
	"github.com/ingot-os/ingot/partition/state"
)

// installer puts a release on a disk of the machine, when the server has given a
// ticket.
type installer struct {
	u     *Updater
	m     updates.Diskless
	disks func() []install.Disk
	again time.Duration // before an install that failed begins anew
	tap   tap           // nil but in tests

	mu   sync.Mutex
	now  updateapi.Installing // Ticket is empty: there was none
	busy bool
}

// installAgain is the time after which an install that failed begins anew.
const installAgain = time.Minute

func newInstaller(u *Updater, m updates.Diskless) *installer {
	return &installer{u: u, m: m, again: installAgain, disks: func() []install.Disk { return install.Disks("/sys", "/dev") }}
}

// status is how far it is; nil when nothing was ordered.
func (i *installer) status() *updateapi.Installing {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.now.Ticket == "" {
		return nil
	}
	s := i.now
	return &s
}

func (i *installer) set(f func(*updateapi.Installing)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	f(&i.now)
}

// take begins with a ticket, unless it was dealt with or another one is under way.
func (i *installer) take(ctx context.Context, t *updateapi.InstallTicket) {
	if t == nil || t.ID == "" {
		return
	}
	i.mu.Lock()
	skip := i.busy || i.now.Ticket == t.ID && i.now.Phase != updateapi.InstallFailed
	if !skip {
		i.busy, i.now = true, updateapi.Installing{Ticket: t.ID, Phase: updateapi.InstallWriting}
	}
	i.mu.Unlock()
	if skip {
		return
	}
	i.u.tasks.Go(func() {
		err := errors.New("it has failed")
		i.u.guard("install", func() { err = i.run(ctx, *t) })
		if err != nil {
			i.u.m.Logf("install: %v", err)
		}
		i.set(func(s *updateapi.Installing) { s.Phase, s.Detail = phaseOf(err), "" })
		if err != nil {
			i.set(func(s *updateapi.Installing) { s.Detail = cutText(err.Error()) })
			sleep(ctx, i.again)
		}
		i.mu.Lock()
		i.busy = false
		i.mu.Unlock()
	})
}

// refusal of an install: it would be the same again.
type notHere struct{ error }

func phaseOf(err error) string {
	var no notHere
	var own *updateapi.Error
	switch {
	case err == nil:
		return updateapi.InstallDone
	case errors.As(err, &no), errors.As(err, &own):
		return updateapi.InstallRefused
	}
	return updateapi.InstallFailed
}

// run is one install, from the ticket to boot entries.
func (i *installer) run(ctx context.Context, t updateapi.InstallTicket) error {
	switch {
	case i.m.Spec.Install == nil:
		return notHere{errors.New("the image has no key install")}
	case !i.m.UEFI:
		return notHere{errors.New("the firmware is no UEFI: it would start no disk of ingot's")}
	}
	l, err := i.u.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { l.close() }()
	m, err := i.manifest(ctx, l, t)
	if err != nil {
		return err
	}
	d, err := install.Choose(i.disks(), i.m.Spec.Install.To, install.Need(m))
	if err != nil {
		return notHere{err}
	}
	i.set(func(s *updateapi.Installing) { s.Disk = cutText(d.String()) })
	f, err := i.open(d, t.Force)
	if err != nil {
		return err
	}
	defer f.Close()
	p, err := install.NewPlan(m, d)
	if err != nil {
		return notHere{err}
	}
	i.u.m.Logf("install: version %s goes to %s", m.Version, d)
	start := time.Now()
	if err := p.Begin(f); err != nil {
		return err
	}
	w := &writer{i: i, link: l, digest: t.Release, node: d.Node, plan: p}
	if err := w.partitions(ctx, m); err != nil {
		return err
	}
	// The entries come first: firmware passes over those that lead nowhere, but nothing
	// would make them for a disk that was finished when the power went.
	if err := i.m.Entries(p.Table); err != nil { // the disk starts by its fallback path where the firmware gets so far
		i.u.m.Logf("install: write boot entries: %v", err)
	}
	if err := p.Finish(f); err != nil {
		return err
	}
	i.u.m.Logf("install: version %s is on %s after %.1f s", m.Version, d.Node, time.Since(start).Seconds())
	return nil
}

// manifest fetches and judges the release of a ticket.
func (i *installer) manifest(ctx context.Context, l *link, t updateapi.InstallTicket) (*release.Manifest, error) {
	judge, err := accept.ForMachine(i.m.Spec, nil)
	if err != nil {
		return nil, notHere{err}
	}
	if b, err := hex.DecodeString(t.Release); err != nil || len(b) != len(slot.Digest{}) {
		return nil, notHere{fmt.Errorf("the ticket names %.80q, which is no digest", t.Release)}
	}
	envelope, err := l.fetch(ctx, updateapi.ReleasesPath+"/"+t.Release+"/manifest", dsse.MaxEnvelope)
	if err != nil {
		return nil, fmt.Errorf("fetch the manifest: %w", err)
	}
	r, err := judge.Accept(envelope, i.m.Now(), uint32(i.m.Spec.SecurityEpoch))
	if err != nil {
		return nil, err
	}
	if hex.EncodeToString(r.Digest[:]) != t.Release {
		return nil, errors.New("the server sends another manifest than the ticket names")
	}
	return r.Manifest, nil
}

// open takes the disk for itself, when what is on it may go.
func (i *installer) open(d install.Disk, force bool) (*wholeDisk, error) {
	f, err := os.OpenFile(d.Node, os.O_RDWR|os.O_EXCL, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, notHere{fmt.Errorf("%s is in use", d)}
	}
	if err != nil {
		return nil, err
	}
	content, err := install.Look(f, d.Size)
	if err == nil {
		if no := install.Allow(content, install.Policy{Wipe: i.m.Spec.Install.Wipe, Force: force}); no != nil {
			err = notHere{fmt.Errorf("%s: %w", d, no)}
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &wholeDisk{f, i.tap}, nil
}

// wholeDisk is a disk whose reads come from the medium after a flush.
type wholeDisk struct {
	*os.File
	tap tap
}

// tap sees writes to a disk or a part of it, and nil for a flush.
type tap func(off int64, b []byte)

// WriteAt implements install.File.
func (d wholeDisk) WriteAt(b []byte, off int64) (int, error) {
	if d.tap != nil {
		d.tap(off, b)
	}
	return d.File.WriteAt(b, off)
}

// Sync implements install.File.
func (d wholeDisk) Sync() error {
	if d.tap != nil {
		d.tap(0, nil)
	}
	if err := d.File.Sync(); err != nil {
		return err
	}
	_, err := unix.IoctlRetInt(int(d.Fd()), unix.BLKFLSBUF)
	if errors.Is(err, unix.ENOTTY) { // a file in the place of a disk
		return nil
	}
	return err
}

// writer writes the partitions of one install.
type writer struct {
	i      *installer
	link   *link
	digest string // of the release
	node   string
	plan   *install.Plan
}

// dataEdge is how much of the data partition is erased at its beginning, in bytes: a
// file system of another day must not be found there.
const dataEdge = 16 << 20

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
	source := map[string]string{"slot-b": "slot-a", "root-b": "root-a"}[x.Role]
	switch {
	case part != "":
		return w.fetch(ctx, part, p, slot.Digest(sum))
	case source != "":
		from, _ := w.plan.Partition(source)
		return w.copy(from, p, slot.Digest(sum))
	case x.Role == "state":
		return w.state(p)
	case x.Role == "data":
		p.Size = min(p.Size, dataEdge)
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
