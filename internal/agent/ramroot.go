package agent

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/agent/disk"
	"github.com/ingot-os/ingot/internal/agent/fetch"
	"github.com/ingot-os/ingot/internal/agent/listener"
	"github.com/ingot-os/ingot/internal/appliance"
)

// ramReserve is what the system and its services have at least, in bytes, beside a
// root payload in memory.
const ramReserve = 96 << 20

// comeBack is how long a machine whose root did not come can be looked at before it
// is reset: its firmware then asks the boot server again, which may have another
// release for it (S18).
const comeBack = 5 * time.Minute

// comeBackLook is the time between two looks whether an install has ended.
const comeBackLook = 10 * time.Second

// comeBackLater resets the machine after a while, and not within an install: that needs no
// root, and its disk is what the machine starts from then.
func (m *Machine) comeBackLater(r stopRequest) {
	for wait := comeBack; ; wait = comeBackLook {
		select {
		case <-time.After(wait):
		case <-m.ctx.Done():
			return
		}
		if m.requestIdle(r) {
			return
		}
	}
}

// requestIdle asks for the end of the machine, unless a disk is being written.
func (m *Machine) requestIdle(r stopRequest) bool {
	if m.installing.Load() {
		return false
	}
	m.request(r)
	return true
}

// isRAM reports whether this system has no disk of its own: it came over the network,
// or from a kernel's command line.
func (m *Machine) isRAM() bool { return m.disk == nil && m.bootState() == "absent" }

// fetchRoot gets the root payload into memory and makes a block device of it. The
// caller closes the device when it has another user.
func (m *Machine) fetchRoot(r appliance.Root) (node string, dev *os.File, err error) {
	if err := roomFor(r.Size, memoryAvailable()); err != nil {
		return "", nil, err
	}
	<-m.online
	f, err := disk.Memory("ingot-root")
	if err != nil {
		return "", nil, err
	}
	defer f.Close() // the loop device holds it
	start := time.Now()
	source, said := "", time.Time{}
	get := fetch.Fetcher{Sources: m.bootServers, Logf: m.log.Printf, Progress: func(done int64, from string) {
		if source = from; time.Since(said) > time.Second {
			said = time.Now()
			m.fetching(fmt.Sprintf("%d of %d MiB are fetched from %s", done>>20, r.Size>>20, from))
		}
	}}
	m.fetching("it is fetched over the network")
	if err := get.Fetch(m.ctx, fetch.File{Path: "root/" + r.SHA256, Size: r.Size, SHA256: r.SHA256}, f); err != nil {
		return "", nil, err
	}
	m.log.Printf("root: %.1f MiB from %s in %.1f s", float64(r.Size)/(1<<20), source, time.Since(start).Seconds())
	if err := disk.Seal(f); err != nil { // what was checked stays
		return "", nil, err
	}
	_ = m.devices.Load("loop") // built in, or the next step says what is missing
	return disk.Loop(f)
}

// fetching says in the status that the root is on its way.
func (m *Machine) fetching(what string) {
	m.update(func(s *listener.Status) {
		root := listener.Root{State: "fetching", Error: what}
		if m.spec.Root != nil {
			root.Format = m.spec.Root.Format
		}
		s.Root = &root
	})
}

// bootServers are base URLs of boot files, in the order of S14. Where nobody names
// one, the attestation server's host may have them, too.
func (m *Machine) bootServers() (urls []string) {
	m.mu.Lock()
	net := m.network
	m.mu.Unlock()
	if net != nil {
		urls = net.BootServers()
	}
	if n := m.spec.Netboot; n != nil && n.Server != "" {
		urls = append(urls, n.Server)
	}
	if base, _ := m.server(); base != "" {
		urls = append(urls, plainHost(base))
	}
	return urls
}

// plainHost is the plain address of the host of an https URL, at HTTP's own port.
func plainHost(base string) string {
	host := strings.TrimPrefix(base, "https://")
	host, _, _ = strings.Cut(host, "/")
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		host = host[:i]
	}
	return "http://" + host
}

// roomFor says why a payload does not fit into memory.
func roomFor(size, available int64) error {
	if available == 0 || size+ramReserve <= available { // 0: the kernel does not say
		return nil
	}
	const mib = 1 << 20
	return fmt.Errorf("the root payload has %d MiB and %d MiB of memory are free: give the machine %d MiB more, or install it on a disk",
		(size+mib-1)/mib, available/mib, (size+ramReserve-available+mib-1)/mib)
}

// memoryAvailable is MemAvailable of proc_meminfo(5), in bytes; 0 when it is not said.
func memoryAvailable() int64 {
	b, _ := os.ReadFile("/proc/meminfo") // without it, as below
	_, rest, _ := strings.Cut(string(b), "MemAvailable:")
	kib, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, _ := strconv.ParseInt(kib, 10, 64)
	return n << 10
}
