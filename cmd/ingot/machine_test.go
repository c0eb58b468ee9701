package main

import (
	"context"
	"net"
	"os"
	"strconv"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/agent/listener"
	"github.com/ingot-os/ingot/internal/hosttest"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/trust"
)

// smallRelease is what the machines of scripts run and get.
func smallRelease(version string) hosttest.Release {
	return hosttest.Release{Name: "lamp", Version: version, Seed: 1, Used: 2 << 20}
}

// writeRelease is the script command release SET VERSION KEYS|-: a small image
// set, signed unless KEYS is -.
func writeRelease(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: release SET VERSION KEYS|-")
	}
	r := smallRelease(args[1])
	if args[2] == "-" {
		ts.Check(r.Write(ts.MkAbs(args[0]), nil))
		return
	}
	set, err := keys.Open(ts.MkAbs(args[2]))
	ts.Check(err)
	key, err := set.Signer(context.Background(), keys.Image, "test")
	ts.Check(err)
	ts.Check(r.Write(ts.MkAbs(args[0]), key))
}

// startMachine is the script command machine TRUST [CAUSE]: a machine in this
// process that runs version 1.0 and trusts exported keys. Versions from 2 on
// fail their trial with that cause. It sets ADDR and KEY.
func startMachine(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: machine TRUST [CAUSE]")
	}
	anchors, err := trust.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	o := hosttest.Options{Runs: smallRelease("1.0"), Trust: anchors.Spec()}
	if len(args) == 2 {
		n, err := strconv.Atoi(args[1])
		ts.Check(err)
		o.Trial = func(string) slot.Cause { return slot.Cause(n) }
	}
	o.Dir, err = os.MkdirTemp(ts.Getenv("WORK"), "machine")
	ts.Check(err)
	m, err := hosttest.Start(o)
	ts.Check(err)
	ts.Defer(m.Close)
	machines.Store(m.Addr(), m)
	ts.Setenv("ADDR", m.Addr())
	if anchors.Operator != nil {
		ts.Setenv("KEY", m.Key())
	}
}

// startDiskless is the script command diskless: a machine in this process that was not
// started from a slot. It sets ADDR.
func startDiskless(ts *testscript.TestScript, _ bool, _ []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- new(listener.Server).Serve(ctx, l) }()
	ts.Defer(func() {
		stop()
		<-ended
	})
	ts.Setenv("ADDR", l.Addr().String())
}

// machines are those of scripts, by address.
var machines sync.Map

// newKey is the script command newkey: KEY is what the console of the machine at
// ADDR says now.
func newKey(ts *testscript.TestScript, _ bool, _ []string) {
	m, ok := machines.Load(ts.Getenv("ADDR"))
	if !ok {
		ts.Fatalf("no machine at %s", ts.Getenv("ADDR"))
	}
	ts.Setenv("KEY", m.(*hosttest.Machine).Key())
}
