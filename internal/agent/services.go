package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/ingot-os/ingot/internal/agent/listener"
	"github.com/ingot-os/ingot/internal/agent/proc"
	"github.com/ingot-os/ingot/internal/agent/ring"
	"github.com/ingot-os/ingot/internal/agent/supervise"
	"github.com/ingot-os/ingot/internal/appliance"
)

// cgroups is where each service gets a control group of its own.
const cgroups = "/sys/fs/cgroup/ingot"

func (m *Machine) cgroup(name string) string {
	if m.cgroups == "" {
		return ""
	}
	return filepath.Join(m.cgroups, name)
}

// supervisor carries out what package supervise decides.
type supervisor struct {
	m        *Machine
	services []appliance.Service
	plan     *supervise.Plan
	resolve  func(appliance.Service) (proc.Command, error)
	events   chan supervise.Event
	launches chan supervise.Action // starts that touch the data, one after the other
	done     chan struct{}         // closed when a Shutdown is complete
	pings    chan chan struct{}    // answered by the loop, which shows that it runs

	mu    sync.Mutex
	state supervise.State
	procs []*proc.Process // the process of the present run, by unit
}

func newSupervisor(m *Machine, services []appliance.Service) (*supervisor, error) {
	units := make([]supervise.Unit, len(services))
	for i, s := range services {
		units[i] = unit(s)
		units[i].Hold = m.secrets.waitsFor(s)
	}
	plan, err := supervise.New(units)
	if err != nil {
		return nil, err
	}
	return &supervisor{
		m: m, services: services, plan: plan, state: plan.Initial(),
		events: make(chan supervise.Event, 16), launches: make(chan supervise.Action, len(services)), done: make(chan struct{}), pings: make(chan chan struct{}),
		procs: make([]*proc.Process, len(services)),
	}, nil
}

// unit applies the documented defaults of a service.
func unit(s appliance.Service) supervise.Unit {
	u := supervise.Unit{
		Name: s.Name, After: s.After, Policy: supervise.Policy(s.Restart.Policy),
		Backoff: s.Restart.Backoff.Or(time.Second), Max: s.Restart.Max.Or(30 * time.Second),
		StopTimeout: s.StopTimeout.Or(10 * time.Second),
	}
	if u.Policy == "" {
		u.Policy = supervise.Always
	}
	u.Max = max(u.Max, u.Backoff)
	if h := s.Health; h != nil {
		u.Check = &supervise.Check{Interval: h.Interval.Or(5 * time.Second), Timeout: h.Timeout.Or(2 * time.Second), Retries: h.Retries}
		if u.Check.Retries <= 0 {
			u.Check.Retries = 3
		}
	}
	return u
}

// run is the loop: one event, its actions, then the next. It waits for no disk,
// because the watchdog is fed only while it answers. It ends with the completed
// shutdown.
func (s *supervisor) run() {
	s.m.spawn("service start", s.launchInTurn)
	s.apply(supervise.Event{Kind: supervise.Tick})
	for {
		timer := s.timer()
		select {
		case ev := <-s.events:
			s.apply(ev)
		case <-timer.C:
			s.apply(supervise.Event{Kind: supervise.Tick})
		case pong := <-s.pings:
			close(pong)
		}
		timer.Stop()
		if s.snapshot().Halted {
			close(s.done)
			return
		}
	}
}

func (s *supervisor) timer() *time.Timer {
	at, ok := s.snapshot().Next()
	if !ok {
		return time.NewTimer(time.Hour)
	}
	return time.NewTimer(max(at-uptime(), 0))
}

func (s *supervisor) snapshot() supervise.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

func (s *supervisor) apply(ev supervise.Event) {
	before := s.snapshot()
	now := uptime()
	next, actions := s.plan.Step(before, ev, now)
	s.mu.Lock()
	s.state = next
	s.mu.Unlock()
	s.report(before, next, now)
	for _, a := range actions {
		s.do(a)
	}
	if next.AllReady() {
		s.m.healthy()
	}
}

// report logs what changed for each service in the step at now. The clock is not
// read again: between step and log a busy machine may lose 10 ms of a wait.
func (s *supervisor) report(before, after supervise.State, now time.Duration) {
	for i, u := range after.Units {
		old := before.Units[i]
		name := s.services[i].Name
		switch {
		case u.Phase != old.Phase && u.Phase == supervise.Backoff:
			s.m.log.Printf("service %s %s, starts again in %s", name, u.Detail, u.Until-now)
		case u.Phase != old.Phase && (u.Phase == supervise.Failed || u.Phase == supervise.Completed || u.Phase == supervise.Stopped):
			s.m.log.Printf("service %s %s: %s", name, u.Phase, u.Detail)
		case u.Health != old.Health && u.Health == supervise.Unhealthy:
			s.m.log.Printf("service %s unhealthy: %s", name, u.Detail)
		case u.Health != old.Health && u.Health == supervise.Healthy:
			s.m.log.Printf("service %s healthy", name)
		}
	}
}

func (s *supervisor) do(a supervise.Action) {
	switch a.Do {
	case supervise.Start:
		s.begin(a)
	case supervise.Probe:
		s.m.spawn("health check", func() { s.probe(a) })
	case supervise.Term:
		s.signal(a, func(p *proc.Process) error { return p.Signal(syscall.SIGTERM) })
	case supervise.Kill:
		s.signal(a, (*proc.Process).Kill)
	}
}

