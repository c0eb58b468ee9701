package serve

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// Metrics count what the server does. No label comes from a client: architectures
// that have no name are "unknown", paths, MAC addresses and hosts are in the log
// and in ingot hosts only, so there are never more than some hundred series.
type metrics struct {
	registry *prometheus.Registry

	decisions *prometheus.CounterVec
	stages    *prometheus.CounterVec
	transfers *prometheus.CounterVec
	bytes     *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	verdicts  *prometheus.CounterVec
	releases  *prometheus.GaugeVec
	rules     prometheus.Gauge
	reloads   *prometheus.CounterVec
	reloaded  prometheus.Gauge
	quiet     prometheus.Counter

	mu      sync.Mutex
	running running
}

// transferKey is a transfer as its events name it.
type transferKey struct {
	addr   netip.AddrPort
	method netboot.Method
	path   string
}

// maxRunning bounds what is remembered of transfers for their durations.
const maxRunning = 1 << 16

// running has the times of first bytes. A client that asks for a part of a file, which
// has a first byte and no last, leaves its behind: when the younger half is full, the
// older is forgotten.
type running struct{ young, old map[transferKey]time.Time }

func (r *running) begin(key transferKey, at time.Time) {
	if len(r.young) >= maxRunning/2 {
		r.old, r.young = r.young, nil
	}
	if r.young == nil {
		r.young = map[transferKey]time.Time{}
	}
	r.young[key] = at
}

// end gives the time and forgets it; zero when it is not known.
func (r *running) end(key transferKey) time.Time {
	at, ok := r.young[key]
	if !ok {
		at = r.old[key]
	}
	delete(r.young, key)
	delete(r.old, key)
	return at
}

func (r *running) len() int { return len(r.young) + len(r.old) }

// newMetrics registers all of them; version is of this program.
func newMetrics(version string) *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		m.registry.MustRegister(v)
		return v
	}
	m.decisions = counters("ingot_boot_decisions_total", "Questions about what a client boots, by architecture and answer (boot, refuse, ignore).", "arch", "verdict")
	m.stages = counters("ingot_boot_stages_total", "Steps of boots that were seen, by stage and by the method that files have, or are offered by.", "stage", "method")
	m.transfers = counters("ingot_transfers_total", "Files that were asked for, by method and result (done, broken, probed, refused).", "method", "result")
	m.bytes = counters("ingot_transfer_bytes_total", "Bytes of files that were sent, by method.", "method")
	m.verdicts = counters("ingot_attest_verdicts_total", "Verdicts on hosts, by result (trusted, refused, rejected: not proven to be the host's).", "result")
	m.reloads = counters("ingot_reloads_total", "Times that releases, rules or configuration were read again, by result (ok, failed).", "result")
	m.seconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "ingot_transfer_duration_seconds", Help: "From the first byte of a file to its last, by method.",
		Buckets: []float64{0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300},
	}, []string{"method"})
	m.releases = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "ingot_releases", Help: "Releases, by state (loaded, refused)."}, []string{"state"})
	m.rules = prometheus.NewGauge(prometheus.GaugeOpts{Name: "ingot_boot_rules", Help: "Rules that say what machines boot."})
	m.reloaded = prometheus.NewGauge(prometheus.GaugeOpts{Name: "ingot_reload_timestamp_seconds", Help: "When releases, rules and configuration were last read."})
	m.quiet = prometheus.NewCounter(prometheus.CounterOpts{Name: "ingot_log_suppressed_total", Help: "Lines that were left out of the log because there were too many in a second."})
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "ingot_build_info", Help: "Always 1; the version of the program is a label.", ConstLabels: prometheus.Labels{"version": version}})
	info.Set(1)
	m.registry.MustRegister(m.seconds, m.releases, m.rules, m.reloaded, m.quiet, info,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// gauge registers a number that is asked for at each scrape; labels tell it from
// others of its name.
func (m *metrics) gauge(name, help string, labels prometheus.Labels, value func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, value))
}

// leases registers how many addresses are out.
func (m *metrics) leases(family, state string, value func() int) {
	m.gauge("ingot_dhcp_leases", "Addresses that are somebody's now, by IP version and state (bound; offered: for a minute; declined: somebody else has it).", prometheus.Labels{"family": family, "state": state}, func() float64 { return float64(value()) })
}

// counter registers a sum that is kept elsewhere.
func (m *metrics) counter(name, help string, labels prometheus.Labels, value func() float64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, value))
}

// Saw implements netboot.Watcher.
func (m *metrics) Saw(e netboot.Event) {
	m.stages.WithLabelValues(string(e.Stage), string(e.Method)).Inc()
	if e.Path == "" { // of DHCP
		return
	}
	key := transferKey{e.Addr, e.Method, e.Path}
	switch e.Stage {
	case netboot.First:
		m.began(key, e.Time)
	case netboot.Last, netboot.Broken:
		result := map[netboot.Stage]string{netboot.Last: "done", netboot.Broken: "broken"}[e.Stage]
		m.transfers.WithLabelValues(string(e.Method), result).Inc()
		m.bytes.WithLabelValues(string(e.Method)).Add(float64(max(e.Bytes, 0)))
		if first := m.ended(key); e.Stage == netboot.Last && !first.IsZero() {
			m.seconds.WithLabelValues(string(e.Method)).Observe(e.Time.Sub(first).Seconds())
		}
	case netboot.Probed, netboot.Refused:
		m.transfers.WithLabelValues(string(e.Method), string(e.Stage)).Inc()
	}
}

func (m *metrics) began(key transferKey, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running.begin(key, at)
}

func (m *metrics) ended(key transferKey) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.running.end(key)
}

// deciding counts what a Decider answers.
type deciding struct {
	netboot.Decider
	m *metrics
}

// Decide implements netboot.Decider.
func (d deciding) Decide(ctx context.Context, c netboot.Client) netboot.Answer {
	a := d.Decider.Decide(ctx, c)
	arch := "unknown"
	switch {
	case c.Init:
		arch = "ingot-init"
	case c.Arch.Known():
		arch = fmt.Sprint(uint16(c.Arch))
	}
	d.m.decisions.WithLabelValues(arch, verbs[a.Verb]).Inc()
	return a
}

var verbs = map[netboot.Verb]string{netboot.Boot: "boot", netboot.Refuse: "refuse", netboot.Ignore: "ignore"}
