package serve

import (
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ingot-os/ingot/pxe/dhcpd"
	"github.com/ingot-os/ingot/pxe/httpboot"
	"github.com/ingot-os/ingot/pxe/netboot"
	"github.com/ingot-os/ingot/pxe/tftp"
)

// busy are metrics that have counted something of everything.
func busy(t *testing.T) *metrics {
	t.Helper()
	s := &Server{c: &Config{}, metrics: newMetrics("1.2.3")}
	d, err := dhcpd.Listen(dhcpd.Options{Config: s.dhcpConfig(&Config{DHCP: DHCP{Mode: ModeOff}})})
	if err != nil {
		t.Fatal(err)
	}
	s.countDHCP(d)
	s.countTFTP(&tftp.Server{})
	s.countHTTP(&httpboot.Server{})
	m := s.metrics
	for _, r := range []string{"trusted", "refused", "rejected"} {
		m.verdicts.WithLabelValues(r).Inc()
	}
	for _, r := range []string{"ok", "failed"} {
		m.reloads.WithLabelValues(r).Inc()
	}
	for _, r := range []string{"loaded", "refused"} {
		m.releases.WithLabelValues(r).Inc()
	}
	at := time.Unix(1700000000, 0)
	for i, stage := range []netboot.Stage{netboot.Asked, netboot.Offered, netboot.Refused, netboot.Probed, netboot.First, netboot.Last, netboot.First, netboot.Broken} {
		e := netboot.Event{Time: at.Add(time.Duration(i) * time.Second), Stage: stage, Bytes: 100, Size: 100, Addr: netip.MustParseAddrPort("192.0.2.1:1024")}
		if i > 1 {
			e.Method, e.Path = netboot.TFTP, "boot/525400123456/hello-1.0.0.efi"
		}
		m.Saw(e)
	}
	decider := deciding{&counting{}, m}
	for a := range 300 { // whatever clients claim to be
		decider.Decide(t.Context(), netboot.Client{Arch: netboot.Arch(a), MAC: netboot.MAC{byte(a)}})
	}
	return m
}

// TestMetricsLint has the linter of Prometheus look at all names and types.
func TestMetricsLint(t *testing.T) {
	problems, err := testutil.GatherAndLint(busy(t).registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// TestMetricsAreDocumented: docs/serve.md has a row for each metric of ours with
// its labels, and none that is not there.
func TestMetricsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/serve.md")
	if err != nil {
		t.Fatal(err)
	}
	families, err := busy(t).registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "ingot_") {
			continue
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		want = append(want, fmt.Sprintf("| `%s` | %s | %s | %s |", f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp()))
	}
	have := regexp.MustCompile("(?m)^\\| `ingot_.*$").FindAllString(string(page), -1)
	slices.Sort(want)
	slices.Sort(have)
	if !slices.Equal(want, have) {
		t.Errorf("docs/serve.md has\n%s\nwant\n%s", strings.Join(have, "\n"), strings.Join(want, "\n"))
	}
}

// TestMetricsAreBounded: clients choose no label, so their number stays.
func TestMetricsAreBounded(t *testing.T) {
	m := busy(t)
	before := testutil.CollectAndCount(m.decisions)
	if before > 20 {
		t.Errorf("%d series of decisions", before)
	}
	for i := range 100000 {
		m.Saw(netboot.Event{Time: time.Unix(1700000000, 0), Stage: netboot.First, Method: netboot.HTTP, Path: fmt.Sprint("boot/", i), Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), uint16(i))})
	}
	if n := m.running.len(); n > maxRunning || n < maxRunning/2 {
		t.Errorf("%d transfers are remembered", n)
	}
	if m.ended(transferKey{netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 99999 >> 8 & 0xff, 99999 & 0xff}), 99999&0xffff), netboot.HTTP, "boot/99999"}).IsZero() {
		t.Error("the newest is not remembered")
	}
	if n := testutil.CollectAndCount(m.stages); n > 12 {
		t.Errorf("%d series of stages", n)
	}
}

func TestDurations(t *testing.T) {
	m := newMetrics("")
	at := time.Unix(1700000000, 0)
	for i, stage := range []netboot.Stage{netboot.First, netboot.Last} {
		m.Saw(netboot.Event{Time: at.Add(time.Duration(i) * 3 * time.Second), Stage: stage, Method: netboot.HTTP, Path: "p", Bytes: 7})
	}
	if got := testutil.ToFloat64(m.bytes.WithLabelValues("http")); got != 7 {
		t.Errorf("%v bytes", got)
	}
	want := `
# HELP ingot_transfer_duration_seconds From the first byte of a file to its last, by method.
# TYPE ingot_transfer_duration_seconds histogram
`
	for _, le := range []string{"0.1", "0.25", "0.5", "1", "2.5"} {
		want += fmt.Sprintf("ingot_transfer_duration_seconds_bucket{method=\"http\",le=%q} 0\n", le)
	}
	for _, le := range []string{"5", "10", "30", "60", "120", "300", "+Inf"} {
		want += fmt.Sprintf("ingot_transfer_duration_seconds_bucket{method=\"http\",le=%q} 1\n", le)
	}
	want += "ingot_transfer_duration_seconds_sum{method=\"http\"} 3\ningot_transfer_duration_seconds_count{method=\"http\"} 1\n"
	if err := testutil.GatherAndCompare(m.registry, strings.NewReader(want), "ingot_transfer_duration_seconds"); err != nil {
		t.Error(err)
	}
	if m.running.len() != 0 {
		t.Error("a finished transfer is remembered")
	}
}