// send hands an event to the loop. It is called from the loop too, hence the
// goroutine when the queue is full.
func (s *supervisor) send(ev supervise.Event) {
	select {
	case s.events <- ev:
	default:
		s.m.spawn("supervisor event", func() { s.events <- ev })
	}
}

// tell hands an event to the loop and waits until it takes it, so that events of
// one run stay in order. It is not for the loop itself.
func (s *supervisor) tell(ev supervise.Event) {
	select {
	case s.events <- ev:
	case <-s.done:
	}
}

// begin starts a service beside the loop: its disk may be slow, or a large state
// directory has to be given to another user. State directories may lie in each
// other, so those services start in the order of the plan.
func (s *supervisor) begin(a supervise.Action) {
	if s.services[a.Unit].StateDirectory == "" {
		s.m.spawn("service start", func() { s.start(a) })
		return
	}
	s.launches <- a // there is room: a unit has one start at a time
}

func (s *supervisor) launchInTurn() {
	for {
		select {
		case a := <-s.launches:
			s.start(a)
		case <-s.done:
			return
		}
	}
}

func (s *supervisor) start(a supervise.Action) {
	p, err := s.launch(a.Unit)
	if err != nil {
		s.tell(supervise.Event{Kind: supervise.StartFailed, Unit: a.Unit, Run: a.Run, Detail: err.Error()})
		return
	}
	s.mu.Lock()
	s.procs[a.Unit] = p
	s.mu.Unlock()
	s.m.log.Printf("service %s started, pid %d", s.services[a.Unit].Name, p.PID)
	s.tell(supervise.Event{Kind: supervise.Started, Unit: a.Unit, Run: a.Run})
	s.m.spawn("service wait", func() {
		<-p.Done
		p.Clean()
		s.tell(supervise.Event{Kind: supervise.Exited, Unit: a.Unit, Run: a.Run, OK: p.OK(), Detail: p.Exit()})
	})
}

func (s *supervisor) launch(i int) (*proc.Process, error) {
	svc := s.services[i]
	c, err := s.resolve(svc)
	if err != nil {
		return nil, err
	}
	if err := s.m.prepareState(svc, c); err != nil {
		return nil, err
	}
	if err := s.m.placeSecrets(svc, int(c.UID), int(c.GID)); err != nil {
		return nil, err
	}
	if s.snapshot().Stopping { // after it nobody waits for a new process; one that is on its way is asked to stop
		return nil, errors.New("the machine stops")
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	c.Stdout, c.Cgroup = w, s.m.cgroup(svc.Name)
	p, err := s.m.reaper.Start(c)
	if err != nil {
		r.Close()
		return nil, err
	}
	s.m.spawn("service output", func() { s.copyOutput(svc.Name, r) })
	return p, nil
}

// copyOutput turns a service's output into log lines. It ends when the last
// process that holds the pipe has ended.
func (s *supervisor) copyOutput(name string, r io.ReadCloser) {
	defer r.Close()
	br := bufio.NewReaderSize(r, ring.MaxLine)
	for {
		line, err := br.ReadSlice('\n')
		if len(line) > 0 {
			s.m.log.Line(name, string(line))
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

func (s *supervisor) signal(a supervise.Action, f func(*proc.Process) error) {
	s.mu.Lock()
	p := s.procs[a.Unit]
	s.mu.Unlock()
	if p == nil {
		return
	}
	if err := f(p); err != nil {
		s.m.log.Printf("service %s: %v", s.services[a.Unit].Name, err)
	}
}

func (s *supervisor) probe(a supervise.Action) {
	c := s.plan.Units()[a.Unit].Check
	ctx, cancel := context.WithTimeout(s.m.ctx, c.Timeout)
	defer cancel()
	err := s.m.check(ctx, s.services[a.Unit], c.Timeout)
	ev := supervise.Event{Kind: supervise.Checked, Unit: a.Unit, Run: a.Run, OK: err == nil}
	if err != nil {
		ev.Detail = err.Error()
	}
	s.send(ev)
}

// shutdown stops all services and returns when they are gone or the limit has
// passed.
func (s *supervisor) shutdown(limit time.Duration) {
	s.send(supervise.Event{Kind: supervise.Shutdown})
	select {
	case <-s.done:
	case <-time.After(limit):
		s.m.log.Printf("services did not stop within %s", limit)
	}
}

// stopLimit is the longest time an orderly stop of all services can take: each
// may wait for those that depend on it.
func (s *supervisor) stopLimit() time.Duration {
	limit := 5 * time.Second
	for _, u := range s.plan.Units() {
		limit += u.StopTimeout
	}
	return limit
}

// list is the services part of the status, and why the machine is not healthy.
func (s *supervisor) list() (out []listener.Service, reasons []string) {
	s.mu.Lock()
	state, procs := s.state, slices.Clone(s.procs)
	s.mu.Unlock()
	for i, u := range state.Units {
		name := s.services[i].Name
		e := listener.Service{Name: name, State: string(u.Phase), Health: string(u.Health), Restarts: u.Restarts(), Since: u.Started.Seconds(), Detail: u.Detail}
		if procs[i] != nil && (u.Phase == supervise.Running || u.Phase == supervise.Stopping) {
			e.PID = procs[i].PID
		}
		out = append(out, e)
		if !state.Ready(i) {
			reasons = append(reasons, fmt.Sprintf("service %s is %s, %s: %s", name, u.Phase, u.Health, u.Detail))
		}
	}
	return out, reasons
}
