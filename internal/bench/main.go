// The bench program measures ingot on this machine and rewrites the tables of
// docs/benchmarks.md. Every number of that page comes from here.
//
//	go run ./internal/bench                 all but the peers, about half an hour
//	go run ./internal/bench -reproduce 100  make hello a hundred times, count mismatches
//	go run ./internal/bench -powercut 200   start what power cuts leave of an update, write docs/powercut.md
//	go run ./internal/bench -kill 300       kill machines that are being updated
//	go run ./internal/bench -peers          also build and boot the same appliance with other builders
//	go run ./internal/bench -only 'diff|UKI' -doc /dev/stdout
//
// It times whole commands of the built program, as an operator meets them, in
// a cache and directories of its own; memory is what wait4(2) reports of the
// process and of what it ran. Where another program does the same job, both run
// in turns and the ratio is that of their medians. A machine that is busy makes
// all times longer but ratios keep their meaning, which is why they are there.
//
// Attestation is measured in this process, beside a library that lives in the
// module internal/bench/peers and is downloaded once; then -hosts imitated
// machines attest to the built program for a minute.
//
// Targets are those of the design; -strict makes a missed one an error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == underFlag {
		os.Exit(beParent(os.Args[2:]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	for name, do := range map[string]func(string) error{installEnv: installHere, applyEnv: applyHere, tftpHereEnv: serveTFTPHere, httpHereEnv: serveHTTPHere, hallEnv: hallHere, ovmfEnv: ovmfHere} {
		if spec := os.Getenv(name); spec != "" {
			if err := do(spec); err != nil {
				fmt.Fprintln(os.Stderr, "ingot: bench:", err)
				os.Exit(1)
			}
			return
		}
	}
	if err := run(ctx, os.Args[1:]); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "ingot: bench:", err)
		}
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	ingot, doc string
	peers      bool
	peerDir    string
	strict     bool
	reproduce  int
	hosts      int
	powercut   int
	kill       int
	cycles     int
	seed       uint64
	cutDoc     string
	only       *regexp.Regexp
}

func parse(args []string) (options, error) {
	var o options
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.StringVar(&o.ingot, "ingot", "bin/ingot", "program to measure")
	fs.StringVar(&o.doc, "doc", "docs/benchmarks.md", "page whose tables are rewritten")
	fs.BoolVar(&o.peers, "peers", false, "measure other image builders too (downloads, needs root)")
	fs.StringVar(&o.peerDir, "peer-dir", "", "where other image builders are kept between runs (default: the user's cache directory)")
	fs.BoolVar(&o.strict, "strict", false, "a missed target is an error")
	fs.IntVar(&o.reproduce, "reproduce", 0, "make examples/hello again so often, count mismatches, and measure nothing else")
	fs.IntVar(&o.hosts, "hosts", stormHosts, "machines that attest to one server at once")
	fs.IntVar(&o.powercut, "powercut", 0, "start so many states that a power cut can leave of an update, and measure nothing else")
	fs.IntVar(&o.kill, "kill", 0, "kill machines that are being updated so often, and measure nothing else")
	fs.IntVar(&o.cycles, "cycles", 0, "switch a machine with a blessed slot on for a moment so often, and measure nothing else")
	fs.Uint64Var(&o.seed, "seed", 1, "seed of -powercut, -kill and -cycles")
	fs.StringVar(&o.cutDoc, "powercut-doc", "docs/powercut.md", "page that -powercut writes")
	only := fs.String("only", "", "measure only groups whose name matches")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unknown argument %q", fs.Arg(0))
	}
	var err error
	o.only, err = regexp.Compile(*only)
	return o, err
}

// group is a part of the run; its name is what -only matches.
type group struct {
	name string
	do   func(context.Context, *lab, *report) error
}

var groups = []group{
	{"attest: verdict", benchAttest},
	{"attest: forgeries", benchForgeries},
	{"attest: storm", benchStorm},
	{"HTTP Boot", benchHTTP},
	{"TFTP", benchTFTP},
	{"OVMF", benchOVMF},
	{"PXE storm", benchHall},
	{"build", benchBuild},
	{"check, lock, diff", benchVerbs},
	{"UKI", benchUKI},
	{"boot", benchBoot},
	{"flash", benchFlash},
	{"install", benchInstall},
	{"delta", benchDelta},
	{"writers", benchWriters},
}

// proofGroups run with -reproduce only, instead of the others.
var proofGroups = []group{{"reproduce", benchReproduce}}

var peerGroups = []group{
	{"gokrazy", benchGokrazy},
	{"mkosi", benchMkosi},
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if o.powercut > 0 || o.kill > 0 || o.cycles > 0 {
		return cutPower(ctx, o)
	}
	l, err := newLab(ctx, o)
	if err != nil {
		return err
	}
	defer l.close()
	l.hosts = o.hosts
	todo := groups
	if o.reproduce > 0 {
		l.repeats, todo = o.reproduce, proofGroups
	}
	if o.peers {
		todo = append(todo[:len(todo):len(todo)], peerGroups...)
	}
	r := &report{host: describeHost(ctx)}
	for _, g := range todo {
		if !o.only.MatchString(g.name) {
			continue
		}
		if err := g.do(ctx, l, r); err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
	}
	r.host.finish()
	if err := r.save(o.doc); err != nil {
		return err
	}
	return r.verdict(o.strict)
}
