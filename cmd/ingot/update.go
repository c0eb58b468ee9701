package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/ingot-os/ingot/internal/depot"
	"github.com/ingot-os/ingot/internal/hostclient"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/source"
	"github.com/ingot-os/ingot/internal/ui"
	"github.com/ingot-os/ingot/internal/updateapi"
)

type updateCmd struct {
	Host  string `arg:"" optional:"" help:"Host to update, or HOST:PORT."`
	Image string `required:"" placeholder:"SET" help:"Release: an image set (OUT/NAME-VERSION), signed." type:"path"`
	hostFlags
	Base      []string      `placeholder:"SET" help:"Image set that the host may run: only what differs is sent. Sets beside the release are found without." type:"path" sep:"none"`
	StageOnly bool          `help:"Write it and do not try it yet; the same command without this flag tries it."`
	Override  bool          `help:"Although it failed on this host before."`
	Wait      time.Duration `default:"15m" help:"How long to wait for the verdict of the trial; 0: not at all (default ${default})."`

	USB string `name:"usb" placeholder:"DEVICE|DIR|FILE.img" help:"Write the release to a stick for a host without a network instead: a device, the directory where one is mounted, or a disk image, which is made when it is not there." type:"path"`
	Yes bool   `help:"With --usb: the device is meant, do not ask."`
}

// updateResult is what came of an update.
type updateResult struct {
	Host    string `json:"host"`
	Version string `json:"version"`
	Slot    string `json:"slot,omitempty"` // that it was written to
	// Result is blessed, staged, running (it ran already), trying (nobody waited),
	// fell-back or undecided.
	Result  string              `json:"result"`
	Outcome *hostclient.Outcome `json:"outcome,omitempty"`
	Sent    hostclient.Sent     `json:"sent"`
	Seconds float64             `json:"seconds"` // of the transfer
}

// Run sends a release to a host and waits until it is good there, or not.
func (c *updateCmd) Run(v *verb) error {
	if err := c.validate(); err != nil {
		return err
	}
	if c.USB != "" {
		return usbUpdate{target: c.USB, image: c.Image, yes: c.Yes}.run(v)
	}
	r, err := c.release()
	if err != nil {
		return err
	}
	client, err := c.client(v, c.Host)
	if err != nil {
		return err
	}
	start := time.Now()
	p, sent, err := client.Push(v.ctx, r, hostclient.PushOptions{Override: c.Override, Approve: !c.StageOnly, Sending: c.sending(v), Retry: func(answered bool, why error) {
		if answered {
			v.ui.Say("the transfer was cut, it goes on: %v", why)
		} else {
			v.ui.Say("%s does not answer, asked again: %v", c.Host, why)
		}
	}})
	if err != nil {
		return c.explain(err)
	}
	if sent.Bytes > 0 {
		v.ui.Say("slot %s is written and read back", p.Slot)
	}
	out := &updateResult{Host: c.Host, Version: r.Version, Slot: p.Slot, Sent: sent, Seconds: time.Since(start).Seconds()}
	return c.finish(v, client, r, out)
}

func (c *updateCmd) validate() error {
	switch {
	case c.Host != "" && c.USB != "":
		return &ui.Error{Code: ui.CodeUsage, Err: fmt.Errorf("both a host (%s) and --usb were given: a release goes to one of them", c.Host), Hint: "leave one away; several machines: one ingot update each, or one stick for all"}
	case c.Host == "" && c.USB == "":
		return &ui.Error{Code: ui.CodeUsage, Err: errors.New("name a host, or --usb a stick"), Hint: "ingot update HOST --image SET --keys DIR"}
	case c.Wait < 0:
		return &ui.Error{Code: ui.CodeUsage, Err: fmt.Errorf("--wait=%v: a time is not negative", c.Wait)}
	case c.Yes && c.USB == "":
		return &ui.Error{Code: ui.CodeUsage, Err: errors.New("--yes is for --usb")}
	case c.USB != "" && c.forHosts() != "":
		return &ui.Error{Code: ui.CodeUsage, Err: fmt.Errorf("%s is for a host, not for --usb", c.forHosts())}
	}
	return nil
}

// forHosts is a flag that means nothing for a stick; empty: none was given.
func (c *updateCmd) forHosts() string {
	switch {
	case c.StageOnly:
		return "--stage-only"
	case len(c.Base) > 0:
		return "--base"
	case c.Override:
		return "--override"
	case c.HostKey != "":
		return "--host-key"
	}
	return ""
}

// release opens the set; patches are kept in the cache.
func (c *updateCmd) release() (*hostclient.Release, error) {
	o := hostclient.ReleaseOptions{Base: c.Base}
	if dir, err := source.DefaultDir(); err == nil {
		o.Patches = filepath.Join(dir, "deltas")
	}
	r, err := hostclient.OpenRelease(c.Image, o)
	switch {
	case errors.Is(err, hostclient.ErrUnsigned):
		return nil, &ui.Error{Code: ui.CodeRefused, Err: err, Hint: "no machine takes it: ingot build --keys DIR, or ingot sign"}
	case err != nil:
		return nil, noSet(err)
	}
	return r, nil
}

// noSet explains a path that is no image set.
func noSet(err error) error {
	switch {
	case errors.Is(err, syscall.ENOTDIR):
		return &ui.Error{Err: err, Hint: "name the folder that ingot build printed (OUT/NAME-VERSION), not a file in it"}
	case errors.Is(err, fs.ErrNotExist):
		return &ui.Error{Err: err, Hint: "name an image set: OUT/NAME-VERSION as ingot build prints it, with its " + release.EnvelopeName}
	}
	return err
}

