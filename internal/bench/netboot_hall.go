package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	pxe "github.com/ingot-os/ingot/pxe/netboot"
)

// A hall of machines after a power cut, in a network namespace of its own with nothing
// but loopback in it: ingot serve answers DHCP there, gives addresses of hallNet, which
// are all the namespace's own, and each machine then fetches from its address.
const (
	hallMachines = 2000
	hallSeed     = 6
	hallServer   = "10.77.0.1"
	hallNet      = "10.77.0.0/16"
	hallMemory   = 256 << 20
	hallPatience = 5 * time.Minute
)

// hallEnv makes this program the machines, and the parent of the server: "INGOT FOLDER
// METHOD SIZE", a program, the folder of its serve.yaml, and how long the boot file is.
const hallEnv = "INGOT_BENCH_HALL"

// hallConfig is serve.yaml: of an image set.
const hallConfig = `releases: [%s]
insecureReleases: true
state: state
interfaces: [lo]
address: ` + hallServer + `
attest: {off: true}
dhcp:
  mode: full
  subnets:
    - {subnet: ` + hallNet + `, pools: [10.77.16.0-10.77.31.255]}
`

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
	uki, err := os.Stat(filepath.Join(l.base.set, filepath.Base(l.base.set)+".efi"))
	if err != nil {
		return err
	}
	for _, m := range []pxe.Method{pxe.HTTP, pxe.TFTP} {
		o, err := runHall(ctx, l, m, uki.Size())
		if err != nil {
			return fmt.Errorf("%s: %w", m, err)
		}
		o.report(r, m, uki.Size())
	}
	return nil
}

func (o hallOutcome) report(r *report, m pxe.Method, size int64) {
	what := fmt.Sprintf("`ingot serve`, %d machines switched on at once", hallMachines)
	how := "one HEAD and one GET each, as soon as it has an address and a name"
	if m == pxe.TFTP {
		how = "blksize 1468, windowsize 4, all of them when the last has a name"
	}
	r.add(measure{netboot: true, what: what + ": DISCOVER to ACK, p99", series: one(quantile(o.Bound, 0.99)), note: fmt.Sprintf("before %s; half of them within %s", strings.ToUpper(string(m)), seconds.format(quantile(o.Bound, 0.5)))})
	r.add(measure{netboot: true, what: what + ": and the name of the boot file on port 4011, p99", series: one(quantile(o.Named, 0.99)), note: fmt.Sprintf("%d messages for %d answers, each lease on disk before its ACK", o.Asked, 3*hallMachines)})
	r.add(measure{netboot: true, what: fmt.Sprintf("%s: and its UKI of %s by %s, p99", what, bytesMB.format(float64(size)), strings.ToUpper(string(m))), series: series{values: []float64{quantile(o.Done, 0.99)}, memory: o.Memory}, memoryLimit: hallMemory,
		note: fmt.Sprintf("0 failures; %s; half of them within %s, %.0f MB/s in all", how, seconds.format(quantile(o.Done, 0.5)), float64(o.Bytes)/o.Took/1e6)})
}

// runHall starts this program in a namespace.
func runHall(ctx context.Context, l *lab, m pxe.Method, size int64) (o hallOutcome, err error) {
	self, err := os.Executable()
	if err != nil {
		return o, err
	}
	dir, err := os.MkdirTemp(l.dir, "hall-")
	if err != nil {
		return o, err
	}
	if err := os.WriteFile(filepath.Join(dir, "serve.yaml"), fmt.Appendf(nil, hallConfig, l.base.set), 0o644); err != nil {
		return o, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %s %d", hallEnv, l.ingot, dir, m, size))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return o, err
	}
	if err := json.Unmarshal(out, &o); err != nil {
		return o, err
	}
	if o.Failed > 0 {
		return o, fmt.Errorf("%d of %d machines failed: %s", o.Failed, hallMachines, o.First)
	}
	return o, nil
}

// hallHere is the namespace: it starts the server, and then is the machines.
func hallHere(spec string) error {
	var ingot, dir, method string
	var size int64
	if _, err := fmt.Sscan(spec, &ingot, &dir, &method, &size); err != nil {
		return err
	}
	for _, args := range []string{"link set lo up", "addr add " + hallServer + "/16 dev lo"} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", args, err, out)
		}
	}
	server, err := hallServe(ingot, dir)
	if err != nil {
		return err
	}
	defer server.stop()
	h, err := newHall(hallMachines, hallSeed, size)
	if err != nil {
		return err
	}
	o := h.boot(pxe.Method(method))
	if o.Memory, err = process(server.cmd.Process.Pid).memory(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(o)
}

// hallServe starts ingot serve; its lines go into a file beside serve.yaml.
func hallServe(ingot, dir string) (*httpServer, error) {
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s := &httpServer{name: "ingot serve", addr: netip.MustParseAddrPort(hallServer + ":80"), cmd: exec.Command(ingot, "serve", "-c", "serve.yaml")}
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = dir, log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	if err := s.await(); err != nil {
		b, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("%w: %s", err, lastLines(string(b), 5))
	}
	return s, nil
}
