package agent

import "github.com/ingot-os/ingot/internal/agent/slots"

// trialHooks are what a trial needs of this machine: watchdog, evidence, health
// and the baseline that it is compared with.
func (m *Machine) trialHooks() slots.Hooks {
	return slots.Hooks{}
}
