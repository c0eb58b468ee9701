package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/pxe/dhcp"
	"github.com/ingot-os/ingot/pxe/dhcpd"
	pxe "github.com/ingot-os/ingot/pxe/netboot"
	"github.com/ingot-os/ingot/pxe/tftp"
)

const (
	ovmfRounds = 3
	ovmfTap    = "vm0"
	ovmfLimit  = 5 * time.Minute // for one download, on a machine that does other things
)

// ovmfEnv makes this program a namespace with a virtual machine and its server:
// "FOLDER WINDOW".
const ovmfEnv = "INGOT_BENCH_OVMF"

// benchOVMF has the firmware itself load a UKI, from a server with windows and from the
// same without.
func benchOVMF(ctx context.Context, l *lab, r *report) error {
	if os.Geteuid() != 0 {
		say("OVMF: not measured: a network namespace takes root")
		return nil
	}
	root, err := tftpFolder(l.dir)
	if err != nil {
		return err
	}
	var on, off series
	for range ovmfRounds {
		for window, took := range map[int]*series{ovmfWindow: &on, 1: &off} {
			d, err := runOVMF(ctx, root, window)
			if err != nil {
				return err
			}
			took.values = append(took.values, d.Seconds())
		}
	}
	r.add(measure{netboot: true, what: "TFTP: OVMF in a virtual machine loads 15.8 MB, windowsize 4 as it asks: first block to last", series: on, limit: off.median() / ovmfFaster,
		note: fmt.Sprintf("the same server with windows off takes %s (%s); the target is that divided by %.1f", seconds.format(off.median()), off.spread(seconds), ovmfFaster)})
	return nil
}

// runOVMF starts this program in a namespace; it prints how long the download took.
func runOVMF(ctx context.Context, root string, window int) (took time.Duration, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", ovmfEnv, root, window))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, err
	}
	return time.ParseDuration(strings.TrimSpace(string(out)))
}

// download watches for the whole of a file.
type download struct {
	first time.Time
	took  chan time.Duration
}

// Saw implements netboot.Watcher.
func (d *download) Saw(e pxe.Event) {
	switch e.Stage {
	case pxe.First:
		d.first = e.Time
	case pxe.Last:
		d.took <- e.Time.Sub(d.first)
	}
}

// ovmfRules have the machine load the UKI.
type ovmfRules struct{}

func (ovmfRules) Decide(context.Context, pxe.Client) pxe.Answer {
	return pxe.Answer{Verb: pxe.Boot, Method: pxe.TFTP, Path: tftpUKI, Reason: "the only rule"}
}

// ovmfHere is the namespace.
func ovmfHere(spec string) error {
	var folder string
	var limits tftp.Limits
	if _, err := fmt.Sscan(spec, &folder, &limits.Window); err != nil {
		return err
	}
	for _, args := range []string{"link set lo up", "tuntap add dev " + ovmfTap + " mode tap vnet_hdr", "addr add " + hallServer + "/24 dev " + ovmfTap, "link set " + ovmfTap + " up"} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", args, err, out)
		}
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	d, err := dhcpd.Listen(dhcpd.Options{Interfaces: []string{ovmfTap}, Decider: ovmfRules{}, Config: dhcp.Config{
		Mode: dhcp.Full, Subnets: []dhcp.Subnet{{Prefix: netip.MustParsePrefix("10.77.0.0/24"), Pools: []dhcp.Range{{From: netip.MustParseAddr("10.77.0.100"), To: netip.MustParseAddr("10.77.0.150")}}}},
	}})
	if err != nil {
		return err
	}
	conn, err := tftp.Listen(netip.MustParseAddrPort(hallServer+":69"), "")
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, ovmfLimit)
	defer cancel()
	w := &download{took: make(chan time.Duration, 1)}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.Serve(ctx) })
	g.Go(func() error {
		return (&tftp.Server{Source: rootSource{root}, Watcher: w, Limits: limits, Grace: time.Millisecond}).Serve(ctx, conn)
	})
	g.Go(func() error { defer cancel(); return w.firmware(ctx) })
	return g.Wait()
}

// firmware switches a machine on until it has loaded.
func (d *download) firmware(ctx context.Context) error {
	vm, err := qemu.Start(ctx, qemu.Machine{Arch: qemu.AMD64, Accel: qemu.AccelTCG, CPUs: 1, Net: &qemu.Net{Open: openTap, First: true}})
	if err != nil {
		return err
	}
	defer vm.Close()
	select {
	case took := <-d.took:
		fmt.Println(took)
		return nil
	case <-ctx.Done():
		return fmt.Errorf("OVMF has not loaded: %w: %s", ctx.Err(), lastLines(vm.Console(), 5))
	}
}

// openTap opens the machine's end of its cable.
func openTap() (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	r, err := unix.NewIfreq(ovmfTap)
	if err == nil {
		r.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, r)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open tap %s: %w", ovmfTap, err)
	}
	return os.NewFile(uintptr(fd), ovmfTap), nil
}
