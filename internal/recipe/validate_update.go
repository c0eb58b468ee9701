package recipe

import (
	"slices"
	"time"

	"github.com/ingot-os/ingot/initramfs/kmod"
	"github.com/ingot-os/ingot/internal/appliance"
)

func (c *checker) update() {
	u := c.r.Update
	if u == nil {
		return
	}
	if t := c.r.Trust; t == nil || t.Keys == "" && len(t.Image) == 0 {
		c.add("update", "add trust: {keys: DIR}, which ingot keys export writes, or trust.image", "update is given, but trust has no image keys: no release could be told from a forged one")
	}
	if u.Pull && c.r.Attest == nil {
		c.add("update.pull", "add attest: {server: https://...}, or push releases with ingot update", "update.pull is true, but there is no attest: no server assigns releases")
	}
	if u.Bless == BlessAttested && c.r.Attest == nil {
		c.add("update.bless", "add attest: {server: https://...}, or use bless: health", "update.bless is attested, but there is no attest: no verdict would ever come")
	}
	if c.r.Boot.Loader == "systemd-boot" {
		c.add("update", "use boot.loader: firmware", "update is given, but boot.loader is systemd-boot, which picks the slot itself: a trial would not be for one boot only")
	}
	if u.USB && !c.has("usb_storage") {
		c.add("update.usb", "add usb, edge or server to modules:", "update.usb is true, but modules has no driver of sticks")
	}
	c.updateTimes(u)
}

// has tells whether modules: asks for a driver, by its name or by a group. A
// local kernel may have it built in.
func (c *checker) has(module string) bool {
	return c.r.Kernel.File != "" || slices.ContainsFunc(c.r.Modules, func(m string) bool {
		return moduleName(m) == module || slices.Contains(kmod.Groups[m], module)
	})
}

// operators warns when nobody could push a release.
func (e *examiner) operators() {
	if e.r.Update == nil || e.r.Trust == nil {
		return
	}
	a, problems := e.r.readLocalTrust()
	if len(problems) > 0 || a.Operator != nil {
		return // localTrust has said so
	}
	e.warn("update", "add trust.operator, or use trust: {keys: DIR}, which ingot keys export writes", "trust has no authority of operators: nobody may push a release to these machines, ask them for their slots or roll them back")
}

func (c *checker) updateTimes(u *appliance.Update) {
	for _, k := range []struct {
		at          string
		d           appliance.Duration
		least, most time.Duration
		hint        string
	}{
		{"update.interval", u.Interval, time.Second, 24 * time.Hour, "use 1s to 24h"},
		{"update.health", u.Health, time.Second, 24 * time.Hour, "use 1s to 24h"},
		{"update.limit", u.Limit, time.Second, 24 * time.Hour, "use 1s to 24h"},
		{"update.soak", u.Soak, time.Second, 720 * time.Hour, "use 1s to 720h"},
		{"update.patrol", u.Patrol, time.Second, 720 * time.Hour, "use 1s to 720h"},
		// Below it an ordinary start of a machine is a hang; the watchdogs of
		// common chip sets count little more than ten minutes.
		{"update.watchdog", u.Watchdog, 10 * time.Second, 10 * time.Minute, "use 10s to 10m"},
	} {
		if d := time.Duration(k.d); d < k.least || d > k.most {
			c.add(k.at, k.hint, "%s is %s", k.at, d)
		}
	}
	if u.Health > u.Limit {
		c.add("update.health", "use at most update.limit", "update.health is %s, update.limit is %s: no version could become good", u.Health, u.Limit)
	}
}
