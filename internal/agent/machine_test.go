package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ingot-os/ingot/boot/cmdline"
	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/agent/listener"
	"github.com/ingot-os/ingot/internal/agent/proc"
	"github.com/ingot-os/ingot/internal/agent/supervise"
	"github.com/ingot-os/ingot/internal/appliance"
)

// The test binary is also the service that the tests supervise.
func TestMain(m *testing.M) {
	switch what := os.Getenv("INGOT_AGENT_CHILD"); what {
	case "":
		os.Exit(m.Run())
	case "serve":
		fmt.Println("serving")
		time.Sleep(time.Hour)
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("serving")
		time.Sleep(time.Hour)
	case "crash":
		fmt.Fprintln(os.Stderr, "going down")
		os.Exit(7)
	case "flaky": // crashes until its file exists
		if _, err := os.Stat(os.Getenv("FILE")); err != nil {
			os.WriteFile(os.Getenv("FILE"), nil, 0o644)
			os.Exit(1)
		}
		time.Sleep(time.Hour)
	case "check":
		if _, err := os.Stat(os.Getenv("FILE")); err != nil {
			fmt.Println("no file yet")
			os.Exit(1)
		}
	case "flood":
		fmt.Print(strings.Repeat("x", 200<<10))
	}
}

// machine is a Machine that is not PID 1: it reaps only its own children.
func testMachine(t *testing.T, services ...appliance.Service) *Machine {
	t.Helper()
	m := idleMachine(t, services...)
	m.startServices()
	return m
}

// idleMachine has not started its services yet.
func idleMachine(t *testing.T, services ...appliance.Service) *Machine {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	m := &Machine{log: newLog(), ctx: ctx, reaper: proc.NewReaper(), stop: make(chan stopRequest, 4)}
	done := make(chan struct{})
	go func() { m.reaper.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for i := range services {
		if services[i].Command == "" {
			services[i].Command = exe
		}
	}
	m.spec = appliance.Spec{Name: "test", Version: "1", Services: services, Users: []appliance.User{{Name: "web", UID: 1000}}}
	return m
}

func env(what string, more ...string) map[string]string {
	e := map[string]string{"INGOT_AGENT_CHILD": what}
	for _, kv := range more {
		k, v, _ := strings.Cut(kv, "=")
		e[k] = v
	}
	return e
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for range 1000 {
		if cond() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}

func logText(m *Machine) string {
	var b strings.Builder
	for _, e := range m.log.Ring.Since(0, "", 1<<20) {
		fmt.Fprintf(&b, "%s: %s\n", e.Source, e.Text)
	}
	return b.String()
}

func TestServicesLiveAndDie(t *testing.T) {
	file := filepath.Join(t.TempDir(), "flag")
	m := testMachine(t,
		appliance.Service{Name: "front", After: []string{"back"}, Env: env("serve")},
		appliance.Service{Name: "back", Env: env("flaky", "FILE="+file), Restart: appliance.Restart{Backoff: appliance.Duration(10 * time.Millisecond)},
			Health: &appliance.Health{Exec: []string{"/bin/sh", "-c", "test -e $FILE"}, Interval: appliance.Duration(20 * time.Millisecond)}},
	)
	eventually(t, "healthy", func() bool { return m.Status().Healthy })
	eventually(t, "a marker", func() bool { return strings.Contains(logText(m), "ingot: test 1 healthy after ") })
	st := m.Status()
	if len(st.Services) != 2 || st.Services[0].State != "running" || st.Services[0].PID == 0 {
		t.Errorf("services = %+v", st.Services)
	}
	eventually(t, "the restart", func() bool { return m.Status().Services[1].Restarts == 1 })
	eventually(t, "healthy again", func() bool { return m.Status().Healthy })
	m.super.shutdown(m.super.stopLimit())
	log := logText(m)
	front, back := strings.Index(log, "service front stopped"), strings.Index(log, "service back stopped")
	if front < 0 || back < front {
		t.Errorf("stop order is wrong:\n%s", log)
	}
	if st := m.Status(); st.Healthy || len(st.Reasons) != 2 {
		t.Errorf("after the stop: %v", st.Reasons)
	}
}

func TestOutputAndExitAreLogged(t *testing.T) {
	m := testMachine(t, appliance.Service{Name: "bad", Env: env("crash"), Restart: appliance.Restart{Policy: "never"}},
		appliance.Service{Name: "missing", Command: "/no/such/program", Restart: appliance.Restart{Policy: "never"}},
		appliance.Service{Name: "ghost", User: "nobody-knows", Restart: appliance.Restart{Policy: "never"}})
	eventually(t, "output", func() bool { return strings.Contains(logText(m), "bad: going down") })
	eventually(t, "failures", func() bool {
		return !slices.ContainsFunc(m.Status().Services, func(s listener.Service) bool { return s.State != "failed" })
	})
	log := logText(m)
	for _, want := range []string{"service bad failed: exited with status 7", "service missing failed: start /no/such/program: no such file", `service ghost failed: find user "nobody-knows"`} {
		if !strings.Contains(log, want) {
			t.Errorf("log lacks %q:\n%s", want, log)
		}
	}
}

func TestStubbornServiceIsKilled(t *testing.T) {
	m := testMachine(t, appliance.Service{Name: "rock", Env: env("stubborn"), StopTimeout: appliance.Duration(50 * time.Millisecond)})
	eventually(t, "start", func() bool { return strings.Contains(logText(m), "rock: serving") })
	m.super.shutdown(10 * time.Second)
	if log := logText(m); !strings.Contains(log, "service rock stopped: killed by signal 9") {
		t.Error(log)
	}
}

func TestCommandIsBounded(t *testing.T) {
	m := testMachine(t)
	exe, _ := os.Executable()
	code, out, err := m.command(appliance.Service{Name: "x", Command: exe, Env: env("flood")}, "", 10*time.Second)
	if code != 0 || err != nil || len(out) != maxOutput {
		t.Errorf("flood: %d, %d bytes, %v; want %d bytes", code, len(out), err, maxOutput)
	}
	start := time.Now()
	code, out, err = m.command(appliance.Service{Name: "x", Command: exe, Env: env("serve")}, "", 200*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "no end within 200ms") || !strings.Contains(out, "serving") || code != 137 || time.Since(start) > 5*time.Second {
		t.Errorf("endless: %d %q %v after %s", code, out, err, time.Since(start))
	}
}

func TestChecks(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/up" {
			w.WriteHeader(http.StatusTeapot)
		}
		io.WriteString(w, "all is well")
	}))
	defer srv.Close()
	_, text, _ := net.SplitHostPort(srv.Listener.Addr().String())
	port, _ := strconv.Atoi(text)
	m := testMachine(t)
	exe, _ := os.Executable()
	for _, c := range []struct {
		health appliance.Health
		want   string // of the error; "" = none
	}{
		{appliance.Health{TCP: port}, ""},
		{appliance.Health{TCP: 1}, "refused"},
		{appliance.Health{HTTP: &appliance.HTTPCheck{Port: port, Path: "/up", Body: "well"}}, ""},
		{appliance.Health{HTTP: &appliance.HTTPCheck{Port: port, Path: "/up", Body: "ill"}}, "does not contain"},
		{appliance.Health{HTTP: &appliance.HTTPCheck{Port: port, Path: "/down"}}, "got status 418, want 200"},
		{appliance.Health{HTTP: &appliance.HTTPCheck{Port: port, Status: 418}}, ""},
		{appliance.Health{Exec: []string{exe}}, "exit status 1: no file yet"},
		{appliance.Health{}, "neither"},
	} {
		err := m.check(t.Context(), appliance.Service{Name: "s", Env: env("check", "FILE=/no"), Health: &c.health}, time.Second)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("check(%+v) = %v, want %q", c.health, err, c.want)
		}
	}
}

