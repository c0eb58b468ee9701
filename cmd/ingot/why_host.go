package main

import "strings"

// hostWhy explains a host in at most 20 lines.
func hostWhy(v *verb, host string, f *hostFlags) error {
	s, err := f.ask(v, host)
	if err != nil {
		return err
	}
	for i, line := range s.Why { // a machine does not know by which name it is asked
		s.Why[i] = strings.Replace(line, "ingot slots HOST ", "ingot slots "+host+" ", 1)
	}
	return v.ui.Why(s.Why)
}
