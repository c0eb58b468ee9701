package main

import (
	"context"
	"errors"
	"math"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestMain lets this program stand between itself and what it measures, as main does.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == underFlag {
		os.Exit(beParent(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// TestMemoryIsTheProgramsOwn: what this process has had resident is not counted.
func TestMemoryIsTheProgramsOwn(t *testing.T) {
	ours := make([]byte, 256<<20)
	for i := range ours {
		ours[i] = 1
	}
	c, err := job{args: []string{"true"}}.do(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c.memory <= 0 || c.memory > 64<<20 {
		t.Errorf("true has had %d MiB resident", c.memory>>20)
	}
	runtime.KeepAlive(ours)
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 2, 9}, 3}} {
		if got := (series{values: c.values}).median(); got != c.want {
			t.Errorf("median of %v: got %v, want %v", c.values, got, c.want)
		}
	}
	if got := (series{}).median(); !math.IsNaN(got) {
		t.Errorf("median of nothing: got %v", got)
	}
}

func TestFormat(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{seconds.format(0.0309), "31 ms"},
		{seconds.format(0.000123), "123 µs"},
		{seconds.format(0.00123), "1.2 ms"},
		{count.format(132.4), "132"},
		{seconds.format(0.684), "0.68 s"},
		{seconds.format(12.34), "12.3 s"},
		{bytesMB.format(24_321_024), "24.32 MB"},
		{mebibytes(512 << 20), "512 MiB"},
		{mebibytes(1<<20 + 1<<19), "2 MiB"},
		{times(2, 5), "2.5 x"},
		{times(0.03, 4.2), "140 x"},
		{times(0, 1), ""},
		{version("mksquashfs", "mksquashfs version 4.5.1 (2022/03/17)"), "mksquashfs 4.5.1"},
		{version("mcopy", "mcopy (GNU mtools) 4.0.33"), "mcopy 4.0.33"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func TestMissed(t *testing.T) {
	m := measure{series: series{values: []float64{1}, memory: 100 << 20}, limit: 1, memoryLimit: 100 << 20}
	if m.missed() != "" || m.met() != "yes" {
		t.Errorf("at the limit: %q", m.missed())
	}
	m.limit, m.memoryLimit = 0.99, 99<<20
	if got, want := m.missed(), "1.00 s, want at most 0.99 s; 100 MiB of memory, want at most 99 MiB"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	r := report{measures: []measure{m}}
	if r.verdict(false) != nil || r.verdict(true) == nil {
		t.Error("strict makes no difference")
	}
	if (measure{series: series{}, limit: 1}).missed() == "" {
		t.Error("nothing measured met a target")
	}
}

func TestSplice(t *testing.T) {
	page, err := splice("before\n<!-- table tools -->\nold\n<!-- end -->\nafter\n<!-- table ours -->\nold\n<!-- end -->\n", "tools", "new\n")
	want := "before\n<!-- table tools -->\nnew\n<!-- end -->\nafter\n<!-- table ours -->\nold\n<!-- end -->\n"
	if err != nil || page != want {
		t.Errorf("got %q %v, want %q", page, err, want)
	}
	for _, page := range []string{"", "<!-- table tools -->\nno end", "<!-- end -->"} {
		if _, err := splice(page, "tools", ""); err == nil {
			t.Errorf("%q has no place for the table", page)
		}
	}
}

// TestPage keeps the marks in the page in step with the tables.
func TestPage(t *testing.T) {
	b, err := os.ReadFile("../../docs/benchmarks.md")
	if err != nil {
		t.Fatal(err)
	}
	r := report{measures: []measure{{}, {attest: true}, {update: true}, {netboot: true}}, races: make([]race, 1), contests: []contest{{}, {netboot: true}}, peers: []peer{{}, {builder: attestation}}, proofs: make([]proof, 1)}
	for _, page := range []string{string(b), frame} {
		for _, table := range r.tables() {
			if _, err := splice(page, table.name, table.text); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestJob(t *testing.T) {
	c, err := job{args: []string{"sh", "-c", "echo out; exit 4"}, codes: []int{4}}.do(context.Background())
	if err != nil || c.output != "out\n" || c.wall <= 0 || c.memory < 1<<16 {
		t.Errorf("got %+v %v", c, err)
	}
	_, err = job{args: []string{"sh", "-c", "echo why >&2; exit 4"}}.do(context.Background())
	if err == nil || !strings.Contains(err.Error(), "why") {
		t.Errorf("exit code 4 that is not allowed: %v", err)
	}
}

func TestQuantile(t *testing.T) {
	values := []float64{5, 1, 4, 2, 3}
	for q, want := range map[float64]float64{0: 1, 0.5: 3, 0.99: 5, 1: 5} {
		if got := quantile(values, q); got != want {
			t.Errorf("%v: got %v, want %v", q, got, want)
		}
	}
}

func TestProcess(t *testing.T) {
	p := process(os.Getpid())
	for begin := time.Now(); time.Since(begin) < 50*time.Millisecond; { // keep it busy
	}
	used, err := p.processor()
	if own := processor(); err != nil || used < 10*time.Millisecond || used > own+20*time.Millisecond {
		t.Errorf("processor: %s of %s, %v", used, own, err)
	}
	if n, err := p.memory(); err != nil || n < 1<<20 || n > 1<<34 {
		t.Errorf("memory: %d, %v", n, err)
	}
	if _, err := process(0).memory(); err == nil {
		t.Error("no process has memory")
	}
}

func TestEach(t *testing.T) {
	hosts := make([]*attested, 100)
	var n atomic.Int64
	err := each(hosts, 7, func(*attested) error {
		if n.Add(1)%10 == 0 {
			return errors.New("one of them")
		}
		return nil
	})
	if err == nil || n.Load() != 100 {
		t.Errorf("%d were asked: %v", n.Load(), err)
	}
}

func TestStopwatch(t *testing.T) {
	start := time.Now()
	s := &stopwatch{}
	for _, text := range []string{
		"BdsDxe: loading Bo", "ot0010\r\nBdsDxe: starting Boot0010 \"hello\"\r\n",
		"[    0.000", "100] ingot: hello 1.0.0 on Linux 6.12.0\r\n",
	} {
		s.Write([]byte(text))
	}
	got := s.stages(start, start.Add(time.Hour))
	if len(got) != len(stages) {
		t.Fatalf("got %v, want %d stages", got, len(stages))
	}
	sum := time.Duration(0)
	for _, d := range got {
		sum += d
	}
	if sum != time.Hour || got[3] != 100*time.Microsecond {
		t.Errorf("got %v, want 1h in all and 100µs of kernel", got)
	}
	if (&stopwatch{}).stages(start, start) != nil {
		t.Error("stages of a machine that said nothing")
	}
}
