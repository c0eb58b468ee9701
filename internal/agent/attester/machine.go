package attester

import (
	"context"
	"errors"
	"time"

	"github.com/ingot-os/ingot/internal/agent/proof"
	"github.com/ingot-os/ingot/internal/attestapi"
)

// Rhythm of asking for machine.yaml: a server that the network names is known some
// moments after the address is.
const (
	askAgain = 300 * time.Millisecond
	askLimit = 4 * time.Second // of one question
)

// Machine asks the server for this machine's machine.yaml, until the context ends; nil
// data when it has none. from is who named it, for people. Nothing has been proven to
// the server yet, but the server has proven itself: its certificate leads to an
// authority of the image, as for all else that is said to it.
func Machine(ctx context.Context, m proof.Machine, h proof.Hardware) (data []byte, from string, err error) {
	a := &attester{m: m}
	if err := a.makeKey(); err != nil {
		return nil, "", err
	}
	last := error(errNoServer)
	for ctx.Err() == nil {
		for _, base := range a.askable() {
			f, err := a.ask(ctx, base, h)
			if err == nil {
				return f.Data, base + " (" + f.From + ")", nil
			}
			var no *refusal
			if errors.As(err, &no) {
				return nil, "", err
			}
			if ctx.Err() == nil {
				last = err
			}
		}
		sleep(ctx, askAgain)
	}
	return nil, "", last
}

// askable are the servers that are known now, the best first.
func (a *attester) askable() (list []string) {
	if base, _ := a.m.Server(); base != "" {
		list = append(list, base)
	}
	if a.m.Fallback != nil {
		if base, _ := a.m.Fallback(); base != "" {
			list = append(list, base)
		}
	}
	return list
}

func (a *attester) ask(ctx context.Context, base string, h proof.Hardware) (f attestapi.MachineFile, err error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	c, err := a.connect(ctx, base)
	if err != nil {
		return f, err
	}
	defer c.close()
	q := attestapi.MachineRequest{Appliance: h.Appliance, MACs: h.MACs, UUID: h.UUID, Serial: h.Serial}
	if err := c.post(ctx, attestapi.MachinePath, q, &f); err != nil {
		return f, err
	}
	if len(f.Data) > attestapi.MaxMachine {
		return f, errors.New("the server's machine.yaml is too large")
	}
	return f, nil
}
