package dhcpd6

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"time"

	"github.com/ingot-os/ingot/pxe/dhcp6"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// entry is a lease in the file.
type entry struct {
	Addr     netip.Addr  `json:"address"`
	DUID     string      `json:"duid,omitempty"` // hex
	IAID     uint32      `json:"iaid"`
	MAC      netboot.MAC `json:"mac"`
	Until    time.Time   `json:"until"`
	Declined bool        `json:"declined,omitempty"`
}

// maxLeaseFile bounds the file in bytes: MaxLeases entries of at most 500.
const maxLeaseFile = dhcp6.MaxLeases * 512

func readLeases(path string) ([]dhcp6.Lease, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxLeaseFile) {
		err = errors.New("not a file of leases")
	}
	if err != nil {
		return nil, fmt.Errorf("read leases: %w", err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read leases: %w", err)
	}
	var list []entry
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("read leases: %s: %w", path, err)
	}
	out := make([]dhcp6.Lease, 0, len(list))
	for i, e := range list {
		duid, err := hex.DecodeString(e.DUID)
		if err != nil || !e.Addr.Is6() {
			return nil, fmt.Errorf("read leases: %s: entry %d: not a lease", path, i)
		}
		out = append(out, dhcp6.Lease{DUID: duid, IAID: e.IAID, Addr: e.Addr, MAC: e.MAC, Until: e.Until, Declined: e.Declined})
	}
	return out, nil
}

// save writes the leases when they may have changed. The file is there whole, old or
// new, whenever the machine fails.
func (s *Server) save() error {
	s.saving.Lock()
	defer s.saving.Unlock()
	s.mu.Lock()
	at := s.policy.Leases.Changes()
	if at == s.kept || s.o.LeaseFile == "" || !s.policy.Assign {
		s.mu.Unlock()
		return nil
	}
	leases := s.policy.Leases.All()
	s.mu.Unlock()
	list := make([]entry, 0, len(leases))
	for _, l := range leases {
		list = append(list, entry{l.Addr, l.DUID.String(), l.IAID, l.MAC, l.Until.UTC(), l.Declined})
	}
	data, err := json.MarshalIndent(list, "", " ")
	if err == nil {
		err = replace(s.o.LeaseFile, data)
	}
	if err != nil {
		return fmt.Errorf("write leases: %w", err)
	}
	s.mu.Lock()
	s.kept = at
	s.mu.Unlock()
	return nil
}

func replace(path string, data []byte) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// rest is how many times longer than a write the server waits before the next one: who
// asks for addresses as fast as can be makes it write a large table for a tenth of the
// time, and not all the time.
const rest = 10

// keepUp writes the leases while the server runs, and looks for new addresses. A disk
// that is full must not end boots: it is tried again, and what cannot be written at the
// end is Close's error.
func (s *Server) keepUp(ctx context.Context) error {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	var next time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			for _, l := range s.links {
				l.look()
			}
			if begun := time.Now(); !begun.Before(next) {
				_ = s.save() // what is not in the file is still a change
				next = time.Now().Add(rest * time.Since(begun))
			}
		}
	}
}
