package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ingot-os/ingot/pxe/dhcp"
	"github.com/ingot-os/ingot/pxe/dhcpd"
	"github.com/ingot-os/ingot/pxe/httpboot"
	pxe "github.com/ingot-os/ingot/pxe/netboot"
	"github.com/ingot-os/ingot/pxe/tftp"
)

// A hall of machines after a power cut, in a network namespace of its own with nothing
// but loopback in it: the server answers DHCP there, gives addresses of hallNet, which
// are all the namespace's own, and each machine then fetches from its address.
const (
	hallMachines = 2000
	hallSeed     = 6
	hallServer   = "10.77.0.1"
	hallNet      = "10.77.0.0/16"
	hallMemory   = 256 << 20
	hallPatience = 5 * time.Minute
)

// hallEnv makes this program the machines, and the parent of the server: "FOLDER
// METHOD". hallServerEnv makes it the server: "FOLDER".
const (
	hallEnv       = "INGOT_BENCH_HALL"
	hallServerEnv = "INGOT_BENCH_HALL_SERVER"
)

// hallOutcome is what came of it, in seconds from the beginning.
type hallOutcome struct {
	Bound  []float64 // until each machine had an address
	Named  []float64 // and a boot file, on port 4011
	Done   []float64 // and all of the file
	Asked  int       // messages of DHCP that the machines sent
	Failed int
	First  string // of the failures
	Bytes  int64
	Took   float64 // of the files
	Memory int64   // of the server
}

// benchHall has the machines boot by HTTP, and by TFTP.
func benchHall(ctx context.Context, l *lab, r *report) error {
	if os.Geteuid() != 0 {
		say("PXE storm: not measured: a network namespace takes root")
		return nil
	}
	root, err := ukiFolder(l.dir)
	if err != nil {
		return err
	}
	for _, m := range []pxe.Method{pxe.HTTP, pxe.TFTP} {
		o, err := runHall(ctx, root, m)
		if err != nil {
			return fmt.Errorf("%s: %w", m, err)
		}
		o.report(r, m)
	}
	return nil
}

func (o hallOutcome) report(r *report, m pxe.Method) {
	what := fmt.Sprintf("storm: %d machines switched on at once", hallMachines)
	how := "one HEAD and one GET each, as soon as it has an address and a name"
	if m == pxe.TFTP {
		how = "blksize 1468, windowsize 4, all of them when the last has a name"
	}
	r.add(measure{netboot: true, what: what + ": DISCOVER to ACK, p99", series: one(quantile(o.Bound, 0.99)), note: fmt.Sprintf("before %s; half of them within %s", strings.ToUpper(string(m)), seconds.format(quantile(o.Bound, 0.5)))})
	r.add(measure{netboot: true, what: what + ": and the name of the boot file on port 4011, p99", series: one(quantile(o.Named, 0.99)), note: fmt.Sprintf("%d messages for %d answers, each lease on disk before its ACK", o.Asked, 3*hallMachines)})
	r.add(measure{netboot: true, what: fmt.Sprintf("%s: and a UKI of 20 MB by %s, p99", what, strings.ToUpper(string(m))), series: series{values: []float64{quantile(o.Done, 0.99)}, memory: o.Memory}, memoryLimit: hallMemory,
		note: fmt.Sprintf("0 failures; %s; half of them within %s, %.0f MB/s in all; one server for DHCP, TFTP and HTTP", how, seconds.format(quantile(o.Done, 0.5)), float64(o.Bytes)/o.Took/1e6)})
}

// runHall starts this program in a namespace.
func runHall(ctx context.Context, root string, m pxe.Method) (o hallOutcome, err error) {
	self, err := os.Executable()
	if err != nil {
		return o, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s", hallEnv, root, m))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return o, err
	}
	if err := json.Unmarshal(out.Bytes(), &o); err != nil {
		return o, err
	}
	if o.Failed > 0 {
		return o, fmt.Errorf("%d of %d machines failed: %s", o.Failed, hallMachines, o.First)
	}
	return o, nil
}

// hallHere is the namespace: it starts the server, and then is the machines.
func hallHere(spec string) error {
	root, method, _ := strings.Cut(spec, " ")
	for _, args := range [][]string{{"link", "set", "lo", "up"}, {"addr", "add", hallServer + hallNet[strings.Index(hallNet, "/"):], "dev", "lo"}} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	server := exec.Command(self)
	server.Env = append(os.Environ(), hallEnv+"=", hallServerEnv+"="+root)
	server.Stderr = os.Stderr
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := server.Start(); err != nil {
		return err
	}
	defer func() { server.Process.Signal(syscall.SIGTERM); server.Wait() }()
	at := &httpServer{name: "the server", addr: netip.MustParseAddrPort(hallServer + ":80"), cmd: server}
	if err := at.await(); err != nil {
		return err
	}
	h, err := newHall(hallMachines, hallSeed)
	if err != nil {
		return err
	}
	o := h.boot(pxe.Method(method))
	if o.Memory, err = process(server.Process.Pid).memory(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(o)
}

// hallRules has all machines boot the one file, by TFTP, which is what a PXE client is
// told; by HTTP it comes to those that fetch it so.
type hallRules struct{}

func (hallRules) Decide(_ context.Context, c pxe.Client) pxe.Answer {
	return pxe.Answer{Verb: pxe.Boot, Method: pxe.TFTP, Path: ukiName, Reason: "the only rule", Host: c.MAC.Plain(), Release: "hello-1.0.0"}
}

// serveHallHere is DHCP, TFTP and HTTP of one release, in a process of its own.
func serveHallHere(root string) error {
	source, err := releaseIn(root)
	if err != nil {
		return err
	}
	leases, err := os.MkdirTemp(root, "leases-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(leases)
	d, err := dhcpd.Listen(dhcpd.Options{Interfaces: []string{"lo"}, Decider: hallRules{}, Leases: filepath.Join(leases, "leases"), Config: dhcp.Config{
		Mode: dhcp.Full, Base: dhcp.Base{HTTP: "http://{address}"},
		Subnets: []dhcp.Subnet{{Prefix: netip.MustParsePrefix(hallNet), Pools: []dhcp.Range{{From: netip.MustParseAddr("10.77.16.0"), To: netip.MustParseAddr("10.77.31.255")}}}},
	}})
	if err != nil {
		return err
	}
	conn, err := tftp.Listen(netip.MustParseAddrPort(hallServer+":69"), "")
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", hallServer+":80")
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var g errgroup.Group
	g.Go(func() error { return d.Serve(ctx) })
	g.Go(func() error { return (&tftp.Server{Source: source, Grace: time.Millisecond}).Serve(ctx, conn) })
	g.Go(func() error { return (&httpboot.Server{Source: source}).Serve(ctx, ln) })
	return g.Wait()
}
