package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/agent/listener"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/rig"
)

// The ports of testdata/behaviour.
const (
	moodyPort, laterPort, plainPort, stubbornPort = 8001, 80, 8003, 8004
)

// TestServices boots one machine whose services behave in every way that a
// supervisor has to deal with, whose machine.yaml is broken, and whose hardware
// clock has lost its battery.
// It is at 2001: OVMF and Linux make 2070 of the two digits of 1970.
func TestServices(t *testing.T) {
	needs(t, "amd64")
	set := image(t, variant{example: "testdata/behaviour"})
	g := powerOn(t, set, healthy, func(m *qemu.Machine) {
		m.ExtraArgs = []string{"-rtc", "base=2001-01-01T00:00:00"}
		m.State = rig.State([]byte(brokenYAML))
	})
	for _, part := range []struct {
		name string
		test func(*guest)
	}{
		{"machine.yaml", checkRefused},
		{"order", checkOrder},
		{"backoff", checkBackoff},
		{"privileges", checkPrivileges},
		{"clock", checkClock},
		{"commands", checkCommands},
		{"logs", checkLogs},
		{"unhealthy", checkUnhealthy},
		{"panic", checkPanic},
		{"stop", checkStop}, // the last: it powers off
	} {
		t.Run(part.name, func(t *testing.T) { part.test(&guest{g.VM, t, g.port}) })
	}
}

// logs are the machine's log lines of one source, "" for all.
func (g *guest) logs(source string, since uint64) listener.Logs {
	g.t.Helper()
	code, body := g.get(g.port, fmt.Sprintf("/v1/logs?since=%d&service=%s", since, source))
	var l listener.Logs
	if err := json.Unmarshal([]byte(body), &l); err != nil || code != http.StatusOK {
		g.t.Fatalf("/v1/logs: %d, %v", code, err)
	}
	return l
}

// said returns the times of the log lines of a source that contain a text.
func (g *guest) said(source, text string) (at []float64) {
	g.t.Helper()
	for _, l := range g.logs(source, 0).Lines {
		if l.Service == source && strings.Contains(l.Text, text) {
			at = append(at, l.At)
		}
	}
	return at
}

// checkOrder: a service starts when those it waits for are healthy, not when
// they run.
func checkOrder(g *guest) {
	start, moody, flaky := g.said("ingot", "service later started"), g.said("ingot", "service moody healthy"), g.said("ingot", "service flaky healthy")
	if len(start) != 1 || len(moody) == 0 || len(flaky) == 0 || start[0] < moody[0] || start[0] < flaky[0] {
		g.t.Errorf("later started at %v, moody was healthy at %v, flaky at %v", start, moody, flaky)
	}
	if well := g.said("moody", "well for the first time"); len(well) != 1 || moody[0] < well[0] {
		g.t.Errorf("moody was taken for healthy at %v, it was at %v", moody, well)
	}
	s := service(g.t, g.status(), "once")
	if s.State != "completed" || s.Restarts != 0 || len(g.said("once", "done")) != 1 {
		g.t.Errorf("once: %+v", s)
	}
}

// checkBackoff: the waits double up to the largest, and the state directory
// that counts the starts is the user's.
func checkBackoff(g *guest) {
	s := service(g.t, g.status(), "flaky")
	if s.Restarts != 3 || s.State != "running" || s.Health != "healthy" {
		g.t.Errorf("flaky: %+v, want three restarts and health", s)
	}
	starts := g.said("ingot", "service flaky started")
	ends := g.said("ingot", "service flaky exited with status 1, starts again in")
	if len(starts) != 4 || len(ends) != 3 {
		g.t.Fatalf("flaky started at %v, ended at %v", starts, ends)
	}
	for i, want := range []time.Duration{250 * time.Millisecond, 500 * time.Millisecond, 700 * time.Millisecond} {
		if wait := starts[i+1] - ends[i]; wait < want.Seconds()-0.02 || wait > want.Seconds()+10 {
			g.t.Errorf("wait %d was %.3f s, want %v", i+1, wait, want)
		}
		if len(g.said("ingot", "service flaky exited with status 1, starts again in "+want.String())) != 1 {
			g.t.Errorf("wait %d is not said to be %v", i+1, want)
		}
	}
	if n := len(g.said("flaky", "is not to last: <nil>")); n != 3 {
		g.t.Errorf("flaky complained %d times, want 3", n)
	}
}

