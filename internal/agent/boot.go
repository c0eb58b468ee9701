package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/boot/cmdline"
	"github.com/ingot-os/ingot/internal/agent/device"
	"github.com/ingot-os/ingot/internal/agent/listener"
	"github.com/ingot-os/ingot/internal/agent/network"
	"github.com/ingot-os/ingot/internal/agent/proc"
	"github.com/ingot-os/ingot/internal/appliance"
)

// Format is the revision of appliance.Spec that this init understands.
const Format = 1

// Run is the life of PID 1. It does not return.
func Run(o Options) {
	m := &Machine{log: newLog(), stop: make(chan stopRequest, 4), cgroups: cgroups, options: o, judged: make(chan struct{}), online: make(chan struct{})}
	m.guard("init", m.run)
	m.crash("init ended") // run returns only when the kernel refuses to stop
}

func (m *Machine) run() {
	mountErr := create(early)
	catchFatal()
	sysctlErr := setSysctls()
	m.spawn("console", func() { m.log.write(consoles()) })
	if err := errors.Join(mountErr, sysctlErr, create(usual)); err != nil {
		m.problem("prepare: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.ctx = ctx
	m.reaper = proc.NewReaper()
	m.spawn("reaper", func() { m.reaper.Run(context.Background()) })
	m.watchSignals()
	m.spawn("boot", m.boot)
	r := <-m.stop
	m.shutdown(r, cancel)
}

// boot brings the machine up. Steps that wait for each other are in order;
// disks and network are not and run side by side.
func (m *Machine) boot() {
	m.readSpec()
	m.setClock()
	m.startDevices()
	m.beginJudging()
	m.spawn("TPM", m.hideTPM)
	m.spawn("power button", m.watchPower)
	m.spawn("listener", m.listen)
	m.findRole()
	m.readFloor()
	m.bootSlots()
	m.endJudging()
	m.endKexec()
	m.writeSchema()
	file := m.loadMachine()
	if d := m.diskless(); d != nil {
		file = d.ask(m)
	}
	m.measureBoot(file)
	m.applyMachine(file)
	m.setHostname()
	close(m.judged)
	var ready sync.WaitGroup
	ready.Go(func() {
		defer close(m.online)
		m.guard("network", m.startNetwork)
	})
	ready.Go(func() { m.guard("data", m.mountData) })
	ready.Go(func() { m.guard("root", m.mountRoot) })
	ready.Wait()
	if m.endPhase() {
		m.spawn("attestation", m.attest)
		if d := m.diskless(); d != nil {
			m.spawn("boot reports", func() { d.report(m) })
		}
		m.startServices()
	}
	m.startGrowth()
	m.spawn("clock", m.keepClock)
	m.spawn("smoke", m.serveSmoke)
	m.keepFloor()
	m.report()
}

// report fills in what is only told, when nothing waits for it any more.
func (m *Machine) report() {
	entries := m.vars.Snapshot()
	evidence := m.lookBack()
	m.update(func(s *listener.Status) {
		s.Boot.Entries, s.Boot.Evidence = entries, evidence.text
	})
	m.settleEvidence()
}

func (m *Machine) readSpec() {
	text, err := os.ReadFile("/proc/cmdline")
	if err == nil {
		m.cmdline = cmdline.Parse(string(text))
	}
	b, err := os.ReadFile("/" + appliance.Path)
	if err == nil {
		err = json.Unmarshal(b, &m.spec)
	}
	if err == nil && m.spec.Format != Format {
		err = fmt.Errorf("format %d, this init reads %d", m.spec.Format, Format)
		m.spec = appliance.Spec{}
	}
	if err != nil {
		m.problem("read /%s: %v", appliance.Path, err)
	}
	var u unix.Utsname
	_ = unix.Uname(&u) // cannot fail with a valid pointer
	m.update(func(s *listener.Status) {
		s.Name, s.Version, s.Build, s.Arch = m.spec.Name, m.spec.Version, m.spec.Build, m.spec.Arch
		s.Kernel = unix.ByteSliceToString(u.Release[:])
		if s.Attestation.State = "absent"; m.spec.Attest != nil {
			s.Attestation.State = "waiting"
		}
	})
	m.log.Printf("%s %s on Linux %s", m.spec.Name, m.spec.Version, unix.ByteSliceToString(u.Release[:]))
	if build, ok := m.cmdline.Get("ingot.build"); ok && build != m.spec.Build {
		m.problem("compare builds: the command line says %.64s, the initramfs %.64s", build, m.spec.Build)
	}
}

func (m *Machine) startDevices() {
	var u unix.Utsname
	_ = unix.Uname(&u) // as above
	var err error
	m.devices, err = device.New(device.Options{
		Release: unix.ByteSliceToString(u.Release[:]),
		Errorf:  func(f string, a ...any) { m.log.Printf(f, a...) },
		Go:      func(f func()) { m.spawn("device", f) },
	})
	if err != nil {
		m.problem("read module indexes: %v", err)
	}
	events, err := device.Listen()
	if err != nil {
		m.problem("%v", err)
		return
	}
	m.spawn("devices", func() {
		if err := m.devices.Run(m.ctx, events, m.spec.Modules); err != nil {
			m.problem("%v", err)
		}
	})
}

// DefaultListen is where the machine answers when the recipe says nothing.
const DefaultListen = ":9443"

func (m *Machine) listen() {
	addr := m.spec.Management.Listen
	if addr == "" {
		addr = DefaultListen
	}
	l, err := listenAnyTime(m.ctx, addr)
	if err != nil {
		m.problem("listen on %s: %v", addr, err)
		return
	}
	m.log.Printf("listening on %s", addr)
	if m.spec.Update != nil {
		m.serveUpdates(addr, l)
		return
	}
	m.servePlain(addr, l)
}

// listenAnyTime binds to an address that the machine may not have yet.
func listenAnyTime(ctx context.Context, addr string) (net.Listener, error) {
	c := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) error {
		var err error
		e := conn.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_FREEBIND, 1) })
		return errors.Join(e, err)
	}}
	return c.Listen(ctx, "tcp", addr)
}

