package agent

import "github.com/ingot-os/ingot/internal/appliance"
import "github.com/ingot-os/ingot/internal/agent/proc"

type rootfs struct{}

func (r *rootfs) resolve(s appliance.Service) (proc.Command, error) { return proc.Command{}, nil }
func (m *Machine) mountRoot()                                       {}
