package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ingot-os/ingot/pxe/tftp"
)

// The loads of TFTP: research by which a design was made had the same.
const (
	tftpBig       = "big" // 64 MiB, for throughput
	tftpBigSize   = 64 << 20
	tftpWithin    = 1500 * time.Millisecond // a throughput is that of so long at most
	tftpRounds    = 5
	tftpUKI       = "uki"
	tftpUKISize   = 15_800_000
	tftpCrowd     = 1000
	tftpMega      = "mega"
	tftpMegaSize  = 1 << 20
	crowdRounds   = 3
	lossRounds    = 3
	admitted      = 100 // transfers at once, where that is bounded
	ovmfBlock     = 1468
	ovmfWindow    = 4
	ovmfTake      = 100 * time.Microsecond
	ovmfTurn      = 80 * time.Microsecond
	ovmfFaster    = 1.4 // that windows are to make the UKI
	lostInWindow  = 38  // second of a window of four: two follow, and show the gap
	lostAtTheEnd  = 40  // last of a window of four: nothing follows
	lossLimit     = 1.1 // seconds
	crowdLimit    = 12.0
	crowdMemory   = 64 << 20
	crowdCost     = 5.0 // processor seconds per GiB
	httpMegaLimit = 2.5
)

// field is all servers on one folder.
type tftpField struct {
	lab     *lab
	root    string
	servers []*tftpServer
	missing []string // and why
}

// benchTFTP has our server and those of others do the same jobs in turns.
func benchTFTP(ctx context.Context, l *lab, r *report) error {
	f := &tftpField{lab: l}
	defer f.stop()
	if err := f.start(ctx); err != nil {
		return err
	}
	for _, do := range []func(context.Context, *report) error{f.throughput, f.uki, f.lost, f.crowd, f.admission} {
		if err := do(ctx, r); err != nil {
			return err
		}
	}
	return benchHTTPCrowd(ctx, l, r)
}

// start fills the folder and starts the servers. One that cannot be had is left out.
func (f *tftpField) start(ctx context.Context) (err error) {
	if f.root, err = tftpFolder(f.lab.dir); err != nil {
		return err
	}
	for _, name := range tftpServers {
		s, err := startTFTP(ctx, f.lab, name, f.root, tftp.Limits{})
		switch {
		case err == nil:
			f.servers = append(f.servers, s)
		case name == tftpOurs:
			return err
		default:
			f.missing = append(f.missing, name+": "+err.Error())
		}
	}
	return nil
}

func (f *tftpField) stop() {
	for _, s := range f.servers {
		s.stop()
	}
}

func tftpFolder(dir string) (string, error) {
	root := filepath.Join(dir, "tftp-root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", err
	}
	for name, size := range map[string]int{tftpSmall: tftpSmallSize, tftpBig: tftpBigSize, tftpUKI: tftpUKISize, tftpMega: tftpMegaSize} {
		b := make([]byte, size)
		rand.Read(b)
		if err := os.WriteFile(filepath.Join(root, name), b, 0o644); err != nil {
			return "", err
		}
	}
	return root, os.Chmod(root, 0o755)
}

// late is longer than a packet is on its way here.
const late = 300 * time.Millisecond

// turns has each server do a job so often, in turns, and takes a value of each. A server
// of others may fail, which the row then says.
func (f *tftpField) turns(ctx context.Context, c *race, load tftpLoad, value func(*tftpServer, tftpOutcome) float64) error {
	c.lost = map[string]int{}
	for range c.runs {
		for _, s := range f.servers {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			load.server = s.addr
			// A server may answer the end of its clients with an ERROR, which must not
			// reach the next server's clients, who may get the same ports.
			time.Sleep(late)
			o, err := load.run()
			if err != nil {
				return err
			}
			if o.failed > 0 && s.name == tftpOurs {
				return fmt.Errorf("%s: %d of %d clients failed: %w", c.job, o.failed, load.clients, o.first)
			}
			c.lost[s.name] += o.failed
			if v := value(s, o); o.failed == 0 && v > 0 {
				c.add(s.name, v)
			}
		}
	}
	c.note = strings.Join(f.missing, "; ")
	return nil
}