func TestEnvironIsClean(t *testing.T) {
	t.Setenv("LEAK", "1")
	got := environ([]string{"PATH=/image", "A=image", "B=image"}, map[string]string{"B": "service"})
	if want := []string{"A=image", "B=service", "HOME=/", "PATH=/image"}; !slices.Equal(got, want) {
		t.Errorf("environ = %q, want %q", got, want)
	}
	if got := environ(nil, nil); !slices.Equal(got, []string{"HOME=/", searchPath}) {
		t.Errorf("environ of nothing = %q", got)
	}
}

func TestAccounts(t *testing.T) {
	m := testMachine(t)
	for name, want := range map[string][2]uint32{"": {0, 0}, "root": {0, 0}, "nobody": {65534, 65534}, "web": {1000, 1000}, "77": {77, 77}} {
		uid, gid, err := m.account(name)
		if err != nil || uid != want[0] || gid != want[1] {
			t.Errorf("account(%q) = %d:%d, %v; want %v", name, uid, gid, err, want)
		}
	}
	for _, name := range []string{"ghost", "-1", "4294967296"} {
		if _, _, err := m.account(name); err == nil {
			t.Errorf("account(%q) succeeds", name)
		}
	}
	file := filepath.Join(t.TempDir(), "passwd")
	os.WriteFile(file, []byte("root:x:0:0::/:/bin/sh\nbroken\napp:x:4242:4343::/:/bin/sh\n"), 0o644)
	for name, want := range map[string][2]uint32{"app": {4242, 4343}, "4242": {4242, 4343}, "99": {99, 99}} {
		id, group, err := lookup(file, name)
		if err != nil || id != want[0] || group != want[1] {
			t.Errorf("lookup(%q) = %d:%d, %v; want %v", name, id, group, err, want)
		}
	}
	if _, _, err := lookup(file, "ghost"); err == nil {
		t.Error("lookup(ghost) succeeds")
	}
	if id, _, err := lookup("/no/such/file", "5"); err != nil || id != 5 {
		t.Errorf("lookup of a number without a file = %d, %v", id, err)
	}
}

