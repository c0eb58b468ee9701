package serve

import (
	"sync"

	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// maxSeen bounds what is remembered of machines that only asked: anybody can send
// any MAC address.
const maxSeen = 1 << 16

// seen is what is known of machines by their MAC addresses: the architecture with
// which one asked last, and the host that attested with it.
type seen struct {
	mu    sync.Mutex
	archs map[netboot.MAC]netboot.Arch
	hosts map[netboot.MAC]fleet.Machine
}

// asked remembers an architecture: files are asked for by address alone.
func (s *seen) asked(mac netboot.MAC, a netboot.Arch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.archs == nil {
		s.archs = map[netboot.MAC]netboot.Arch{}
	}
	if _, known := s.archs[mac]; !known && len(s.archs) >= maxSeen {
		for old := range s.archs { // some other one makes room, and asks again when it boots
			delete(s.archs, old)
			break
		}
	}
	s.archs[mac] = a
}

// arch is what a machine last asked with.
func (s *seen) arch(mac netboot.MAC) netboot.Arch {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a, ok := s.archs[mac]; ok {
		return a
	}
	return netboot.Unknown
}

// learn remembers machines that have attested.
func (s *seen) learn(list []fleet.Machine) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hosts == nil {
		s.hosts = map[netboot.MAC]fleet.Machine{}
	}
	for _, m := range list {
		s.hosts[m.MAC] = m
	}
}

func (s *seen) machine(mac netboot.MAC) (fleet.Machine, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.hosts[mac]
	return m, ok
}