// throughput is the matrix of clients, blocks and windows.
func (f *tftpField) throughput(ctx context.Context, r *report) error {
	for _, clients := range []int{1, 32} {
		for _, block := range []int{1428, 8192} {
			for _, window := range []int{1, 16} {
				c := race{unit: rate, runs: tftpRounds, job: fmt.Sprintf("%d x 64 MiB, blksize %d, windowsize %d", clients, block, window)}
				load := tftpLoad{file: tftpBig, size: tftpBigSize, clients: clients, block: block, window: window, within: tftpWithin}
				if err := f.turns(ctx, &c, load, func(_ *tftpServer, o tftpOutcome) float64 { return o.rate() }); err != nil {
					return err
				}
				r.race(c)
			}
		}
	}
	return nil
}

// uki is a client that asks as OVMF does and is as slow: see ovmfTake. The firmware
// itself, in a virtual machine, needed 1.92 s for a UKI of this size in lockstep and
// 1.28 s with windows of four, from two servers: 178 µs for a block, 476 µs for a window.
// So 100 µs of each block and 80 µs of each turn are its own.
func (f *tftpField) uki(ctx context.Context, r *report) error {
	load := tftpLoad{file: tftpUKI, size: tftpUKISize, clients: 1, block: ovmfBlock, window: ovmfWindow, take: ovmfTake, turn: ovmfTurn}
	c := race{unit: seconds, runs: tftpRounds, job: "UKI of 15.8 MB to a client as slow as OVMF: blksize 1468, windowsize 4"}
	took := func(_ *tftpServer, o tftpOutcome) float64 { return o.took.Seconds() }
	if err := f.turns(ctx, &c, load, took); err != nil {
		return err
	}
	r.race(c)
	without, err := startTFTP(ctx, f.lab, tftpOurs, f.root, tftp.Limits{Window: 1})
	if err != nil {
		return err
	}
	defer without.stop()
	var on, off series
	for range tftpRounds {
		for server, took := range map[*tftpServer]*series{f.servers[0]: &on, without: &off} {
			load.server = server.addr
			o, err := load.run()
			if err = cmp.Or(err, o.first); err != nil {
				return fmt.Errorf("fetch the UKI: %w", err)
			}
			took.values = append(took.values, o.took.Seconds())
		}
	}
	limit := off.median() / ovmfFaster
	r.add(measure{netboot: true, what: "TFTP: UKI of 15.8 MB to a client as slow as OVMF, windowsize 4", series: on, limit: limit,
		note: fmt.Sprintf("the same server with windows off takes %s; the target is that divided by %.1f", seconds.format(off.median()), ovmfFaster)})
	return nil
}

// lost is what one packet costs that does not arrive: the longest silence of a transfer.
func (f *tftpField) lost(ctx context.Context, r *report) error {
	for _, what := range []struct {
		job    string
		window int
		block  uint64
	}{
		{"one lost packet, windowsize 1: the client is silent", 1, lostInWindow},
		{"one lost packet, windowsize 4, last of its window: the client is silent", ovmfWindow, lostAtTheEnd},
		{"one lost packet, windowsize 4, inside of its window: the client acknowledges the last block before", ovmfWindow, lostInWindow},
	} {
		c := race{unit: seconds, runs: lossRounds, job: what.job}
		load := tftpLoad{file: tftpMega, size: tftpMegaSize, clients: 1, block: ovmfBlock, window: what.window, lose: what.block}
		if err := f.turns(ctx, &c, load, func(_ *tftpServer, o tftpOutcome) float64 { return o.stalled.Seconds() }); err != nil {
			return err
		}
		r.race(c)
		r.add(measure{netboot: true, what: "TFTP: " + what.job, series: *c.by[tftpOurs], limit: lossLimit})
	}
	return nil
}

