package updater

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/accept"
	"github.com/ingot-os/ingot/internal/agent/install"
	"github.com/ingot-os/ingot/internal/agent/updates"
	"github.com/ingot-os/ingot/internal/dsse"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// installer puts a release on a disk of the machine, when the server has given a
// ticket.
type installer struct {
	u     *Updater
	m     updates.Diskless
	disks func() []install.Disk
	pause time.Duration // between two looks at them
	again time.Duration // before an install that failed begins anew
	tap   tap           // nil but in tests

	mu   sync.Mutex
	now  updateapi.Installing // Ticket is empty: there was none
	busy bool
}

// installAgain is the time after which an install that failed begins anew.
const installAgain = time.Minute

func newInstaller(u *Updater, m updates.Diskless) *installer {
	return &installer{u: u, m: m, again: installAgain, pause: time.Second, disks: func() []install.Disk { return install.Disks("/sys", "/dev") }}
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

// isBusy: an install is under way, or waits until it begins anew.
func (i *installer) isBusy() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.busy
}

// take begins with a ticket, unless it was dealt with or another one is under way. Once a
// release is on the disk nothing is begun any more: the machine starts from there.
func (i *installer) take(ctx context.Context, t *updateapi.InstallTicket) {
	if t == nil || t.ID == "" {
		return
	}
	i.mu.Lock()
	skip := i.busy || i.now.Phase == updateapi.InstallDone || i.now.Ticket == t.ID && i.now.Phase != updateapi.InstallFailed
	if !skip {
		i.busy, i.now = true, updateapi.Installing{Ticket: t.ID, Phase: updateapi.InstallWriting}
	}
	i.mu.Unlock()
	if skip {
		return
	}
	i.u.tasks.Go(func() {
		lacks, err := "", errors.New("it has failed")
		i.u.guard("install", func() { lacks, err = i.run(ctx, *t) })
		if err != nil {
			i.u.m.Logf("install: %v", err)
			lacks = err.Error()
		}
		i.set(func(s *updateapi.Installing) { s.Phase, s.Detail = phaseOf(err), cutText(lacks) })
		if err != nil {
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

// run is one install, from the ticket to boot entries. lacks is why there are none.
func (i *installer) run(ctx context.Context, t updateapi.InstallTicket) (lacks string, err error) {
	switch {
	case i.m.Spec.Install == nil:
		return "", notHere{errors.New("the image has no key install")}
	case !i.m.UEFI:
		return "", notHere{errors.New("the firmware is no UEFI: it would start no disk of ingot's")}
	}
	l, err := i.u.connect(ctx)
	if err != nil {
		return "", err
	}
	defer func() { l.close() }()
	m, err := i.manifest(ctx, l, t)
	if err != nil {
		return "", err
	}
	d, p, err := i.plan(ctx, m)
	if err != nil {
		return "", err
	}
	i.set(func(s *updateapi.Installing) { s.Disk = cutText(d.String()) })
	f, err := i.open(d, t.Force)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if i.m.Writing != nil {
		i.m.Writing(true)
		defer i.m.Writing(false)
	}
	i.u.m.Logf("install: version %s goes to %s", m.Version, d)
	return i.write(ctx, f, m, &writer{i: i, link: l, digest: t.Release, node: d.Node, plan: p})
}

// plan finds the disk of a release and a place for everything on it. Nothing is written.
func (i *installer) plan(ctx context.Context, m *release.Manifest) (d install.Disk, p *install.Plan, err error) {
	disks, err := i.settled(ctx)
	if err != nil {
		return d, nil, err
	}
	d, err = install.Choose(disks, i.m.Spec.Install.To, install.Need(m))
	if errors.Is(err, install.ErrNoDisk) { // it may come yet
		return d, nil, err
	}
	if err == nil {
		p, err = install.NewPlan(m, d)
	}
	if err == nil {
		err = p.Twin(d, disks)
	}
	if err != nil {
		return d, nil, notHere{err}
	}
	return d, p, nil
}

// Looks at the disks of the machine, one in each pause.
const (
	quietLooks = 10  // at the same disks in a row, with all drivers loaded
	slowLooks  = 60  // the same, with a driver that does not come to an end
	maxLooks   = 180 // in all
)

// settled gives the disks of the machine when no more of them come: controllers of many
// disks show one after the other, and which disk is meant, or whether another one carries
// its GUIDs, can be told only when all are there.
func (i *installer) settled(ctx context.Context) ([]install.Disk, error) {
	last, same := i.disks(), 0
	for range maxLooks {
		if same >= slowLooks || same >= quietLooks && (i.m.Settled == nil || i.m.Settled()) {
			return last, nil
		}
		sleep(ctx, i.pause)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		now := i.disks()
		if same++; !slices.Equal(now, last) {
			last, same = now, 0
		}
	}
	return nil, errors.New("the disks of the machine come and go")
}

// write is the part of an install from which the disk is not any more what it was.
func (i *installer) write(ctx context.Context, f *wholeDisk, m *release.Manifest, w *writer) (lacks string, err error) {
	start := time.Now()
	if err := w.plan.Begin(f); err != nil {
		return "", err
	}
	if err := w.partitions(ctx, m); err != nil {
		return "", err
	}
	// The entries come first: firmware passes over those that lead nowhere, but nothing
	// would make them for a disk that was finished when the power went.
	if err := i.m.Entries(w.plan.Table); err != nil { // the disk starts by its fallback path where the firmware gets so far
		i.u.m.Logf("install: write boot entries: %v", err)
		lacks = err.Error()
	}
	if err := w.plan.Finish(f); err != nil {
		return "", err
	}
	i.u.m.Logf("install: version %s is on %s after %.1f s", m.Version, w.node, time.Since(start).Seconds())
	return lacks, nil
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
