package agent

import (
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/internal/agent/listener"
)

// Status is the machine as it is now.
func (m *Machine) Status() listener.Status {
	m.mu.Lock()
	s := m.status
	s.Problems = slices.Clone(m.problems)
	s.HealthyAt = m.readyAt.Seconds()
	super, net, root := m.super, m.network, m.rootfs
	m.mu.Unlock()
	s.Uptime = uptime().Seconds()
	s.Clock.Now = time.Now().UTC().Format(time.RFC3339)
	s.Services = []listener.Service{}
	if super == nil {
		s.Reasons = append(s.Reasons, listener.NotStarted)
	} else {
		s.Services, s.Reasons = super.list()
	}
	if net != nil {
		s.Network = net.Status()
	}
	if s.Data.State == "mounted" {
		space(&s.Data)
	}
	if root != nil {
		root.check(&s)
	}
	s.TPM = hasTPM2()
	if k := m.slots(); k != nil {
		slots := k.Brief()
		s.Slots = &slots
	}
	if s.Data.State == "failed" {
		s.Reasons = append(s.Reasons, "data: "+s.Data.Error)
	}
	if s.Root != nil && root == nil && s.Root.State != "mounted" { // one that is mounted was looked at above
		s.Reasons = append(s.Reasons, "root: "+s.Root.Error)
	}
	s.Healthy = len(s.Reasons) == 0
	return s
}

// hasTPM2 tells whether the kernel has a driver bound to a TPM 2.0. Its probe
// may end after the services have started, so every status looks again.
func hasTPM2() bool {
	major, err := os.ReadFile("/sys/class/tpm/tpm0/tpm_version_major")
	return err == nil && strings.TrimSpace(string(major)) == "2"
}

// space asks the filesystem for its size and what is free.
func space(d *listener.Data) {
	var st unix.Statfs_t
	if unix.Statfs(d.Mount, &st) != nil {
		return
	}
	d.Size, d.Free = st.Blocks*uint64(st.Bsize), st.Bavail*uint64(st.Bsize)
}
