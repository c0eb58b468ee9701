package agent

import (
	"net"
	"runtime/debug"
	"time"

	"github.com/ingot-os/ingot/internal/agent/listener"
	"github.com/ingot-os/ingot/internal/agent/updates"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// listener answers everybody, about this machine.
func (m *Machine) listener() *listener.Server {
	return &listener.Server{Status: m.Status, Logs: m.log.Ring, Failed: m.failedLog, Slots: func() *updateapi.Slots {
		k := m.slots()
		if k == nil {
			return nil
		}
		s := k.Slots()
		return &s
	}}
}

// serveUpdates lets the update client have the listener, once it is known which
// slot runs: requests wait until then. Machines without slots serve the plain
// answers.
func (m *Machine) serveUpdates(addr string, l net.Listener) {
	select {
	case <-m.judged:
	case <-m.ctx.Done():
		return
	}
	k := m.slots()
	switch {
	case m.options.Update == nil:
		m.problem("update: this init takes none; the image has the wrong variant of it")
	case k == nil && m.isRAM(): // the boot server has its releases
	case k == nil:
		m.problem("update: this machine was not started from a slot, so it takes no updates")
	}
	if m.options.Update == nil || k == nil {
		m.servePlain(addr, l)
		return
	}
	client := updates.Machine{Spec: m.spec, Keeper: k, Wait: m.devices.Wait, Partition: m.partition, Server: m.server, Certificate: m.identity,
		Now: m.now, Listener: l, Plain: m.listener().Handle, Shows: m.showKey, Problem: m.problem, Logf: m.log.Printf}
	for m.ctx.Err() == nil {
		m.updateOnce(client)
		select {
		case <-time.After(updateAgain):
		case <-m.ctx.Done():
			return
		}
		client.Listener.Close() // it may have been left open, or not
		l, err := listenAnyTime(m.ctx, addr)
		if err != nil {
			m.problem("listen on %s: %v", addr, err)
			continue
		}
		client.Listener = l
	}
}

// updateAgain is the wait before an update client that has ended is started anew.
const updateAgain = 10 * time.Second

// updateOnce keeps a panic of the update client to itself, as attestOnce does.
func (m *Machine) updateOnce(client updates.Machine) {
	defer func() {
		if v := recover(); v != nil {
			m.problem("the update client has failed: %v", v)
			m.log.Printf("%s", debug.Stack())
		}
	}()
	m.options.Update(m.ctx, client)
}

func (m *Machine) servePlain(addr string, l net.Listener) {
	if err := m.listener().Serve(m.ctx, l); err != nil {
		m.problem("serve on %s: %v", addr, err)
	}
}

// identity is what the attestation server gave for the machine's name.
func (m *Machine) identity() (certificate, key []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.certificate, m.key
}

// showKey tells which key operators are shown.
func (m *Machine) showKey(key string) {
	m.update(func(s *listener.Status) { s.Management.Key = key })
}

// now is the time, and never before the image.
func (m *Machine) now() time.Time {
	if t := time.Now(); t.After(m.floor) {
		return t
	}
	return m.floor
}
