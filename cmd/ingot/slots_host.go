package main

import (
	"errors"
	"fmt"

	"github.com/ingot-os/ingot/internal/hostclient"
	"github.com/ingot-os/ingot/internal/ui"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// slotsHostFlags are what ingot slots can do about a host.
type slotsHostFlags struct {
	hostFlags
	Override string `xor:"do" placeholder:"VERSION" help:"Take a version off the list of those that the host does not try again."`
	Adopt    bool   `xor:"do" help:"Vouch for the slot that runs, after the host's journal was lost."`
}

// acts says whether something about a host is wanted.
func (f *slotsHostFlags) acts() bool { return f.Override != "" || f.Adopt }

// onlyHosts refuses flags that make sense for hosts alone.
func (f *slotsHostFlags) onlyHosts() error {
	if f.acts() {
		return &ui.Error{Code: ui.CodeUsage, Err: errors.New("--override and --adopt are for a host, over its management listener"), Hint: "ingot slots HOST --override VERSION --keys DIR"}
	}
	return nil
}

// hostLog prints the log of a host's last boot that failed.
func hostLog(v *verb, host string, f *hostFlags) error {
	log, err := askHost(f, v, host, inquiry[string]{(*hostclient.Client).FailedLog, (*hostclient.Client).ToldLog})
	if err != nil {
		return err
	}
	return v.ui.Log(log)
}

// hostSlots shows the slots of a host, or does what is wanted about them.
func hostSlots(v *verb, host string, f *slotsHostFlags) error {
	if !f.acts() {
		s, err := f.ask(v, host)
		if err != nil {
			return err
		}
		return v.ui.Slots(s)
	}
	client, err := f.client(v, host)
	if err != nil {
		return err
	}
	var p *updateapi.Progress
	what := "vouches for the slot that runs"
	if f.Adopt {
		p, err = client.Adopt(v.ctx)
	} else {
		p, err = client.Override(v.ctx, f.Override)
		what = fmt.Sprintf("version %s may be tried again", f.Override)
	}
	if err != nil {
		return explainHost(host, err)
	}
	return progressOf(v, host, p, what)
}