// sending draws how far a part is, and says once what is sent: into a pipe nothing
// is drawn.
func (c *updateCmd) sending(v *verb) func(part, coding string, done, total int64) {
	var said sync.Map
	return func(part, coding string, done, total int64) {
		compare, name := "compare with what the host has", "send "+part
		what := "the " + part
		if coding == updateapi.CodingDelta {
			name, what = "send the changes of the "+part, "the changes of the "+part
		}
		if total > 0 {
			if _, again := said.LoadOrStore(what, true); !again {
				v.ui.Say("sends %s: %s", what, ui.Size(total))
			}
		}
		if coding == updateapi.CodingDelta && total == 0 { // a patch is being made
			name = compare
		} else {
			v.ui.Progress(compare, 0, 0, true)
		}
		v.ui.Progress(name, done, total, total > 0 && done >= total)
	}
}

func (c *updateCmd) explain(err error) error {
	if errors.Is(err, depot.ErrDiffers) {
		return &ui.Error{Code: ui.CodeRefused, Err: err, Hint: "ingot verify says what differs; build the set again"}
	}
	return explainHost(c.Host, err)
}

// finish waits for the verdict where there will be one, and says it.
func (c *updateCmd) finish(v *verb, client *hostclient.Client, r *hostclient.Release, out *updateResult) error {
	switch runs, err := runsAlready(v.ctx, client, r); {
	case err == nil && runs:
		out.Result = "running"
		return c.print(v, out, "%s runs %s already", out.Host, out.Version)
	case c.StageOnly:
		out.Result = "staged"
		defer next(v, "ingot update %s --image %s   lets the machine try it", c.Host, c.Image)
		return c.print(v, out, "%s: %s is on slot %s, and is not tried yet", out.Host, out.Version, out.Slot)
	case c.Wait == 0:
		out.Result = "trying"
		defer next(v, "ingot why %s   says how the trial ends", c.Host)
		return c.print(v, out, "%s: %s is on slot %s, and is tried now", out.Host, out.Version, out.Slot)
	}
	ctx, cancel := context.WithTimeout(v.ctx, c.Wait)
	defer cancel()
	last := "-"
	outcome, err := client.Wait(ctx, r, hostclient.WaitOptions{Phase: func(phase string) {
		if phase != last {
			last = phase
			v.ui.Say("%s", c.phaseWords(out, phase)) // into a pipe too: minutes go by
		}
	}})
	if v.ctx.Err() != nil {
		return v.ctx.Err()
	}
	out.Outcome = outcome
	return c.verdict(v, out, err)
}

// runsAlready says whether nothing had to be sent because the release is good
// there already.
func runsAlready(ctx context.Context, client *hostclient.Client, r *hostclient.Release) (bool, error) {
	s, err := client.Slots(ctx)
	if err != nil {
		return false, err
	}
	for _, x := range s.Slots {
		if x.Name == s.Good && s.Running == s.Good && x.Image == r.Image() {
			return true, nil
		}
	}
	return false, nil
}

func (c *updateCmd) phaseWords(out *updateResult, phase string) string {
	if phase == "" {
		return out.Host + " does not answer: it starts again"
	}
	return fmt.Sprintf("%s is in phase %s", out.Host, phase)
}

// verdict ends well only when the machine has blessed the release.
func (c *updateCmd) verdict(v *verb, out *updateResult, waited error) error {
	o := out.Outcome
	proof := ""
	if !o.Proven {
		proof = "; so says the machine, without proof: its key is a new one since it has started"
	}
	switch {
	case waited != nil:
		out.Result = "undecided"
		err := fmt.Errorf("%s: no verdict about %s within %v: the machine %s", out.Host, out.Version, c.Wait, undecided(o))
		return c.fail(v, out, err)
	case o.Fell:
		out.Result = "fell-back"
		err := fmt.Errorf("%s fell back to the version before: %s: %s%s%s", out.Host, o.Cause, o.Detail, after(o, ","), proof)
		if o.Slots != nil && o.Slots.TriesLeft > 0 && o.Cause != "" {
			err = fmt.Errorf("%w (%d tries left)", err, o.Slots.TriesLeft)
		}
		return c.fail(v, out, err)
	}
	out.Result = "blessed"
	return c.print(v, out, "%s runs %s from slot %s, and has blessed it%s%s", out.Host, out.Version, out.Slot, after(o, ""), proof)
}

// after says how long the trial took, behind a mark; nothing when that is not known.
func after(o *hostclient.Outcome, mark string) string {
	if o.Slots == nil || o.Slots.Judged == 0 {
		return ""
	}
	return fmt.Sprintf("%s %.1f s after its start", mark, o.Slots.Judged)
}

func undecided(o *hostclient.Outcome) string {
	if o.Phase == "" {
		return "does not answer"
	}
	return "is in phase " + o.Phase
}

func (c *updateCmd) fail(v *verb, out *updateResult, err error) error {
	if v.ui.JSON {
		if perr := v.ui.PrintJSON(out); perr != nil {
			return perr
		}
	}
	return &ui.Error{Err: err, Hint: "ingot why " + c.Host}
}

func (c *updateCmd) print(v *verb, out *updateResult, format string, args ...any) error {
	if v.ui.JSON {
		return v.ui.PrintJSON(out)
	}
	return v.ui.Print(format, args...)
}
