package main

type whyCmd struct {
	slotFlags
	hostFlags
}

// Run says in at most 20 lines what starts and why.
func (c *whyCmd) Run(v *verb) error {
	if c.isHost() {
		return hostWhy(v, c.Target, &c.hostFlags)
	}
	view, err := c.look(v)
	if err != nil {
		return err
	}
	return v.ui.Why(view.Why)
}
