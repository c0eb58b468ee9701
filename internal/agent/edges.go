package agent

import (
	"os"
	"time"

	"github.com/ingot-os/ingot/internal/agent/power"
	"github.com/ingot-os/ingot/internal/agent/smoke"
	"github.com/ingot-os/ingot/internal/appliance"
)

// watchPower turns the machine off when its button is pressed. A machine
// without ACPI has no such button; that is not a problem.
func (m *Machine) watchPower() {
	b, err := power.Listen()
	if err != nil {
		m.log.Printf("power button: %v", err)
		return
	}
	err = b.Run(m.ctx, func() { m.request(stopRequest{why: "power button", power: true}) })
	if err != nil {
		m.log.Printf("power button: %v", err)
	}
}

// serveSmoke answers `ingot test` where the host offers the port.
func (m *Machine) serveSmoke() {
	node := ""
	m.devices.Wait(m.ctx, settleTime, func() bool {
		node = smoke.Find("/sys")
		return node != ""
	})
	if node == "" {
		return
	}
	srv := &smoke.Server{Declared: m.spec.Smoke, Run: m.runSmoke}
	m.log.Printf("smoke commands are answered on %s", node)
	for m.ctx.Err() == nil {
		f, err := os.OpenFile(node, os.O_RDWR, 0)
		if err == nil {
			err = srv.Serve(f)
			f.Close()
		}
		if err != nil {
			m.log.Printf("smoke: %v", err)
		}
		time.Sleep(200 * time.Millisecond) // no host at the other end reads as end of file
	}
}

// runSmoke runs a declared command as root without capabilities, as a service
// that names neither user nor capabilities runs.
func (m *Machine) runSmoke(command []string, limit time.Duration) (int, string, error) {
	s := appliance.Service{Name: "smoke", Command: command[0], Args: command[1:]}
	return m.command(s, m.cgroup("smoke"), limit)
}
