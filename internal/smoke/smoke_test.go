package smoke

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/qemu"
)

// fake is a machine that is up after boot; its port 80 is a test server.
type fake struct {
	line    string
	boot    time.Duration
	panics  bool
	address string
	answer  qemu.SmokeAnswer
	asked   []string
}

func (f *fake) WaitLine(ctx context.Context, re *regexp.Regexp) (string, error) {
	select {
	case <-time.After(f.boot):
		if re.MatchString(f.line) {
			return f.line, nil
		}
		<-ctx.Done()
	case <-ctx.Done():
	}
	return "", fmt.Errorf("wait for line: %w; last lines of the console:\n  | stuck", context.Cause(ctx))
}

func (f *fake) WaitEvent(ctx context.Context, name string) (qemu.Event, error) {
	if f.panics && name == qemu.EventPanicked {
		return qemu.Event{Name: name}, nil
	}
	<-ctx.Done()
	return qemu.Event{}, ctx.Err()
}

func (f *fake) Forward(port int) string {
	if port == 80 {
		return f.address
	}
	return ""
}

func (f *fake) Smoke(ctx context.Context, r qemu.SmokeRequest) (qemu.SmokeAnswer, error) {
	f.asked = append(f.asked, r.Name)
	if f.answer.Name == "never" {
		<-ctx.Done()
		return qemu.SmokeAnswer{}, fmt.Errorf("no answer: %w", context.Cause(ctx))
	}
	return f.answer, nil
}

const healthyLine = "[    3.720000] ingot: hello 1.0.0 healthy after 3.720 s"

// serve answers 503 to the first `bad` requests, then "hello from x".
func serve(t *testing.T, bad int32) string {
	t.Helper()
	var n atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/moved":
			http.Redirect(w, r, "/", http.StatusFound)
		case n.Add(1) <= bad:
			http.Error(w, "starting", http.StatusServiceUnavailable)
		default:
			fmt.Fprint(w, "hello from x\n")
		}
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func httpTest(port int, path, body string) appliance.Smoke {
	return appliance.Smoke{Name: "greeting", Timeout: appliance.Duration(time.Second),
		HTTP: &appliance.HTTPCheck{Port: port, Path: path, Body: body}}
}

func TestVerdictOfAGoodMachine(t *testing.T) {
	g := &fake{line: healthyLine, boot: 20 * time.Millisecond, address: serve(t, 3), answer: qemu.SmokeAnswer{Name: "disk", Output: "ext4\n"}}
	v := judge(t.Context(), g, time.Now(), []appliance.Smoke{
		httpTest(80, "/", "hello from"),
		{Name: "disk", Command: []string{"df"}, Output: "ext4"},
		{Name: "moved", HTTP: &appliance.HTTPCheck{Port: 80, Path: "/moved", Status: 302}},
	})
	if !v.OK || v.Error != "" || v.Name != "hello" || v.Version != "1.0.0" || len(v.Tests) != 3 {
		t.Fatalf("got %+v", v)
	}
	if v.Boot.Healthy < 0.02 || v.Boot.HTTP <= 0 {
		t.Errorf("got boot times %+v", v.Boot)
	}
	if got := v.Tests[0].Observed; got != `status 200, "hello from x"` {
		t.Errorf("observed %s", got)
	}
	if len(g.asked) != 1 || g.asked[0] != "disk" {
		t.Errorf("asked the machine for %q", g.asked)
	}
}

func TestVerdictsOfBadTests(t *testing.T) {
	up := func() *fake { return &fake{line: healthyLine, address: serve(t, 0)} }
	command := appliance.Smoke{Name: "c", Command: []string{"x"}, Output: "want", Timeout: appliance.Duration(50 * time.Millisecond)}
	short := func(s appliance.Smoke) appliance.Smoke {
		s.Timeout = appliance.Duration(250 * time.Millisecond)
		return s
	}
	cases := []struct {
		answer qemu.SmokeAnswer
		test   appliance.Smoke
		want   string
	}{
		{test: short(httpTest(80, "/", "other")), want: `no success within 250ms: the answer does not contain "other"`},
		{test: short(appliance.Smoke{Name: "n", HTTP: &appliance.HTTPCheck{Port: 80, Status: 404}}), want: "got status 200, want 404"},
		{test: httpTest(81, "/", ""), want: "port 81 is not forwarded"},
		{test: command, answer: qemu.SmokeAnswer{Exit: 3, Output: "want"}, want: "exit code 3"},
		{test: command, answer: qemu.SmokeAnswer{Output: "got"}, want: `output does not contain "want"`},
		{test: command, answer: qemu.SmokeAnswer{Exit: -1, Error: "not declared"}, want: "not declared"},
		{test: command, answer: qemu.SmokeAnswer{Name: "never"}, want: "no success within 50ms"},
		{test: appliance.Smoke{Name: "empty"}, want: "neither http nor command"},
	}
	for _, c := range cases {
		g := up()
		g.answer = c.answer
		v := judge(t.Context(), g, time.Now(), []appliance.Smoke{c.test})
		if v.OK || len(v.Tests) != 1 || v.Tests[0].OK || !strings.Contains(v.Tests[0].Error, c.want) {
			t.Errorf("want %q, got %+v", c.want, v)
		}
		if v.Error != "1 of 1 smoke tests did not pass" {
			t.Errorf("verdict's error: %q", v.Error)
		}
	}
}

func TestMachineThatNeverComesUp(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	v := judge(ctx, &fake{line: "panic", address: serve(t, 0)}, time.Now(), []appliance.Smoke{httpTest(80, "/", "")})
	if v.OK || !strings.Contains(v.Error, "| stuck") || len(v.Tests) != 0 {
		t.Errorf("got %+v", v)
	}
}

func TestPanicEndsTheWait(t *testing.T) {
	begin := time.Now()
	v := judge(t.Context(), &fake{boot: time.Minute, panics: true}, begin, nil)
	if v.OK || !strings.Contains(v.Error, errPanicked.Error()) || time.Since(begin) > 10*time.Second {
		t.Errorf("got %+v after %v", v, time.Since(begin))
	}
}

func TestNoTestsIsHealthOnly(t *testing.T) {
	v := judge(t.Context(), &fake{line: healthyLine}, time.Now(), nil)
	if !v.OK || v.Tests == nil || v.Boot.HTTP != 0 {
		t.Errorf("got %+v", v)
	}
}

func TestObservedIsBounded(t *testing.T) {
	if got := cut(strings.Repeat("ä", 5000)); len(got) > maxObserved+4 || !strings.HasSuffix(got, "ä ...") {
		t.Errorf("got %d bytes ending in %q", len(got), got[len(got)-8:])
	}
}

func TestRefusedConnectionIsTheReason(t *testing.T) {
	ctx, cancel := context.WithTimeoutCause(t.Context(), 150*time.Millisecond, errors.New("time is up"))
	defer cancel()
	_, err := expectHTTP(ctx, "127.0.0.1:1", appliance.HTTPCheck{Port: 80})
	if err == nil || !strings.Contains(err.Error(), "time is up") || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
}