// crowd is a hall of machines that are switched on at once, in lockstep, as the oldest
// firmware is.
func (f *tftpField) crowd(ctx context.Context, r *report) error {
	load := tftpLoad{file: tftpMega, size: tftpMegaSize, clients: tftpCrowd, block: 1428, window: 1, from: apart, patient: time.Minute}
	what := fmt.Sprintf("%d clients x 1 MiB at once, blksize 1428", tftpCrowd)
	last := race{unit: seconds, runs: crowdRounds, job: what + ": until the last has it"}
	used, before := race{unit: seconds, runs: crowdRounds, job: what + ": processor time for a GiB"}, map[string]time.Duration{}
	for _, s := range f.servers {
		before[s.name], _ = process(s.cmd.Process.Pid).processor()
	}
	err := f.turns(ctx, &last, load, func(s *tftpServer, o tftpOutcome) float64 {
		after, _ := process(s.cmd.Process.Pid).processor()
		if s.name != tftpHPA && o.failed == 0 { // whose work is done by children that nobody waits for
			used.add(s.name, (after-before[s.name]).Seconds()/(float64(o.bytes)/(1<<30)))
		}
		before[s.name] = after
		return o.took.Seconds()
	})
	if err != nil {
		return err
	}
	r.race(last)
	r.race(used)
	memory, err := process(f.servers[0].cmd.Process.Pid).memory()
	if err != nil {
		return err
	}
	ours := *last.by[tftpOurs]
	ours.memory = memory
	r.add(measure{netboot: true, what: "TFTP: " + last.job, series: ours, limit: crowdLimit, memoryLimit: crowdMemory, note: "0 failures; memory with all that this server did before"})
	r.add(measure{netboot: true, what: "TFTP: " + used.job, series: *used.by[tftpOurs], limit: crowdCost})
	return nil
}

// admission is the crowd before a server that lets few transfers run at once: who is
// late waits for its OACK and gets no error.
func (f *tftpField) admission(ctx context.Context, r *report) error {
	s, err := startTFTP(ctx, f.lab, tftpOurs, f.root, tftp.Limits{Transfers: admitted})
	if err != nil {
		return err
	}
	defer s.stop()
	o, err := tftpLoad{server: s.addr, file: tftpMega, size: tftpMegaSize, clients: tftpCrowd, block: 1428, window: ovmfWindow, from: apart, patient: time.Minute}.run()
	if err == nil && o.failed > 0 {
		err = fmt.Errorf("%d of %d clients failed: %w", o.failed, tftpCrowd, o.first)
	}
	if err != nil {
		return err
	}
	r.add(measure{netboot: true, what: fmt.Sprintf("TFTP: %d clients x 1 MiB at once, windowsize 4, of which %d may at once: until the last has it", tftpCrowd, admitted), series: one(o.took.Seconds()), limit: crowdLimit,
		note: "0 failures, 0 errors"})
	return nil
}

// benchHTTPCrowd is the crowd over HTTP.
func benchHTTPCrowd(ctx context.Context, l *lab, r *report) error {
	root := filepath.Join(l.dir, "http-mega")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, ukiName), make([]byte, tftpMegaSize), 0o644); err != nil {
		return err
	}
	s, err := startHTTP(ctx, l, root, "")
	if err != nil {
		return err
	}
	defer s.stop()
	var took series
	for range crowdRounds {
		o := httpLoad{server: s.addr, path: ukiName, size: tftpMegaSize, clients: tftpCrowd, probe: true}.run()
		if o.failed > 0 {
			return fmt.Errorf("%d of %d clients failed: %w", o.failed, tftpCrowd, o.first)
		}
		took.values = append(took.values, o.took.Seconds())
	}
	if took.memory, err = process(s.cmd.Process.Pid).memory(); err != nil {
		return err
	}
	r.add(measure{netboot: true, what: fmt.Sprintf("HTTP Boot: %d clients x 1 MiB at once, HEAD and GET: until the last has it", tftpCrowd), series: took, limit: httpMegaLimit, note: "0 failures"})
	return nil
}