func TestUnitDefaults(t *testing.T) {
	u := unit(appliance.Service{Name: "a", Health: &appliance.Health{TCP: 1}})
	want := supervise.Unit{Name: "a", Policy: supervise.Always, Backoff: time.Second, Max: 30 * time.Second, StopTimeout: 10 * time.Second}
	check := *u.Check
	u.Check = nil
	if fmt.Sprint(u) != fmt.Sprint(want) || check != (supervise.Check{Interval: 5 * time.Second, Timeout: 2 * time.Second, Retries: 3}) {
		t.Errorf("unit = %+v %+v", u, check)
	}
	if u := unit(appliance.Service{Restart: appliance.Restart{Backoff: appliance.Duration(time.Minute)}}); u.Max != time.Minute {
		t.Errorf("a backoff above the maximum raises it: got %s", u.Max)
	}
}

type slowConsole struct {
	buf  bytes.Buffer // not embedded: its WriteString would go past the gate
	gate chan struct{}
}

func (c *slowConsole) Write(b []byte) (int, error) {
	<-c.gate
	return c.buf.Write(b)
}

func TestSlowConsoleLosesLinesNotTheRing(t *testing.T) {
	l := newLog()
	c := &slowConsole{gate: make(chan struct{})}
	go l.write([]io.Writer{c})
	for i := range 3000 {
		l.Line("flood", fmt.Sprint("line ", i))
	}
	l.Line("flood", "esc \x1b[2J bell \a tab \t end\r\n")
	if tail := l.Ring.Tail(1); tail[0].Text != "esc \x1b[2J bell \a tab \t end" || tail[0].Seq != 3001 {
		t.Errorf("ring ends with %+v", tail[0])
	}
	close(c.gate)
	flushAll(t, l)
	l.Line("ingot", "last")
	flushAll(t, l)
	text := c.buf.String()
	if !strings.Contains(text, "console lost ") || !strings.Contains(text, "flood: line 0\r\n") || !strings.Contains(text, "ingot: last\r\n") {
		t.Errorf("console has %d bytes: %.200q", len(text), text)
	}
	if strings.ContainsAny(printable("a\x1b[2J\x07\u009bb"), "\x1b\x07\u009b") {
		t.Error("control characters reach the console")
	}
}

// flushAll waits for the console however slow the machine is.
func flushAll(t *testing.T, l *Log) {
	t.Helper()
	eventually(t, "console is written", func() bool {
		l.Flush()
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.busy == 0
	})
}

func TestFlushGivesUpOnAStuckConsole(t *testing.T) {
	l := newLog()
	go l.write([]io.Writer{&slowConsole{gate: make(chan struct{})}})
	l.Line("x", "never written")
	start := time.Now()
	l.Flush()
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("Flush took %s", d)
	}
}

func TestStatusReasons(t *testing.T) {
	m := testMachine(t)
	eventually(t, "healthy", func() bool { return m.Status().Healthy })
	m.update(func(s *listener.Status) {
		s.Data = listener.Data{State: "failed", Error: "no ext4"}
		s.Root = &listener.Root{State: "failed", Error: "bad hash"}
	})
	if st := m.Status(); st.Healthy || !slices.Equal(st.Reasons, []string{"data: no ext4", "root: bad hash"}) {
		t.Errorf("reasons = %q", st.Reasons)
	}
	m.update(func(s *listener.Status) {
		s.Data, s.Root = listener.Data{}, &listener.Root{State: "corrupt", Error: "not this hash"} // found before it was mounted
	})
	if st := m.Status(); st.Healthy || !slices.Equal(st.Reasons, []string{"root: not this hash"}) {
		t.Errorf("reasons = %q", st.Reasons)
	}
	for i := range 200 {
		m.problem("number %d", i)
	}
	if got := len(m.Status().Problems); got != 100 {
		t.Errorf("%d problems kept, want 100", got)
	}
}

func TestRolesWithoutDisk(t *testing.T) {
	m := testMachine(t)
	m.cmdline = cmdline.Parse("console=ttyS0")
	if _, _, err := m.loadState(0); !errors.Is(err, errNoState) {
		t.Errorf("loadState = %v", err)
	}
	m.applyMachine(m.loadMachine())
	m.keepEvidence(slot.InitExit, "panic") // must not fail without a disk
	m.spec.Root = &appliance.Root{Format: "squashfs"}
	m.mountRoot()
	if r := m.Status().Root; r == nil || !strings.Contains(r.Error, "no ingot.roothash") {
		t.Errorf("root = %+v", r)
	}
	if _, err := m.resolveLocal(appliance.Service{Name: "a"}); err == nil || !strings.Contains(err.Error(), "no command") {
		t.Errorf("resolve of a service without command = %v", err)
	}
}

func TestRequestNeverBlocks(t *testing.T) {
	m := testMachine(t)
	for range 100 {
		m.request(stopRequest{why: "button"})
	}
}

func TestListenBeforeTheAddressIsThere(t *testing.T) {
	l, err := listenAnyTime(t.Context(), "203.0.113.77:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}
