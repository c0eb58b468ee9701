package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/ingot-os/ingot/internal/ui"
)

type rollbackCmd struct {
	Host string `arg:"" help:"Host, or HOST:PORT."`
	hostFlags
}

// Run lets the machine go back to its other slot. The version that it leaves is
// not tried again until an operator says so.
func (c *rollbackCmd) Run(v *verb) error {
	if info, err := os.Stat(c.Host); strings.Contains(c.Host, "/") || err == nil && !info.IsDir() {
		return &ui.Error{Code: ui.CodeUsage, Err: fmt.Errorf("%s is a file: rollback is for a running host", c.Host), Hint: "ingot rollback HOST; ingot slots and ingot why look at disks"}
	}
	client, err := c.client(v, c.Host)
	if err != nil {
		return err
	}
	p, err := client.Rollback(v.ctx)
	if err != nil {
		return explainHost(c.Host, err)
	}
	defer next(v, "ingot slots %s   shows what runs when it is back", c.Host)
	return progressOf(v, c.Host, p, "goes back to the other slot, and resets")
}
