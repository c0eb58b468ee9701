package main

// hostWhy explains a host in at most 20 lines.
func hostWhy(v *verb, host string, f *hostFlags) error {
	s, err := f.ask(v, host)
	if err != nil {
		return err
	}
	return v.ui.Why(s.Why)
}