// checkPrivileges compares what a user with one capability and root without
// any see of themselves (proc(5), capabilities(7)); 0x400 is NET_BIND_SERVICE.
func checkPrivileges(g *guest) {
	const none, bind = "0000000000000000", "0000000000000400"
	for port, want := range map[int]map[string]string{
		laterPort: {"Uid": "1000 1000 1000 1000", "Gid": "1000 1000 1000 1000", "CapInh": bind, "CapPrm": bind, "CapEff": bind, "CapBnd": bind, "CapAmb": bind},
		plainPort: {"Uid": "0 0 0 0", "Gid": "0 0 0 0", "CapInh": none, "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none},
	} {
		_, body := g.get(port, "/")
		want["NoNewPrivs"], want["Groups"], want["Umask"], want["Dir"] = "1", "", "0022", "/"
		for key, value := range want {
			if got := field(body, key); got != value {
				g.t.Errorf("port %d: %s is %q, want %q", port, key, got, value)
			}
		}
	}
	_, body := g.get(laterPort, "/")
	if group := field(body, "Cgroup"); !strings.HasPrefix(group, "0::/ingot/later") {
		g.t.Errorf("cgroup %s, want one of its own", group)
	}
	if env := field(body, "Env"); !strings.Contains(env, `"GREETING=hello, world"`) || !strings.Contains(env, `"PATH=/bin:`) || strings.Contains(env, "BOOT_IMAGE") {
		g.t.Errorf("environment: %s", env)
	}
}

// field is the value of a line "Key:\tvalue", with single spaces.
func field(text, key string) string {
	m := regexp.MustCompile(`(?m)^` + key + `:(.*)$`).FindStringSubmatch(text)
	if m == nil {
		return "absent"
	}
	return strings.Join(strings.Fields(m[1]), " ")
}

// checkClock: without a battery and a server the time is the image's epoch.
func checkClock(g *guest) {
	c := g.status().Clock
	now, err1 := time.Parse(time.RFC3339, c.Now)
	floor, err2 := time.Parse(time.RFC3339, c.Floor)
	if err1 != nil || err2 != nil || c.Source != "floor" || now.Before(floor) || now.After(floor.Add(time.Hour)) {
		g.t.Errorf("clock: %+v, want the floor and a little", c)
	}
	_, body := g.get(plainPort, "/")
	if year := field(body, "Year"); year != fmt.Sprint(now.Year()) {
		g.t.Errorf("services live in %s, the machine in %d", year, now.Year())
	}
	if len(g.said("ingot", "no time servers are configured, the time comes from the floor "+c.Floor)) != 1 {
		g.t.Error("the log does not say that no time server is configured")
	}
}

// checkCommands: smoke commands run on the machine, as those of u-root's
// busybox, and none that the image does not declare.
func checkCommands(g *guest) {
	ask := func(name string) qemu.SmokeAnswer {
		a, err := g.Smoke(g.t.Context(), qemu.SmokeRequest{Name: name})
		if err != nil {
			g.t.Fatal(err)
		}
		return a
	}
	if a := ask("the root is visible"); a.Exit != 0 || a.Error != "" || !slices.Contains(strings.Fields(a.Output), "init") || !slices.Contains(strings.Fields(a.Output), "data") {
		g.t.Errorf("ls /: %+v", a)
	}
	if a := ask("nobody listens"); a.Exit != 1 || !strings.Contains(a.Output, "connection refused") {
		g.t.Errorf("a command that ends with status 1: %+v", a)
	}
	if a := ask("rm -rf /"); a.Error == "" || a.Output != "" {
		g.t.Errorf("a command that the image does not declare: %+v", a)
	}
}

// checkLogs: each source apart, and continued where the last answer ended.
func checkLogs(g *guest) {
	all := g.logs("", 0)
	if len(all.Lines) < 20 || all.Next != all.Lines[len(all.Lines)-1].Seq {
		g.t.Fatalf("%d lines, next %d", len(all.Lines), all.Next)
	}
	middle := all.Lines[len(all.Lines)/2]
	rest := g.logs("", middle.Seq)
	if rest.Lines[0].Seq != middle.Seq+1 {
		g.t.Errorf("after line %d comes %d", middle.Seq, rest.Lines[0].Seq)
	}
	for _, l := range g.logs("flaky", 0).Lines {
		if l.Service != "flaky" {
			g.t.Errorf("a line of %s among those of flaky", l.Service)
		}
	}
}

// checkUnhealthy: one sick service makes the machine sick, with the reason,
// and nothing else; it runs on and gets well again.
func checkUnhealthy(g *guest) {
	before := service(g.t, g.status(), "moody")
	if code, body := g.get(g.port, "/healthz"); code != http.StatusOK || body != "ok\n" {
		g.t.Errorf("/healthz: %d %q", code, body)
	}
	g.do(http.MethodPost, moodyPort, "/sick", "")
	const want = "service moody is running, unhealthy: GET http://127.0.0.1:8001/health: got status 503, want 200\n"
	eventually(g.t, "/healthz is 503 and says "+want, func() bool {
		code, reason := g.get(g.port, "/healthz")
		return code == http.StatusServiceUnavailable && reason == want
	})
	if s := g.status(); s.Healthy || len(s.Reasons) != 1 || service(g.t, s, "later").Health != "healthy" {
		g.t.Errorf("status of a sick machine: %+v", s)
	}
	g.do(http.MethodPost, moodyPort, "/well", "")
	eventually(g.t, "/healthz is 200", func() bool {
		code, _ := g.get(g.port, "/healthz")
		return code == http.StatusOK
	})
	if after := service(g.t, g.status(), "moody"); after.PID != before.PID || after.Restarts != before.Restarts {
		g.t.Errorf("moody was restarted: %+v, before %+v", after, before)
	}
}

// checkPanic: a service that dies with a stack trace, leaving a child in
// another session, is restarted; the child is gone, the others live on.
func checkPanic(g *guest) {
	before := g.status()
	_, child := g.do(http.MethodPost, stubbornPort, "/panic", "")
	eventually(g.t, "stubborn is restarted", func() bool {
		s := service(g.t, g.status(), "stubborn")
		return s.Restarts == 1 && s.State == "running"
	})
	if len(g.said("stubborn", "panic: told to")) != 1 || len(g.said("stubborn", "main.stubborn")) == 0 {
		g.t.Error("the stack trace is not in the log")
	}
	eventually(g.t, "child "+strings.TrimSpace(child)+" is gone", func() bool {
		_, children := g.get(laterPort, "/children")
		return children == ""
	})
	after := g.status()
	for _, name := range []string{"moody", "flaky", "later", "plain"} {
		if a, b := service(g.t, after, name), service(g.t, before, name); a.PID != b.PID {
			g.t.Errorf("%s has pid %d, had %d", name, a.PID, b.PID)
		}
	}
}

// checkStop: dependents stop first, who does not want to is killed in time.
func checkStop(g *guest) {
	begin := time.Now()
	g.off()
	console := g.Console()
	later, moody := strings.Index(console, "service later stopped"), strings.Index(console, "service moody stopped")
	if later < 0 || moody < later {
		g.t.Error("services did not stop in the reverse of their order")
	}
	if !strings.Contains(console, "service stubborn stopped: killed by signal 9") {
		g.t.Error("stubborn was not killed")
	}
	g.t.Logf("off within %v", time.Since(begin))
}
