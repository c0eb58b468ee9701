package timeline

import (
	"slices"
	"strings"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// Boot is one boot of a machine, as it was seen.
type Boot struct {
	Begun   time.Time      `json:"begun"`
	Host    string         `json:"host,omitempty"`
	Release string         `json:"release,omitempty"` // NAME-VERSION
	Method  netboot.Method `json:"method,omitempty"`  // of the boot file
	Addr    string         `json:"address,omitempty"`
	Steps   []Step         `json:"steps"`
	// Of computes these: how far it came, for people; the stage that says so, which
	// is the one in which it died when Died says that it will come no further.
	Outcome string        `json:"outcome,omitempty"`
	Stage   netboot.Stage `json:"stage,omitempty"`
	Died    bool          `json:"died,omitempty"`
}

// Step is something that was seen, once or several times in a row.
type Step struct {
	Time   time.Time     `json:"time"`
	Stage  netboot.Stage `json:"stage"`
	Path   string        `json:"path,omitempty"`
	Bytes  int64         `json:"bytes,omitempty"`
	Size   int64         `json:"size,omitempty"`
	Detail string        `json:"detail,omitempty"`
	Times  int           `json:"times,omitempty"` // when more than once
}

// Stages beside those of package netboot.
const (
	Chained   netboot.Stage = "ipxe" // iPXE runs, and asks
	Started                 = netboot.Started
	Untrusted netboot.Stage = "untrusted" // its evidence is its own, and is not what the release would give
	Released  netboot.Stage = "released"  // the release is good for this machine: its netboot slot is blessed
)

// reports are stages that a host tells the server, and not a file or a question.
var reports = map[netboot.Stage]bool{netboot.Attested: true, Untrusted: true, netboot.Healthy: true, Released: true}

// ofFile reports whether an event is about a file that is being fetched. Questions
// and offers of DHCP name one, too.
func ofFile(e *netboot.Event) bool {
	switch e.Stage {
	case netboot.Probed, netboot.First, netboot.Last, netboot.Broken:
		return true
	case netboot.Refused: // by DHCP without a method; a TLS handshake has one, and no path
		return e.Method != ""
	}
	return false
}

// leads reports whether the boot could be what has started iPXE or ingot-init.
func (b *Boot) leads(stage netboot.Stage, now time.Time, limit time.Duration) bool {
	f := b.file()
	if f == nil || stage == Chained && f.Stage == netboot.First || b.has(netboot.Attested, Untrusted) || now.Sub(b.Steps[len(b.Steps)-1].Time) > limit {
		return false
	}
	return stage != Chained || b.has(Chained) || isLoader(f.Path, b.Release)
}

// shakes reports whether a TLS handshake that failed could be the boot's: it was offered
// something, and has not attested yet.
func (b *Boot) shakes(now time.Time, limit time.Duration) bool {
	return b.has(netboot.Offered, netboot.First) && !b.has(netboot.Attested, Untrusted) && now.Sub(b.Steps[len(b.Steps)-1].Time) <= limit
}

// isLoader reports whether a file is iPXE and nothing that iPXE loads.
func isLoader(path, release string) bool {
	return strings.HasSuffix(path, ".kpxe") || strings.HasSuffix(path, ".efi") && path != release+".efi"
}

// loaded reports whether a boot file went out whole. A root payload is fetched
// again by the same boot when it does not verify.
func (b *Boot) loaded(path string) bool {
	return !strings.HasPrefix(path, "root/") && slices.ContainsFunc(b.Steps, func(s Step) bool { return s.Stage == netboot.Last && s.Path == path })
}

func (b *Boot) has(stages ...netboot.Stage) bool {
	return slices.ContainsFunc(b.Steps, func(s Step) bool { return slices.Contains(stages, s.Stage) })
}

// same reports whether a step repeats another.
func (s *Step) same(o Step) bool {
	return s.Stage == o.Stage && s.Path == o.Path && s.Detail == o.Detail
}

// add adds a step. One that repeats the last is counted; of a boot with too many
// the ones in the middle go.
func (b *Boot) add(s Step, limit int) {
	if n := len(b.Steps); n > 0 && b.Steps[n-1].same(s) {
		p := &b.Steps[n-1]
		p.Times, p.Bytes, p.Size = max(p.Times, 1)+1, max(p.Bytes, s.Bytes), max(p.Size, s.Size)
		return
	}
	if reports[s.Stage] || s.Stage == Started { // told again and again
		for i := range b.Steps {
			if b.Steps[i].Stage == s.Stage {
				b.Steps[i].Times = max(b.Steps[i].Times, 1) + 1
				return
			}
		}
	}
	if len(b.Steps) >= limit {
		b.Steps = append(b.Steps[:limit/2:limit/2], b.Steps[limit/2+1:]...)
	}
	b.Steps = append(b.Steps, s)
}

func shortPath(p string) string {
	if rest, ok := strings.CutPrefix(p, "boot/"); ok {
		if _, name, ok := strings.Cut(rest, "/"); ok {
			p = name
		}
	}
	return cut(p, 120)
}

// cut is a copy: a part of a text would hold all of it, and a path may be long.
func cut(s string, n int) string {
	return strings.Clone(strings.ToValidUTF8(s[:min(len(s), n)], ""))
}
