package main

type rollbackCmd struct {
	Host string `arg:"" help:"Host, or HOST:PORT."`
	hostFlags
}

// Run lets the machine go back to its other slot. The version that it leaves is
// not tried again until an operator says so.
func (c *rollbackCmd) Run(v *verb) error {
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
