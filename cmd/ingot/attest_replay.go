package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/replay"
	"github.com/ingot-os/ingot/internal/ui"
)

type attestReplayCmd struct {
	State string `required:"" placeholder:"DIR" help:"State directory of ingot attest serve, or a copy of its state.db; a server may be running." type:"path"`
	Host  string `help:"Records of this host only."`
	Since string `placeholder:"TIME" help:"Judge verdicts from this time on: 2026-11-23, 2026-11-23T02:00:00Z, or 720h for the last 30 days. The chain is followed from the first record in any case."`
}

// Run judges every recorded case again.
func (c *attestReplayCmd) Run(v *verb) error {
	o := replay.Options{Host: c.Host}
	var err error
	if o.Since, err = since(c.Since, time.Now()); err != nil {
		return err
	}
	dir, err := c.dir()
	if err != nil {
		return err
	}
	s, err := fleet.Open(dir, fleet.Options{ReadOnly: true})
	if err != nil {
		return &ui.Error{Err: err, Hint: "--state names the directory that ingot attest serve was started with"}
	}
	r, err := replay.Run(v.ctx, s, o)
	if err = errors.Join(err, s.Close()); err != nil {
		if errors.Is(err, replay.ErrNoHost) {
			return &ui.Error{Err: err, Hint: "ingot attest replay --state " + c.State + " lists the hosts that have records"}
		}
		return err
	}
	return v.ui.Replayed(r)
}

// dir is the directory of the database, whichever was named.
func (c *attestReplayCmd) dir() (string, error) {
	info, err := os.Stat(c.State)
	switch {
	case err != nil:
		return "", err
	case info.IsDir():
		return c.State, nil
	case filepath.Base(c.State) == fleet.FileName:
		return filepath.Dir(c.State), nil
	}
	return "", &ui.Error{Err: &fs.PathError{Op: "open", Path: c.State, Err: errors.New("neither a directory nor a " + fleet.FileName)}, Hint: "name the directory that " + fleet.FileName + " is in"}
}

// since reads a day, a moment or a span before now; the zero time for nothing.
func since(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, &ui.Error{Code: ui.CodeUsage, Err: fmt.Errorf("--since %.40q: neither a day, a time nor a span", text), Hint: "for example 2026-11-23, 2026-11-23T02:00:00Z or 720h"}
}
