package recipe

import (
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/appliance"
)

// The defaults that other packages need to know.
const (
	DefaultSuite = "trixie"
	DefaultStub  = "systemd-boot-efi"
	DefaultESP   = 128 * MiB
	DefaultSlot  = 256 * MiB
	DefaultRoot  = GiB
	DefaultData  = 64 * MiB
	StateSize    = 16 * MiB // fixed by the region map (S13), not a key
)

// applyDefaults fills what the recipe leaves open. It never overwrites.
func (r *Recipe) applyDefaults() {
	def(&r.Arch, "amd64")
	if r.Kernel.File == "" {
		def(&r.Kernel.Package, "linux-image-cloud-"+r.Arch)
		def(&r.Kernel.Suite, DefaultSuite)
	}
	if r.Stub.File == "" {
		def(&r.Stub.Package, DefaultStub)
		def(&r.Stub.Suite, DefaultSuite)
	}
	for i := range r.Firmware {
		if r.Firmware[i].Package != "" {
			def(&r.Firmware[i].Suite, DefaultSuite)
		}
	}
	local := r.Kernel.File != "" && r.Kernel.Modules == "" // nothing to take modules from
	if !r.doc.Has("modules") && r.Modules == nil && !local {
		r.Modules = []string{"virtio"}
	}
	def(&r.Compress, "none")
	def(&r.Management.Listen, ":9443")
	r.defaultConsole()
	for i := range r.Go {
		def(&r.Go[i].Name, programName(r.Go[i].Package))
	}
	if !r.doc.Has("network") && r.Network == nil {
		r.Network = []appliance.Interface{{DHCP: true}}
	}
	for i := range r.Services {
		defaultService(&r.Services[i])
	}
	for i := range r.Smoke {
		def(&r.Smoke[i].Timeout, seconds(30))
		defaultHTTP(r.Smoke[i].HTTP)
	}
	if r.Attest != nil {
		def(&r.Attest.Interval, seconds(60))
	}
	if r.Update != nil {
		defaultUpdate(r.Update)
	}
	r.defaultDisk()
}

// The defaults are those of the machine (slot.Rules), written out so that the
// image says them.
func defaultUpdate(u *appliance.Update) {
	def(&u.Interval, seconds(5*60))
	def(&u.Bless, BlessHealth)
	def(&u.Health, seconds(60))
	def(&u.Limit, seconds(10*60))
	def(&u.Soak, seconds(60*60))
	def(&u.Patrol, seconds(24*60*60))
	def(&u.Tries, 3)
	def(&u.Watchdog, seconds(60))
}

// def sets a value that was left out.
func def[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

func seconds(n int) appliance.Duration {
	return appliance.Duration(n) * appliance.Duration(time.Second)
}

// defaultConsole adds the first serial port: a machine without a console
// cannot say why it does not boot.
func (r *Recipe) defaultConsole() {
	for _, w := range r.Cmdline {
		if strings.HasPrefix(w, "console=") {
			return
		}
	}
	console := "console=ttyS0"
	if r.Arch == "arm64" {
		console = "console=ttyAMA0"
	}
	r.Cmdline = append([]string{console}, r.Cmdline...)
}

func defaultService(s *appliance.Service) {
	def(&s.Restart.Policy, "always")
	def(&s.Restart.Backoff, seconds(1))
	// A first wait above the default maximum raises the maximum with it.
	def(&s.Restart.Max, max(seconds(30), s.Restart.Backoff))
	def(&s.StopTimeout, seconds(10))
	if h := s.Health; h != nil {
		def(&h.Interval, seconds(5))
		def(&h.Timeout, seconds(2))
		def(&h.Retries, 3)
		defaultHTTP(h.HTTP)
	}
}

func defaultHTTP(h *appliance.HTTPCheck) {
	if h != nil {
		def(&h.Path, "/")
		def(&h.Status, 200)
	}
}

func (r *Recipe) defaultDisk() {
	def(&r.Disk.Sector, 512)
	def(&r.Disk.ESP, DefaultESP)
	def(&r.Disk.Slot, DefaultSlot)
	if r.Root != nil {
		def(&r.Disk.Root, DefaultRoot)
		def(&r.Root.Format, "squashfs")
	}
	def(&r.Boot.Loader, "firmware")
	if r.Data.Disabled {
		r.Data.Data, r.Data.Size = appliance.Data{}, 0
		return
	}
	def(&r.Data.Mount, "/data")
	def(&r.Data.Filesystem, "ext4")
	def(&r.Data.Size, DefaultData)
	if !r.doc.Has("data.accepts") {
		def(&r.Data.Accepts, r.Data.Schema)
	}
}

var majorSuffix = regexp.MustCompile(`^v[0-9]+$`)

// programName is the name that go install would give: the last part of the
// path, without version, and the part before it when that is only v2.
func programName(pkg string) string {
	p, _, _ := strings.Cut(pkg, "@")
	p = path.Clean(p)
	if base := path.Base(p); majorSuffix.MatchString(base) {
		p = path.Dir(p)
	}
	if base := path.Base(p); base != "." && base != ".." && base != "/" {
		return base
	}
	return ""
}