func (m *Machine) setHostname() {
	name := m.machine.Hostname
	if name == "" {
		name = m.spec.Name
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		m.problem("set hostname %q: %v", name, err)
	}
	m.update(func(s *listener.Status) { s.Hostname = name })
}

// startNetwork brings the network up.
func (m *Machine) startNetwork() {
	if m.netEnd != nil && !m.netEnd() { // it was needed earlier
		return
	}
	interfaces := m.spec.Network
	if len(m.machine.Network) > 0 {
		interfaces = m.machine.Network
	}
	n := &network.Manager{
		Interfaces: interfaces,
		Wait:       m.devices.Wait,
		Load:       m.devices.Load,
		Logf:       m.log.Printf,
		Go:         func(f func()) { m.spawn("network", f) },
	}
	m.mu.Lock()
	m.network = n
	m.mu.Unlock()
	ctx := m.ctx
	if m.netCtx != nil {
		ctx = m.netCtx
		if m.statedBoot() != roleRAM { // the firmware has used a card: it is there
			n.Patience = slowDevice
		}
	}
	ready := make(chan struct{})
	m.spawn("network", func() { n.Run(ctx, func() { close(ready) }) })
	<-ready
}

func (m *Machine) startServices() {
	s, err := newSupervisor(m, m.spec.Services)
	if err != nil {
		m.problem("%v", err) // the builder checks the same; only a foreign spec gets here
		s, _ = newSupervisor(m, nil)
	}
	s.resolve = m.resolveLocal
	if m.rootfs != nil {
		s.resolve = m.rootfs.resolve
	}
	m.mu.Lock()
	m.super = s
	if !m.stopping {
		m.spawn("services", s.run)
	}
	m.mu.Unlock()
	m.releaseServices() // what came before there was anything to release
}

// healthy is called whenever all services are ready. The first time that the
// machine lacks nothing else either, it tells.
func (m *Machine) healthy() {
	if !m.Status().Healthy {
		return
	}
	m.mu.Lock()
	first := m.readyAt == 0
	if first {
		m.readyAt = uptime()
	}
	at := m.readyAt
	m.mu.Unlock()
	if first {
		m.settleEvidence()
		m.spawn("slots", m.watchSlots)
		m.log.Printf("%s %s healthy after %.3f s", m.spec.Name, m.spec.Version, at.Seconds())
	}
}

// settleTime bounds the wait for devices that a configuration names.
const settleTime = 10 * time.Second
